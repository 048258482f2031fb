"""Evidence rows: the only module that writes them, and the one that reads them by identity.

Does: adds records, texts, keys, checkpoints, cosignatures and time-stamps inside the caller's
transaction, and finds them again. Refuses: to change or delete. There is no function for it
here, and triggers refuse it to everybody else.

A statement's identity is (statement id, key id): ECDSA can sign the same bytes twice, so the
first signature that was logged is the one that counts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from itertools import repeat

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    String,
    Table,
    bindparam,
    func,
    insert,
    select,
)

from evidence.statement import Statement
from storage.db.inserting import insert_rows
from storage.db.tables import (
    checkpoints,
    cosignatures,
    logs,
    public_keys,
    records,
    texts,
    timestamps,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRecord:
    """A statement that is about to be logged.

    Attributes:
        index: the index that it gets.
        statement: the statement, verified by the caller.
        signature: DER.
        public_key: DER SubjectPublicKeyInfo of the signer.
        leaf_hash: 32 bytes.
        received_at: when the server received it, UTC.
    """

    index: int
    statement: Statement
    signature: bytes
    public_key: bytes
    leaf_hash: bytes
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """A logged statement without its text.

    Attributes:
        log: id of the log.
        organ: the organ in whose name the statement is made.
        index: zero-based index in the log.
        statement_id: 64 hex digits.
        key_id: of the signer, 64 hex digits.
        kind: the statement's kind.
        subject: id of the statement that it is about.
        previous: id of the statement that it names as the one before it.
        signature: DER.
        leaf_hash: 32 bytes.
        received_at: when the server received it, UTC, whole milliseconds.
        committed_size: size of the checkpoint that was signed with it; proofs lead there.
    """

    log: str
    organ: str
    index: int
    statement_id: str
    key_id: str
    kind: str
    subject: str | None
    previous: str | None
    signature: bytes
    leaf_hash: bytes
    received_at: datetime
    committed_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCheckpoint:
    """A checkpoint that was signed.

    Attributes:
        size: number of leaves.
        root: 32 bytes.
        note: the signed note, byte for byte.
        committed_at: UTC; never earlier than that of a smaller checkpoint.
    """

    size: int
    root: bytes
    note: bytes
    committed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCosignature:
    """A witness's signature over one of our checkpoints.

    Attributes:
        size: of the checkpoint.
        witness: the witness's name.
        witness_key: C2SP key id, 8 hex digits.
        line: the signature line without its line feed.
        at_s: the witness's time, seconds since 1970.
        received_at: UTC.
    """

    size: int
    witness: str
    witness_key: str
    line: str
    at_s: int
    received_at: datetime


class Stamped(StrEnum):
    """What an RFC 3161 response covers."""

    CHECKPOINT = "checkpoint"
    SIGNATURE = "signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTimestamp:
    """An RFC 3161 response.

    Attributes:
        subject_kind: what it covers.
        position: the checkpoint's size, or the index of the record whose signature is covered.
        tsa: name of the authority in our settings.
        response: DER TimeStampResp.
        gen_time: the authority's time, UTC.
        received_at: UTC.
    """

    subject_kind: Stamped
    position: int
    tsa: str
    response: bytes
    gen_time: datetime
    received_at: datetime


# ------------------------------------------------------------------------- writing


def add_log(connection: Connection, *, log: str, organ: str, origin: str, at: datetime) -> None:
    """Enter a log into this database.

    Raises:
        sqlalchemy.exc.IntegrityError: the id or the origin is taken.
    """
    connection.execute(insert(logs).values(id=log, organ=organ, origin=origin, created_at=at))


def add_records(
    connection: Connection, log: str, committed_size: int, fresh: Sequence[NewRecord]
) -> None:
    """Add a batch of statements: their records, their texts and the keys not seen before.

    Args:
        connection: in a write transaction.
        log: id of the log.
        committed_size: size of the checkpoint that the same transaction adds.
        fresh: at least one, none of whose identities is logged yet.
    """
    insert_rows(connection, records, [_record_row(log, committed_size, new) for new in fresh])
    insert_rows(connection, texts, [_text_row(log, new) for new in fresh])
    keys = {new.statement.signer: new for new in fresh}
    for key_id in keys.keys() - _known_keys(connection, log, keys):
        organ, spki = keys[key_id].statement.organ, keys[key_id].public_key
        connection.execute(
            insert(public_keys).values(log=log, organ=organ, key_id=key_id, spki=spki)
        )


def add_checkpoint(
    connection: Connection, log: str, organ: str, checkpoint: StoredCheckpoint
) -> None:
    """Add a signed checkpoint, in the transaction of the leaves that it covers."""
    insert_rows(connection, checkpoints, [{"log": log, "organ": organ, **asdict(checkpoint)}])


def add_cosignatures(
    connection: Connection, log: str, organ: str, lines: Iterable[StoredCosignature]
) -> None:
    """Keep witnesses' lines; the first of each key and checkpoint stays, a second is dropped.

    Args:
        connection: in a write transaction.
        log: id of the log.
        organ: of the log.
        lines: verified by the caller.
    """
    for line in lines:
        held = cosignatures_of(connection, log, line.size)
        if (line.witness, line.witness_key) not in {(one.witness, one.witness_key) for one in held}:
            connection.execute(insert(cosignatures).values(log=log, organ=organ, **asdict(line)))


def add_timestamp(connection: Connection, log: str, organ: str, stamp: StoredTimestamp) -> None:
    """Keep a response; the first of each authority and subject stays, a second is dropped."""
    held = timestamps_of(connection, log, stamp.subject_kind, stamp.position)
    if stamp.tsa not in {one.tsa for one in held}:
        connection.execute(insert(timestamps).values(log=log, organ=organ, **asdict(stamp)))


def _record_row(log: str, committed_size: int, new: NewRecord) -> dict[str, object]:
    statement = new.statement
    return {
        "log": log,
        "organ": statement.organ,
        "idx": new.index,
        "statement_id": statement.id,
        "key_id": statement.signer,
        "kind": statement.kind,
        "subject": None if statement.about is None else statement.about.statement,
        "previous": statement.previous,
        "signature": new.signature,
        "leaf_hash": new.leaf_hash,
        "received_at": new.received_at,
        "committed_size": committed_size,
    }


def _text_row(log: str, new: NewRecord) -> dict[str, object]:
    statement = new.statement
    return {"log": log, "organ": statement.organ, "idx": new.index, "statement": statement.raw}


def _known_keys(connection: Connection, log: str, key_ids: Iterable[str]) -> set[str]:
    found = connection.execute(_KNOWN_KEYS, {"log": log, "key_ids": list(key_ids)})
    return set(found.scalars())


# ------------------------------------------------------------------------- reading


def log_of(connection: Connection, log: str) -> tuple[str, str] | None:
    """(organ, origin) of a log, or None where this database does not know it."""
    row = connection.execute(select(logs.c.organ, logs.c.origin).where(logs.c.id == log)).first()
    return None if row is None else (row.organ, row.origin)


def find_record(connection: Connection, log: str, statement_id: str) -> StoredRecord | None:
    """The record of a statement, or None if it is not logged.

    A statement names its signer, so no two keys can have signed the same statement.
    """
    return next(iter(find_records(connection, log, [statement_id])), None)


def find_records(
    connection: Connection, log: str, statement_ids: Sequence[str]
) -> list[StoredRecord]:
    """The records of those of these statements that are logged, in the order of the log."""
    if not statement_ids:
        return []
    width = 1 << (len(statement_ids) - 1).bit_length()
    padded = [*statement_ids, *repeat(statement_ids[-1], width - len(statement_ids))]
    values = {f"id{n}": one for n, one in enumerate(padded)}
    rows = connection.execute(_find_many(width), {"log": log, **values}).mappings()
    return sorted((StoredRecord(**row) for row in rows), key=lambda record: record.index)


@lru_cache(maxsize=16)
def _find_many(width: int) -> Select[*tuple[object, ...]]:
    """A look-up of `width` statements, compiled once: every batch of the log begins with it.

    It does not ask for an order: SQLite would walk the whole log in that order.
    """
    ids: list[BindParameter[str]] = [bindparam(f"id{n}", type_=String) for n in range(width)]
    wanted = (records.c.log == bindparam("log"), records.c.statement_id.in_(ids))
    return select(*_RECORD).where(*wanted)


def record_at(connection: Connection, log: str, index: int) -> StoredRecord | None:
    """The record at an index, or None beyond the end."""
    return next(iter(_records(connection, _RECORD_AT, log=log, index=index)), None)


def records_about(connection: Connection, log: str, subject: str) -> list[StoredRecord]:
    """Every record about a statement, in the order of the log."""
    return _records(connection, _RECORDS_ABOUT, log=log, subject=subject)


def records_of_kind(
    connection: Connection, log: str, kind: str, *, start: int = 0, limit: int = 1000
) -> list[StoredRecord]:
    """At most `limit` records of a kind from index `start` on, in the order of the log."""
    wanted = _RECORDS_OF.where(records.c.kind == kind, records.c.idx >= start).limit(limit)
    return _records(connection, wanted, log=log)


def text_at(connection: Connection, log: str, index: int) -> bytes | None:
    """The canonical bytes of the statement at an index, or None where there is no text."""
    at = (texts.c.log == log, texts.c.idx == index)
    return connection.execute(select(texts.c.statement).where(*at)).scalar_one_or_none()


def public_key_of(connection: Connection, log: str, key_id: str) -> bytes | None:
    """DER SubjectPublicKeyInfo of a key that signed something in this log, or None."""
    key = (public_keys.c.log == log, public_keys.c.key_id == key_id)
    return connection.execute(select(public_keys.c.spki).where(*key)).scalar_one_or_none()


def newest_checkpoint(connection: Connection, log: str) -> StoredCheckpoint | None:
    """The largest checkpoint that was signed, or None before the log was made."""
    row = connection.execute(_NEWEST_CHECKPOINT, {"log": log}).mappings().first()
    return None if row is None else StoredCheckpoint(**row)


def checkpoints_of(
    connection: Connection, log: str, sizes: Sequence[int]
) -> dict[int, StoredCheckpoint]:
    """Those checkpoints of exactly these sizes that were signed, by size."""
    wanted = (checkpoints.c.log == log, checkpoints.c.size.in_(sizes))
    rows = connection.execute(select(*_CHECKPOINT).where(*wanted)).mappings()
    return {row["size"]: StoredCheckpoint(**row) for row in rows}


def cosignatures_of(connection: Connection, log: str, size: int) -> list[StoredCosignature]:
    """The cosignatures of a checkpoint, in the order in which they came."""
    lines = select(*_COSIGNATURE).where(cosignatures.c.log == log, cosignatures.c.size == size)
    order = (cosignatures.c.received_at, cosignatures.c.witness, cosignatures.c.witness_key)
    rows = connection.execute(lines.order_by(*order)).mappings()
    return [StoredCosignature(**row) for row in rows]


def cosigned_sizes(
    connection: Connection, log: str, *, above: int, limit: int
) -> list[tuple[int, int]]:
    """Checkpoints larger than `above` that a witness cosigned, largest first.

    Returns:
        (size, number of cosignatures) of at most `limit` checkpoints.
    """
    sizes = select(cosignatures.c.size, func.count()).group_by(cosignatures.c.size)
    sizes = sizes.where(cosignatures.c.log == log, cosignatures.c.size > above)
    found = connection.execute(sizes.order_by(cosignatures.c.size.desc()).limit(limit))
    return [(size, count) for size, count in found]


def timestamps_of(
    connection: Connection, log: str, subject_kind: Stamped, position: int
) -> list[StoredTimestamp]:
    """The responses over a checkpoint or over a record's signature, earliest first."""
    subject = (timestamps.c.subject_kind == subject_kind, timestamps.c.position == position)
    stamps = select(*_TIMESTAMP).where(timestamps.c.log == log, *subject)
    stamps = stamps.order_by(timestamps.c.gen_time, timestamps.c.tsa)
    found = [StoredTimestamp(**row) for row in connection.execute(stamps).mappings()]
    return [replace(stamp, subject_kind=subject_kind) for stamp in found]


