"""A real witness or time-stamp authority as a process on loopback, started and killed."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import httpx

from tests.tools import ROOT

START_TIMEOUT_S = 60.0


def witness_process(folder: Path, port: int) -> contextlib.AbstractContextManager[None]:
    """Let the witness of a folder answer until the block ends; it then ends like by a power cut."""
    return party_process("witness", folder, port)


def authority_process(folder: Path, port: int) -> contextlib.AbstractContextManager[None]:
    """The same for the time-stamp authority of a folder."""
    return party_process("tsa", folder, port)


@contextlib.contextmanager
def party_process(module: str, folder: Path, port: int) -> Generator[None]:
    """Let whoever lies in a folder answer until the block ends."""
    command = [sys.executable, "-m", f"service.transparency.{module}", str(folder)]
    process = subprocess.Popen([*command, "--port", str(port)], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        _wait(process, f"http://127.0.0.1:{port}/")
        yield
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    with httpx.Client() as http:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                http.get(url)
                return
            assert process.poll() is None
            time.sleep(0.02)
    raise TimeoutError("it did not answer")
