"""What the database says about captures: lists, content on its way, readings.

Does: reads, and writes work tables. Refuses to write evidence rows, and to look across organs:
every query names its log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, and_, bindparam, func, insert, select, update

from evidence.canonical import JSONValue
from evidence.statement import Statement, parse_statement
from storage import records
from storage.db.inserting import insert_rows
from storage.db.tables import records as record_rows
from storage.db.tables import texts, uploads, views
from storage.errors import IntegrityAlarm
from storage.records import StoredRecord


class ContentState(StrEnum):
    """How far a capture's content has come."""

    ANNOUNCED = "announced"
    RECEIVED = "received"
    STORED = "stored"
    DISPOSED = "disposed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A capture's content, announced or further.

    Attributes:
        capture: the capture's id.
        log: id of its log.
        organ: its organ.
        state: how far it has come.
        sha256: as announced, 64 hex digits.
        size_bytes: as announced.
        media_type: as announced.
        received_at: when the last byte was durable here, UTC; None before.
    """

    capture: str
    log: str
    organ: str
    state: ContentState
    sha256: str
    size_bytes: int
    media_type: str
    received_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """A logged statement with its text.

    Attributes:
        record: its row.
        statement: its text, read strictly.
    """

    record: StoredRecord
    statement: Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which captures a list holds.

    Attributes:
        after: index of the last one of the page before, exclusive; lists go backwards.
        limit: how many at most.
        state: only those whose content has come so far, or None for all.
        received_from: UTC, inclusive, or None.
        received_until: UTC, exclusive, or None.
        subject: id of a session, or None for all.
    """

    limit: int
    after: int | None = None
    state: ContentState | None = None
    received_from: datetime | None = None
    received_until: datetime | None = None
    subject: str | None = None


def add_uploads(
    connection: Connection, log: str, captures: Sequence[Statement], at: datetime
) -> None:
    """Note what was announced, in the transaction of the announcement."""
    rows: list[dict[str, object]] = []
    for capture in captures:
        content = capture.body["content"]
        if not isinstance(content, dict):
            raise TypeError("a capture without content passed its schema")
        rows.append(
            {
                "log": log,
                "id": capture.id,
                "organ": capture.organ,
                "state": ContentState.ANNOUNCED.value,
                "sha256": content["sha256"],
                "size_bytes": content["size_bytes"],
                "media_type": content["media_type"],
                "updated_at": at,
            }
        )
    insert_rows(connection, uploads, rows)


def find_upload(connection: Connection, log: str, capture: str) -> Upload | None:
    """A capture's content, or None where this log announced no such capture."""
    found = find_uploads(connection, log, [capture])
    return found.get(capture)


def find_uploads(connection: Connection, log: str, captures: Sequence[str]) -> dict[str, Upload]:
    """The content of those of these captures that this log announced, by capture id."""
    rows = connection.execute(_FIND, {"log": log, "captures": list(captures)})
    return {
        row.id: Upload(
            capture=row.id,
            log=row.log,
            organ=row.organ,
            state=ContentState(row.state),
            sha256=row.sha256,
            size_bytes=row.size_bytes,
            media_type=row.media_type,
            received_at=row.received_at,
        )
        for row in rows
    }


def mark_received(connection: Connection, arrived: Sequence[tuple[Upload, datetime]]) -> None:
    """Note that contents are durable here.

    Args:
        connection: in a write transaction in which they were seen to be announced and no more.
        arrived: at least one content, and when its last byte was durable, UTC.
    """
    connection.execute(
        _MARK_RECEIVED,
        [{"of_log": one.log, "of_capture": one.capture, "at": at} for one, at in arrived],
    )


def mark_stored(connection: Connection, log: str, captures: Sequence[str], at: datetime) -> None:
    """Note that the content is an object now, in the transaction of the `stored` statements."""
    connection.execute(
        update(uploads)
        .where(uploads.c.log == log, uploads.c.id.in_(captures))
        .values(state=ContentState.STORED.value, updated_at=at)
    )


def mark_disposed(connection: Connection, log: str, capture: str, at: datetime) -> None:
    """Note that the content was disposed of, in the transaction of its certificate."""
    connection.execute(
        update(uploads)
        .where(uploads.c.log == log, uploads.c.id == capture)
        .values(state=ContentState.DISPOSED.value, updated_at=at)
    )


