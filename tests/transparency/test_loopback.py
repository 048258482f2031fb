"""The loopback server: its limits hold before a request reaches anybody."""

import socket
import threading
import time

import httpx
import pytest

from service.transparency.loopback import Answer, LoopbackServer, Request, plain
from tests.transparency.running import running


def echo(request: Request) -> Answer:
    """Answer with what arrived."""
    text = f"{request.method} {request.path} {request.content_type} {len(request.body)}"
    return plain(200, text)


def server(**limits: float) -> LoopbackServer:
    """Make an echoing server with small limits."""
    return LoopbackServer(
        echo,
        0,
        max_body_bytes=100,
        deadline_s=limits.get("deadline_s", 5.0),
        max_connections=int(limits.get("max_connections", 8)),
    )


def raw(url: str, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """Send bytes as they are and return all that comes back."""
    host, port = url.removeprefix("http://").rstrip("/").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause_s)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has hung up: what it said is read below
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


def test_it_hands_on_a_whole_request() -> None:
    """Method, path without query, content type and body arrive; the answer comes back."""
    with running(server()) as url, httpx.Client(base_url=url, trust_env=False) as http:
        got = http.get("a/b?c=d")
        sent = http.post("x", content=b"12345", headers={"Content-Type": "text/x"})
    assert (got.status_code, got.text) == (200, "GET /a/b  0\n")
    assert (sent.status_code, sent.text) == (200, "POST /x text/x 5\n")
    assert sent.headers["Server"] == "fengni"


def test_connections_are_kept() -> None:
    """Several requests go over one connection."""
    with running(server()) as url:
        one = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        last = b"GET /y HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = raw(url, one, one, last)
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.endswith(b"GET /y  0\n")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"", b"411"),
        (b"Transfer-Encoding: chunked\r\n", b"411"),
        (b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", b"411"),
        (b"Content-Length: 3\r\nContent-Length: 4\r\n", b"400"),
        (b"Content-Length: -3\r\n", b"400"),
        (b"Content-Length: 3e0\r\n", b"400"),
        (b"Content-Length: 101\r\n", b"413"),
        (b"Content-Length: 9999999999\r\n", b"400"),
        (b"X: y\r\n" * 101, b"431"),
        (b"X: " + b"y" * 70_000 + b"\r\n", b"431"),
    ],
)
def test_a_doubtful_request_is_refused_and_the_connection_closed(
    head: bytes, status: bytes
) -> None:
    """What cannot be framed with certainty ends the connection: nothing is read as a next one."""
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    with running(server()) as url:
        answer = raw(url, b"POST / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n" + smuggled)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"smuggled" not in answer


@pytest.mark.parametrize("line", [b"DELETE / HTTP/1.1", b"nonsense", b"GET / HTTP/9.9"])
def test_what_is_no_request_is_refused_without_an_echo(line: bytes) -> None:
    """Errors are one plain sentence that repeats nothing of the request."""
    with running(server()) as url:
        answer = raw(url, line + b"\r\nHost: x\r\n\r\n")
    assert b"The request was not understood." in answer
    assert line not in answer


def test_a_body_that_ends_early_is_dropped() -> None:
    """A shorter body than announced is never handed on."""
    with running(server()) as url:
        answer = raw(url, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
    assert answer == b""


def test_a_trickling_request_meets_its_deadline() -> None:
    """A sender who keeps the connection just alive does not keep it for ever."""
    begun = time.monotonic()
    with running(server(deadline_s=0.3)) as url:
        answer = raw(url, *[b"GET /"] + [b"x"] * 30, pause_s=0.05)
    assert b"200" not in answer
    assert time.monotonic() - begun < 5


def test_too_many_connections_are_turned_away_and_later_ones_served() -> None:
    """Beyond the limit the answer is 503 with Retry-After; a freed place is used again."""
    with running(server(max_connections=1)) as url:
        host, port = url.removeprefix("http://").rstrip("/").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as first:
            first.sendall(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
            assert first.recv(65536).startswith(b"HTTP/1.1 200")
            turned_away = raw(url)
        assert turned_away.startswith(b"HTTP/1.1 503")
        assert b"Retry-After: 1" in turned_away
        answer = b""
        for _ in range(100):
            answer = raw(url, b"GET /free HTTP/1.0\r\n\r\n")
            if answer.startswith(b"HTTP/1.1 200"):
                break
            time.sleep(0.02)
        assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104 -- refused below
def test_only_loopback_is_bound(host: str) -> None:
    """An address that others reach is refused before it is bound."""
    with pytest.raises(ValueError, match="loopback"):
        LoopbackServer(echo, 0, max_body_bytes=1, host=host)


def test_the_other_loopback_is_bound() -> None:
    """::1 is loopback as well."""
    bound = LoopbackServer(echo, 0, max_body_bytes=1, host="::1")
    assert bound.port > 0
    bound.server_close()


def test_run_ends_with_a_shutdown() -> None:
    """`run` serves until the server is shut down."""
    one = server()
    thread = threading.Thread(target=one.run)
    thread.start()
    assert httpx.get(f"http://127.0.0.1:{one.port}/", trust_env=False).status_code == 200
    one.shutdown()
    thread.join(10)
    one.server_close()
    assert not thread.is_alive()
