"""The object store against what the log says that it holds.

    1. what lies there is noted by name, and what no call of the store made is reported
    2. every `stored` and `inspected` statement, every scrub's report and every quarantine is read
       from the log; what it names must be there, with its size
    3. what lies there is re-hashed
    4. what lies there and no statement names is reported

Does: walks the log in pieces; the names lie in a temporary database on disk, so that memory does
not grow with either side. Refuses to begin with what lies there: what was removed is not among it.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from evidence.canonical import JSONValue
from evidence.digest import Measured, measure
from evidence.errors import EvidenceError
from evidence.statement import Statement, parse_statement
from service.contents import output_of
from service.deployment_file import OrganSettings
from service.doctor.diagnosis import Findings, Listed, noted
from service.objects import open_unproven
from service.settings import Settings
from service.stores import open_staging
from storage import records
from storage.db.engine import Database
from storage.errors import NotFound, StorageError
from storage.objects.local import LocalObjects
from storage.objects.s3 import S3Objects
from storage.records import StoredRecord
from storage.sealing import sealed_size
from storage.staging import QuarantinedFile, Staging

_PIECE_BYTES = 1024 * 1024
_MOST_BYTES = 1024 * 1024 * 1024
_PIECE_ROWS = 500
_KINDS = ("stored", "inspected", "custody", "check")
_Objects = LocalObjects | S3Objects


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """Bytes that a statement says are kept.

    Attributes:
        capture: the statement's subject.
        what: how the statement names them.
        sha256: their digest, which is the object's name.
        size_bytes: their length; None where it is not told.
        version: the store's, where it keeps versions.
        reason: why they were quarantined; empty for an object.
    """

    capture: str
    what: str
    sha256: str
    size_bytes: int | None
    version: str | None = None
    reason: str = ""


class _Names:
    """What lies there and what is named: two columns of a database that only this run sees."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("")  # a temporary file, which is gone with the handle
        self._connection.execute("CREATE TABLE names (name TEXT PRIMARY KEY, named INT) STRICT")

    def lies(self, name: str) -> None:
        """Note that an object lies there."""
        self._connection.execute("INSERT OR IGNORE INTO names VALUES (?, 0)", (name,))

    def named(self, name: str) -> None:
        """Note that a statement names it."""
        self._connection.execute("UPDATE names SET named = 1 WHERE name = ?", (name,))

    def unnamed(self) -> Iterator[str]:
        """What lies there and is named by none."""
        query = "SELECT name FROM names WHERE named = 0 ORDER BY name"
        return (name for (name,) in self._connection.execute(query))

    def close(self) -> None:
        """Let go of it."""
        self._connection.close()


@dataclass(slots=True)
class _Hashing:
    """Re-hashes as much as a person will wait for."""

    hashed_bytes: int = 0
    count: int = 0

    @property
    def enough(self) -> bool:
        """Whether more would be too much."""
        return self.hashed_bytes > _MOST_BYTES

    def measure(self, stream: BinaryIO) -> Measured:
        """Digest and length of what is left in a stream."""
        measured = measure(iter(lambda: stream.read(_PIECE_BYTES), b""))
        self.hashed_bytes += measured.size_bytes
        self.count += 1
        return measured


class _Aside:
    """What is in quarantine; there is little of it."""

    def __init__(self, staging: Staging) -> None:
        self.staging = staging
        self.found: Mapping[tuple[str, str, str], QuarantinedFile] = {
            (one.key, one.sha256, one.reason): one for one in staging.quarantined()
        }


def check_kept(
    settings: Settings, organs: Sequence[OrganSettings], db: Database, at: datetime
) -> Findings:
    """Do the steps of the module's procedure."""
    objects = open_unproven(settings, lambda: at)
    aside = _Aside(open_staging(settings, lambda: at, None))
    hashing = _Hashing()
    with closing(_Names()) as names:
        for name in objects.names():  # 1
            names.lies(name)
        present, count = Listed("objects.present"), 0
        for log in (log for organ in organs for log in organ.logs):  # 2
            for kept in _named(db, log.id, present.fail):
                count += 1
                if not kept.reason:
                    names.named(kept.sha256)
                fault = _fault(aside, objects, hashing, kept)
                if fault and not _disposed(db, log.id, kept):
                    present.fail(f"{fault} It is {kept.what} of capture {kept.capture}.")
        yield from present.end(f"All {count} contents that the log names are there.")
        yield from _check_bytes(objects, hashing)  # 3
        yield from _strangers(objects, names)  # 4


def _named(db: Database, log: str, fail: Callable[[str], None]) -> Iterator[_Named]:
    """Everything that the log's statements name, in pieces; what cannot be read is told."""
    for kind in _KINDS:
        start = 0
        while True:
            with db.read() as connection:
                piece = records.records_of_kind(
                    connection, log, kind, start=start, limit=_PIECE_ROWS
                )
                texts = [records.text_at(connection, log, record.index) for record in piece]
            for record, raw in zip(piece, texts, strict=True):
                try:
                    yield from _named_by(record, parse_statement(raw or b""))
                except EvidenceError as error:
                    fail(f"What entry {record.index} ({kind}) names cannot be read: {error.detail}")
            if len(piece) < _PIECE_ROWS:
                break
            start = piece[-1].index + 1


