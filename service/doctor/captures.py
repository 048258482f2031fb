"""The rows of captures' content against what the log says of each capture.

    1. each logged capture has its row, and the row repeats what was announced
    2. the row says `stored` where the log has a `stored` statement, and nowhere else
    3. content that has come and is no object yet lies in staging
    4. what is left to do for it is waiting to be done
    5. no row is of a capture that is not logged

Does: walks the log in pieces, each in one snapshot. Refuses to believe a state column: the log
says how far a capture has come, the row only repeats it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, exists, select, type_coerce
from sqlalchemy.types import BigInteger

from evidence.errors import EvidenceError
from evidence.schema import format_time
from evidence.statement import Statement, parse_statement
from service.captures.arrivals import STORE
from service.captures.queries import ContentState
from service.captures.workflow import INSPECT
from service.deployment_file import OrganSettings
from service.doctor.diagnosis import Findings, Listed
from service.objects import open_unproven
from service.settings import Settings
from service.stores import open_staging
from storage import records
from storage.db.engine import Database
from storage.db.tables import outbox, uploads
from storage.db.tables import records as record_rows
from storage.errors import StorageError
from storage.objects import ObjectStore
from storage.records import StoredRecord
from storage.staging import Staging

_PIECE_ROWS = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Row(NamedTuple):
    """A row of `uploads`; its time in milliseconds since 1970, as it is kept."""

    id: str
    organ: str
    state: str
    sha256: str
    size_bytes: int
    media_type: str
    received_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """Some captures, in one snapshot.

    Attributes:
        captures: their records with their texts, in the order of the log.
        rows: by capture.
        stored: text of the `stored` statement by capture.
        disposed: captures that have a `disposed` statement.
        inspected: captures that have an `inspected` statement.
        work: (kind, capture) of what is left to do.
    """

    captures: list[tuple[StoredRecord, bytes | None]]
    rows: Mapping[str, _Row]
    stored: Mapping[str, bytes | None]
    disposed: frozenset[str]
    inspected: frozenset[str]
    work: frozenset[tuple[str, str]]


def check_captures(
    settings: Settings, organs: Sequence[OrganSettings], db: Database, at: datetime
) -> Findings:
    """Do the steps of the module's procedure."""
    objects = open_unproven(settings, lambda: at)
    staging = open_staging(settings, lambda: at, None)
    wrong, count = Listed("captures.content"), 0
    for log in (log for organ in organs for log in organ.logs):
        for piece in _pieces(db, log.id):
            for record, raw in piece.captures:
                count += 1
                for fault in _faults(staging, objects, piece, record, raw):
                    wrong.fail(f"Capture {record.statement_id}: {fault}")
    with db.read() as connection:
        for log, capture in connection.execute(_STRAY):
            wrong.fail(
                f"There is a row of content for capture {capture}, which {log} never logged."
            )
    yield from wrong.end(f"The rows of {count} captures say what the log says.")


def _pieces(db: Database, log: str) -> Iterator[_Piece]:
    start = 0
    while True:
        with db.read() as connection:
            found = records.records_of_kind(
                connection, log, "capture", start=start, limit=_PIECE_ROWS
            )
            yield _piece(connection, log, found)
        if len(found) < _PIECE_ROWS:
            return
        start = found[-1].index + 1


def _piece(connection: Connection, log: str, found: Sequence[StoredRecord]) -> _Piece:
    ids = [record.statement_id for record in found]
    of_log, about = record_rows.c.log == log, record_rows.c.subject.in_(ids)
    kinds = record_rows.c.kind.in_(["stored", "inspected", "disposed"])
    later = connection.execute(
        select(record_rows.c.subject, record_rows.c.kind, record_rows.c.idx)
        .where(of_log, about, kinds)
        .order_by(record_rows.c.idx)
    ).all()
    rows = connection.execute(_ROWS.where(uploads.c.log == log, uploads.c.id.in_(ids)))
    work = connection.execute(
        select(outbox.c.kind, outbox.c.subject).where(
            outbox.c.log == log, outbox.c.subject.in_(ids)
        )
    )
    return _Piece(
        captures=[(record, records.text_at(connection, log, record.index)) for record in found],
        rows={row.id: row for row in map(_Row._make, rows)},
        stored={
            subject: records.text_at(connection, log, index)
            for subject, kind, index in later
            if kind == "stored"
        },
        disposed=frozenset(subject for subject, kind, _ in later if kind == "disposed"),
        inspected=frozenset(subject for subject, kind, _ in later if kind == "inspected"),
        work=frozenset((kind, subject) for kind, subject in work),
    )


