"""Commands of those who run a deployment: make, migrate, serve and examine it, damage a demo.

Does: reads arguments, calls one function, shows the result. Refuses to decide anything itself.
"""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.options import (
    NO,
    OK,
    ConfigOption,
    FolderArgument,
    JsonOption,
    deployment_of,
)
from service.client.display import open_screen
from service.client.failures import Misused

app = typer.Typer()
log_app = typer.Typer(help="The log of a deployment.")

DatabaseOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="PostgreSQL, for the service's role; else a SQLite file."),
]
OwnerOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The same database for the role that owns its tables."),
]
HeadsOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The heads, on another PostgreSQL server; else files."),
]
HeadsOwnerOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The same for the role that owns the heads' table."),
]

KeysUrlOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Key database on another server; else a file."),
]
KeysOwnerOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The same for the role that owns the keys' tables."),
]


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
    database_url: DatabaseOption = None,
    owner_url: OwnerOption = None,
    heads_url: HeadsOption = None,
    heads_owner_url: HeadsOwnerOption = None,
    keys_url: KeysUrlOption = None,
    keys_owner_url: KeysOwnerOption = None,
) -> None:
    """Make a deployment: keys, stores, an empty log, the trust file, the first entry."""
    from service.setup.databases import Databases
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
            databases=Databases(
                url=database_url,
                owner_url=owner_url,
                heads_url=heads_url,
                heads_owner_url=heads_owner_url,
                keys_url=keys_url,
                keys_owner_url=keys_owner_url,
            ),
        )
    )
    _tell_made(folder, place, desk)


def _tell_made(folder: Path, place: Path, desk: Path) -> None:
    screen = open_screen()
    screen.out.print(f"The deployment lies in {place}. Serve it: fengni serve {folder}")
    screen.out.print(
        f"The registrar's keys lie in {desk}: take that folder to another machine before anything"
        " counts. Give known-keys.json to those who will verify, by a way that is not this server."
    )


@app.command()
def migrate(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[FOLDER]", help="The deployment; else $FENGNI_FOLDER."),
    ] = None,
    owner_url: OwnerOption = None,
    heads_owner_url: HeadsOwnerOption = None,
    keys_owner_url: KeysOwnerOption = None,
) -> None:
    """Bring a deployment's databases to the schema of this version; evidence rows stay."""
    from service.deployment_file import Places, read_deployment
    from service.settings import read_environment
    from service.setup.databases import databases_of, prepare_databases

    settings = read_environment(folder=folder)
    deployment = read_deployment(settings)
    databases = databases_of(settings, deployment, owner_url, heads_owner_url, keys_owner_url)
    prepare_databases(databases, Places(settings.folder))
    open_screen().out.print("The databases have the schema of this version.")


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

    from service.deployment_file import read_deployment
    from service.production import find_unsafe, require_production
    from service.serving import serve as run
    from service.settings import read_environment

    settings = read_environment(folder=folder)
    given = {"host": host, "port": port}
    settings = msgspec.structs.replace(
        settings, **{name: value for name, value in given.items() if value is not None}
    )
    deployment = read_deployment(settings)
    require_production(settings, deployment)

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
def worker(
    folder: FolderArgument = None,
    host: Annotated[str | None, typer.Option(help="Else $FENGNI_HOST, else 127.0.0.1.")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="For those who watch it; else $FENGNI_PORT."),
    ] = None,
) -> None:
    """Do a deployment's background work in this process, until it is stopped."""
    import msgspec

    from service.deployment_file import read_deployment
    from service.serving import work
    from service.settings import read_environment

    settings = read_environment(folder=folder)
    given = {"host": host, "port": port}
    settings = msgspec.structs.replace(
        settings, **{name: value for name, value in given.items() if value is not None}
    )
    deployment = read_deployment(settings)

    def listening() -> None:
        """Say where it can be watched."""
        open_screen().out.print(
            f"Fengni works for {deployment.audience}:"
            f" ready on http://{settings.host}:{settings.port}"
        )

    work(settings, listening=listening)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo lies.")] = Path(".demo"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="On 127.0.0.1.")] = 8000,
) -> None:
    """Run everything on this machine: server, time-stamps, witnesses, a device and photos."""
    from service.setup.running import run_demo

    run_demo(folder, port, open_screen())


@app.command()
def cluster(
    local: Annotated[
        bool, typer.Option("--local", help="Required: it runs on this machine, and only there.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="Where the cluster lies.")] = Path(".cluster"),
    web: Annotated[int, typer.Option(min=1, max=16, help="How many web nodes.")] = 2,
    workers: Annotated[int, typer.Option(min=0, max=16, help="How many worker processes.")] = 2,
) -> None:
    """Run a trial of many machines on this one: databases, object store, nodes, a TLS proxy."""
    from service.setup.clustering import run_cluster

    if not local:
        raise Misused("There is only `fengni cluster --local`; for real machines see deploy/.")
    run_cluster(folder, web=web, workers=workers, screen=open_screen())


@app.command()
def doctor(
    folder: FolderArgument = None, as_json: JsonOption = False, config: ConfigOption = None
) -> int:
    """Examine a deployment, beside its server or without one."""
    from service.context import system_clock
    from service.doctor import Answer, examine, exit_code
    from service.settings import read_environment

    found = examine(read_environment(folder=deployment_of(folder, config)), system_clock())
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

    checked = check_logs(read_environment(folder=deployment_of(folder, config)))
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


@log_app.command()
def succeed(
    origin: Annotated[
        str, typer.Option(help="The new log's name, such as `example.org/logs/2027`.")
    ],
    log: Annotated[str, typer.Option(help="Its id in addresses.")],
    registrar: Annotated[Path, typer.Option(metavar="DIR", help="The registrar's folder.")],
    reason: Annotated[
        str, typer.Option(help="year, rolled_back, keys (rotation) or moved.")
    ] = "year",
    folder: FolderArgument = None,
    config: ConfigOption = None,
) -> None:
    """End the organ's log and begin its successor, which says so; the server must be stopped."""
    from service.context import fresh_salt, system_clock
    from service.settings import read_environment
    from service.setup.registrar import open_desk
    from service.setup.succession import succeed_log

    settings = read_environment(folder=deployment_of(folder, config))
    desk = open_desk(registrar, clock=system_clock, fresh_salt=fresh_salt)
    made = succeed_log(settings, desk, log_id=log, origin=origin, reason=reason)
    screen = open_screen()
    screen.out.print(
        f"{origin} continues {made.predecessor}, of which {made.size} entries are known and"
        f" {made.ours} are here. Nothing is signed there any more."
    )
    screen.out.print("Let witnesses and monitors know its keys (fengni witness add-log):")
    for key in made.log_keys:
        screen.out.print(key.encode(), soft_wrap=True, highlight=False)
    if made.known_keys is None:
        screen.out.print("The trust file needs a successor, signed by its keepers' threshold.")
    else:
        screen.out.print(f"known-keys.json has version {made.known_keys}: hand it on.")


@app.command()
def tamper(
    target: Annotated[
        str,
        typer.Argument(
            metavar="object|row|tile|token|statement|checkpoint|cosignature|text|package",
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
    if subject is not None and target != Target.PACKAGE:
        subject = subject.lower()  # an id, whoever copied it
    settings = read_environment(folder=deployment_of(folder, config))
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
