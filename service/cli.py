"""The command line: `fengni COMMAND`.

Does: reads arguments, calls one function, shows the result, gives an exit status. Refuses to
decide anything itself; what a command means stands in the module that it calls.

Exit status everywhere: 0 done or passed, 1 a firm no, 2 could not be decided (no network, no key:
the same command may be given again), 64 wrong usage.
"""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.client.display import Screen, open_screen
from service.client.failures import ClientFailure, Misused

if TYPE_CHECKING:
    from service.setup.enrolling import Post

OK, NO, UNDECIDED, USAGE = 0, 1, 2, 64
_INTERRUPTED = 130

app = typer.Typer(
    name="fengni",
    help="Fengni 封泥: field captures that a stranger can check without trusting the operator.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
)
device_app = typer.Typer(help="Keys of devices and people: make one, have it enrolled, end it.")
log_app = typer.Typer(help="The log of a deployment.")
token_app = typer.Typer(help="Bearer tokens of a deployment: issue one, list them, end one.")
app.add_typer(device_app, name="device")
app.add_typer(log_app, name="log")
app.add_typer(token_app, name="token")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Client configuration; else $FENGNI_CLIENT_CONFIG, else what `fengni demo` wrote.",
    ),
]
FolderArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FOLDER]",
        help="The deployment; else $FENGNI_FOLDER, else the demo that the client knows.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write the result as JSON.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
KnownKeysOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The trust file; else the one that the client knows."),
]


# ---------------------------------------------------------------------------- deployments


@app.command()
def init(  # noqa: PLR0913, PLR0917  the parameters are the options
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    organ: Annotated[str, typer.Option(help="The organ's id, such as `county-bureau`.")],
    origin: Annotated[
        str, typer.Option(help="The log's name for ever, such as `example.org/logs/2026`.")
    ],
    audience: Annotated[str | None, typer.Option(help="The deployment's id.")] = None,
    log: Annotated[str, typer.Option(help="The log's id in addresses.")] = "main",
    registrar: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the registrar's keys go.")
    ] = None,
    authority: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,URL,ROOT_FILE", help="A time-stamp authority; repeatable."),
    ] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,URL,VKEY[,VKEY]", help="A witness; repeatable."),
    ] = None,
    valid_days: Annotated[
        int, typer.Option(min=1, max=3650, help="How long known-keys.json is trusted.")
    ] = 730,
) -> None:
    """Make a deployment: keys, stores, an empty log, the trust file, the first entry."""
    from service.setup.deployment import Plan, create_deployment
    from service.setup.parties import parse_authority, parse_witness

    place = folder.absolute()
    witnesses = tuple(parse_witness(one) for one in witness or ())
    desk = (registrar or place / "registrar").absolute()
    create_deployment(
        Plan(
            folder=place,
            registrar_folder=desk,
            audience=audience or organ,
            organ=organ,
            log_id=log,
            origin=origin,
            authorities=tuple(parse_authority(one) for one in authority or ()),
            witnesses=lambda _log_keys: witnesses,
            valid_days=valid_days,
        )
    )
    screen = open_screen()
    screen.out.print(f"The deployment lies in {place}. Serve it: fengni serve {folder}")
    screen.out.print(
        f"The registrar's keys lie in {desk}: take that folder to another machine before anything"
        " counts. Give known-keys.json to those who will verify, by a way that is not this server."
    )


