"""Commands about the key store: back it up, put it back, wrap it anew, look it over.

Does: reads arguments, calls one function, shows the result. Refuses to show a key.
"""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.options import NO, OK, FolderArgument, JsonOption, deployment_of
from service.client.display import open_screen

app = typer.Typer(help="Keys of texts and sealed contents: back up, put back, rotate, verify.")
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]
KeyOption = Annotated[
    Path,
    typer.Option(metavar="FILE", help="Holds the backup key; keep it apart from the backup."),
]


@app.command()
def backup(file: FileArgument, key: KeyOption, folder: FolderArgument = None) -> None:
    """Write an encrypted backup of every key; a new backup key is made where there is none."""
    from service.settings import read_environment
    from service.setup.key_keeping import back_up

    rows = back_up(read_environment(folder=deployment_of(folder, None)), file, key)
    open_screen().out.print(f"{file}: {rows} rows. It is worth nothing without {key}.")


@app.command()
def restore(file: FileArgument, key: KeyOption, folder: FolderArgument = None) -> None:
    """Put a backup back; what was destroyed since, by the store's or the log's word, stays so."""
    from service.settings import read_environment
    from service.setup.key_keeping import put_back

    done = put_back(read_environment(folder=deployment_of(folder, None)), file, key)
    open_screen().out.print(
        f"{done.keys} keys came back, {done.refused} stayed away because they were destroyed,"
        f" {done.destroyed} destructions were noted."
    )


@app.command()
def rotate(
    folder: FolderArgument = None,
    forget_former: Annotated[
        bool,
        typer.Option("--forget-former", help="Destroy the former ones: older backups end too."),
    ] = False,
) -> None:
    """Begin with a new key-encryption key and wrap every key with it."""
    from service.settings import read_environment
    from service.setup.key_keeping import rotate as begin_anew

    settings = read_environment(folder=deployment_of(folder, None))
    current, changed, forgotten = begin_anew(settings, forget_former=forget_former)
    screen = open_screen()
    screen.out.print(f"{changed} keys are wrapped with {current} now.")
    for kek in forgotten:
        screen.out.print(f"{kek} is destroyed; what it wraps in older backups is lost.")


@app.command()
def verify(folder: FolderArgument = None, as_json: JsonOption = False) -> int:
    """Open every key, and compare the destroyed ones with what the log says was disposed of."""
    from service.settings import read_environment
    from service.setup.key_keeping import look_over

    found = look_over(read_environment(folder=deployment_of(folder, None)))
    screen = open_screen()
    if as_json:
        screen.json(
            {
                "keys": dict(found.counted.by_kek),
                "destroyed": found.counted.destroyed,
                "current": found.current,
                "faults": list(found.faults),
            }
        )
        return NO if found.faults else OK
    for kek, count in sorted(found.counted.by_kek.items()):
        screen.out.print(f"{count} keys wrapped with {kek or 'nothing'}")
    screen.out.print(f"{found.counted.destroyed} keys were destroyed")
    for fault in found.faults:
        screen.out.print(f"[bold red]fault[/] {fault}", soft_wrap=True)
    return NO if found.faults else OK
