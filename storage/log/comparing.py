"""The database's rows against what the log's files say they must be.

Does: makes of each proven entry the rows that it has in the database, reads the rows that are
there as they are kept, and names every difference by table, key and column, with the side that is
believed. Refuses to believe a side by its name: the log's file counts where a signed root proves
it, and a row where it proves itself by the same root.

    Difference(table="records", key="main 17", column="kind", kind="differs", believed="log", …)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Table, func, literal_column, select
from sqlalchemy.dialects import sqlite

from evidence.digest import sha256_hex
from evidence.errors import EvidenceError
from evidence.merkle import hash_leaf
from evidence.tlog.checkpoint import open_checkpoint
from evidence.tlog.note import VerifierKey
from storage.db.tables import (
    EVIDENCE,
    Moment,
    checkpoints,
    cosignatures,
    holdings,
    logs,
    public_keys,
    records,
    texts,
    timestamps,
)
from storage.errors import IntegrityAlarm
from storage.log.bundle import Bundle, Entry, Fault
from storage.log.notes import bundle_of, sizes_before
from storage.log.rows import logged_rows
from storage.records import StoredCheckpoint, checkpoints_of

Row = Mapping[str, object]
Believed = Literal["log", "database", "head", "witness", "neither"]
Kind = Literal["missing", "extra", "differs", "damaged"]

BY_LOG = "the log's files prove it by a signed root"
BY_TEXT = "it is not published yet; its own signed text says so"
FILES = "files"
"""Stands for a table where a file of the log itself is damaged."""

_PIECE_ROWS = 500
_DIALECT = sqlite.dialect()  # only for the values of `Moment`, which are the same everywhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that database and log do not agree on.

    Attributes:
        table: of the database, or `files` for what the log itself has lost.
        key: of the row, after the log's id.
        column: which value differs, or None for a whole row.
        kind: what is wrong with the database's side; `damaged` for the log's own files.
        believed: which side is right as far as anybody can prove; the others are wrong or lost.
        why: one sentence, without personal data.
    """

    table: str
    key: str
    column: str | None
    kind: Kind
    believed: Believed
    why: str


def rows_of(bundle: Bundle, log: str, organ: str, seen: set[str]) -> dict[Table, list[Row]]:
    """The evidence rows that these entries have, with the values that are proven.

    Args:
        bundle: from `ReadLog`.
        log: id of the log.
        organ: of the log.
        seen: ids of the keys that signed earlier entries; those of these are added.
    """
    made: dict[Table, list[Row]] = {records: [], texts: [], public_keys: [], checkpoints: []}
    for entry in bundle.entries:
        made[records].append(_record_row(entry, log))
        if entry.text is not None and entry.statement is not None:
            text = {"log": log, "idx": entry.index, "organ": entry.statement.organ}
            made[texts].append({**text, "statement": entry.text.statement})
        if entry.leaf is not None and entry.statement is not None:
            key_id = entry.statement.signer
            if key_id not in seen:
                seen.add(key_id)
                key = {"log": log, "key_id": key_id, "organ": entry.statement.organ}
                made[public_keys].append({**key, "spki": entry.leaf.public_key})
    for signed in bundle.checkpoints.values():
        made[checkpoints].append(checkpoint_row(signed, log, organ))
    return made


def checkpoint_row(signed: StoredCheckpoint, log: str, organ: str) -> Row:
    """The row of a checkpoint."""
    return {
        "log": log,
        "organ": organ,
        "size": signed.size,
        "root": signed.root,
        "note": signed.note,
        "committed_at": signed.committed_at,
    }


def compare_bundle(
    connection: Connection, bundle: Bundle, log: str, expected: Mapping[Table, Sequence[Row]]
) -> Iterator[Difference]:
    """What the database has instead of these rows, in the range of this bundle.

    Args:
        connection: in one snapshot for the whole walk.
        bundle: whose rows these are.
        log: id of the log.
        expected: by table, as `rows_of` gave them.
    """
    why = BY_LOG if bundle.published else BY_TEXT
    unproven = set(range(bundle.first, bundle.end)) - {entry.index for entry in bundle.entries}
    for table in (records, texts):
        within = (table.c.idx >= bundle.first, table.c.idx < bundle.end)
        found = _kept(connection, table, table.c.log == log, *within)
        wanted = _by_key(table, expected[table])
        known = {_key(table, {"log": log, "idx": index}) for index in unproven}
        if table is texts:
            known |= {_key(table, {"log": log, "idx": one.index}) for one in _silent(bundle)}
        yield from _differences(table, wanted, found, why, believed_extra=known)
    above = sizes_before(bundle_of(bundle.first + 1)) if bundle.published else bundle.first
    within = (checkpoints.c.size > above, checkpoints.c.size <= bundle.end)
    found = _kept(connection, checkpoints, checkpoints.c.log == log, *within)
    lost = {_key(checkpoints, {"log": log, "size": size}) for size in _lost_sizes(bundle)}
    wanted = _by_key(checkpoints, expected[checkpoints])
    yield from _differences(checkpoints, wanted, found, why, believed_extra=lost)
    ids = [row["key_id"] for row in expected[public_keys]]
    found = _kept(connection, public_keys, public_keys.c.log == log, public_keys.c.key_id.in_(ids))
    yield from _differences(public_keys, _by_key(public_keys, expected[public_keys]), found, why)


