"""The negative example: moto, a mock of S3 that answers "locked" and lets the lock be shortened.

It is no dependency of ours: its own requirements lie beside this file, and `make tools` gives it
an environment of its own. Nothing is proved with it but that the self-test fails where it must.
"""

import contextlib
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import urllib3

from service.setup.weed import REGION, free_ports
from storage.objects.bucket import BucketAddress
from tests.tools import ROOT, require_path

MOTO_PYTHON = ROOT / ".venv-moto" / "bin" / "python"
_START_S = 60.0


@contextmanager
def running_moto(folder: Path, bucket: str) -> Generator[BucketAddress]:
    """A bucket of a mock server for the length of the block."""
    python = require_path(MOTO_PYTHON, "moto")
    [port] = free_ports(1)
    with (folder / "moto.log").open("ab") as out:
        process = subprocess.Popen(
            [str(python), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        _wait(process, port)
        yield BucketAddress(
            endpoint=f"http://127.0.0.1:{port}",
            bucket=bucket,
            region=REGION,
            access_key="mock",
            secret_key="mock-secret",  # noqa: S106  of a mock
        )
    finally:
        process.kill()
        process.wait(30)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_S
    pool = urllib3.PoolManager(timeout=1.0, retries=False)
    try:
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                pool.request("GET", f"http://127.0.0.1:{port}/")
                return
            time.sleep(0.1)
    finally:
        pool.clear()
    raise TimeoutError("moto does not answer")