def _faults(
    staging: Staging, objects: ObjectStore, piece: _Piece, record: StoredRecord, raw: bytes | None
) -> Iterator[str]:
    row = piece.rows.get(record.statement_id)
    if row is None:
        yield "the row of its content is missing."
        return
    try:
        yield from _differences(row, parse_statement(raw or b""))  # 1
        yield from _state_faults(piece, row)  # 2
    except EvidenceError as error:
        yield f"what is said of it cannot be read: {error.detail}."
    if row.state == ContentState.RECEIVED and not _lies(staging, objects, row):  # 3
        yield f"its content {row.sha256} came and lies neither in staging nor in the store."
    yield from _work_faults(piece, row)  # 4


def _differences(row: _Row, capture: Statement) -> Iterator[str]:
    content = capture.body["content"]
    if not isinstance(content, dict):
        raise TypeError("a capture without content passed its schema")
    announced = {name: content[name] for name in ("sha256", "size_bytes", "media_type")}
    for name, said in {"organ": capture.organ, **announced}.items():
        if getattr(row, name) != said:
            yield f"its row has another {name} than was announced."


def _state_faults(piece: _Piece, row: _Row) -> Iterator[str]:
    stated = row.id in piece.stored
    if row.state not in set(ContentState):
        yield "its row is in a state that does not exist."
    elif (row.id in piece.disposed) != (row.state == ContentState.DISPOSED):
        yield f"its row says {row.state}, and the log says otherwise of its disposal."
    elif stated and row.state not in {ContentState.STORED, ContentState.DISPOSED}:
        yield f"the log says that it is stored, its row says {row.state}."
    elif not stated and row.state == ContentState.STORED:
        yield "its row says stored, and no statement says so."
    if (row.received_at is None) != (row.state == ContentState.ANNOUNCED):
        yield f"its row is {row.state} and has {'no' if row.received_at is None else 'a'} arrival."
    if stated and row.received_at is not None:
        said = parse_statement(piece.stored[row.id] or b"").body["received_at"]
        if _time(row.received_at) != said:
            yield "its row has another time of arrival than was stated."


def _work_faults(piece: _Piece, row: _Row) -> Iterator[str]:
    if row.id in piece.disposed:
        return
    if row.id not in piece.stored:
        if (STORE, row.id) not in piece.work:
            yield "nothing is left that would store its content."
    elif row.id not in piece.inspected and (INSPECT, row.id) not in piece.work:
        yield "it was never inspected, and nothing is left that would."


def _lies(staging: Staging, objects: ObjectStore, row: _Row) -> bool:
    """Whether content that has come is there: first staged, then an object."""
    if staging.holds(row.id, row.sha256):
        return True
    try:
        objects.stat(row.sha256)
    except StorageError:
        return False
    return True


def _time(at_ms: int) -> str:
    try:
        return format_time(_EPOCH + timedelta(milliseconds=at_ms))
    except OverflowError:
        return ""


_ROWS = select(
    uploads.c.id,
    uploads.c.organ,
    uploads.c.state,
    uploads.c.sha256,
    uploads.c.size_bytes,
    uploads.c.media_type,
    type_coerce(uploads.c.received_at, BigInteger),
)
_STRAY = (
    select(uploads.c.log, uploads.c.id)
    .where(
        ~exists().where(
            record_rows.c.log == uploads.c.log,
            record_rows.c.statement_id == uploads.c.id,
            record_rows.c.kind == "capture",
        )
    )
    .order_by(uploads.c.log, uploads.c.id)
)
