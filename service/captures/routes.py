"""The routes of captures, but for their content.

Does: reads requests, calls one function, writes the answer. Refuses to decide: who may call stands
in the guards, what is taken in admission. Another organ's capture is a capture that is not there.
"""

import base64
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import Body, PathParameter, QueryParameter

from evidence.report import NOT_PROVEN, PROVEN, CaptureReport
from evidence.sigstore import BUNDLE_MEDIA_TYPE, make_bundle
from evidence.statement import to_wire
from evidence.tlog.note import ED25519
from service.captures.announce import write_answer
from service.captures.gathering import Announcing
from service.captures.ladder import MISSING, Row, climb_ladder, read_rows
from service.captures.queries import (
    ContentState,
    Logged,
    Upload,
    Wanted,
    find_upload,
    list_captures,
)
from service.captures.shapes import (
    Announcement,
    AnnouncementAnswer,
    CapturePage,
    CaptureSummary,
    CaptureView,
    ContentView,
    LoggedStatement,
    RungView,
    StatementList,
    WireStatement,
    WorkView,
)
from service.context import Organ
from service.edge import AnyRequest
from service.guards import JSON, Caller, needs, provide_caller
from service.law.permissions import Scope
from service.openapi import ITEM_OPTION
from service.problems import Problem
from service.proofs import first_proof, newest_cosigned, proof_into, read_signed, signature_tokens
from service.work.counts import pieces_of
from storage import records
from storage.records import StoredRecord

MAX_ANNOUNCEMENT_BYTES = 8 * 1024 * 1024
PAGE_MOST = 200

_RETRY_S = 2
_PROOF_TYPE = "text/plain"
CaptureId = Annotated[str, PathParameter(description="Statement id of the capture, 64 hex digits.")]
Cursor = Annotated[
    str | None, QueryParameter(max_length=64, description="`next` of the page before.")
]
Limit = Annotated[
    int, QueryParameter(ge=1, le=PAGE_MOST, description="How many items a page holds at most.")
]
Session = Annotated[
    str | None,
    QueryParameter(pattern="^[0-9a-f]{64}$", description="Only captures of this session, by id."),
]
Moment = Annotated[
    str | None,  # read as a time, "1" would be a second after 1970
    QueryParameter(
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)$",
        description="Only announced from (or until) then: RFC 3339, such as 2026-11-23T09:00:00Z.",
    ),
]


@post(
    "/v1/captures",
    status_code=200,
    guards=[needs(Scope.CAPTURE, media_type=JSON)],
    request_max_body_size=MAX_ANNOUNCEMENT_BYTES,
    opt={ITEM_OPTION: ("statements", WireStatement)},
    summary="Announce signed statements",
    description="One or more signed statements (`capture`, `session`, `key`, `policy`) are logged;"
    " the answer carries a receipt or a problem for each, in request order. The same request"
    " again gives the same bytes.",
)
async def announce_captures(
    data: Annotated[Announcement, Body()],
    request: AnyRequest,
    announcing: NamedDependency[Announcing],  # the only one: several cost a group of tasks
) -> AnnouncementAnswer:
    """Log statements and answer with their receipts."""
    caller = provide_caller(request)
    context, organ = caller.context, caller.organ
    outcomes = await announcing.announce(organ, data.statements)
    for outcome in outcomes:
        told = "refused" if isinstance(outcome, Exception) else "logged"
        context.metrics.announced.labels(told).inc()
    return write_answer(organ, outcomes)


@get(
    "/v1/captures",
    guards=[needs(Scope.READ)],
    sync_to_thread=True,
    summary="List captures",
)
def get_captures(
    caller: NamedDependency[Caller],
    cursor: Cursor = None,
    limit: Limit = 50,
    content: Annotated[
        ContentState | None, QueryParameter(description="Only with content in this state.")
    ] = None,
    session: Session = None,
    received_from: Moment = None,
    received_until: Moment = None,
) -> CapturePage:
    """Captures of the holder's organ, newest first."""
    context, organ = caller.context, caller.organ
    wanted = Wanted(
        after=read_cursor(cursor),
        limit=limit + 1,
        state=content,
        subject=session,
        received_from=_read_moment(received_from, "received_from"),
        received_until=_read_moment(received_until, "received_until"),
    )
    with context.db.read() as connection:
        found = list_captures(connection, organ.log_id, wanted)
    items = [_summary(organ, logged, upload) for logged, upload in found[:limit]]
    return CapturePage(
        items=items, next=write_cursor(items[-1].index) if len(found) > limit else None
    )


