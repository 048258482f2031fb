"""A small HTTP/1.1 server for the processes that stand beside the service on one machine.

Does: hands a whole request (method, path, content type, body) to one function and sends its
answer, with keep-alive. Refuses: to bind anything but a loopback address; bodies over the
caller's limit, without a length or with a transfer coding; a request that takes longer than
its deadline however slowly it trickles in; more connections at once than its limit.

A witness that others reach stands behind a reverse proxy on its own machine, which speaks TLS.
"""

import contextlib
import io
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any, Final, cast

TEXT: Final = "text/plain; charset=utf-8"
REQUEST_DEADLINE_S: Final = 10.0  # from the first byte of a request, or of the wait for it
MAX_CONNECTIONS: Final = 32
_LENGTH = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A whole request. `path` is as sent, without its query; `body` is within the limit."""

    method: str
    path: str
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes
    content_type: str = TEXT
    retry_after_s: int | None = None


Handler = Callable[[Request], Answer]
"""Answers one request; called in several threads at once."""


def plain(status: int, sentence: str) -> Answer:
    """Answer with one sentence of text."""
    return Answer(status=status, body=f"{sentence}\n".encode())


class LoopbackServer(ThreadingHTTPServer):
    """The server; use it as a context manager, or call `close`.

    `port` is the port that was bound, which the system chose where 0 was asked for.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self,
        handler: Handler,
        port: int,
        *,
        max_body_bytes: int,
        host: str = "127.0.0.1",
        deadline_s: float = REQUEST_DEADLINE_S,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        """Bind the address; nothing is answered before `serve_forever`.

        Raises:
            ValueError: the host is not a loopback address.
            OSError: the port is taken.
        """
        if not ip_address(host).is_loopback:
            raise ValueError("This process answers on a loopback address only.")
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.handler = handler
        self.max_body_bytes = max_body_bytes
        self.deadline_s = deadline_s
        self._free = threading.BoundedSemaphore(max_connections)
        super().__init__((host, port), _Connection)

    @property
    def port(self) -> int:
        """The port that is bound."""
        return int(self.server_address[1])

    def run(self) -> None:
        """Answer until the process ends or is interrupted from the keyboard."""
        with contextlib.suppress(KeyboardInterrupt):
            self.serve_forever()

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 -- socketserver's signature
        """Serve a connection in a thread, or turn it away when too many are open."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n")
            request.sendall(b"Retry-After: 1\r\nContent-Length: 0\r\n\r\n")
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 -- as above
        """Give the place of the connection back when it has ended."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


class _DeadlineReader(io.RawIOBase):
    """Reads a socket until a moment that is set anew for each request."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.until = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 -- any writable buffer
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Connection(BaseHTTPRequestHandler):
    """Reads requests off one connection, one after the other."""

    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        """Read through the deadline."""
        super().setup()
        self._owner = cast("LoopbackServer", self.server)
        self.rfile.close()
        self._reader = _DeadlineReader(self.connection)
        self.rfile = io.BufferedReader(self._reader)

    def handle_one_request(self) -> None:
        """Start the deadline of the next request."""
        self._reader.until = time.monotonic() + self._owner.deadline_s
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def do_GET(self) -> None:
        """Answer a GET."""
        self._answer(b"")

    def do_POST(self) -> None:
        """Answer a POST once its body is there."""
        lengths = self.headers.get_all("Content-Length", [])
        if self.headers.get("Transfer-Encoding") or not lengths:
            self._refuse(411, "A request with a body states its length.")
        elif len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
            self._refuse(400, "The length of the body is not a number.")
        elif int(lengths[0]) > self._owner.max_body_bytes:
            self._refuse(413, f"A body has at most {self._owner.max_body_bytes} bytes.")
        else:
            body = self.rfile.read(int(lengths[0]))
            if len(body) == int(lengths[0]):
                self._answer(body)
            else:
                self.close_connection = True

    def _answer(self, body: bytes) -> None:
        request = Request(
            method=self.command,
            path=self.path.partition("?")[0],
            content_type=self.headers.get("Content-Type", ""),
            body=body,
        )
        self._send(self._owner.handler(request))

    def _refuse(self, status: int, sentence: str) -> None:
        """Answer without reading the body: what follows on this connection is not a request."""
        self.close_connection = True
        self._send(plain(status, sentence))

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        if answer.retry_after_s is not None:
            self.send_header("Retry-After", str(answer.retry_after_s))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what http.server itself refuses in plain text, and never echo the request."""
        del message, explain
        self.close_connection = True
        self._send(plain(code, "The request was not understood."))

    def version_string(self) -> str:
        """Name the product, not the versions below it."""
        return "fengni"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server's signature
        """Log nothing: requests are not events, and what matters is in the state."""
