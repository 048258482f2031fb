"""Over a real socket: senders who stall, hang up or send twice."""

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.service.deployment_maker import PHOTO, Made, make_deployment, wire
from tests.tools import ROOT

SERVER = """
import sys
from pathlib import Path
from service.serving import serve
from service.settings import Settings
settings = Settings(folder=Path(sys.argv[1]), port=int(sys.argv[2]), disk_reserve_bytes=0,
                    inspect_workers=0, upload_idle_s=2, request_timeout_s=2)
serve(settings, listening=lambda: print("up", flush=True))
"""


@dataclass(frozen=True, kw_only=True)
class Wire:
    """A server on a port of its own."""

    port: int
    made: Made

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, Any]:
        """One whole request; returns status and JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            authorization = f"Bearer {self.made.tokens['county-a']}"
            connection.request(
                method, path, body=body, headers={"Authorization": authorization, **headers}
            )
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def announce(self) -> str:
        """Announce a photo; returns the capture's id."""
        signed = self.made.parties["county-a"].capture()
        body = json.dumps(wire(signed)).encode()
        self.request("POST", "/v1/captures", body, **{"Content-Type": "application/json"})
        return signed.id

    @contextlib.contextmanager
    def begun(self, head: str, length: int, part: bytes) -> Generator[socket.socket]:
        """A request whose body is not complete yet."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as stream:
            text = (
                f"{head} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Authorization: Bearer {self.made.tokens['county-a']}\r\n"
                f"Content-Length: {length}\r\n\r\n"
            )
            stream.sendall(text.encode() + part)
            yield stream

    def custody(self, capture: str) -> int:
        """How many statements about a capture there are besides its own."""
        return len(self.request("GET", f"/v1/captures/{capture}/statements")[1]["items"]) - 1


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Wire]:
    """A real server process over a fresh deployment."""
    made = make_deployment(tmp_path / "deployment")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(made.settings.folder), str(port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield Wire(port=port, made=made)
    finally:
        process.terminate()
        process.wait(timeout=30)
        if process.stdout is not None:
            process.stdout.close()


def test_one_transfer_at_a_time(server: Wire) -> None:
    """A second one beside the first is told to wait; the first one ends well."""
    capture = server.announce()
    path = f"/v1/captures/{capture}/content"
    with server.begun(f"PUT {path}", len(PHOTO), PHOTO[:5]) as first:
        time.sleep(0.5)
        second = server.request("PUT", path, PHOTO)
        first.sendall(PHOTO[5:])
        answer = first.recv(65536).decode()
    assert (second[0], second[1]["code"]) == (409, "upload_in_progress")
    assert answer.startswith("HTTP/1.1 201")


def test_a_sender_who_stalls_is_told_and_his_bytes_are_kept(server: Wire) -> None:
    """After the idle time the transfer ends, and another one may begin."""
    capture = server.announce()
    path = f"/v1/captures/{capture}/content"
    with server.begun(f"PUT {path}", len(PHOTO), PHOTO[:5]) as stalled:
        answer = stalled.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 408")
    assert server.custody(capture) == 1
    assert server.request("PUT", path, PHOTO)[0] == 201


def test_a_sender_who_hangs_up_loses_nothing(server: Wire) -> None:
    """What came is kept aside and stated; the next attempt is taken."""
    capture = server.announce()
    path = f"/v1/captures/{capture}/content"
    with server.begun(f"PUT {path}", len(PHOTO), PHOTO[:5]):
        time.sleep(0.3)
    deadline = time.monotonic() + 10
    while server.custody(capture) == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert server.custody(capture) == 1
    assert server.request("PUT", path, PHOTO)[0] == 201


def test_a_body_that_trickles_in_is_ended(server: Wire) -> None:
    """Every route has its time; the server stays free for others."""
    with server.begun("POST /v1/captures", 1000, b'{"statements":[') as slow:
        answer = slow.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 408")
    assert "request_timeout" in answer
    assert server.request("GET", "/readyz") == (200, {"status": "ready", "failed": []})


def test_after_head_the_connection_goes_on(server: Wire) -> None:
    """A length without a body confuses nobody: the next answer over it is whole."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    with contextlib.closing(connection):
        connection.request("HEAD", "/openapi.json")
        headed = connection.getresponse()
        told, nothing = headed.headers["content-length"], headed.read()
        connection.request("GET", "/openapi.json")
        whole = connection.getresponse().read()
    assert (headed.status, nothing, int(told)) == (200, b"", len(whole))