def _named_by(record: StoredRecord, statement: Statement) -> Iterator[_Named]:
    body, capture = statement.body, record.subject or ""
    if statement.kind == "stored":
        yield _kept(capture, "the content", body["object"], "name")
    elif statement.kind == "inspected" and "output" in body:
        yield _output(capture, statement)
    elif statement.kind == "check" and "report" in body:
        yield _kept(capture, "the report of a scrub", body["report"], "sha256")
    elif statement.kind == "custody" and body["event"] == "quarantined" and "content" in body:
        reason = str(body.get("reason", ""))
        yield _kept(capture, "a quarantined transfer", body["content"], "sha256", reason)


def _output(capture: str, inspected: Statement) -> _Named:
    """A sealed output has another name and length than its content."""
    kept = output_of(inspected)
    if kept is None:
        raise TypeError("an inspection without an output passed for one with")
    size = sealed_size(kept.size_bytes) if kept.key else kept.size_bytes
    what = "the inspection's output"
    return _Named(
        capture=capture, what=what, sha256=kept.name, size_bytes=size, version=kept.version
    )


def _kept(capture: str, what: str, member: JSONValue, name: str, reason: str = "") -> _Named:
    if not isinstance(member, dict):
        raise TypeError("a statement without its content passed its schema")
    size, version = member["size_bytes"], member.get("version")
    return _Named(
        capture=capture,
        what=what,
        sha256=str(member[name]),
        size_bytes=size if isinstance(size, int) else None,
        version=str(version) if version is not None else None,
        reason=reason,
    )


def _fault(aside: _Aside, objects: _Objects, hashing: _Hashing, kept: _Named) -> str:
    """Why what is named is not there as it was named; empty where it is."""
    if kept.reason:
        return _quarantine_fault(aside, hashing, kept)
    try:
        found = objects.stat(kept.sha256, kept.version)
    except NotFound:
        return f"Object {kept.sha256} is gone."
    except StorageError as error:
        return f"Object {kept.sha256} cannot be looked at: {error.detail}."
    if found.size_bytes != kept.size_bytes:
        return f"Object {kept.sha256} has {found.size_bytes} bytes, not {kept.size_bytes}."
    return ""


def _quarantine_fault(aside: _Aside, hashing: _Hashing, kept: _Named) -> str:
    found = aside.found.get((kept.capture, kept.sha256, kept.reason))
    if found is None:
        return f"The quarantined bytes {kept.sha256} are gone."
    if found.size_bytes != kept.size_bytes:
        return f"The quarantined bytes {kept.sha256} have another length."
    if hashing.enough:
        return ""
    try:
        with aside.staging.open_quarantined(found) as stream:
            same = hashing.measure(stream).sha256 == kept.sha256
    except (StorageError, OSError):
        return f"The quarantined bytes {kept.sha256} cannot be read."
    return "" if same else f"The quarantined bytes {kept.sha256} are others now."


def _disposed(db: Database, log: str, kept: _Named) -> bool:
    """Whether it was destroyed as the log says; asked only of what is missing."""
    with db.read() as connection:
        about = records.records_about(connection, log, kept.capture)
        raw = [records.text_at(connection, log, r.index) for r in about if r.kind == "disposed"]
    for text in raw:
        contents = parse_statement(text or b"").body["contents"]
        if isinstance(contents, list) and kept.sha256 in contents:
            return True
    return False


def _check_bytes(objects: _Objects, hashing: _Hashing) -> Findings:
    """Step 3, as much as a person will wait for."""
    wrong, count = Listed("objects.bytes"), 0
    for name in objects.names():
        if hashing.enough:
            yield noted(wrong.name, f"Only {count} objects were re-hashed; there are more.")
            break
        count += 1
        try:
            with objects.open(name) as stream:
                measured = hashing.measure(stream)
        except StorageError as error:
            wrong.fail(f"Object {name} cannot be read: {error.detail}.")
            continue
        if measured.sha256 != name:
            wrong.fail(f"Object {name} holds other bytes than its name says.")
    else:
        yield noted(wrong.name, f"All {count} objects were re-hashed.")
    yield from wrong.end()


def _strangers(objects: _Objects, names: _Names) -> Findings:
    """Step 4. An object without a statement may be on its way, or left by a kill: that is no fault.

    What has no object's name was put there by no call of the store.
    """
    strange = Listed("objects.strangers")
    folder = "sha256/" if isinstance(objects, LocalObjects) else ""
    for path in objects.strangers():
        strange.fail(f"{folder}{path} was put there by somebody else.")
    yield from strange.end("Nothing lies among the objects that the store did not put there.")
    first, count = "", 0
    for name in names.unnamed():
        first, count = first or name, count + 1
    if count:
        what = "It came just now or a kill left it; if neither, somebody put it there."
        yield noted("objects.unnamed", f"No statement names {count} objects, {first} first. {what}")
