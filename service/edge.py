"""The rim of the service: what holds for every request, whatever the route.

Does: gives each request an id, one log line and its counters; sets the headers that keep a
browser from being clever; answers HEAD as GET without its body, and OPTIONS; ends requests that
take too long; and turns every exception into an RFC 9457 problem. Refuses: to log bodies, headers
or query strings, and to tell a client the words of a foreign exception.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, TypeAlias, cast

import msgspec
from litestar import Litestar, Request, Response, route
from litestar.exceptions import HTTPException, ValidationException
from litestar.handlers import HTTPRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.types import (
    ASGIApp,
    HTTPReceiveMessage,
    Message,
    Receive,
    Scope,
    Send,
    WebSocketReceiveMessage,
)

from evidence.errors import EvidenceError
from service.law.refusals import Refusal
from service.logs import get_logger
from service.metrics import Metrics
from service.problems import MEDIA_TYPE, REGISTRY, Occurrence, Problem, occurrence_of
from service.request_faults import of_validation
from storage.errors import StorageError

TIMEOUT_OPTION = "timeout_s"
"""A route's own time-out in seconds; None where the handler watches the time itself."""

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox"),
    (b"cache-control", b"no-store"),
)
_OF_STATUS = {
    HTTPStatus.BAD_REQUEST: "bad_request",
    HTTPStatus.UNAUTHORIZED: "unauthenticated",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_much",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "media_type_refused",
    HTTPStatus.SERVICE_UNAVAILABLE: "busy",
}

_ENDING = "ending"
_HEAD = "head"
_TIMED_OUT_RETRY_S = 5
AnyRequest: TypeAlias = Request[Any, Any, Any]  # user, auth and state types are not used here
_log = get_logger("edge")
_RawHeaders: TypeAlias = list[tuple[bytes, bytes]]


class Edge:
    """The ASGI application as the server sees it: the Litestar application inside its rim."""

    __slots__ = ("_lines", "_metrics", "_new_id", "app")

    def __init__(self, app: Litestar, metrics: Metrics, new_id: Callable[[], str]) -> None:
        """Wrap an application.

        Args:
            app: answers the requests.
            metrics: counts them.
            new_id: makes a request id, a UUID in text form.
        """
        self.app = app
        self._metrics = metrics
        self._new_id = new_id
        self._lines = _log.bind()  # once: binding anew costs more than writing the line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the application's life span."""
        if scope["type"] != "http":
            await self._live(scope, receive, send)
            return
        started = time.monotonic()
        request_id = self._new_id()
        members = cast("dict[str, Any]", scope)  # what ASGI says it is, before Litestar's types
        method = str(members.get("method", ""))
        head = method == "HEAD"
        if head:  # no route answers it by itself
            members["method"] = "GET"
            send = _without_body(send)
        ending: list[Callable[[], None]] = []
        members.setdefault("state", {}).update(
            {"request_id": request_id, _ENDING: ending, _HEAD: head}
        )
        status = 0
        unread = _has_body(members)

        async def watch() -> HTTPReceiveMessage | WebSocketReceiveMessage:
            """Pass the request on, noting its end."""
            nonlocal unread
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                unread = False
            return message

        async def send_with_headers(message: Message) -> None:
            """Pass the answer on, noting its status and completing its headers."""
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = _complete(message["headers"], request_id)
                if unread:  # the server will not read on, so the sender must not reuse this
                    headers = [*headers, (b"connection", b"close")]
                message["headers"] = headers
            await send(message)

        try:
            await self.app(scope, watch if unread else receive, send_with_headers)
        finally:
            for act in ending:
                act()
            template = str(members.get("path_template") or "none")
            self._count(method, template, status, time.monotonic() - started, request_id)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except ExceptionGroup as group:
            [error] = group.exceptions  # the reason, not the plumbing around it
            raise error from None

    def _count(
        self, method: str, template: str, status: int, seconds: float, request_id: str
    ) -> None:
        self._metrics.count_request(template, status, seconds)
        self._lines.info(
            "request",
            request=request_id,
            method=method,
            route=template,
            status=status,
            duration_ms=round(seconds * 1000, 1),
        )


def _without_body(send: Send) -> Send:
    """Pass an answer on as HEAD wants it (RFC 9110 section 9.3.2)."""

    async def send_head(message: Message) -> None:
        if message["type"] != "http.response.body":
            await send(message)
        elif not message.get("more_body", False):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return send_head


def _has_body(scope: dict[str, Any]) -> bool:
    """Whether the request says that a body follows (RFC 9112 section 6)."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in headers
    )


class Deadline(ASGIMiddleware):
    """Ends what takes too long: a body that trickles in is 408, an answer that hangs is 503."""

    def __init__(self, timeout_s: int) -> None:
        """Set the time-out of every route that has none of its own, in seconds."""
        self._timeout_s = timeout_s

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Run the rest of the application within the route's time.

        Raises:
            Problem: `request_timeout` or `busy`.
        """
        limit = scope["route_handler"].opt.get(TIMEOUT_OPTION, self._timeout_s)
        arrived = False

        async def watch() -> HTTPReceiveMessage | WebSocketReceiveMessage:
            """Pass the body on, noting its end."""
            nonlocal arrived
            message = await receive()
            arrived = arrived or (
                message["type"] == "http.request" and not message.get("more_body", False)
            )
            return message

        timer = asyncio.timeout(limit)
        try:
            async with timer:
                await next_app(scope, watch, send)
        except TimeoutError:
            if not timer.expired():
                raise
            if arrived:
                raise Problem(
                    "busy", "The answer took too long.", retry_after_s=_TIMED_OUT_RETRY_S
                ) from None
            raise Problem("request_timeout", "The body did not arrive in time.") from None


