"""What the command line shows: progress, tables, trees of checks.

Does: writes for a person on a terminal, for a pipe, or as JSON. Refuses to add rungs up into one
tick, and to show anything but progress while work goes on.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.tree import Tree

from evidence.report import NOT_PROVEN, PROVEN, CaptureReport, Outcome, Report
from evidence.schema import format_time
from service.client.upload import Sent, Stage

SHORT_ID = 16
_PIPE_WIDTH = 400  # a program that reads our lines wants them whole
_STYLES = {
    Outcome.PASS: ("✓", "+", "green"),
    Outcome.CHANGED: ("✗", "x", "bold red"),
    Outcome.UNCONFIRMED: ("?", "?", "yellow"),
    Outcome.UNCHECKED: ("·", "-", "dim"),
}
_VERDICTS = {
    Outcome.PASS: ("PASS", "every check that decides has passed"),
    Outcome.CHANGED: ("FAIL", "something is not what was signed and logged"),
    Outcome.UNCONFIRMED: ("CANNOT DECIDE", "something that is needed is missing"),
    Outcome.UNCHECKED: ("CANNOT DECIDE", "nothing was checked"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """Where things are shown.

    Attributes:
        out: results.
        err: progress and failures.
    """

    out: Console
    err: Console

    def json(self, document: object) -> None:
        """Write one JSON document to the results."""
        sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
        sys.stdout.flush()

    def fail(self, message: str) -> None:
        """Tell what went wrong."""
        self.err.print(f"[bold red]fengni:[/] {escape(message)}", highlight=False)

    def mark(self, outcome: Outcome) -> str:
        """The sign of an outcome, in ASCII where the terminal has nothing else."""
        unicode, plain, style = _STYLES[outcome]
        return f"[{style}]{unicode if self.out.encoding.startswith('utf') else plain}[/]"


def open_screen(*, quiet: bool = False) -> Screen:
    """The terminal or pipe of this process."""
    piped = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Screen(
        out=Console(file=sys.stdout, soft_wrap=True, highlight=False, width=piped),
        err=Console(stderr=True, soft_wrap=True, quiet=quiet),
    )


class UploadProgress:
    """Two lines: files and bytes. Also a `Watcher` of an upload."""

    def __init__(self, progress: Progress, files: int, size_bytes: int) -> None:
        """Begin with nothing done."""
        self._progress = progress
        self._hashing = progress.add_task("hashing", total=size_bytes)
        self._sending = progress.add_task("sending", total=size_bytes)
        self._files = progress.add_task(f"{files} file{'s' * (files != 1)}", total=files)

    def measured(self, size_bytes: int) -> None:
        """So many more bytes were hashed."""
        self._progress.advance(self._hashing, size_bytes)

    def sent(self, size_bytes: int) -> None:
        """So many more bytes were sent; negative where a file begins again."""
        self._progress.advance(self._sending, size_bytes)

    def finished(self, path: Path) -> None:
        """A file's content was taken."""
        del path
        self._progress.advance(self._files, 1)


@contextmanager
def show_upload(screen: Screen, files: Sequence[Path]) -> Generator[UploadProgress]:
    """Show an upload while it goes on; nothing where nobody looks."""
    size_bytes = sum(path.stat().st_size for path in files if path.is_file())
    with _bars(screen) as progress:
        yield UploadProgress(progress, len(files), size_bytes)


@contextmanager
def show_download(screen: Screen) -> Generator[Callable[[int], None]]:
    """Show a download while it goes on; hands out what to tell the length of each piece."""
    with _bars(screen) as progress:
        task = progress.add_task("fetching", total=None)
        yield lambda size_bytes: progress.advance(task, size_bytes)


def show_sent(screen: Screen, results: Sequence[Sent]) -> None:
    """The table at the end of an upload."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("file", "id", "index", "bytes", "stage"):
        table.add_column(title, overflow="fold", justify="right" if title == "bytes" else "left")
    for one in results:
        style = "green" if not one.trouble else "red"
        table.add_row(
            escape(one.path.name),
            one.id[:SHORT_ID],
            "" if one.index is None else str(one.index),
            f"{one.size_bytes:,}",
            f"[{style}]{one.stage.value}[/] {escape(one.trouble)}".strip(),
        )
    screen.out.print(table)
    counted = Counter(one.stage for one in results)
    stages = ", ".join(f"{counted[stage]} {stage.value}" for stage in Stage if counted[stage])
    screen.out.print(f"{len(results)} file{'s' * (len(results) != 1)}: {stages}")


def sent_document(results: Iterable[Sent]) -> dict[str, object]:
    """The same as JSON."""
    return {
        "captures": [
            {
                "file": str(one.path),
                "id": one.id,
                "index": one.index,
                "size_bytes": one.size_bytes,
                "stage": one.stage.value,
                "problem": {"code": one.code, "detail": one.trouble} if one.trouble else None,
            }
            for one in results
        ]
    }


def show_report(screen: Screen, report: Report, package: Path) -> None:
    """A verification as a tree: one sentence for each check, one ladder for each capture."""
    word, meaning = _VERDICTS[report.outcome]
    style = _STYLES[report.outcome][2]
    tree = Tree(f"[{style}]{word}[/]  {escape(package.name)}  {meaning}")
    for capture in report.captures:
        _add_ladder(screen, tree, capture)
    checks = tree.add("[bold]checks[/]")
    for check in report.checks:
        subject = f" [dim]\\[{escape(check.subject[:SHORT_ID])}][/]" if check.subject else ""
        checks.add(f"{screen.mark(check.outcome)} {check.name:<21} {escape(check.detail)}{subject}")
    screen.out.print(tree, soft_wrap=False)
    screen.out.print(
        f"Known keys: version {report.known_keys_version}, SHA-256 {report.known_keys_sha256}"
    )
    screen.out.print(f"Judged as of {format_time(report.at)}")
    screen.out.print(PROVEN)
    screen.out.print(NOT_PROVEN)


def _add_ladder(screen: Screen, tree: Tree, capture: CaptureReport) -> None:
    claimed = format_time(capture.claimed_at)
    branch = tree.add(f"[bold]capture {capture.id[:SHORT_ID]}[/]  claimed at {claimed}")
    for rung in capture.rungs:
        branch.add(f"{screen.mark(rung.outcome)} {rung.name:<13} {escape(rung.detail)}")
    if capture.not_before is not None:
        branch.add(f"  not signed before {format_time(capture.not_before)}")
    if capture.not_after is not None:
        branch.add(f"  first independent time {format_time(capture.not_after)}")


def _bars(screen: Screen) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=screen.err,
        transient=True,
        disable=not screen.err.is_terminal or screen.err.quiet,
    )
