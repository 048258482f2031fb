"""The routes of exports: ask, look, fetch.

Does: answers at once with a place where the package will be. Refuses to hand a package to another
organ, or to the same organ after its time.
"""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, BinaryIO, Literal

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import Body, PathParameter
from litestar.response import Stream
from msgspec import Meta, Struct

from service.edge import TIMEOUT_OPTION, AnyRequest, asks_head, at_end
from service.exports.queries import Export, ExportState, find_export, package_of
from service.exports.workflow import packages_of, request_export
from service.guards import JSON, Caller, needs
from service.law.permissions import Scope
from service.outgoing import Outgoing, Pieces, not_modified, require_match, tag_of
from service.problems import Problem
from storage.errors import NotFound

MOST_CAPTURES = 200
_PIECE_BYTES = 1024 * 1024
_RETRY_S = 1
ExportId = Annotated[str, PathParameter(description="Id of the export, 32 hex digits.")]


class ExportRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Captures of one organ that are to be exported together."""

    captures: Annotated[
        list[Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]],
        Meta(min_length=1, max_length=MOST_CAPTURES),
    ]


class ExportView(Struct, frozen=True):
    """How an export stands; `package` is where the ZIP is fetched."""

    id: str
    state: Literal["pending", "ready", "failed", "expired"]
    captures: list[str]
    created_at: datetime
    package: str
    sha256: str | None
    size_bytes: int | None
    expires_at: datetime | None


@post(
    "/v1/exports",
    status_code=HTTPStatus.CREATED,
    guards=[needs(Scope.EXPORT, media_type=JSON)],
    sync_to_thread=True,
    summary="Export captures as one package",
    description="An export is a custody event of each capture. The package, a BagIt bag in a ZIP,"
    " is made in the background.",
)
def post_export(
    data: Annotated[ExportRequest, Body()],
    caller: NamedDependency[Caller],
) -> Response[ExportView]:
    """State the export and leave its making behind."""
    captures = list(dict.fromkeys(data.captures))
    export = request_export(caller.context, caller.organ, caller.holder, captures)
    return Response(
        _view(export),
        status_code=HTTPStatus.CREATED,
        headers={"location": f"/v1/exports/{export.id}"},
    )


@get(
    "/v1/exports/{export:str}",
    guards=[needs(Scope.EXPORT)],
    sync_to_thread=True,
    summary="Show an export",
)
def get_export(export: ExportId, caller: NamedDependency[Caller]) -> ExportView:
    """How an export stands."""
    return _view(_find(caller, export))


@get(
    "/v1/exports/{export:str}/package",
    guards=[needs(Scope.EXPORT)],
    sync_to_thread=True,
    opt={TIMEOUT_OPTION: 6 * 3600},
    media_type="application/zip",
    summary="Fetch a package",
)
def get_package(
    export: ExportId, request: AnyRequest, caller: NamedDependency[Caller]
) -> Response[bytes] | Stream:
    """The ZIP, once it is ready."""
    found = _find(caller, export)
    if found.state is ExportState.PENDING:
        raise Problem("export_pending", "The package is being made.", retry_after_s=_RETRY_S)
    if found.state is ExportState.FAILED:
        raise Problem("export_failed", "The package could not be made; ask for a new export.")
    package = package_of(found)
    if found.state is ExportState.EXPIRED or package is None:
        raise _gone()
    require_match(request.headers, package.sha256)
    if (known := not_modified(request.headers, package.sha256)) is not None:
        return known
    try:
        stream = packages_of(caller.context).open(package)
    except NotFound as error:
        raise _gone() from error
    headers = {
        "content-length": str(package.size_bytes),
        "content-disposition": f'attachment; filename="fengni-export-{found.id[:16]}.zip"',
        "etag": tag_of(package.sha256),
    }
    outgoing = Outgoing(stream, _pieces(stream))
    at_end(request, outgoing.close)
    body = () if asks_head(request) else outgoing
    return Stream(body, media_type="application/zip", headers=headers)


def _find(caller: Caller, export_id: str) -> Export:
    with caller.context.db.read() as connection:
        export = find_export(connection, caller.organ.log_id, export_id)
    if export is None:
        raise Problem("export_unknown", "This organ has no such export.")
    return export


def _gone() -> Problem:
    return Problem("export_unknown", "The package is no longer kept; ask for a new export.")


def _view(export: Export) -> ExportView:
    return ExportView(
        id=export.id,
        state=export.state.value,
        captures=list(export.captures),
        created_at=export.created_at,
        package=f"/v1/exports/{export.id}/package",
        sha256=export.sha256,
        size_bytes=export.size_bytes,
        expires_at=export.expires_at,
    )


def _pieces(stream: BinaryIO) -> Pieces:
    while piece := stream.read(_PIECE_BYTES):
        yield piece
