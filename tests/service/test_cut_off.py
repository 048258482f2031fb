"""Answers that are cut off in their middle: the server lives on, and lets go of every file."""

import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import random
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.outgoing import Outgoing, Pieces
from tests.service.deployment_maker import Made, bearer, make_deployment, wire
from tests.service.server_process import ServerProcess

CONTENT = random.Random(9).randbytes(6 * 1024 * 1024)
TIMES = 120
AT_ONCE = 4
PATIENCE_S = 20


async def cut_off_while_reading(place: Path) -> tuple[bool, bool]:
    """Cut an answer off while its thread waits for a pipe; whether the file was open, and is."""
    os.mkfifo(place)
    writer = os.open(place, os.O_RDWR)
    stream = place.open("rb", buffering=0)

    def source() -> Pieces:
        """What the pipe brings."""
        while piece := stream.read(4):
            yield piece

    async def answer() -> None:
        """Read to an end that never comes."""
        async for _ in outgoing:
            begun.set()

    outgoing = Outgoing(stream, source())
    begun = asyncio.Event()
    answering = asyncio.get_running_loop().create_task(answer())
    os.write(writer, b"some")
    await begun.wait()
    await asyncio.sleep(0.1)  # the thread is in its second read by now
    answering.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await answering
    outgoing.close()
    before = stream.closed
    os.write(writer, b"more")
    await asyncio.get_running_loop().shutdown_default_executor()  # the read has ended
    await asyncio.sleep(0)
    os.close(writer)
    return before, stream.closed


@pytest.mark.timeout(30)
def test_a_file_is_closed_after_its_reader_and_nobody_waits(tmp_path: Path) -> None:
    """The answer ends at once while its thread still reads; the file is closed after that."""
    assert asyncio.run(cut_off_while_reading(tmp_path / "pipe")) == (False, True)


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """A server process over a deployment, with one stored capture."""

    server: ServerProcess
    made: Made
    capture: str
    chance: random.Random

    def ask(self, method: str, path: str, document: object = None) -> tuple[int, bytes]:
        """One whole request over a connection of its own; returns status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            headers = bearer(self.made.tokens["county-a"]) | {"Content-Type": "application/json"}
            sent = None if document is None else body
            connection.request(method, path, body=sent, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def begin(self, path: str) -> socket.socket:
        """Ask for something large and take its first bytes only."""
        stream = socket.socket()
        stream.settimeout(PATIENCE_S)
        stream.connect(("127.0.0.1", self.server.port))
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n"
        for name, value in bearer(self.made.tokens["county-a"]).items():
            head += f"{name}: {value}\r\n"
        stream.sendall(f"{head}\r\n".encode())
        assert stream.recv(1024).startswith(b"HTTP/1.1 200")
        left = self.chance.randrange(len(CONTENT) // 2)
        while left > 0:
            left -= len(stream.recv(65536))
        return stream

    def cut_off(self, path: str) -> None:
        """Begin many answers, some at once, and hang up in the middle of each."""
        for _ in range(TIMES // AT_ONCE):
            with contextlib.ExitStack() as hanging:
                for _ in range(AT_ONCE):
                    hanging.enter_context(self.begin(path))

    def open_files(self, folder: str) -> list[str]:
        """What the server holds open below a folder of its deployment, once all came to rest."""
        below = str(self.made.settings.folder / folder)
        deadline = time.monotonic() + PATIENCE_S
        while found := [one for one in self._descriptors() if one.startswith(below)]:
            if time.monotonic() > deadline:
                return found
            time.sleep(0.05)
        return []

    def _descriptors(self) -> Iterator[str]:
        for entry in Path(f"/proc/{self.server.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since it was listed
                yield str(entry.readlink())


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Sealed]:
    """A real server with content that takes many pieces."""
    made = make_deployment(tmp_path / "deployment")
    signed = made.parties["county-a"].capture(CONTENT)
    with ServerProcess(made.settings.folder, inspect_workers=0) as server:
        server.start()
        sealed = Sealed(server=server, made=made, capture=signed.id, chance=random.Random(9))
        assert sealed.ask("POST", "/v1/captures", wire(signed))[0] == 200
        assert sealed.ask("PUT", f"/v1/captures/{signed.id}/content", CONTENT)[0] == 201
        wait_for(sealed, f"/v1/captures/{signed.id}/content")
        yield sealed
        server.stop()


def wait_for(sealed: Sealed, path: str) -> bytes:
    """What an address answers once it is no longer pending."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := sealed.ask("GET", path))[0] == 409:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    assert found[0] == 200
    return found[1]


def test_content_that_is_cut_off_leaves_a_server_that_answers(sealed: Sealed) -> None:
    """Readers who hang up in mid-read end nothing but their own answer."""
    path = f"/v1/captures/{sealed.capture}/content"
    sealed.cut_off(path)
    sealed.server.require_alive()
    assert sealed.ask("GET", path) == (200, CONTENT)
    assert sealed.open_files("objects/sha256") == []


def test_a_package_that_is_cut_off_leaves_a_server_that_answers(sealed: Sealed) -> None:
    """The same for the packages of exports."""
    status, body = sealed.ask("POST", "/v1/exports", {"captures": [sealed.capture]})
    assert status == 201
    path = json.loads(body)["package"]
    whole = hashlib.sha256(wait_for(sealed, path)).hexdigest()
    sealed.cut_off(path)
    sealed.server.require_alive()
    status, body = sealed.ask("GET", path)
    assert (status, hashlib.sha256(body).hexdigest()) == (200, whole)
    assert sealed.open_files("exports") == []