def judge_faults(
    connection: Connection, bundle: Bundle, log: str, log_keys: Sequence[VerifierKey]
) -> Iterator[Difference]:
    """The faults of the files as differences: the database is believed where it proves itself."""
    hashes = {entry.index: entry for entry in bundle.entries}
    for fault in bundle.faults:
        what, _, number = fault.place.partition(" ")
        believed: Believed = "neither"
        if what in {"entry", "text"} and number.isdigit() and bundle.published:
            if _row_proves(connection, log, hashes.get(int(number)), fault):
                believed = "database"
        elif what == "checkpoint" and number.isdigit():
            believed = _note_proves(connection, log, int(number), log_keys)
        says = "the database has it whole" if believed == "database" else "nothing here proves it"
        yield Difference(
            table=FILES if bundle.published else "records",
            key=f"{log} {fault.place}",
            column=None,
            kind="damaged",
            believed=believed,
            why=f"{fault.code}: {fault.detail}; {says}",
        )


def compare_ends(
    connection: Connection, log: str, end: int, seen: set[str]
) -> Iterator[Difference]:
    """Rows of a log beyond its newest checkpoint, below its beginning, or of keys without entry.

    Args:
        connection: in the snapshot of the walk.
        log: id of the log.
        end: size of the newest checkpoint that anybody knows.
        seen: ids of all keys that signed an entry.
    """
    for table in (records, texts):
        outside = (table.c.idx < 0) | (table.c.idx >= end)
        for key in _kept(connection, table, table.c.log == log, outside):
            yield _extra(table, key, "no checkpoint was ever signed that covers it")
    outside = (checkpoints.c.size < 0) | (checkpoints.c.size > end)
    for key in _kept(connection, checkpoints, checkpoints.c.log == log, outside):
        yield _extra(checkpoints, key, "no such tree is known")
    key_ids = select(public_keys.c.key_id).where(public_keys.c.log == log)
    for key_id in connection.execute(key_ids).scalars():
        if key_id not in seen:
            key = _key(public_keys, {"log": log, "key_id": key_id})
            yield _extra(public_keys, key, "it signed nothing in this log")
    signed = select(checkpoints.c.size).where(checkpoints.c.log == log)
    alone = (cosignatures.c.log == log, cosignatures.c.size.not_in(signed))
    for key in _kept(connection, cosignatures, *alone):
        yield _extra(cosignatures, key, "it is under no checkpoint that was signed")


def compare_strays(connection: Connection, known: Sequence[str]) -> Iterator[Difference]:
    """Evidence rows, and logs, that are of no log of the deployment."""
    for table in (*EVIDENCE, logs, holdings):
        log = table.c.id if table is logs else table.c.log
        strange = select(log, func.count()).where(log.not_in(known)).group_by(log)
        for name, count in connection.execute(strange):
            why = f"this deployment has no such log ({count} rows)"
            yield _extra(table, str(name), why)


def compare_log_row(
    connection: Connection, log: str, organ: str, origin: str, made_at: datetime | None
) -> Iterator[Difference]:
    """The row of the log itself; `made_at` is the time of its first checkpoint, where known."""
    row: dict[str, object] = {"id": log, "organ": organ, "origin": origin}
    if made_at is not None:
        row["created_at"] = made_at
    found = _kept(connection, logs, logs.c.id == log)
    why = "deployment file and first checkpoint say so"
    yield from _differences(logs, _by_key(logs, [row]), found, why)


def kept_rows(
    connection: Connection, table: Table, *where: ColumnElement[bool]
) -> Iterator[dict[str, object]]:
    """Rows with the values as they are kept: damaged ones are no errors. Fetched in pieces."""
    names = [column.name for column in table.c]
    columns: list[ColumnElement[Any]] = [literal_column(name) for name in names]
    query = select(*columns).select_from(table).where(*where)
    for row in connection.execute(query.execution_options(yield_per=_PIECE_ROWS)):
        yield dict(zip(names, row, strict=True))


