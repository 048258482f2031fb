"""A real `fengni demo` as a process of its own, with a client that knows nothing else."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.service.server_process import free_port
from tests.tools import VENV_BIN

START_TIMEOUT_S = 60
END_TIMEOUT_S = 30
COMMAND_TIMEOUT_S = 150


class DemoProcess:
    """One demo folder, running or not."""

    def __init__(self, place: Path) -> None:
        """Start nothing yet."""
        self.place = place
        self.folder = place / "demo"
        self.server = self.folder / "server"
        self.port = free_port()
        ours = {name: value for name, value in os.environ.items() if name[:7] != "FENGNI_"}
        self.environment = {
            **ours,
            "FENGNI_CLIENT_CONFIG": str(place / "client.json"),
            "FENGNI_EXPORT_WAIT_S": "5",  # a log that was tampered with gets no cosignatures
        }
        self._output = place / "demo.out"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        self.launch()
        deadline = time.monotonic() + START_TIMEOUT_S
        while "is ready on" not in self.output():
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.05)

    def launch(self) -> None:
        """Start it and wait for nothing."""
        command = [*fengni(), "demo", "--folder", str(self.folder), "--port", str(self.port)]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command, env=self.environment, stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running demo."""
        assert self._process is not None
        return self._process

    def output(self) -> str:
        """What it has said so far."""
        return self._output.read_text("utf-8", "replace")

    def log_of(self, child: str) -> str:
        """What one of its processes has said so far."""
        return (self.folder / "logs" / f"{child}.log").read_text("utf-8", "replace")

    def stop(self) -> int:
        """Ask it to end; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(END_TIMEOUT_S)

    def kill(self) -> None:
        """Kill it like a power cut would; its children must go with it."""
        children = self.children()
        self.process.kill()
        self.process.wait(END_TIMEOUT_S)
        deadline = time.monotonic() + END_TIMEOUT_S
        while any(is_alive(child) for child in children):
            assert time.monotonic() < deadline, "a child outlived the demo"
            time.sleep(0.02)

    def children(self) -> list[int]:
        """Process ids of its children."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(word) for word in path.read_text().split()]

    def run(self, *arguments: str | Path, patience_s: float = COMMAND_TIMEOUT_S) -> "Ran":
        """Run a `fengni` command as this demo's client."""
        done = subprocess.run(
            [*fengni(), *map(str, arguments)],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=patience_s,
        )
        return Ran(done)

    def begin(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Start a `fengni` command and do not wait for it."""
        return subprocess.Popen(
            [*fengni(), *map(str, arguments)],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


class Ran:
    """A command that has ended."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        """Keep status and words."""
        self.status = done.returncode
        self.out = done.stdout
        self.err = done.stderr

    def json(self) -> Any:  # noqa: ANN401  a test looks into it
        """What it wrote as JSON."""
        assert self.out, self.err
        return json.loads(self.out)

    def ids(self) -> list[str]:
        """The captures that an `upload --json` names, in its order."""
        return [capture["id"] for capture in self.json()["captures"]]


def fengni() -> Sequence[str]:
    """How the command line is started."""
    return [str(VENV_BIN / "fengni")]


def is_alive(process: int) -> bool:
    """Whether a process runs; one that only waits to be read is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
