"""What statements say is kept: the table from which a scrub draws, filled from the log.

Does: takes up what has been logged since, also from the reports of earlier runs, so that a rebuilt
database knows when each content was last re-hashed; gives what is due, oldest first, and among
those of one age in a random order. Refuses to believe that the table is whole: each run begins
with the log.
"""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, func, select, update

from evidence.errors import EvidenceError
from evidence.statement import Statement, parse_statement
from service.contents import output_of
from storage import records
from storage.db.engine import Database
from storage.db.inserting import insert_rows
from storage.db.tables import holdings
from storage.db.tables import records as record_rows
from storage.errors import StorageError
from storage.objects import ObjectStore
from storage.records import StoredRecord
from storage.sealing import sealed_size

KINDS = ("stored", "inspected", "check")
_PIECE_ROWS = 500
_MOST_REPORT_BYTES = 256 * 1024 * 1024
_RANDOM_BITS = 62
_OURS = frozenset({"log", "idx", "draw", "checked_at", "outcome"})
"""Columns that no statement decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One content that a statement says is kept.

    Attributes:
        log: id of the log.
        index: of the statement.
        capture: whose content it is; None for a report.
        capture_index: of the capture's entry, where the statement names it.
        kind: of the statement.
        object: its name in the store, 64 hex digits.
        version: the store's version id, where it keeps versions.
        size_bytes: its length.
        media_type: as the statement says.
        checked_at: when it was last read back, UTC; at first when it was stated.
    """

    log: str
    index: int
    capture: str | None
    capture_index: int | None
    kind: str
    object: str
    version: str | None
    size_bytes: int
    media_type: str
    checked_at: datetime


def take_up(db: Database, objects: ObjectStore, log: str, organ: str) -> int:
    """Add what the log names and the table lacks; returns how many.

    Args:
        db: the database.
        objects: where the reports of earlier runs lie.
        log: id of the log.
        organ: of the log.
    """
    count = 0
    while True:
        with db.read() as connection:
            last = connection.execute(
                select(func.max(holdings.c.idx)).where(holdings.c.log == log)
            ).scalar_one()
            found = _logged(connection, log, 0 if last is None else last + 1)
        rows = [row for record, said in found for row in _row(record, said, organ)]
        if not rows:
            return count
        with db.write() as connection:
            insert_rows(connection, holdings, rows)
        count += len(rows)
        for _, said in found:
            _remember(db, objects, said)


def count_of(connection: Connection, organ: str) -> int:
    """How many contents an organ's logs name."""
    query = select(func.count()).where(holdings.c.organ == organ)
    return connection.execute(query).scalar_one()


def due(connection: Connection, organ: str, before: datetime, limit: int) -> list[Holding]:
    """The contents that were not re-hashed since `before`, the oldest first."""
    query = (
        select(holdings)
        .where(
            holdings.c.organ == organ,
            holdings.c.checked_at < before,
        )
        .order_by(holdings.c.checked_at, holdings.c.draw, holdings.c.idx)
        .limit(limit)
    )
    return [
        Holding(
            log=row.log,
            index=row.idx,
            capture=row.capture,
            capture_index=row.capture_idx,
            kind=row.kind,
            object=row.object,
            version=row.version,
            size_bytes=row.size_bytes,
            media_type=row.media_type,
            checked_at=row.checked_at,
        )
        for row in connection.execute(query)
    ]


def note(connection: Connection, looked_at: Sequence[tuple[Holding, str]], at: datetime) -> None:
    """Note when these were re-hashed and what came of it, in a write transaction."""
    if looked_at:
        connection.execute(
            _NOTE,
            [
                {
                    "of_log": one.log,
                    "of_idx": one.index,
                    "at": at,
                    "what": outcome,
                    "lot": secrets.randbits(_RANDOM_BITS),
                }
                for one, outcome in looked_at
            ],
        )


def superseded(connection: Connection, one: Holding) -> bool:
    """Whether a later `stored` statement names another version of the same content."""
    if one.kind != "stored":
        return False
    later = select(func.count()).where(
        holdings.c.log == one.log,
        holdings.c.capture == one.capture,
        holdings.c.kind == "stored",
        holdings.c.idx > one.index,
    )
    return connection.execute(later).scalar_one() > 0