Handlers: TypeAlias = dict[type[Exception], Callable[[AnyRequest, Any], Response[bytes]]]


def exception_handlers(metrics: Metrics) -> Handlers:
    """The handlers that make a problem of every exception.

    Args:
        metrics: counts the problems by code.
    """

    def answer(request: AnyRequest, found: Occurrence) -> Response[bytes]:
        metrics.problems.labels(found.kind.code).inc()
        return problem_response(found, request_id_of(request))

    def ours(
        request: AnyRequest,
        error: EvidenceError | StorageError | Refusal | Problem,
    ) -> Response[bytes]:
        """An error that names its own problem."""
        found = occurrence_of(error)
        if found.kind.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("store_problem", request=request_id_of(request), code=found.kind.code)
        return answer(request, found)

    def framework(request: AnyRequest, error: HTTPException) -> Response[bytes]:
        """What Litestar found before or instead of a route."""
        response = answer(request, _of_framework(error))
        for name, value in (error.headers or {}).items():
            if name.lower() == "allow":
                response.headers["allow"] = allowed(value.split(", "))
        return response

    def too_deep(request: AnyRequest, _error: RecursionError) -> Response[bytes]:
        """A body nested so deeply that the JSON reader gave up."""
        nested = Occurrence(kind=REGISTRY["bad_request"], detail="The body is nested too deeply.")
        return answer(request, nested)

    def unforeseen(request: AnyRequest, error: Exception) -> Response[bytes]:
        _log.error("unforeseen", request=request_id_of(request), exc_info=error)
        return answer(request, Occurrence(kind=REGISTRY["internal"], detail="It was recorded."))

    return {
        EvidenceError: ours,
        StorageError: ours,
        Refusal: ours,
        Problem: ours,
        HTTPException: framework,
        RecursionError: too_deep,
        Exception: unforeseen,
    }


def problem_response(found: Occurrence, request_id: str) -> Response[bytes]:
    """Write a problem as an HTTP answer.

    Args:
        found: the problem.
        request_id: becomes `instance`, so that the log line can be found.
    """
    headers = dict(found.headers)
    if found.retry_after_s is not None:
        headers["retry-after"] = str(found.retry_after_s)
    if found.kind.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = 'Bearer realm="fengni"'
    return Response(
        msgspec.json.encode(found.document(f"urn:uuid:{request_id}")),
        status_code=found.kind.status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


def _complete(headers: Iterable[tuple[bytes, bytes]], request_id: str) -> _RawHeaders:
    """Add what every answer carries, unless the route said otherwise."""
    given = list(headers)
    names = {name.lower() for name, _ in given}
    missing = (pair for pair in _HEADERS if pair[0] not in names)
    return [*given, (b"x-request-id", request_id.encode("ascii")), *missing]


def request_id_of(request: AnyRequest) -> str:
    """The id that `Edge` gave the request."""
    return str(request.scope["state"]["request_id"])


def answer_options(routes: Iterable[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """The routes that answer OPTIONS: 204, with what the address allows (RFC 9110 section 9.3.7).

    Litestar's own names the methods of one of the address's routes only.
    """
    methods: dict[str, set[str]] = {}
    for one in routes:
        for path in one.paths:
            methods.setdefault(path, {"OPTIONS"}).update(map(str, one.http_methods))
    return [_options_route(path, allowed(found)) for path, found in methods.items()]


def _options_route(path: str, allow: str) -> HTTPRouteHandler:
    @route(path, http_method="OPTIONS", status_code=204, include_in_schema=False)
    async def get_options() -> Response[None]:
        """What may be asked here; needs no token."""
        return Response(None, status_code=HTTPStatus.NO_CONTENT, headers={"allow": allow})

    return get_options


def allowed(methods: Iterable[str]) -> str:
    """The value of `Allow` for the methods of an address's routes: where GET is, HEAD is too."""
    found = set(methods)
    return ", ".join(sorted(found | {"HEAD"} if "GET" in found else found))


def asks_head(request: AnyRequest) -> bool:
    """Whether the answer's body is not wanted; a route that need not make it should not."""
    return bool(request.scope["state"][_HEAD])


def at_end(request: AnyRequest, act: Callable[[], None]) -> None:
    """Have something done when the request has ended, however that happens.

    Args:
        request: being answered.
        act: called in the event loop's thread; must not block or raise.
    """
    request.scope["state"][_ENDING].append(act)


def _of_framework(error: HTTPException) -> Occurrence:
    if isinstance(error, ValidationException):
        return of_validation(error)
    if isinstance(error.__cause__, msgspec.DecodeError | UnicodeDecodeError | RecursionError):
        return Occurrence(kind=REGISTRY["bad_request"], detail="The body is not JSON in UTF-8.")
    kind = REGISTRY[_OF_STATUS.get(HTTPStatus(error.status_code), "internal")]
    if kind.code == "internal":
        _log.error("framework_problem", status=error.status_code, exc_info=error)
    return Occurrence(kind=kind, detail=f"{kind.title}.")