@app.command()
def serve(
    folder: FolderArgument = None,
    host: Annotated[str | None, typer.Option(help="Else $FENGNI_HOST, else 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Else $FENGNI_PORT, else 8000.")
    ] = None,
) -> None:
    """Serve a deployment that `fengni init` made, in this process, until it is stopped."""
    import msgspec

    from service.serving import serve as run
    from service.settings import find_unsafe, read_deployment, read_environment

    settings = read_environment(folder=folder)
    given = {"host": host, "port": port}
    settings = msgspec.structs.replace(
        settings, **{name: value for name, value in given.items() if value is not None}
    )
    deployment = read_deployment(settings)

    def listening() -> None:
        """Say where, and what not to rely on."""
        screen = open_screen()
        screen.out.print(
            f"Fengni serves {deployment.audience}: ready on http://{settings.host}:{settings.port}"
        )
        for unsafe in find_unsafe(settings, deployment):
            screen.out.print(f"[yellow]development only:[/] {unsafe}")

    run(settings, listening=listening)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo lies.")] = Path(".demo"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="On 127.0.0.1.")] = 8000,
) -> None:
    """Run everything on this machine: server, time-stamps, witnesses, a device and photos."""
    from service.setup.running import run_demo

    run_demo(folder, port, open_screen())


@app.command()
def doctor(
    folder: FolderArgument = None, as_json: JsonOption = False, config: ConfigOption = None
) -> int:
    """Examine a deployment, beside its server or without one."""
    from service.context import system_clock
    from service.doctor import Answer, examine, exit_code
    from service.settings import read_environment

    found = examine(read_environment(folder=_deployment(folder, config)), system_clock())
    screen = open_screen()
    if as_json:
        screen.json(
            {"checks": [{"name": f.name, "answer": f.answer, "detail": f.detail} for f in found]}
        )
        return exit_code(found)
    styles = {Answer.PASS: "green", Answer.NOTE: "cyan", Answer.UNKNOWN: "yellow"}
    for one in found:
        style = styles.get(one.answer, "bold red")
        screen.out.print(f"[{style}]{one.answer:<8}[/]{one.name:<24} {one.detail}")
    return exit_code(found)


@log_app.command()
def fsck(
    folder: FolderArgument = None, as_json: JsonOption = False, config: ConfigOption = None
) -> int:
    """Recompute everything that the log keeps, and name whatever differs."""
    from service.fsck import check_logs
    from service.settings import read_environment

    checked = check_logs(read_environment(folder=_deployment(folder, config)))
    screen = open_screen()
    broken = any(one.findings for one in checked)
    if as_json:
        screen.json({"logs": [one.document() for one in checked]})
        return NO if broken else OK
    for one in checked:
        verdict = "[bold red]broken[/]" if one.findings else "[green]clean[/]"
        screen.out.print(f"{verdict}  log {one.log} ({one.origin}), {one.size} entries")
        for finding in one.findings:
            screen.out.print(f"  {finding.code:<20} {finding.place:<18} {finding.detail}")
    return NO if broken else OK