def wrong_columns(connection: Connection, row: Mapping[str, object]) -> list[str]:
    """Which columns of a row are not what the statement at its index says; all where none is.

    Args:
        connection: to the database.
        row: as it is kept.
    """
    log, index = str(row["log"]), row["idx"]
    names = [one.name for one in holdings.c if one.name not in _OURS]
    if not isinstance(index, int):
        return names
    record = records.record_at(connection, log, index)
    text = records.text_at(connection, log, index)
    if record is None or text is None:
        return names
    for said in _row(record, parse_statement(text), record.organ):
        return [name for name in names if row[name] != said[name]]
    return names


def _logged(connection: Connection, log: str, start: int) -> list[tuple[StoredRecord, Statement]]:
    """The next statements that may name something, read strictly; fsck names what cannot be."""
    wanted = (
        select(record_rows.c.idx)
        .where(record_rows.c.log == log, record_rows.c.kind.in_(KINDS), record_rows.c.idx >= start)
        .order_by(record_rows.c.idx)
    )
    found: list[tuple[StoredRecord, Statement]] = []
    for index in connection.execute(wanted).scalars():
        record = records.record_at(connection, log, index)
        text = records.text_at(connection, log, index)
        try:
            said = parse_statement(text or b"")
        except EvidenceError:
            continue
        if record is not None and any(_named(said)):
            found.append((record, said))
        if len(found) == _PIECE_ROWS:
            break
    return found


def _named(said: Statement) -> Iterator[dict[str, object]]:
    body = said.body
    member = body.get({"stored": "object", "inspected": "output"}.get(said.kind, "report"))
    content = body.get("content")
    output = output_of(said) if said.kind == "inspected" else None
    if output is not None and isinstance(member, dict):
        yield {
            "object": output.name,
            "version": output.version,
            "size_bytes": sealed_size(output.size_bytes) if output.key else output.size_bytes,
            "media_type": member["media_type"],
        }
    elif isinstance(member, dict):
        told = member if not isinstance(content, dict) else content
        yield {
            "object": member.get("name") or member["sha256"],
            "version": member.get("version"),
            "size_bytes": member["size_bytes"],
            "media_type": told["media_type"],
        }


def _row(record: StoredRecord, said: Statement, organ: str) -> Iterator[dict[str, object]]:
    for named in _named(said):
        yield {
            "log": record.log,
            "idx": record.index,
            "organ": organ,
            "capture": record.subject,
            "capture_idx": None if said.about is None else said.about.index,
            "kind": record.kind,
            **named,
            "draw": secrets.randbits(_RANDOM_BITS),
            "checked_at": record.received_at,
            "outcome": None,
        }


def _remember(db: Database, objects: ObjectStore, said: Statement) -> None:
    """When an earlier run looked at what: its report says so, and the log names the report."""
    report = said.body.get("report")
    if said.body.get("check") != "scrub" or not isinstance(report, dict):
        return
    try:
        with objects.open(str(report["sha256"])) as stream:
            lines = stream.read(_MOST_REPORT_BYTES).splitlines()
        told = [json.loads(line) for line in lines]
        values = [
            {
                "of_log": str(line["log"]),
                "of_idx": int(line["index"]),
                "at": said.made_at,
                "what": str(line["outcome"]),
            }
            for line in told
        ]
    except (StorageError, ValueError, LookupError, TypeError):  # the run itself will name it
        return
    with db.write() as connection:
        if values:
            connection.execute(_RECALL, values)


_OF = (holdings.c.log == bindparam("of_log"), holdings.c.idx == bindparam("of_idx"))
_NOTE = (
    update(holdings)
    .where(*_OF)
    .values(checked_at=bindparam("at"), outcome=bindparam("what"), draw=bindparam("lot"))
)
_RECALL = (
    update(holdings)
    .where(*_OF, holdings.c.checked_at < bindparam("at"))
    .values(checked_at=bindparam("at"), outcome=bindparam("what"))
)
