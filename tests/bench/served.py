"""A real server process on loopback over a fresh deployment, for benchmarks."""

import contextlib
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import httpx
import litestar

from tests.service.deployment_maker import Made, make_deployment
from tests.tools import ROOT

RUN = """
from service.serving import serve
from service.settings import read_environment
serve(read_environment(), listening=lambda: print("listening", flush=True))
"""


@dataclass(kw_only=True)
class Served:
    """A server that answers.

    Attributes:
        made: the deployment with everybody's keys.
        url: where it listens.
        pid: of the one process.
    """

    made: Made
    url: str
    pid: int

    @property
    def organ(self) -> str:
        """The organ whose token the benchmark uses."""
        return next(iter(self.made.parties))

    @property
    def token(self) -> str:
        """A bearer token with every scope."""
        return self.made.tokens[self.organ]

    def resident_mb(self) -> float:
        """Resident memory of the server, in MB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("no VmRSS line")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def served(folder: Path) -> Generator[Served]:
    """Run `serve` in its own process until the block ends."""
    folder.mkdir(exist_ok=True)
    made = make_deployment(folder)
    port = free_port()
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("FENGNI_")},
        "FENGNI_FOLDER": str(folder),
        "FENGNI_PORT": str(port),
        "FENGNI_DISK_RESERVE_BYTES": "0",
        "PYTHONPATH": str(ROOT),
    }
    log = (folder / "server.log").open("wb")
    child = subprocess.Popen([sys.executable, "-c", RUN], env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(url)
        yield Served(made=made, url=url, pid=child.pid)
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(30)
        log.close()


def wait_until(url: str, seconds: float = 30) -> None:
    """Return when the server answers."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/healthz").status_code == 200:
                return
        time.sleep(0.1)
    raise TimeoutError("the server did not answer")


def print_machine() -> None:
    """Machine and versions, as every benchmark prints them."""
    print(f"machine: {platform.machine()}, {os.cpu_count()} CPUs, {platform.platform()}")
    version = ".".join(map(str, (litestar.__version__.major, litestar.__version__.minor)))
    print(f"versions: Python {platform.python_version()}, litestar {version}")