def table_keys(connection: Connection, log: str) -> dict[str, int]:
    """How many rows only the database has of a log: what witnesses and authorities gave."""
    return {
        table.name: connection.execute(
            select(func.count()).select_from(table).where(table.c.log == log)
        ).scalar_one()
        for table in (cosignatures, timestamps)
    }


def _record_row(entry: Entry, log: str) -> Row:
    row: dict[str, object] = {"log": log, "idx": entry.index, "leaf_hash": entry.leaf_hash}
    if entry.leaf is not None:
        row |= {"statement_id": entry.leaf.statement_id, "signature": entry.leaf.signature}
    if entry.text is not None and entry.statement is not None:
        said = entry.statement
        row |= {
            "statement_id": said.id,
            "organ": said.organ,
            "key_id": said.signer,
            "kind": said.kind,
            "subject": None if said.about is None else said.about.statement,
            "previous": said.previous,
            "received_at": entry.text.received_at,
            "committed_size": entry.text.committed_size,
        }
    return row


def _silent(bundle: Bundle) -> list[Entry]:
    """Entries whose text cannot be read: the database's row may be the only one."""
    return [entry for entry in bundle.entries if entry.text is None]


def _lost_sizes(bundle: Bundle) -> list[int]:
    places = [one.place.removeprefix("checkpoint ") for one in bundle.faults]
    return [int(place) for place in places if place.isdigit()]


def _row_proves(connection: Connection, log: str, entry: Entry | None, fault: Fault) -> bool:
    """Whether the row of an entry makes the very leaf, or the text, that the signed tree has."""
    if entry is None:
        return False
    try:
        [row] = logged_rows(connection, log, entry.index, entry.index + 1) or [None]
    except IntegrityAlarm:
        return False
    made = None if row is None else row.leaf()
    if row is None or made is None or hash_leaf(made) != entry.leaf_hash:
        return False
    if fault.code == "entry_damaged":
        return True
    return row.statement is not None and sha256_hex(row.statement) == row.statement_id


def _note_proves(
    connection: Connection, log: str, size: int, log_keys: Sequence[VerifierKey]
) -> Believed:
    kinds = frozenset(key.kind for key in log_keys)
    try:
        row = checkpoints_of(connection, log, [size]).get(size)
        if row is None:
            return "neither"
        said = open_checkpoint(row.note, log_keys, require=kinds).checkpoint
    except (EvidenceError, IntegrityAlarm):
        return "neither"
    return "database" if (said.size, said.root) == (row.size, row.root) else "neither"


def _kept(
    connection: Connection, table: Table, *where: ColumnElement[bool]
) -> dict[str, dict[str, object]]:
    return {_key(table, row): row for row in kept_rows(connection, table, *where)}


def _by_key(table: Table, rows: Sequence[Row]) -> dict[str, dict[str, object]]:
    return {_key(table, row): _as_kept(table, row) for row in rows}


def _as_kept(table: Table, row: Row) -> dict[str, object]:
    """The values as a driver gives them: times as milliseconds."""
    kept: dict[str, object] = {}
    for name, value in row.items():
        column = table.c[name].type
        if isinstance(column, Moment) and isinstance(value, datetime):
            kept[name] = column.process_bind_param(value, _DIALECT)
        else:
            kept[name] = value
    return kept


def _key(table: Table, row: Row) -> str:
    """The primary key in words, the log first."""
    return " ".join(str(row[column.name]) for column in table.primary_key.columns)


def _differences(
    table: Table,
    wanted: Mapping[str, Row],
    found: Mapping[str, Row],
    why: str,
    *,
    believed_extra: set[str] | None = None,
) -> Iterator[Difference]:
    for key, row in wanted.items():
        held = found.get(key)
        if held is None:
            yield Difference(
                table=table.name, key=key, column=None, kind="missing", believed="log", why=why
            )
            continue
        for name, value in row.items():
            if type(held[name]) is not type(value) or held[name] != value:
                yield Difference(
                    table=table.name, key=key, column=name, kind="differs", believed="log", why=why
                )
    for key in found.keys() - wanted.keys() - (believed_extra or set()):
        yield _extra(table, key, "the log's files have nothing of the kind")


def _extra(table: Table, key: str, why: str) -> Difference:
    return Difference(table=table.name, key=key, column=None, kind="extra", believed="log", why=why)
