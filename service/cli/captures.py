"""Commands about captures: hand them in, fetch them as a package, check one offline.

Does: reads arguments, calls one function, shows the result. Refuses to decide anything itself.
"""

from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

from service.cli.options import ConfigOption, JsonOption, KnownKeysOption, QuietOption
from service.client.display import open_screen
from service.client.failures import Misused

app = typer.Typer()


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
