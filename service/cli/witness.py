"""Commands of a witness: make one, let logs in, serve it, see what it remembers.

Does: reads arguments, calls one function, shows the result. Refuses to know anything of a server:
a witness belongs in another body than the log's operator.
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from service.cli.options import NO, OK, JsonOption
from service.client.display import open_screen
from service.client.failures import Misused

app = typer.Typer(help="A witness of logs: cosigns what only grew. Run it in another body.")
FolderOption = Annotated[Path, typer.Option("--folder", metavar="DIR", help="The witness's.")]
_HERE = Path()


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    name: Annotated[
        str, typer.Option(help="Its name for ever, such as `witness.example.org/west`.")
    ],
) -> None:
    """Make a witness with new keys and an empty memory; print its verifier keys."""
    from service.transparency.witness import create_witness

    screen = open_screen()
    with _named(folder):
        vkeys = create_witness(folder, name)
    for vkey in vkeys:
        screen.out.print(vkey, soft_wrap=True, highlight=False)
    screen.err.print(
        f"Hand these keys to the log's operator and to everybody who verifies. Then: fengni"
        f" witness add-log ORIGIN VKEY VKEY --folder {folder}"
    )


@app.command("add-log")
def let_in(
    origin: Annotated[str, typer.Argument(help="The log's name in its checkpoints.")],
    vkeys: Annotated[list[str], typer.Argument(metavar="VKEY…", help="The log's verifier keys.")],
    folder: FolderOption = _HERE,
) -> None:
    """Let it cosign a log, or know further keys of one; also while it serves."""
    from service.transparency.witness import add_log

    with _named(folder):
        fresh = add_log(folder, origin, vkeys)
    open_screen().out.print(f"{fresh} of {len(vkeys)} keys of {origin} are new.")


@app.command()
def serve(
    folder: FolderOption = _HERE,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="On 127.0.0.1; 0 takes a free one.")
    ] = 8101,
) -> None:
    """Serve it on loopback until it is stopped; TLS is the reverse proxy's."""
    from service.transparency.witness import serve_witness

    with _named(folder):
        serve_witness(folder, port)


@app.command()
def status(folder: FolderOption = _HERE, as_json: JsonOption = False) -> int:
    """Show what it cosigned last, and what a log signed against its own history."""
    from service.transparency.witness import remembered

    with _named(folder):
        found = remembered(folder)
    screen = open_screen()
    cheated = any(memory.contradictions for memory in found.values())
    if as_json:
        screen.json(
            {
                "logs": [
                    {
                        "origin": origin,
                        "size": memory.size,
                        "checkpoint": None if memory.note is None else memory.note.decode(),
                        "contradictions": [
                            {"refused": note.decode(), "held": held and held.decode()}
                            for note, held in memory.contradictions
                        ],
                    }
                    for origin, memory in found.items()
                ]
            }
        )
        return NO if cheated else OK
    for origin, memory in found.items():
        screen.out.print(f"{origin}: cosigned up to {memory.size} entries")
        if memory.contradictions:
            screen.out.print(
                f"  [bold red]{len(memory.contradictions)} signed checkpoints contradict it[/]:"
                " see --json, and keep this folder"
            )
    return NO if cheated else OK


@contextmanager
def _named(folder: Path) -> Generator[None]:
    """Say of which folder it is that it holds a witness already, or holds none."""
    try:
        yield
    except FileExistsError as error:
        raise Misused(f"{folder} holds a witness already; a witness is made once.") from error
    except FileNotFoundError as error:
        raise Misused(f"{folder} holds no whole witness: {error}") from error
