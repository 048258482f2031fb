"""A real server process on loopback over a deployment's folder: started, stopped, or killed."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import httpx

from tests.tools import ROOT

START_TIMEOUT_S = 120.0
END_TIMEOUT_S = 30.0
RUN = """
from service.serving import {run}
from service.settings import read_environment
{run}(read_environment(), listening=lambda: print("listening", flush=True))
"""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class ServerProcess:
    """One server over one folder, running or not; it keeps its port over restarts."""

    def __init__(
        self, folder: Path, *, program: Path = ROOT, run: str = "serve", **settings: object
    ) -> None:
        """Start nothing yet.

        Args:
            folder: of the deployment.
            program: the tree whose program runs.
            run: `serve`, or `work` for a worker.
            settings: further settings, by their names without prefix.
        """
        self.port = free_port()
        self._code = RUN.format(run=run)
        self.url = f"http://127.0.0.1:{self.port}"
        given = {"folder": folder, "port": self.port, "disk_reserve_bytes": 0, **settings}
        self._environment = {
            **{name: value for name, value in os.environ.items() if name[:7] != "FENGNI_"},
            **{f"FENGNI_{name.upper()}": str(value) for name, value in given.items()},
            "PYTHONPATH": str(program),
            "PYTHONFAULTHANDLER": "1",  # should native code break, the log says where
        }
        self._program = program
        self._said = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Let it be started; leaving kills what still runs."""
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    @property
    def started(self) -> bool:
        """Whether it was ever started."""
        return self._process is not None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that was started last."""
        if self._process is None:
            raise RuntimeError("the server was never started")
        return self._process

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        return self.process.pid

    def said(self) -> str:
        """What it and those before it have written."""
        return self._said.read_text("utf-8", "replace")

    def launch(self) -> None:
        """Start it and wait for nothing."""
        with self._said.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-c", self._code],
                cwd=self._program,  # `-c` looks there first
                env=self._environment,
                stdout=out,
                stderr=out,
            )

    def wait(self, path: str = "/healthz") -> None:
        """Return when it answers.

        Args:
            path: what it must answer with 200; `/readyz` waits until everything may be used.

        Raises:
            RuntimeError: it has ended instead.
            TimeoutError: it does not answer.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        with httpx.Client() as http:
            while time.monotonic() < deadline:
                with contextlib.suppress(httpx.TransportError):
                    if http.get(f"{self.url}{path}").status_code == 200:
                        return
                self.require_alive()
                time.sleep(0.02)
        raise TimeoutError("the server did not answer")

    def require_alive(self) -> None:
        """Demand that it has not ended by itself.

        Raises:
            RuntimeError: it has; the message ends with its last words.
        """
        status = self.process.poll()
        if status is not None:
            raise RuntimeError(f"the server has ended with {status}: {self.said()[-4000:]}")

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        self.wait()

    def start_ready(self) -> None:
        """Start it and wait until everything may be used.

        On a server that takes as long as the lease of a leader that was killed.
        """
        self.launch()
        self.wait("/readyz")

    def kill(self) -> None:
        """End it like a power cut would; it must not have ended before."""
        self.require_alive()
        self.process.kill()
        self.process.wait(END_TIMEOUT_S)

    def stop(self) -> None:
        """Ask it to end, and wait for that."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(END_TIMEOUT_S)