def _columns(table: Table, shape: type) -> list[ColumnElement[object]]:
    """The table's columns under the names of a shape's attributes."""
    return [table.c["idx" if f.name == "index" else f.name].label(f.name) for f in fields(shape)]


_RECORD = _columns(records, StoredRecord)
_CHECKPOINT = _columns(checkpoints, StoredCheckpoint)
_COSIGNATURE = _columns(cosignatures, StoredCosignature)
_TIMESTAMP = _columns(timestamps, StoredTimestamp)
# What is executed often is built once: building costs as much as executing.
_WANTED_KEYS = public_keys.c.key_id.in_(bindparam("key_ids", expanding=True))
_KNOWN_KEYS = select(public_keys.c.key_id).where(
    public_keys.c.log == bindparam("log"), _WANTED_KEYS
)
_RECORDS_OF = select(*_RECORD).where(records.c.log == bindparam("log")).order_by(records.c.idx)
_RECORD_AT = _RECORDS_OF.where(records.c.idx == bindparam("index"))
_RECORDS_ABOUT = _RECORDS_OF.where(records.c.subject == bindparam("subject"))
_CHECKPOINTS_OF = select(*_CHECKPOINT).where(checkpoints.c.log == bindparam("log"))
_NEWEST_CHECKPOINT = _CHECKPOINTS_OF.order_by(checkpoints.c.size.desc()).limit(1)


def _records(
    connection: Connection, wanted: Select[*tuple[object, ...]], **values: object
) -> list[StoredRecord]:
    return [StoredRecord(**row) for row in connection.execute(wanted, values).mappings()]
