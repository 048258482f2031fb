"""The warden: keeps one zygote alive, hands it orders, and collects the answers.

Does: starts `service.captures.zygote` with an empty environment and one socket, sends orders
with their descriptors from any thread, and says how the process that did each has ended.
Starts another zygote when one has died, and repeats the order once: a zygote reads no content,
so it was not the file that killed it. Refuses to wait for ever.

    ended = Warden().run({"job": "preview"}, file_fd)
"""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from service.captures import frames
from service.captures.confine import Limits

Outcome = Literal["ok", "killed_cpu", "killed_memory", "timeout", "crashed"]

# Loading OpenCV and the C2PA library takes half a second; a busy machine ten times that.
START_S = 60.0
# How long past a job's own limit its end may be told; only a stopped zygote is later.
LATE_S = 3.0
_ROOT = Path(__file__).resolve().parent.parent.parent


class SandboxUnavailable(RuntimeError):
    """The zygote cannot be started: the installation is broken, not the file."""


class _ZygoteGone(Exception):
    """The zygote died between two steps; the order may be given again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An answer, and how the process that gave it ended.

    Attributes:
        outcome: ok, or what ended it.
        answer: the messages that arrived whole.
        end: `wall_ms`, `cpu_ms`, `peak_kib` as the zygote measured them; empty if it died too.
    """

    outcome: Outcome
    answer: frames.Answer
    end: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def isolation(self) -> tuple[str, ...]:
        """The walls that the process reported before it read anything."""
        return tuple(self.answer.json(frames.ISOLATION).get("isolation", ()))


class Warden:
    """Owns the zygote. Thread-safe."""

    def __init__(self, *, limits: Limits, environment: Mapping[str, str]) -> None:
        """Prepare; nothing is started yet.

        Args:
            limits: what one job may use.
            environment: variables for the zygote beside the fixed ones; it inherits none.
        """
        self._limits = limits
        self._environment = {
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(_ROOT),
            # One thread each: a fork copies one, and two jobs share two processors anyway.
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            # OpenCV's own limit behind ours, which reads the header before OpenCV is asked.
            "OPENCV_IO_MAX_IMAGE_PIXELS": str(200_000_000),
            "OPENCV_LOG_LEVEL": "SILENT",
            **environment,
        }
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the zygote, or None while there is none."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the zygote unless it lives.

        Raises:
            SandboxUnavailable: it does not come up within START_S.
        """
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return
            self._end_zygote()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603  our own module, no input
                    [sys.executable, "-m", "service.captures.zygote", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env=self._environment,
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
            ours.settimeout(START_S)
            self._control = ours
            try:
                ready = ours.recv(16)
            except OSError:
                ready = b""
            if ready != b"ready":
                self._end_zygote()
                raise SandboxUnavailable("The process that reads content did not start.")

    def stop(self) -> None:
        """End the zygote and with it every running job."""
        with self._lock:
            self._end_zygote()

    def run(self, order: Mapping[str, object], file_fd: int) -> Ended:
        """Have one order done.

        Args:
            order: what `jobs.run` takes.
            file_fd: the content, opened read-only by the caller, who keeps it.

        Returns:
            The answer, whole or in part, and the outcome.

        Raises:
            SandboxUnavailable: the zygote cannot be started.
        """
        for _ in range(2):
            self.start()
            try:
                return self._try(order, file_fd)
            except _ZygoteGone:
                continue
        return Ended(outcome="crashed", answer=frames.Answer())

    def _try(self, order: Mapping[str, object], file_fd: int) -> Ended:
        """Give the order to the zygote that lives now."""
        message = json.dumps({**order, "limits": asdict(self._limits)}).encode()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs, self._lock:
                if self._control is None:
                    raise _ZygoteGone
                try:
                    socket.send_fds(self._control, [message], [file_fd, theirs.fileno()])
                except OSError as error:
                    raise _ZygoteGone from error
            return self._collect(ours)

    def _collect(self, channel: socket.socket) -> Ended:
        """Take frames until the zygote says how the job ended."""
        answer = frames.Answer()
        deadline_s = time.monotonic() + self._limits.wall_s + LATE_S
        while True:
            channel.settimeout(max(0.001, deadline_s - time.monotonic()))
            try:
                frame = channel.recv(2 * frames.PART_BYTES)
                answer.take(frame)
            except TimeoutError:  # neither the job's alarm nor the zygote did their work
                self.stop()
                return Ended(outcome="timeout", answer=answer)
            except (OSError, ValueError):
                raise _ZygoteGone from None
            if frame.startswith(frames.DONE):
                end = answer.json(frames.DONE)
                return Ended(outcome=self._outcome(end), answer=answer, end=end)

    def _outcome(self, end: Mapping[str, Any]) -> Outcome:
        """Name how a job ended from its exit status, the signal that ended it, and its times."""
        status = end.get("exit")
        if status == 0:
            return "ok"
        if status == frames.MEMORY_EXIT:
            return "killed_memory"
        if end.get("overdue") or status == -signal.SIGALRM:
            return "timeout"
        if status in {-signal.SIGPROF, -signal.SIGXCPU}:
            return "killed_cpu"
        return "crashed"

    def _end_zygote(self) -> None:
        """Close the control socket, which ends the zygote; kill it if it does not end."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1)
            self._process.kill()
            self._process.wait()
            self._process = None
