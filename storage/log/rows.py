"""The log's rows by range, for those who walk it: publisher, recovery and fsck.

Does: reads in pieces, so that memory does not grow with the log. Refuses: to write.
"""

import re
from collections.abc import Generator
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, and_, func, select

from evidence.leaf import leaf_of
from storage.db.tables import (
    EVIDENCE,
    checkpoints,
    cosignatures,
    logs,
    public_keys,
    records,
    texts,
    timestamps,
)
from storage.records import StoredCheckpoint

_ID = re.compile("[0-9a-f]{64}")
PIECE_ROWS = 4096
"""Rows fetched at once when the whole log is walked."""


class LoggedRow(NamedTuple):
    """A record with its text and its key: a tuple, because a publisher makes many.

    Attributes:
        idx: zero-based index.
        statement_id: 64 hex digits.
        key_id: 64 hex digits.
        organ: as the row has it.
        kind: as the row has it.
        subject: as the row has it.
        previous: as the row has it.
        signature: DER.
        leaf_hash: 32 bytes, as the row has it.
        received_at: UTC.
        committed_size: size of the checkpoint that was signed with it.
        statement: canonical bytes, or None where the text is missing.
        text_organ: organ of the text's row.
        public_key: DER SubjectPublicKeyInfo, or None where it is missing.
        key_organ: organ of the key's row.
    """

    idx: int
    statement_id: str
    key_id: str
    organ: str
    kind: str
    subject: str | None
    previous: str | None
    signature: bytes
    leaf_hash: bytes
    received_at: datetime
    committed_size: int
    statement: bytes | None
    text_organ: str | None
    public_key: bytes | None
    key_organ: str | None

    def leaf(self) -> bytes | None:
        """The log entry, made anew from its parts; None where key or id are not there to do it."""
        if self.public_key is None or not _ID.fullmatch(self.statement_id):
            return None
        return leaf_of(self.statement_id, self.signature, self.public_key)


_text = and_(texts.c.log == records.c.log, texts.c.idx == records.c.idx)
_key = and_(public_keys.c.log == records.c.log, public_keys.c.key_id == records.c.key_id)
# In the order of LoggedRow's attributes.
_ROWS = (
    select(
        records.c.idx,
        records.c.statement_id,
        records.c.key_id,
        records.c.organ,
        records.c.kind,
        records.c.subject,
        records.c.previous,
        records.c.signature,
        records.c.leaf_hash,
        records.c.received_at,
        records.c.committed_size,
        texts.c.statement,
        texts.c.organ,
        public_keys.c.spki,
        public_keys.c.organ,
    )
    .select_from(records.outerjoin(texts, _text).outerjoin(public_keys, _key))
    .order_by(records.c.idx)
)


def logged_rows(connection: Connection, log: str, first: int, end: int) -> list[LoggedRow]:
    """The rows with first ≤ index < end that are there, in the order of the log."""
    piece = connection.execute(_ROWS.where(*_within(log, first, end)))
    return [LoggedRow._make(row) for row in piece]


def leaf_hashes(
    connection: Connection, log: str, first: int, end: int
) -> Generator[tuple[int, bytes], None, None]:
    """(index, leaf hash) of the rows with first ≤ index < end, fetched in pieces."""
    hashes = select(records.c.idx, records.c.leaf_hash).order_by(records.c.idx)
    for start in range(first, end, PIECE_ROWS):
        piece = _within(log, start, min(start + PIECE_ROWS, end))
        for row in connection.execute(hashes.where(*piece)):
            yield row.idx, row.leaf_hash


def count_rows(connection: Connection, log: str, *, beyond: int) -> tuple[int, int]:
    """How many records and how many texts have an index of `beyond` or more."""
    of_records = select(func.count()).where(records.c.log == log, records.c.idx >= beyond)
    of_texts = select(func.count()).where(texts.c.log == log, texts.c.idx >= beyond)
    return (
        connection.execute(of_records).scalar_one(),
        connection.execute(of_texts).scalar_one(),
    )


def checkpoints_between(
    connection: Connection, log: str, above: int, up_to: int
) -> list[StoredCheckpoint]:
    """The checkpoints with above < size ≤ up_to, smallest first."""
    rows = connection.execute(
        select(
            checkpoints.c.size, checkpoints.c.root, checkpoints.c.note, checkpoints.c.committed_at
        )
        .where(checkpoints.c.log == log, checkpoints.c.size > above, checkpoints.c.size <= up_to)
        .order_by(checkpoints.c.size)
    )
    return [StoredCheckpoint(**row) for row in rows.mappings()]


def checkpoint_sizes(connection: Connection, log: str, above: int, up_to: int) -> list[int]:
    """The sizes alone of the checkpoints with above < size ≤ up_to, smallest first."""
    sizes = select(checkpoints.c.size).order_by(checkpoints.c.size)
    within = (checkpoints.c.log == log, checkpoints.c.size > above, checkpoints.c.size <= up_to)
    return list(connection.execute(sizes.where(*within)).scalars())


def newest_size(connection: Connection, log: str) -> int | None:
    """Size of the largest checkpoint, whatever else its row says; None where there is none."""
    largest = select(func.max(checkpoints.c.size)).where(checkpoints.c.log == log)
    return connection.execute(largest).scalar_one()


def reach(connection: Connection, log: str) -> int:
    """One more than the largest index that a record or a text has."""
    ends = [
        connection.execute(select(func.max(table.c.idx)).where(table.c.log == log)).scalar_one()
        for table in (records, texts)
    ]
    return max(-1 if end is None else end for end in ends) + 1


def strays(connection: Connection, log: str, organ: str) -> list[str]:
    """Which evidence rows belong to nothing, one sentence for each sort of them.

    Args:
        connection: to the database.
        log: id of the log.
        organ: of the log.
    """
    known = select(logs.c.id)
    sizes = select(checkpoints.c.size).where(checkpoints.c.log == log)
    wrong: list[tuple[Table, str, ColumnElement[bool]]] = [
        (table, "of no log here", table.c.log.not_in(known)) for table in EVIDENCE
    ]
    for table in (checkpoints, cosignatures, timestamps):
        foreign = and_(table.c.log == log, table.c.organ != organ)
        wrong.append((table, "of another organ than the log's", foreign))
    alone = and_(cosignatures.c.log == log, cosignatures.c.size.not_in(sizes))
    wrong.append((cosignatures, "under no checkpoint that was signed", alone))
    found: list[str] = []
    for table, what, which in wrong:
        rows = select(func.count()).select_from(table).where(which)
        if count := connection.execute(rows).scalar_one():
            found.append(f"{count} rows of {table.name} are {what}")
    return found


def checkpoint_size_above(connection: Connection, log: str, size: int) -> int | None:
    """Size of the smallest checkpoint larger than `size`, or None where there is none."""
    sizes = select(func.min(checkpoints.c.size))
    larger = sizes.where(checkpoints.c.log == log, checkpoints.c.size > size)
    return connection.execute(larger).scalar_one()


def _within(log: str, first: int, end: int) -> tuple[ColumnElement[bool], ...]:
    return records.c.log == log, records.c.idx >= first, records.c.idx < end
