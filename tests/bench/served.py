"""A real server process on loopback over a fresh deployment, for benchmarks."""

import contextlib
import os
import platform
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import litestar

from tests.service.deployment_maker import Made, make_deployment
from tests.service.server_process import ServerProcess


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


@contextlib.contextmanager
def served(folder: Path, database_url: str | None = None) -> Generator[Served]:
    """Run `serve` in its own process until the block ends.

    Args:
        folder: of the deployment.
        database_url: of a migrated database; None for a SQLite file in the folder.
    """
    folder.mkdir(exist_ok=True)
    made = make_deployment(folder, database_url=database_url)
    process = ServerProcess(folder, work="here")
    process.launch()
    try:
        process.wait()
        yield Served(made=made, url=process.url, pid=process.pid)
    finally:
        process.stop()


def print_machine() -> None:
    """Machine and versions, as every benchmark prints them."""
    print(f"machine: {platform.machine()}, {os.cpu_count()} CPUs, {platform.platform()}")
    version = ".".join(map(str, (litestar.__version__.major, litestar.__version__.minor)))
    print(f"versions: Python {platform.python_version()}, litestar {version}")