@get(
    "/v1/captures/{capture:str}",
    guards=[needs(Scope.READ)],
    sync_to_thread=True,
    summary="Show a capture with its proof ladder",
)
def get_capture(capture: CaptureId, caller: NamedDependency[Caller]) -> CaptureView:
    """One capture; its ladder is recomputed now."""
    context, organ = caller.context, caller.organ
    with context.db.read() as connection:
        rows = read_rows(connection, organ.log_id, capture)
        upload = find_upload(connection, organ.log_id, capture)
        pieces = pieces_of(connection, organ.log_id, capture)
        inspected = [
            read_signed(connection, record)[0].raw
            for record in records.records_about(connection, organ.log_id, capture)
            if record.kind == "inspected"
        ]
    if not rows or upload is None:
        raise unknown_capture()
    organ.log.reach(max(row.record.committed_size for row in rows))
    if rows[0].record.committed_size > organ.log.latest().size:
        raise unknown_capture()  # its batch is not answered for yet
    report = climb_ladder(context, organ, rows)
    return CaptureView(
        id=capture,
        log=organ.origin,
        index=rows[0].record.index,
        received_at=rows[0].record.received_at,
        signer=rows[0].record.key_id,
        statement=_document(rows[0]),
        content=_content(upload),
        ladder=_rungs(report),
        not_before=report.not_before,
        not_after=report.not_after,
        inspections=[msgspec.json.decode(raw)["body"] for raw in inspected],
        work=[
            WorkView(kind=kind, state=state.value, problem=problem or None)
            for kind, (state, problem) in sorted(pieces.items())
        ],
        proven=PROVEN,
        not_proven=NOT_PROVEN,
    )


@get(
    "/v1/captures/{capture:str}/proof",
    guards=[needs(Scope.READ)],
    sync_to_thread=True,
    media_type=_PROOF_TYPE,
    summary="Fetch the inclusion proof as .tlog-proof",
    description="Without `min`, the proof of the receipt, the same for ever. With `min=witnessed`"
    " a proof into the newest checkpoint that enough witnesses have cosigned.",
)
def get_proof(
    capture: CaptureId,
    caller: NamedDependency[Caller],
    minimum: Annotated[
        Literal["logged", "witnessed"],
        QueryParameter(name="min", description="What the proof must lead to."),
    ] = "logged",
) -> Response[bytes]:
    """The proof that the capture stands in the log."""
    organ, record = caller.organ, _record(caller, capture)
    if minimum == "logged":
        proof = first_proof(organ, record)
    else:
        cosigned = newest_cosigned(organ, record.index)
        if cosigned is None:
            raise Problem(
                "proof_pending",
                "Too few witnesses have cosigned a checkpoint that covers it.",
                retry_after_s=_RETRY_S,
            )
        proof = proof_into(organ, record.index, cosigned.size, cosigned.note)
    name = f'attachment; filename="{capture}.tlog-proof"'
    return Response(proof.encode(), media_type=_PROOF_TYPE, headers={"content-disposition": name})


@get(
    "/v1/captures/{capture:str}/bundle",
    guards=[needs(Scope.READ)],
    sync_to_thread=True,
    media_type=BUNDLE_MEDIA_TYPE,
    summary="Fetch the Sigstore bundle",
)
def get_bundle(capture: CaptureId, caller: NamedDependency[Caller]) -> Response[bytes]:
    """A Sigstore bundle v0.3 whose artifact is the capture's statement."""
    organ, record = caller.organ, _record(caller, capture)
    tokens = signature_tokens(caller.context.db, organ, record)
    if not tokens:
        raise Problem(
            "bundle_pending",
            "A bundle needs a time-stamp over the capture's signature; it is fetched once the"
            " content is stored.",
            retry_after_s=_RETRY_S,
        )
    with caller.context.db.read() as connection:
        signed, public_key = read_signed(connection, record)
    log_key = next(key for key in organ.log_keys if key.kind == ED25519)
    bundle = make_bundle(signed, public_key, first_proof(organ, record), log_key, tokens)
    name = f'attachment; filename="{capture}.sigstore.json"'
    return Response(
        msgspec.json.encode(bundle),
        media_type=BUNDLE_MEDIA_TYPE,
        headers={"content-disposition": name},
    )


