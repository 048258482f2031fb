"""The routes of content: bytes in, bytes out.

Does: PUT streams into the inbox; GET states the reading and serves the original as an attachment,
or a preview that was decoded and encoded anew. Refuses to let a browser guess: nosniff, a sandbox
policy, types from a closed list, and never the name that a client chose.
"""

import base64
from http import HTTPStatus
from typing import Annotated, Literal

from litestar import Response, get, put
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.response import Stream

from evidence.packing import EXTENSIONS
from service.captures.queries import find_upload
from service.captures.reading import Held, Reading, pieces
from service.captures.routes import CaptureId, unknown_capture
from service.captures.shapes import Received
from service.captures.uploads import Inbox, Transfer, read_digest
from service.edge import TIMEOUT_OPTION, AnyRequest, asks_head, at_end
from service.guards import Caller, needs
from service.law.permissions import Scope
from service.outgoing import Outgoing, not_modified, read_range, require_match, tag_of
from storage.errors import Unavailable

SERVED_TYPES = frozenset(EXTENSIONS) - {"application/pdf", "text/plain", "application/json"}
"""Media types that are served under their own name; everything else is octets."""

_OCTETS = "application/octet-stream"
_JPEG = "image/jpeg"


@put(
    "/v1/captures/{capture:str}/content",
    guards=[needs(Scope.CAPTURE)],
    status_code=HTTPStatus.CREATED,
    opt={TIMEOUT_OPTION: None},  # the inbox watches idle time and rate itself
    request_max_body_size=None,  # the announced size is the limit
    summary="Send a capture's content",
    description="A sha-256 in `Content-Digest` is checked against the bytes, or against those that"
    " have arrived before. Digests by other algorithms alone are refused, because nobody would"
    " check them.",
)
async def put_content(
    capture: CaptureId,
    request: AnyRequest,
    caller: NamedDependency[Caller],
    inbox: NamedDependency[Inbox],
) -> Response[Received]:
    """Take the bytes of an announced capture; answered when they would survive power loss."""
    with caller.context.db.read() as connection:  # shorter than changing thread
        upload = find_upload(connection, caller.organ.log_id, capture)
    if upload is None:
        raise unknown_capture()
    transfer = Transfer(
        organ=caller.organ,
        holder=caller.holder,
        upload=upload,
        length=_content_length(request),
        digest=read_digest(", ".join(request.headers.getall("content-digest", []))),
    )
    noted = await inbox.receive(transfer, request.stream())
    if noted.upload.received_at is None:
        raise Unavailable("an arrival has no time")
    return Response(
        Received(
            id=capture,
            sha256=noted.upload.sha256,
            size_bytes=noted.upload.size_bytes,
            received_at=noted.upload.received_at,
        ),
        status_code=HTTPStatus.CREATED if noted.first else HTTPStatus.OK,
    )


@get(
    "/v1/captures/{capture:str}/content",
    guards=[needs(Scope.VIEW)],
    sync_to_thread=True,
    opt={TIMEOUT_OPTION: 6 * 3600},
    summary="Read a capture's content",
    description="Every reading is a custody event, logged before the first byte: one for each"
    " reader, object and quarter of an hour. `as=preview` gives a small JPEG that was decoded and"
    " encoded anew. HEAD, 304 for who has the original already, and 412 for who wants another, tell"
    " no more than the capture's own page; they open nothing and are no readings.",
)
def get_content(
    capture: CaptureId,
    request: AnyRequest,
    caller: NamedDependency[Caller],
    reading: NamedDependency[Reading],
    form: Annotated[
        Literal["original", "preview"],
        QueryParameter(name="as", description="The original, or a small JPEG."),
    ] = "original",
) -> Response[bytes] | Stream:
    """Serve the original, or a preview of it."""
    held = reading.find(caller.organ, capture)
    if form == "preview":
        return _preview(caller, held, reading, request)
    return _original(caller, held, reading, request)


def _original(
    caller: Caller, held: Held, reading: Reading, request: AnyRequest
) -> Response[bytes] | Stream:
    require_match(request.headers, held.sha256)
    if (known := not_modified(request.headers, held.sha256)) is not None:
        return known
    if asks_head(request):  # a range means nothing to it: RFC 9110 section 14.2
        return _whole_or_part((), held, None)
    ranged = read_range(request.headers, held.sha256, held.size_bytes)
    stream = reading.open(held)
    try:
        reading.state(caller.organ, caller.holder, held, "viewed")
    except BaseException:
        stream.close()
        raise
    first, end = ranged or (0, held.size_bytes)
    outgoing = Outgoing(stream, pieces(stream, first, end, held.sha256, held.size_bytes))
    at_end(request, outgoing.close)
    return _whole_or_part(outgoing, held, ranged)


def _whole_or_part(
    body: Outgoing | tuple[()], held: Held, ranged: tuple[int, int] | None
) -> Stream:
    first, end = ranged or (0, held.size_bytes)
    extension = EXTENSIONS.get(held.media_type, "bin")
    digest = base64.b64encode(bytes.fromhex(held.sha256)).decode("ascii")
    headers = {
        "content-length": str(end - first),
        "content-disposition": f'attachment; filename="capture-{held.capture[:16]}.{extension}"',
        "accept-ranges": "bytes",
        "etag": tag_of(held.sha256),
        "repr-digest": f"sha-256=:{digest}:",
    }
    if ranged is not None:
        headers["content-range"] = f"bytes {first}-{end - 1}/{held.size_bytes}"
    return Stream(
        body,
        status_code=HTTPStatus.OK if ranged is None else HTTPStatus.PARTIAL_CONTENT,
        media_type=held.media_type if held.media_type in SERVED_TYPES else _OCTETS,
        headers=headers,
    )


def _preview(
    caller: Caller, held: Held, reading: Reading, request: AnyRequest
) -> Response[bytes] | Stream:
    require_match(request.headers, None)
    headers = {"content-disposition": f'inline; filename="preview-{held.capture[:16]}.jpg"'}
    if asks_head(request):  # its length is known only once it is made
        return Stream((), media_type=_JPEG, headers=headers)
    jpeg = reading.preview(held)
    reading.state(caller.organ, caller.holder, held, "previewed")
    return Response(jpeg, media_type=_JPEG, headers=headers)


def _content_length(request: AnyRequest) -> int | None:
    value = request.headers.get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else None
