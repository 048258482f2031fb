"""A small proxy on loopback that stands before an S3 server and does it wrong on demand.

Does: passes one request for each connection on, and its answer back; the requests of one method
can be made to fail. The server behind it is real, so what a fault leaves there is real too.
"""

import re
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum

from storage.objects.bucket import BucketAddress

_GIVEN = (b"HTTP/1.1 200", b"HTTP/1.1 206")
_PIECE_BYTES = 1 << 16
_PATIENCE_S = 30.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LOCK_HEADERS = re.compile(rb"\r\nx-amz-object-lock-[^\r]*", re.IGNORECASE)
_ERROR_500 = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/xml\r\n"
    b"Content-Length: 60\r\nConnection: close\r\n\r\n"
    b"<Error><Code>InternalError</Code><Message>no</Message></Error"
)


Watch = Callable[[str, bool], None]
"""Told of a request's method and target: before the server is, and when it is done unanswered."""


class Act(Enum):
    """What goes wrong."""

    FAIL = "500 instead of the server's answer; the server never hears of the request"
    SILENCE = "no answer at all; the server never hears of the request"
    LOSE = "the server does it, and the connection breaks before the answer"
    CUT = "half of the answer, then the connection breaks"
    FLIP = "the last bit of the answer's last byte is another"
    UNLOCK = "the answer's headers tell of no lock"
    DELAY = "the answer comes half a second late"


@dataclass(frozen=True, slots=True)
class Fault:
    """An act, for requests of one method whose path has a part, so many times or always."""

    act: Act
    method: str
    times: int = 1_000_000
    part: str = ""


class Faulty:
    """The proxy; one fault at a time."""

    def __init__(self, behind: int) -> None:
        """Listen, and pass on to a port of 127.0.0.1."""
        self._behind = behind
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._turn = threading.Lock()
        self._fault: Fault | None = None
        self._watch: Watch = _nothing
        self.requests: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def before(self, address: BucketAddress, timeout_s: float = 2.0) -> BucketAddress:
        """The same bucket, asked through this proxy."""
        port = self._listener.getsockname()[1]
        return replace(address, endpoint=f"http://127.0.0.1:{port}", timeout_s=timeout_s)

    @contextmanager
    def doing(self, fault: Fault) -> Generator[None]:
        """Have it happen for the length of the block."""
        self._fault = fault
        try:
            yield
        finally:
            self._fault = None

    @contextmanager
    def watched(self, watch: Watch) -> Generator[None]:
        """Have each request told, for the length of the block."""
        self._watch = watch
        try:
            yield
        finally:
            self._watch = _nothing

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.settimeout(_PATIENCE_S)
            request = _request(client)
            if not request:
                return
            method, target = (part.decode() for part in request.split(b" ", 2)[:2])
            self.requests.append(method)
            line = f"{method} {target}"
            self._watch(line, False)
            act = self._act(method, target.partition("?")[0])
            if act is Act.SILENCE:
                client.recv(1)  # until the other side gives up
            elif act is Act.FAIL:
                client.sendall(_ERROR_500)
            else:
                self._pass_on(client, request, act, line)

    def _act(self, method: str, path: str) -> Act | None:
        with self._turn:
            fault = self._fault
            if fault is None or fault.times == 0:
                return None
            if fault.method != method or fault.part not in path:
                return None
            self._fault = replace(fault, times=fault.times - 1)
            return fault.act

    def _pass_on(self, client: socket.socket, request: bytes, act: Act | None, line: str) -> None:
        with socket.create_connection(("127.0.0.1", self._behind), _PATIENCE_S) as server:
            server.sendall(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            answer = b"".join(iter(lambda: server.recv(_PIECE_BYTES), b""))
        self._watch(line, True)
        if act is Act.LOSE:
            return
        if act is Act.DELAY:
            time.sleep(0.5)
        if act is Act.CUT:
            answer = answer[: -(len(answer.partition(b"\r\n\r\n")[2]) // 2 + 1)]
        if act is Act.FLIP and answer.startswith(_GIVEN):
            answer = answer[:-1] + bytes([answer[-1] ^ 1])
        if act is Act.UNLOCK:
            head, separator, body = answer.partition(b"\r\n\r\n")
            answer = _LOCK_HEADERS.sub(b"", head) + separator + body
        client.sendall(answer)


def _nothing(_line: str, _done: bool) -> None:
    """Nobody watches."""


def _request(client: socket.socket) -> bytes:
    """One whole request, head and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(_PIECE_BYTES)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    left = (int(length[1]) if length else 0) - len(body)
    parts = [data]
    while left > 0 and (piece := client.recv(_PIECE_BYTES)):
        parts.append(piece)
        left -= len(piece)
    return b"".join(parts)