@app.command()
def tamper(
    target: Annotated[
        str,
        typer.Argument(
            metavar="object|row|tile|token|statement|checkpoint|text|package",
            help="What to damage.",
        ),
    ],
    subject: Annotated[
        str | None,
        typer.Argument(metavar="[ID|FILE]", help="A capture, else the newest; or a package."),
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="The demo's deployment.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> int:
    """Flip one byte of a demo behind its back, to watch which check notices."""
    from service.settings import read_environment
    from service.tamper import NOTICED_BY, Target
    from service.tamper import tamper as flip_byte

    if target not in list(Target):
        raise Misused(f"There is no {target} to tamper with; see `fengni tamper --help`.")
    settings = read_environment(folder=_deployment(folder, config))
    flip = flip_byte(settings, Target(target), subject)
    short = flip.subject if flip.target is Target.PACKAGE else flip.subject[:16]
    commands = [line.format(short) for line in NOTICED_BY[flip.target]]
    screen = open_screen()
    if as_json:
        screen.json(
            {
                "target": flip.target,
                "subject": flip.subject,
                "place": flip.place,
                "offset": flip.offset,
                "before": flip.before,
                "after": flip.after,
                "noticed_by": commands,
            }
        )
        return OK
    screen.out.print(f"{flip.place}: byte {flip.offset} was {flip.before:02x}, is {flip.after:02x}")
    screen.out.print(f"It belongs to {flip.subject}.")
    screen.out.print("This will notice: " + ", ".join(commands))
    screen.out.print(f"To put it back: fengni tamper {flip.target} {short}")
    return OK


# ---------------------------------------------------------------------------- tokens


@token_app.command("issue")
def token_issue(
    holder: Annotated[str, typer.Argument(help="Pseudonym, as custody statements will name it.")],
    folder: FolderArgument = None,
    organ: Annotated[str | None, typer.Option(help="Where there are several.")] = None,
    scope: Annotated[list[str] | None, typer.Option(help="May be repeated; else all.")] = None,
    days: Annotated[int, typer.Option(min=1, max=3660, help="Until it expires.")] = 90,
) -> None:
    """Issue a bearer token; its secret is shown this once and kept nowhere."""
    from service.context import system_clock
    from service.settings import read_environment
    from service.setup.tokens import issue

    issued = issue(
        read_environment(folder=_deployment(folder, None)),
        organ=organ,
        holder=holder,
        scopes=scope or (),
        days=days,
        at=system_clock(),
    )
    screen = open_screen()
    screen.out.print(issued.secret, soft_wrap=True, highlight=False)
    screen.err.print(f"Token {issued.id} of {holder}, until {issued.expires_at:%Y-%m-%d}.")


@token_app.command("list")
def token_list(folder: FolderArgument = None) -> None:
    """List the tokens, oldest first, without their secrets."""
    from service.settings import read_environment
    from service.setup.tokens import describe, listed

    screen = open_screen()
    for token in listed(read_environment(folder=_deployment(folder, None))):
        screen.out.print(describe(token), soft_wrap=True, highlight=False)


@token_app.command("revoke")
def token_revoke(
    token: Annotated[str, typer.Argument(help="Its id, as `fengni token list` shows it.")],
    folder: FolderArgument = None,
) -> None:
    """End a token now."""
    from service.context import system_clock
    from service.settings import read_environment
    from service.setup.tokens import revoke

    revoke(read_environment(folder=_deployment(folder, None)), token, system_clock())


# ---------------------------------------------------------------------------- devices


@device_app.command()
def keygen(
    holder: Annotated[str, typer.Option(help="Pseudonym of the device or person.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the private key goes.")],
    request: Annotated[Path, typer.Option(metavar="FILE", help="Where the request goes.")],
    role: Annotated[str, typer.Option(help="device, patrol, officer, reviewer, …")] = "device",
    audience: Annotated[str | None, typer.Option(help="Else the client's.")] = None,
    organ: Annotated[str | None, typer.Option(help="Else the client's.")] = None,
    config: ConfigOption = None,
) -> None:
    """Make a key and the request with which its registrar can enrol it."""
    from service.client.config import read_config
    from service.context import fresh_salt, system_clock
    from service.settings import client_config_file
    from service.setup.enrolling import make_key

    if audience is None or organ is None:
        known = read_config(config, client_config_file())
        audience, organ = audience or known.audience, organ or known.organ
    key_id = make_key(
        out,
        request,
        audience=audience,
        organ=organ,
        role=role,
        holder=holder,
        at=system_clock(),
        salt=fresh_salt(),
    )
    screen = open_screen()
    screen.out.print(f"Key {key_id} lies in {out}, its request in {request}.")
    screen.out.print(f"Have it enrolled: fengni device enrol {request} --registrar DIR")


@device_app.command()
def enrol(
    request: Annotated[Path, typer.Argument(help="What `fengni device keygen` wrote.")],
    registrar: Annotated[Path, typer.Option(metavar="DIR", help="The registrar's folder.")],
    config: ConfigOption = None,
) -> None:
    """As the registrar: sign the enrolment of a key and have the log take it."""
    from service.setup.enrolling import enrol_key

    with _post(registrar, config) as post:
        enrolled = enrol_key(post, request)
    open_screen().out.print(f"The key {enrolled} is enrolled from the next entry on.")


@device_app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="64 hex digits, as keygen printed them.")],
    registrar: Annotated[Path, typer.Option(metavar="DIR", help="The registrar's folder.")],
    reason: Annotated[str, typer.Option(help="A code, such as lost, stolen, retired.")] = "lost",
    suspected_since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Such as 2026-11-23T09:00:00.000Z.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """As the registrar: end a key from the next entry on."""
    from service.client.opening import read_moment

    since = None if suspected_since is None else read_moment(suspected_since)
    with _post(registrar, config) as post:
        post.desk.revoke(key_id, reason=reason, suspected_since=since, submit=post.submit)
    open_screen().out.print(f"The key {key_id} has ended from the next entry on.")