@get(
    "/v1/captures/{capture:str}/statements",
    guards=[needs(Scope.READ)],
    sync_to_thread=True,
    summary="List every statement about a capture",
)
def get_statements(
    capture: CaptureId,
    caller: NamedDependency[Caller],
    cursor: Cursor = None,
    limit: Limit = 50,
) -> StatementList:
    """The capture's own statement and those about it, in their wire form."""
    organ, record = caller.organ, _record(caller, capture)
    after = read_cursor(cursor)
    with caller.context.db.read() as connection:
        about = records.records_about(connection, organ.log_id, capture)
        wanted = [one for one in [record, *about] if after is None or one.index > after]
        items = [
            LoggedStatement(
                id=one.statement_id,
                kind=one.kind,
                log=organ.origin,
                index=one.index,
                received_at=one.received_at,
                **to_wire(read_signed(connection, one)[0]),
            )
            for one in wanted[:limit]
        ]
    return StatementList(
        items=items, next=write_cursor(items[-1].index) if len(wanted) > limit else None
    )


def unknown_capture() -> Problem:
    """The same answer for a capture that never was and for another organ's."""
    return Problem("capture_unknown", "This organ's log holds no such capture.")


def read_cursor(cursor: str | None) -> int | None:
    """The index that a cursor stands for.

    Raises:
        Problem: `invalid`.
    """
    if cursor is None:
        return None
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        number = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
        if not number.isdigit() or len(number) > 18:
            raise ValueError
        return int(number)
    except ValueError as error:
        fault = {"parameter": "cursor", "detail": "Not a cursor of this list."}
        raise Problem("invalid", "The cursor is not one of ours.", errors=(fault,)) from error


def write_cursor(index: int) -> str:
    """A cursor that stands for an index; opaque to clients."""
    return base64.urlsafe_b64encode(str(index).encode()).decode("ascii").rstrip("=")


def _record(caller: Caller, capture: str) -> StoredRecord:
    with caller.context.db.read() as connection:
        record = records.find_record(connection, caller.organ.log_id, capture)
    if record is None or record.kind != "capture":
        raise unknown_capture()
    return record


def _summary(organ: Organ, logged: Logged, upload: Upload) -> CaptureSummary:
    statement = logged.statement
    return CaptureSummary(
        id=statement.id,
        log=organ.origin,
        index=logged.record.index,
        received_at=logged.record.received_at,
        signer=statement.signer,
        session=None if statement.about is None else statement.about.statement,
        mode=str(statement.body["mode"]),
        captured_at=str(statement.body["captured_at"]),
        content=_content(upload),
    )


def _content(upload: Upload) -> ContentView:
    return ContentView(
        state=upload.state.value,
        sha256=upload.sha256,
        size_bytes=upload.size_bytes,
        media_type=upload.media_type,
        received_at=upload.received_at,
    )


def _rungs(report: CaptureReport) -> list[RungView]:
    return [
        RungView(
            rung=rung.name,
            outcome=rung.outcome.value,
            detail=rung.detail,
            missing=MISSING.get(rung.name) if rung.outcome.value == "cannot_confirm" else None,
        )
        for rung in report.rungs
    ]


def _document(row: Row) -> dict[str, object] | None:
    """The statement for reading; None where damaged bytes are no JSON any more."""
    try:
        return msgspec.json.decode(row.signed.raw, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _read_moment(text: str | None, name: str) -> datetime | None:
    """A time in UTC, from text that has the form of one."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        fault = {"parameter": name, "detail": "No such day or time."}
        raise Problem("invalid", "A time that does not exist.", errors=(fault,)) from error
