"""What stands before a route: the token's scope and the body's media type.

Does: checks before a body is read, and leaves the holder where the route finds it. Refuses
bodies of another media type than the route reads.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from service.context import Context
from service.edge import AnyRequest
from service.law.permissions import Holder, Scope
from service.problems import Problem

Connection: TypeAlias = ASGIConnection[Any, Any, Any, Any]
_HOLDER = "holder"
_CONTEXT = "context"


def needs(scope: Scope) -> Callable[[Connection, BaseRouteHandler], None]:
    """A guard that demands a valid token with this scope."""

    def guard(connection: Connection, _handler: BaseRouteHandler) -> None:
        """Find the token's holder, or refuse."""
        keeper = context_of(connection).doorkeeper
        holder = keeper.admit(connection.headers.get("authorization"), scope)
        _state(connection)[_HOLDER] = holder

    return guard


def takes_json(connection: Connection, _handler: BaseRouteHandler) -> None:
    """A guard that demands a JSON body.

    Raises:
        Problem: `media_type_refused`.
    """
    media_type = connection.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem("media_type_refused", "This address takes application/json.")


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


def provide_holder(request: AnyRequest) -> Holder:
    """The route's argument `holder`; there is a guard on every route that asks for it."""
    holder = _state(request).get(_HOLDER)
    if not isinstance(holder, Holder):
        raise TypeError("a route without a guard asked for its holder")
    return holder


def _state(connection: Connection) -> dict[str, Any]:
    return connection.scope["state"]
