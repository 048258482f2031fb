"""What the device promised and what it was promised: statements, receipts, how far each got.

Does: keeps one row for each capture in an SQLite file (WAL, synchronous=FULL), written before
the step that it describes, so that a killed client continues with the same statements instead
of making new ones. Refuses a second process at the same time, and never forgets a row: a
receipt is the device's only proof against a server that drops what it took.

    open → announce → (receipt verified, kept) → send → (content taken)
"""

import fcntl
import os
import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from evidence.statement import SignedStatement
from service.client.failures import Undecided
from service.private_files import make_private_folder

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    statement_id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    audience TEXT NOT NULL,
    key_id TEXT NOT NULL,
    statement BLOB NOT NULL,
    signature BLOB NOT NULL,
    likeness TEXT NOT NULL,
    path TEXT,
    sha256 TEXT,
    size_bytes INTEGER,
    session TEXT REFERENCES entries (statement_id),
    number INTEGER,
    receipt BLOB,
    sent INTEGER NOT NULL DEFAULT 0,
    UNIQUE (session, number)
) STRICT;
CREATE INDEX IF NOT EXISTS entries_alike ON entries (audience, key_id, likeness);
CREATE TABLE IF NOT EXISTS checkpoints (
    origin TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    note BLOB NOT NULL
) STRICT;
"""
_COLUMNS = (
    "statement_id, kind, statement, signature, key_id, path, sha256, size_bytes,"
    " session, number, receipt, sent"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One statement of this device.

    Attributes:
        signed: the statement as it was first signed; a repeat sends these very bytes.
        kind: `capture` or `session`.
        path: the file that it is about, for a capture.
        sha256: the content's digest, 64 hex digits, for a capture.
        size_bytes: the content's length, for a capture.
        session: statement id of the session's opening, where there is one.
        number: the capture's number in its session, from 1.
        receipt: the verified receipt as a `.tlog-proof`, or None before it came.
        sent: whether the server has taken the content.
    """

    signed: SignedStatement
    kind: str
    path: Path | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    session: str | None = None
    number: int | None = None
    receipt: bytes | None = None
    sent: bool = False

    @property
    def id(self) -> str:
        """Statement id, 64 hex digits."""
        return self.signed.id


class Journal:
    """One device's journal, open in this process alone."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Use an open connection; see `open_journal`."""
        self._connection = connection

    def alike(self, audience: str, key_id: str, likeness: str) -> list[Entry]:
        """The entries that say the same of the same bytes, newest first.

        Args:
            audience: the deployment that it was made for.
            key_id: the device key that signed it.
            likeness: everything of the claim that the person chose, as canonical text.
        """
        return list(
            self._read(
                "audience = ? AND key_id = ? AND likeness = ? ORDER BY rowid DESC",
                (audience, key_id, likeness),
            )
        )

    def get(self, statement_id: str) -> Entry:
        """The entry of that id.

        Raises:
            KeyError: the journal has none.
        """
        found = next(self._read("statement_id = ?", (statement_id,)), None)
        if found is None:
            raise KeyError(statement_id)
        return found

    def captures_from(self, beginning: str) -> list[str]:
        """Ids of the captures that begin with these hex digits."""
        rows = self._connection.execute(
            "SELECT statement_id FROM entries WHERE kind = 'capture'"
            " AND substr(statement_id, 1, ?) = ?",
            (len(beginning), beginning),
        )
        return [row[0] for row in rows]

    def of_session(self, session: str) -> list[Entry]:
        """The captures of a session, by their number."""
        return list(self._read("session = ? AND kind = 'capture' ORDER BY number", (session,)))

    def closing_of(self, session: str) -> Entry | None:
        """The statement that closed a session, or None while it is open."""
        return next(self._read("session = ? AND kind = 'session'", (session,)), None)

    def add(self, entry: Entry, *, audience: str, likeness: str) -> None:
        """Keep a new statement, durable on return, before anybody else sees it."""
        with self._connection:
            self._connection.execute(
                "INSERT INTO entries (statement_id, kind, statement, signature, key_id, path,"
                " sha256, size_bytes, session, number, audience, likeness)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    entry.id,
                    entry.kind,
                    entry.signed.raw,
                    entry.signed.signature,
                    entry.signed.key_id,
                    None if entry.path is None else os.fspath(entry.path),
                    entry.sha256,
                    entry.size_bytes,
                    entry.session,
                    entry.number,
                    audience,
                    likeness,
                ),
            )

    def keep_receipts(self, receipts: Iterable[tuple[str, bytes]]) -> None:
        """Keep verified receipts, `(statement id, .tlog-proof)` each, durable on return."""
        with self._connection:
            self._connection.executemany(
                "UPDATE entries SET receipt = ? WHERE statement_id = ? AND receipt IS NULL",
                [(receipt, statement_id) for statement_id, receipt in receipts],
            )

    def mark_sent(self, statement_id: str) -> None:
        """Note that the server has taken the content, durable on return."""
        with self._connection:
            self._connection.execute(
                "UPDATE entries SET sent = 1 WHERE statement_id = ?", (statement_id,)
            )

    def checkpoint(self, origin: str) -> bytes | None:
        """The newest cosigned checkpoint of a log that this device holds, or None."""
        row = self._connection.execute(
            "SELECT note FROM checkpoints WHERE origin = ?", (origin,)
        ).fetchone()
        return None if row is None else row[0]

    def keep_checkpoint(self, origin: str, size: int, note: bytes) -> None:
        """Hold a verified cosigned checkpoint instead of an older one, durable on return."""
        with self._connection:
            self._connection.execute(
                "INSERT INTO checkpoints (origin, size, note) VALUES (?, ?, ?)"
                " ON CONFLICT (origin) DO UPDATE SET size = excluded.size, note = excluded.note"
                " WHERE excluded.size >= checkpoints.size",
                (origin, size, note),
            )

    def _read(self, where: str, values: tuple[object, ...]) -> Iterator[Entry]:
        # `where` is one of this class's own literals; everything from outside is a parameter.
        rows = self._connection.execute(f"SELECT {_COLUMNS} FROM entries WHERE {where}", values)  # noqa: S608
        return map(_entry_of, rows)


@contextmanager
def open_journal(folder: Path) -> Generator[Journal]:
    """Open the journal in a folder, which is made if it is not there.

    Raises:
        Undecided: another process has it open.
    """
    make_private_folder(folder)
    with (folder / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Undecided(f"Another `fengni upload` is using {folder}; let it finish.") from error
        connection = sqlite3.connect(folder / "journal.db")
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.executescript(_SCHEMA)
            yield Journal(connection)
        finally:
            connection.close()


def _entry_of(row: tuple[object, ...]) -> Entry:
    (identity, kind, raw, signature, key_id, path, sha256, size, session, number, receipt, sent) = (
        row
    )
    del identity
    return Entry(
        signed=SignedStatement(raw=_bytes(raw), signature=_bytes(signature), key_id=str(key_id)),
        kind=str(kind),
        path=None if path is None else Path(str(path)),
        sha256=None if sha256 is None else str(sha256),
        size_bytes=size if isinstance(size, int) else None,
        session=None if session is None else str(session),
        number=number if isinstance(number, int) else None,
        receipt=None if receipt is None else _bytes(receipt),
        sent=bool(sent),
    )


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("the journal's own schema says that this is a blob")
    return value
