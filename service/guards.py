"""What stands before a route: the token's scope and the body's media type.

Does: checks before a body is read, and leaves the holder where the route finds it. Refuses
bodies of another media type than the route reads.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from service.context import Context, Organ
from service.edge import AnyRequest
from service.law.permissions import Holder, Scope
from service.problems import Problem

Connection: TypeAlias = ASGIConnection[Any, Any, Any, Any]
Guard: TypeAlias = Callable[[Connection, BaseRouteHandler], Awaitable[None]]
JSON = "application/json"
_CALLER = "caller"
_CONTEXT = "context"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls, for whom, and what is open.

    Attributes:
        context: everything that is open.
        organ: the organ for which the holder acts; routes look at no other.
        holder: of the token.
    """

    context: Context
    organ: Organ
    holder: Holder


def needs(scope: Scope, *, media_type: str = "") -> Guard:
    """A guard that demands a valid token with this scope, and a body of this media type.

    It is one coroutine: Litestar calls a plain function in another thread, and copies the handler
    for each guard.

    Args:
        scope: what the token must carry.
        media_type: of the body that the route reads, or empty where it reads none.
    """

    async def guard(connection: Connection, _handler: BaseRouteHandler) -> None:
        """Find the token's holder, or refuse."""
        context = context_of(connection)
        holder = context.doorkeeper.admit(connection.headers.get("authorization"), scope)
        organ = context.organ(holder.organ)
        _state(connection)[_CALLER] = Caller(context=context, organ=organ, holder=holder)
        if media_type and _media_type(connection) != media_type:
            raise Problem("media_type_refused", f"This address takes {media_type}.")

    return guard


def _media_type(connection: Connection) -> str:
    return connection.headers.get("content-type", "").split(";")[0].strip().lower()


def context_of(connection: Connection) -> Context:
    """What is open, as the life span left it.

    Raises:
        Problem: `busy`: the server is still starting or already stopping.
    """
    context = connection.app.state.get(_CONTEXT)
    if not isinstance(context, Context):
        raise Problem("busy", "The server is not ready.", retry_after_s=1)
    return context


def provide_context(request: AnyRequest) -> Context:
    """The route's argument `context`."""
    return context_of(request)


def provide_caller(request: AnyRequest) -> Caller:
    """The route's argument `caller`; there is a guard on every route that asks for it."""
    caller = _state(request).get(_CALLER)
    if not isinstance(caller, Caller):
        raise TypeError("a route without a guard asked for its caller")
    return caller


def _state(connection: Connection) -> dict[str, Any]:
    return connection.scope["state"]