# ---------------------------------------------------------------------------- captures


@app.command()
def upload(  # noqa: PLR0913, PLR0917  the parameters are the options
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="The files to seal.")],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    task: Annotated[str | None, typer.Option(help="The task's name.")] = None,
    officer: Annotated[str | None, typer.Option(help="The officer's pseudonym.")] = None,
    mode: Annotated[
        str, typer.Option(help="attended, automated, or import for what lies on a disk.")
    ] = "import",
    session: Annotated[
        str | None, typer.Option(help="visit, sortie or patrol: number and chain the files.")
    ] = None,
    captured_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Else each file's own time.")
    ] = None,
    place: Annotated[
        str | None, typer.Option(metavar="LAT,LON[,ACCURACY_M]", help="A claimed place, WGS-84.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="New statements, even for files that were sent.")
    ] = False,
    wait: Annotated[
        str, typer.Option(help="received, stored, witnessed or time_stamped.")
    ] = "received",
    wait_s: Annotated[float, typer.Option(min=0, max=3600, help="At most so long.")] = 60.0,
    config: ConfigOption = None,
) -> int:
    """Act as a device: hash, sign, announce, send; continue what was interrupted."""
    from service.client.display import sent_document, show_sent, show_upload
    from service.client.opening import claim_of, open_uploader, wish_of
    from service.client.upload import exit_status
    from service.context import fresh_salt, system_clock
    from service.settings import client_config_file

    claim = claim_of(mode, task=task, officer=officer, captured_at=captured_at, place=place)
    wish = wish_of(files, claim, session=session, again=again, wait=wait, wait_s=wait_s)
    screen = open_screen(quiet=quiet or as_json)
    with (
        show_upload(screen, files) as watcher,
        open_uploader(
            config, client_config_file(), watcher, clock=system_clock, fresh_salt=fresh_salt
        ) as uploader,
    ):
        results = uploader.upload(wish)
    if as_json:
        screen.json(sent_document(results))
    else:
        show_sent(screen, results)
    return exit_status(results, wish)


