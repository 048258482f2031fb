"""Processes that stand beside the demo: started, watched, and never left behind.

Does: starts our modules as children with a log file each, waits until they say that they are
ready, and ends them by their own ids. Refuses to end any process that it did not start.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_READY = re.compile(r"ready on (http://[0-9.:]+)")
_START_TIMEOUT_S = 30.0
_END_TIMEOUT_S = 15.0
_PAUSE_S = 0.05


class ChildFailed(Exception):
    """A child ended, or did not become ready; the message names it and its log file."""


class Children:
    """The children of one demo; leaving the context ends them, newest first."""

    def __init__(self, log_folder: Path) -> None:
        """Start nothing yet.

        Args:
            log_folder: where each child's output goes, a file each.
        """
        self._log_folder = log_folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in reversed(self._running.values()):
            _end(child)

    def start(self, name: str, module: str, arguments: Sequence[str | Path]) -> None:
        """Start a module of ours as a child; its output goes to `NAME.log`."""
        command = [sys.executable, "-m", "service.setup.child", str(os.getpid()), module]
        with self._fresh_log(name).open("wb") as log:
            self._running[name] = subprocess.Popen(  # noqa: S603  our own module
                [*command, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the parent alone
            )

    def address(self, name: str) -> str:
        """Wait until a child says where it is ready, and return that address.

        Raises:
            ChildFailed: it ended, or said nothing in time.
        """
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            found = _READY.search(self._log_path(name).read_text("utf-8", "replace"))
            if found:
                return found[1]
            self.require_alive()
            time.sleep(_PAUSE_S)
        raise ChildFailed(f"{name} did not become ready; see {self._log_path(name)}.")

    def require_alive(self) -> None:
        """Demand that every child still runs.

        Raises:
            ChildFailed: one has ended.
        """
        for name, child in self._running.items():
            status = child.poll()
            if status is not None:
                raise ChildFailed(
                    f"{name} ended with status {status}; its last words are in"
                    f" {self._log_path(name)}."
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
