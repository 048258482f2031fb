"""Processes that stand beside the demo: started, watched, and never left behind.

Does: starts our modules as children with a log file each, waits until they say that they are
ready, starts them again where they listened, and ends them by their own ids. Refuses to end any
process that it did not start.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_READY = re.compile(r"ready on http://127\.0\.0\.1:([0-9]+)")
_START_TIMEOUT_S = 30.0
_END_TIMEOUT_S = 15.0
_PAUSE_S = 0.05
_REASON_CHARACTERS = 500


class ChildFailed(Exception):
    """A child ended, or did not become ready; the message names it and its log file."""


@dataclass(slots=True)
class _Child:
    """One child: what is run, where it listens (0: where it likes), and its process now."""

    module: str
    arguments: tuple[str, ...]
    port: int
    process: "subprocess.Popen[bytes]"


class Children:
    """The children of one demo; leaving the context ends them, newest first."""

    def __init__(self, log_folder: Path) -> None:
        """Start nothing yet.

        Args:
            log_folder: where each child's output goes, a file each.
        """
        self._log_folder = log_folder
        self._running: dict[str, _Child] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in reversed(self._running.values()):
            _end(child.process)

    def start(
        self, name: str, module: str, arguments: Sequence[str | Path], *, port: int = 0
    ) -> None:
        """Start a module of ours as a child; its output goes to `NAME.log`.

        Args:
            name: of the child.
            module: takes `--port` besides its arguments.
            arguments: the others.
            port: where it is to listen on 127.0.0.1; 0 lets it choose.
        """
        words = tuple(map(str, arguments))
        process = self._spawn(name, module, words, port)
        self._running[name] = _Child(module=module, arguments=words, port=port, process=process)

    def restart(self, name: str) -> None:
        """Start a child that ended again, where it listened before; waits for nothing."""
        child = self._running[name]
        child.process = self._spawn(name, child.module, child.arguments, child.port)

    def address(self, name: str) -> str:
        """Wait until a child says where it is ready, and return that address.

        Raises:
            ChildFailed: it ended, or said nothing in time.
        """
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.is_ready(name):
                return f"http://127.0.0.1:{self._running[name].port}"
            for one in self._running:
                self.require_alive(one)
            time.sleep(_PAUSE_S)
        raise ChildFailed(f"{name} did not become ready; see {self._log_path(name)}.")

    def is_ready(self, name: str) -> bool:
        """Whether a child has said since its start that it is ready."""
        found = _READY.search(self._log_path(name).read_text("utf-8", "replace"))
        if found:
            self._running[name].port = int(found[1])
        return found is not None

    def end_of(self, name: str) -> str | None:
        """How a child ended and the reason that it gave, as one sentence; None while it runs."""
        status = self._running[name].process.poll()
        if status is None:
            return None
        how = f"ended with status {status}{self._reason(name) if status else ''}"
        if status < 0:
            how = f"was killed by {signal.Signals(-status).name}"
        return f"{name} {how}; its last words are in {self._log_path(name)}."

    def _reason(self, name: str) -> str:
        """The last line that a child wrote before it gave up, after a colon."""
        lines = self._log_path(name).read_text("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        said = last.removeprefix("fengni: ").removesuffix(".")[:_REASON_CHARACTERS]
        return f": {said}" if said else ""

    def require_alive(self, name: str) -> None:
        """Demand that a child still runs.

        Raises:
            ChildFailed: it has ended.
        """
        if (end := self.end_of(name)) is not None:
            raise ChildFailed(end)

    def _spawn(
        self, name: str, module: str, arguments: Sequence[str], port: int
    ) -> "subprocess.Popen[bytes]":
        ours = [sys.executable, "-m", "service.setup.child", str(os.getpid()), module]
        with self._fresh_log(name).open("wb") as log:
            return subprocess.Popen(  # noqa: S603  our own module
                [*ours, *arguments, "--port", str(port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the parent alone
            )

    def _fresh_log(self, name: str) -> Path:
        """Where a child's words go; those of the run before, perhaps its last, become `.old`."""
        path = self._log_path(name)
        if path.exists():
            path.replace(path.with_suffix(".log.old"))
        return path

    def _log_path(self, name: str) -> Path:
        return self._log_folder / f"{name}.log"


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ask politely, wait, then insist."""
    if child.poll() is not None:
        return
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