@app.command()
def export(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Captures; 8 digits suffice.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the package goes.")],
    wait_s: Annotated[float, typer.Option(min=1, max=3600, help="At most so long.")] = 180.0,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Have a package made of captures and fetch it."""
    from service.client.display import show_download
    from service.client.opening import open_exporter, whole_ids
    from service.settings import client_config_file

    screen = open_screen(quiet=quiet or as_json)
    with (
        show_download(screen) as fetched,
        open_exporter(config, client_config_file(), wait_s=wait_s, fetched=fetched) as opened,
    ):
        exporter, journal = opened
        measured = exporter.export(whole_ids(journal, ids), out)
    if as_json:
        screen.json(
            {"file": str(out), "sha256": measured.sha256, "size_bytes": measured.size_bytes}
        )
    else:
        screen.out.print(f"{out}: {measured.size_bytes:,} bytes, SHA-256 {measured.sha256}")
        screen.out.print(f"Check it: fengni verify {out}")


@app.command()
def verify(
    package: Annotated[Path, typer.Argument(help="What `fengni export` wrote.")],
    as_json: JsonOption = False,
    known_keys: KnownKeysOption = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="Judge as of then.")] = None,
    config: ConfigOption = None,
) -> int:
    """Check a package offline, as `python -m evidence verify` does."""
    from evidence.__main__ import EXIT
    from evidence.verify import verify_package
    from service.client.config import read_config, read_known_keys
    from service.client.display import show_report
    from service.client.opening import read_moment
    from service.context import system_clock
    from service.settings import client_config_file

    path = known_keys or Path(read_config(config, client_config_file()).known_keys_file)
    known = read_known_keys(path)
    moment = system_clock() if at is None else read_moment(at)
    try:
        with package.open("rb") as stream:
            report = verify_package(stream, known, moment)
    except OSError as error:
        raise Misused(f"{package} cannot be read: {error.strerror}.") from error
    screen = open_screen()
    if as_json:
        screen.json(report.to_json())
    else:
        show_report(screen, report, package)
    return EXIT[report.outcome]


@app.command()
def version() -> None:
    """Print the version."""
    open_screen().out.print(f"fengni {installed_version('fengni')}")


# ---------------------------------------------------------------------------- running


def main() -> None:
    """Run the command line and end the process with its exit status."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: without the program's name.

    Returns:
        The exit status.
    """
    screen = open_screen()
    try:
        status = app(args=list(arguments), prog_name="fengni", standalone_mode=False)
    except typer.Abort:
        return _INTERRUPTED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except typer.TyperException as error:
        told = error.format_message() if isinstance(error, typer.BadParameter) else str(error)
        screen.fail(f"{told} See `fengni --help`.")
        return USAGE
    except ClientFailure as failure:
        screen.fail(failure.detail)
        return failure.exit_code
    except Exception as error:  # noqa: BLE001  what is not ours is raised again
        return _tell(screen, error)
    return status if isinstance(status, int) else OK


def _tell(screen: Screen, error: Exception) -> int:
    """The exit status of an error of ours; any other is a mistake and is shown whole."""
    from evidence.errors import EvidenceError
    from service.law.refusals import Refusal
    from service.objects import StoreUnproven
    from service.serving import AlreadyServed
    from service.settings import SettingsInvalid
    from service.setup.children import ChildFailed
    from service.setup.demo import DemoBusy
    from service.setup.deployment import SetupRefused
    from service.setup.parties import PartyMalformed
    from service.setup.registrar import Rejected, RequestRefused
    from service.tamper import TamperRefused
    from service.transparency.tsa import OpensslMissing
    from storage.errors import IntegrityAlarm, StorageError, Unavailable

    no = (AlreadyServed, ChildFailed, DemoBusy, IntegrityAlarm, Rejected, TamperRefused)
    statuses: tuple[tuple[tuple[type[Exception], ...], int], ...] = (  # the first that fits
        ((PartyMalformed, RequestRefused, SettingsInvalid, SetupRefused), USAGE),
        (no, NO),
        ((OpensslMissing, Unavailable), UNDECIDED),
        ((EvidenceError, Refusal, StorageError, StoreUnproven), NO),
    )
    status = next((number for kinds, number in statuses if isinstance(error, kinds)), None)
    if status is None:
        raise error
    screen.fail(str(error))
    return status


def _post(registrar: Path, config: Path | None) -> AbstractContextManager["Post"]:
    from service.context import fresh_salt, system_clock
    from service.settings import client_config_file
    from service.setup.enrolling import open_post

    environment = client_config_file()
    return open_post(registrar, config, environment, clock=system_clock, fresh_salt=fresh_salt)


def _deployment(folder: Path | None, config: Path | None) -> Path | None:
    """The folder that was named, or None for $FENGNI_FOLDER, or the demo that the client knows."""
    from service.client.config import read_config
    from service.settings import SettingsInvalid, client_config_file, read_environment

    if folder is not None:
        return folder
    try:
        read_environment()
    except SettingsInvalid:  # the environment names no deployment
        pass
    else:
        return None
    demo_folder = read_config(config, client_config_file()).demo_folder
    if demo_folder is None:
        raise Misused("Name the deployment's folder; the client knows no demo.")
    return Path(demo_folder) / "server"


if __name__ == "__main__":
    main()
