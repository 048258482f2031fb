"""The server's routes as a device calls them: one method each, nothing clever.

Does: sends requests with the bearer token, reads problem documents, and asks again while the
server is away or busy, up to a limit. Refuses redirects (a token goes to one server) and answers
longer than it asked for. What an answer is worth is decided elsewhere: here is only transport.
"""

import base64
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import httpx
import msgspec

from service.client.failures import ClientFailure, ServerRefused, Undecided

MAX_JSON_BYTES = 16 * 1024 * 1024
_TIMEOUT = httpx.Timeout(30.0, connect=5.0, write=60.0)
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0

T = TypeVar("T")


class _Problem(msgspec.Struct, frozen=True):
    """What is read of an RFC 9457 document."""

    code: str = "problem"
    title: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Bytes to send: how many, their digest, and how to read them from the start."""

    size_bytes: int
    sha256: str
    media_type: str
    read: Callable[[], Iterator[bytes]]


class Api:
    """One server, spoken to with one token."""

    def __init__(
        self,
        server: str,
        token: str,
        *,
        patience_s: float = 30.0,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Connect nothing yet.

        Args:
            server: address without a final slash.
            token: bearer token.
            patience_s: how long an unreachable or busy server is asked again, in seconds.
            pause: how to wait between two attempts.
        """
        self._client = httpx.Client(
            base_url=server,
            headers={"Authorization": f"Bearer {token}"},
            timeout=_TIMEOUT,
            follow_redirects=False,
            trust_env=False,
        )
        self._server = server
        self._patience_s = patience_s
        self._pause = pause

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def post(self, path: str, body: object, form: type[T]) -> T:
        """POST a JSON document and read the JSON answer; asked again while the server is busy.

        Raises:
            ServerRefused: it answered with a problem that waiting does not help.
            Undecided: it did not answer in time.
        """
        raw = msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"}
        return self._patiently(
            lambda: _decode(self._send("POST", path, content=raw, headers=headers), form)
        )

    def get(self, path: str, form: type[T], query: Mapping[str, str] | None = None) -> T:
        """GET a JSON document; see `post` for what it raises."""
        return self._patiently(lambda: _decode(self._send("GET", path, params=query), form))

    def get_bytes(
        self, path: str, query: Mapping[str, str] | None = None, *, once: bool = False
    ) -> bytes:
        """GET something small that is no JSON; see `post` for what it raises.

        Args:
            path: of the resource.
            query: its parameters.
            once: do not ask again; the caller has a reason of his own to come back.
        """
        if once:
            return self._send("GET", path, params=query).content
        return self._patiently(lambda: self._send("GET", path, params=query).content)

    def put_content(self, path: str, content: Content) -> None:
        """PUT the bytes of a capture, from the start at each attempt.

        Raises:
            ServerRefused, Undecided: as `post`.
        """
        digest = base64.b64encode(bytes.fromhex(content.sha256)).decode("ascii")
        headers = {
            "Content-Type": content.media_type,
            "Content-Length": str(content.size_bytes),
            "Content-Digest": f"sha-256=:{digest}:",
        }
        self._patiently(lambda: self._send("PUT", path, content=content.read(), headers=headers))

    @contextmanager
    def stream(self, path: str) -> Generator[httpx.Response]:
        """GET something long; the caller reads it piece by piece.

        Raises:
            ServerRefused: it answered with a problem.
            Undecided: it did not answer, or stopped in the middle.
        """
        try:
            with self._client.stream("GET", path) as response:
                if not response.is_success:
                    response.read()
                    raise _refusal(response)
                yield response
        except httpx.TransportError as error:
            raise self._away(error) from error

    def _patiently(self, attempt: Callable[[], T]) -> T:
        deadline = time.monotonic() + self._patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return attempt()
            except ClientFailure as failure:
                wait_s = _wait_of(failure, pause_s)
                if wait_s is None or time.monotonic() + wait_s > deadline:
                    raise
            self._pause(wait_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        try:
            response = self._client.request(
                method, path, content=content, headers=headers, params=params
            )
        except httpx.TransportError as error:
            raise self._away(error) from error
        if not response.is_success:
            raise _refusal(response)
        return response

    def _away(self, error: httpx.TransportError) -> Undecided:
        return Undecided(f"The server {self._server} does not answer ({type(error).__name__}).")


def _wait_of(failure: ClientFailure, pause_s: float) -> float | None:
    """Seconds until the next attempt, or None where another one would not help."""
    if isinstance(failure, ServerRefused):
        return max(pause_s, failure.retry_after_s or 0.0) if failure.passing else None
    return pause_s if isinstance(failure, Undecided) else None


def _decode(response: httpx.Response, form: type[T]) -> T:
    if len(response.content) > MAX_JSON_BYTES:
        raise Undecided("The server's answer is longer than any that it should give.")
    try:
        return msgspec.json.decode(response.content, type=form)
    except msgspec.DecodeError as error:
        raise Undecided("The server's answer is not of the form that this client knows.") from error


def _refusal(response: httpx.Response) -> ServerRefused:
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem()
    text = ". ".join(part.rstrip(".") for part in (problem.title, problem.detail) if part)
    return ServerRefused(
        f"{text or f'The server answered {response.status_code}'}.",
        status=response.status_code,
        code=problem.code,
        retry_after_s=_retry_after_s(response.headers.get("Retry-After")),
    )


def _retry_after_s(value: str | None) -> float | None:
    return float(value) if value is not None and value.isascii() and value.isdigit() else None
