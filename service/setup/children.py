"""Processes that stand beside the demo or make up a cluster: started, watched, never left behind.

Does: starts our modules and foreign programs as children with a log file each, waits until they
are ready, starts them again where they listened, and ends them by their own ids. Refuses to end
any process that it did not start.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from service.settings import environment_with
from service.setup.child import PROGRAM

_READY = re.compile(r"ready on http://127\.0\.0\.1:([0-9]+)")
_START_TIMEOUT_S = 30.0
_END_TIMEOUT_S = 15.0
_PAUSE_S = 0.05
_REASON_CHARACTERS = 500


class ChildFailed(Exception):
    """A child ended, or did not become ready; the message names it and its log file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A foreign program, and how it is treated.

    Attributes:
        command: its path and all its arguments.
        ready: tells whether it serves; asked again and again after its start.
        folder: where it runs.
        end: the signal that ends it with its own children, without `SIG`; it also gets it when
            its parent dies.
        account: user and group under which it runs; None for this process's own.
        patience_s: how long its end is waited for before it is killed.
    """

    command: tuple[str, ...]
    ready: Callable[[], bool]
    folder: Path
    end: str = "TERM"
    account: tuple[int, int] | None = None
    patience_s: float = _END_TIMEOUT_S

    @property
    def words(self) -> tuple[str, ...]:
        """What `service.setup.child` is told."""
        user = ":".join(map(str, self.account)) if self.account else ":"
        return PROGRAM, f"{self.end}:{user}", str(self.folder), *self.command


@dataclass(slots=True)
class _Child:
    """One child: how it is spawned, where it listens (0: where it likes), and its process now."""

    arguments: tuple[str, ...]
    port: int | None
    environment: Mapping[str, str] | None
    program: Program | None
    process: "subprocess.Popen[bytes]"

    @property
    def end(self) -> signal.Signals:
        """What asks it to end."""
        return signal.Signals[f"SIG{self.program.end if self.program else 'TERM'}"]

    @property
    def patience_s(self) -> float:
        """How long its end is waited for."""
        return self.program.patience_s if self.program else _END_TIMEOUT_S


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
            _end(child.process, child.end, child.patience_s)

    def start(
        self,
        name: str,
        module: str,
        arguments: Sequence[str | Path],
        *,
        port: int | None = 0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start a module of ours as a child; its output goes to `NAME.log`.

        Args:
            name: of the child.
            module: takes `--port` besides its arguments, if it listens.
            arguments: the others.
            port: where it is to listen on 127.0.0.1; 0 lets it choose; None for one that does not.
            environment: variables beside this process's own.
        """
        words = (module, *map(str, arguments))
        process = self._spawn(name, words, port, environment)
        self._running[name] = _Child(words, port, environment, None, process)

    def start_program(self, name: str, program: Program) -> None:
        """Start a foreign program as a child; its output goes to `NAME.log`."""
        process = self._spawn(name, program.words, None, None)
        self._running[name] = _Child(program.words, None, None, program, process)

    def restart(self, name: str) -> None:
        """Start a child that ended again, where it listened before; waits for nothing."""
        child = self._running[name]
        child.process = self._spawn(name, child.arguments, child.port, child.environment)

    def pid(self, name: str) -> int:
        """The process id of a child now."""
        return self._running[name].process.pid

    def wait_ready(self, name: str) -> None:
        """Wait until a child says that it is ready, or its probe does.

        Raises:
            ChildFailed: it ended, or was not ready in time.
        """
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self.is_ready(name):
            for one in self._running:
                self.require_alive(one)
            if time.monotonic() > deadline:
                raise ChildFailed(f"{name} did not become ready; see {self._log_path(name)}.")
            time.sleep(_PAUSE_S)

    def address(self, name: str) -> str:
        """Wait until a child says where it is ready, and return that address.

        Raises:
            ChildFailed: it ended, or said nothing in time.
        """
        self.wait_ready(name)
        return f"http://127.0.0.1:{self._running[name].port}"

    def is_ready(self, name: str) -> bool:
        """Whether a child has said since its start that it is ready, or its probe says so."""
        child = self._running[name]
        if child.program is not None:
            return child.process.poll() is None and child.program.ready()
        if child.port is None:  # nobody waits for one that does not listen
            return child.process.poll() is None
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
        self,
        name: str,
        words: Sequence[str],
        port: int | None,
        environment: Mapping[str, str] | None,
    ) -> "subprocess.Popen[bytes]":
        listening = () if port is None else ("--port", str(port))
        ours = (sys.executable, "-m", "service.setup.child", str(os.getpid()))
        with self._fresh_log(name).open("wb") as log:
            return subprocess.Popen(  # noqa: S603  our own module
                [*ours, *words, *listening],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment_with(environment or {}),
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


def _end(child: subprocess.Popen[bytes], how: signal.Signals, patience_s: float) -> None:
    """Ask politely, wait, then insist."""
    if child.poll() is not None:
        return
    child.send_signal(how)
    try:
        child.wait(patience_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