def list_captures(connection: Connection, log: str, wanted: Wanted) -> list[tuple[Logged, Upload]]:
    """Captures of one log, newest first.

    Args:
        connection: of the database.
        log: id of the log.
        wanted: which of them.
    """
    conditions = [record_rows.c.log == log, record_rows.c.kind == "capture"]
    if wanted.after is not None:
        conditions.append(record_rows.c.idx < wanted.after)
    if wanted.state is not None:
        conditions.append(uploads.c.state == wanted.state.value)
    if wanted.received_from is not None:
        conditions.append(record_rows.c.received_at >= wanted.received_from)
    if wanted.received_until is not None:
        conditions.append(record_rows.c.received_at < wanted.received_until)
    if wanted.subject is not None:
        conditions.append(record_rows.c.subject == wanted.subject)
    joined = record_rows.join(
        uploads,
        and_(uploads.c.log == record_rows.c.log, uploads.c.id == record_rows.c.statement_id),
    )
    rows = connection.execute(
        select(record_rows.c.statement_id)
        .select_from(joined)
        .where(*conditions)
        .order_by(record_rows.c.idx.desc())
        .limit(wanted.limit)
    )
    ids = list(rows.scalars())
    contents = find_uploads(connection, log, ids)
    logged = [with_text(connection, one) for one in records.find_records(connection, log, ids)]
    return [(one, contents[one.statement.id]) for one in reversed(logged)]


def with_text(connection: Connection, record: StoredRecord) -> Logged:
    """A record with its text.

    Raises:
        IntegrityAlarm: the text is missing.
    """
    text = records.text_at(connection, record.log, record.index)
    if text is None:
        raise IntegrityAlarm("the text of a logged statement is missing")
    return Logged(record=record, statement=parse_statement(text))


def statements_about(connection: Connection, log: str, capture: str, *, kind: str) -> list[Logged]:
    """Every statement of one kind about a capture, in the order of the log."""
    about = records.records_about(connection, log, capture)
    return [with_text(connection, record) for record in about if record.kind == kind]


def newest_about(connection: Connection, log: str, subject: str) -> str | None:
    """Id of the last statement about a subject, or None."""
    return newest_about_each(connection, log, [subject]).get(subject)


def newest_about_each(connection: Connection, log: str, subjects: Sequence[str]) -> dict[str, str]:
    """Id of the last statement about each of these subjects that has one, by subject."""
    about = (record_rows.c.log == log, record_rows.c.subject.in_(subjects))
    last = select(func.max(record_rows.c.idx)).where(*about).group_by(record_rows.c.subject)
    rows = connection.execute(
        select(record_rows.c.subject, record_rows.c.statement_id).where(
            record_rows.c.log == log, record_rows.c.idx.in_(last)
        )
    )
    return {row.subject: row.statement_id for row in rows}


def count_events(connection: Connection, log: str, capture: str, event: str) -> int:
    """How many custody statements of one event there are about a capture."""
    return len(custody_of(connection, log, capture, event))


def custody_of(
    connection: Connection, log: str, capture: str, event: str
) -> list[Mapping[str, JSONValue]]:
    """The bodies of the custody statements of one event about a capture."""
    query = (
        select(texts.c.statement)
        .select_from(
            record_rows.join(
                texts, and_(texts.c.log == record_rows.c.log, texts.c.idx == record_rows.c.idx)
            )
        )
        .where(
            record_rows.c.log == log,
            record_rows.c.subject == capture,
            record_rows.c.kind == "custody",
        )
    )
    found = connection.execute(query).scalars()
    bodies = [parse_statement(text).body for text in found]
    return [body for body in bodies if body["event"] == event]


def viewed_until(connection: Connection, log: str, reader: str, subject: str) -> datetime | None:
    """Until when this reader's look at this subject is a custody event already, or None."""
    return connection.execute(
        select(views.c.until).where(
            views.c.log == log, views.c.reader == reader, views.c.object == subject
        )
    ).scalar_one_or_none()


def note_view(
    connection: Connection, *, log: str, organ: str, reader: str, subject: str, until: datetime
) -> None:
    """Note a reading, in the transaction of its custody statement."""
    key = {"log": log, "reader": reader, "object": subject}
    changed = connection.execute(
        update(views)
        .where(views.c.log == log, views.c.reader == reader, views.c.object == subject)
        .values(until=until)
    )
    if changed.rowcount == 0:
        connection.execute(insert(views).values(**key, organ=organ, until=until))


# What is executed for every transfer is built once: building costs as much as executing.
_FIND = select(uploads).where(
    uploads.c.log == bindparam("log"), uploads.c.id.in_(bindparam("captures", expanding=True))
)
_MARK_RECEIVED = (
    update(uploads)
    .where(uploads.c.log == bindparam("of_log"), uploads.c.id == bindparam("of_capture"))
    .values(
        state=ContentState.RECEIVED.value,
        received_at=bindparam("at"),
        updated_at=bindparam("at"),
    )
)
