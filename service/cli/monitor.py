"""The command that follows a log from outside.

Does: reads arguments, looks once or again and again, shows what was found. Refuses to ask the log's
operator for anything but the log's public files.

Exit status: 0 nothing was found, 1 something is not as it must be (also: ever was, and is proven),
2 the log does not answer or the known keys have expired, 64 wrong usage.
"""

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.options import NO, OK, UNDECIDED, JsonOption
from service.client.display import Screen, open_screen
from service.client.failures import Misused, Undecided

if TYPE_CHECKING:
    from evidence.known_keys import KnownLog
    from service.monitor.following import Look, Monitor
    from service.monitor.memory import Memory

app = typer.Typer()
_DAY_S = 24 * 3600


@app.command()
def monitor(  # noqa: PLR0913, PLR0917  the parameters are the options
    log_url: Annotated[
        str, typer.Argument(metavar="LOG_URL", help="The log's address, before `checkpoint`.")
    ],
    known_keys: Annotated[
        Path, typer.Option(metavar="FILE", help="The trust file; never from the log's operator.")
    ],
    state: Annotated[
        Path, typer.Option(metavar="FILE", help="What this monitor remembers; made if not there.")
    ],
    origin: Annotated[str | None, typer.Option(help="Where the trust file has several.")] = None,
    receipts: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Receipts or journals of devices.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Bearer token, where tiles are private.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Read all of it once, and end.")] = False,
    every_s: Annotated[int, typer.Option(min=1, help="Between two looks.")] = 60,
    whole_every_s: Annotated[int, typer.Option(min=0, help="Between two whole readings.")] = _DAY_S,
    unwitnessed_s: Annotated[
        int, typer.Option(min=0, help="So long a quorum may be missing.")
    ] = 3600,
    stale_s: Annotated[int, typer.Option(min=0, help="So long nothing may be signed.")] = 2
    * _DAY_S,
    as_json: JsonOption = False,
) -> int:
    """Follow a log from outside: recompute its tree, and keep what its operator signed."""
    from service.context import system_clock
    from service.monitor.following import Demands, Monitor
    from service.monitor.memory import open_memory
    from service.monitor.source import Source

    demands = Demands(unwitnessed_s=unwitnessed_s, stale_s=stale_s, receipts=receipts)
    token = None if token_file is None else _token(token_file)
    tell = _teller(open_screen(), as_json=as_json)
    try:
        with open_memory(state) as memory, Source(log_url, token) as source:
            following = Monitor(
                source,
                memory,
                _pinned(known_keys, origin, memory),
                demands,
                lambda: system_clock().timestamp(),
            )
            if once:
                status, said = _look(following, whole=True)
                tell(said)
                return status
            return _follow(following, tell, every_s, whole_every_s)
    except OSError as error:
        raise Misused(f"The state {state} cannot be used: {error.strerror}.") from error


def _follow(
    following: "Monitor", tell: "Callable[[Look | str], None]", every_s: int, whole_every_s: int
) -> int:
    """Look again and again until somebody ends it; the status is that of the last look."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status, whole_at = UNDECIDED, time.monotonic()
    try:
        while True:
            whole = time.monotonic() >= whole_at
            status, said = _look(following, whole=whole)
            tell(said)  # after the status is known: somebody may end it on reading this
            if whole and status != UNDECIDED:
                whole_at = time.monotonic() + whole_every_s
            time.sleep(every_s)
    except KeyboardInterrupt:
        return status


def _look(following: "Monitor", *, whole: bool) -> "tuple[int, Look | str]":
    from service.monitor.source import Unreachable

    try:
        look = following.look(whole=whole)
    except Unreachable as error:
        return UNDECIDED, str(error)
    except Undecided as error:
        return UNDECIDED, error.detail
    return (NO if look.findings else OK), look


def _pinned(path: Path, origin: str | None, memory: "Memory") -> "Callable[[], KnownLog]":
    """Reads the pinned log from the trust file, anew each time."""
    from service.client.config import read_known_keys
    from service.client.receipts import known_log
    from service.context import system_clock

    def read() -> "KnownLog":
        """The pinned log as of now."""
        known = read_known_keys(path)
        name = origin or memory.origin or (next(iter(known.logs)) if len(known.logs) == 1 else None)
        if name is None:
            raise Misused("The trust file has several logs: name one with --origin.")
        return known_log(known, name, system_clock())

    return read


def _token(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Misused(f"The token file {path} cannot be read.") from error


def _teller(screen: Screen, *, as_json: bool) -> "Callable[[Look | str], None]":
    """Shows a look, or why there was none; as JSON one line each."""

    def line(look: "Look | str") -> None:
        """One document."""
        document = {"undecided": look} if isinstance(look, str) else look.document()
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def text(look: "Look | str") -> None:
        """One line for a look and one for each finding."""
        if isinstance(look, str):
            screen.err.print(f"[yellow]cannot decide[/]  {look}")
            return
        witnessed = {
            True: "witnessed",
            False: "[yellow]unwitnessed[/]",
            None: "no witness demanded",
        }
        verdict = "[bold red]FOUND[/]" if look.findings else "[green]sound[/]"
        screen.out.print(
            f"{verdict}  {look.origin}: {look.size} entries, {look.read} read,"
            f" {witnessed[look.witnessed]}, {look.receipts} receipts"
        )
        for one in look.findings:
            screen.out.print(f"  {one.code.value:<20} {one.place:<22} {one.detail}", markup=False)

    return line if as_json else text
