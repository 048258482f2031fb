"""The log's public files: checkpoint, tiles and entry bundles under C2SP paths.

Does: serves what is published. Full tiles never change and are cached for ever; the checkpoint is
asked for anew each time. Refuses: texts, which are encrypted and no part of the public log, and
strangers where the organ chose to keep its tiles to itself.

Source: C2SP tlog-tiles, commit 5ba5ee83.
"""

from http import HTTPStatus
from typing import Annotated

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import PathParameter
from msgspec import Struct

from evidence.errors import TileInvalid
from evidence.tlog.note import VerifierKey
from service.context import Context
from service.edge import AnyRequest
from service.guards import Caller, needs
from service.law.permissions import Scope
from service.problems import Problem
from storage.errors import NotFound
from storage.log import OpenLog
from storage.log.closed import ClosedLog

_IMMUTABLE = "public, max-age=31536000, immutable"
_ANEW = "no-cache"
LogId = Annotated[str, PathParameter(max_length=64, description="Id of the log, as in /v1/logs.")]


class LogView(Struct, frozen=True):
    """A log of this deployment. Its keys are a copy for convenience, never a trust anchor."""

    id: str
    organ: str
    origin: str
    closed: bool
    checkpoint: str
    tiles: str
    keys_not_a_trust_anchor: list[str]


@get(
    "/logs/{log:str}/checkpoint",
    sync_to_thread=True,
    media_type="text/plain",
    summary="Fetch a log's newest published checkpoint",
)
def get_checkpoint(
    log: LogId, request: AnyRequest, context: NamedDependency[Context]
) -> Response[bytes]:
    """The signed note, with the cosignature lines known so far."""
    published, _ = _readable(log, request, context)
    try:
        note = published.checkpoint()
    except NotFound as error:
        raise Problem("not_found", "Nothing is published yet.") from error
    return Response(note, media_type="text/plain", headers={"cache-control": _ANEW})


@get(
    "/logs/{log:str}/tile/{path:path}",
    sync_to_thread=True,
    media_type="application/octet-stream",
    summary="Fetch a tile or an entry bundle",
    description="`<level>/<index>[.p/<width>]` for hashes and `entries/<index>[.p/<width>]` for"
    " entries, as C2SP tlog-tiles names them.",
)
def get_tile(
    log: LogId,
    path: Annotated[str, PathParameter(description="Below `tile/`, in C2SP form.")],
    request: AnyRequest,
    context: NamedDependency[Context],
) -> Response[bytes]:
    """A published tile; any width up to what is published."""
    published, public = _readable(log, request, context)
    try:
        data = published.tile(f"tile/{path.strip('/')}")
    except (NotFound, TileInvalid) as error:
        raise Problem("not_found", "No such tile is published.") from error
    caching = _IMMUTABLE if public else "private, no-store"
    return Response(
        data,
        status_code=HTTPStatus.OK,
        media_type="application/octet-stream",
        headers={"cache-control": caching},
    )


@get(
    "/v1/logs",
    guards=[needs(Scope.READ)],
    sync_to_thread=False,
    summary="List the organ's logs",
)
def get_logs(caller: NamedDependency[Caller], context: NamedDependency[Context]) -> list[LogView]:
    """Where the holder's organ is logged, and where it was before, the newest first."""
    organ = caller.organ
    ended = [one for one in context.closed.values() if one.organ.id == organ.id]
    return [
        _view(organ.log_id, organ.id, organ.origin, organ.log_keys, closed=False),
        *(
            _view(one.settings.id, organ.id, one.settings.origin, one.log.log_keys, closed=True)
            for one in reversed(ended)
        ),
    ]


def _view(
    log: str, organ: str, origin: str, keys: tuple[VerifierKey, ...], *, closed: bool
) -> LogView:
    return LogView(
        id=log,
        organ=organ,
        origin=origin,
        closed=closed,
        checkpoint=f"/logs/{log}/checkpoint",
        tiles=f"/logs/{log}/tile/",
        keys_not_a_trust_anchor=[key.encode() for key in keys],
    )


def _readable(log: str, request: AnyRequest, context: Context) -> tuple[OpenLog | ClosedLog, bool]:
    """A log that the caller may read, and whether all may; another's private one is not there."""
    if log in context.closed:
        ended = context.closed[log]
        published, settings = ended.log, ended.organ
    else:
        organ = context.organ_of_log(log)
        published, settings = organ.log, organ.settings
    if not settings.public_tiles:
        holder = context.doorkeeper.admit(request.headers.get("authorization"), Scope.READ)
        if holder.organ != settings.id:
            raise Problem("log_unknown", "This deployment keeps no such log.")
    return published, settings.public_tiles
