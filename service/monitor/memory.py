"""What a monitor remembers of one log, in a file of its own.

Does: keeps every tree that the log ever signed before this monitor's eyes, the edge of the newest
one whose entries were all read, since when no quorum has cosigned, and the proofs of what was
found. Refuses another log than the one that it began with, a second process at the same time, and
to forget: whoever deletes the file begins anew and knows nothing of before.

A pass is written in one transaction, durable on return; a killed pass is done again.
"""

import fcntl
import sqlite3
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from evidence.merkle import HASH_BYTES, Frontier
from service.monitor.findings import Code, Finding
from service.private_files import create_private

_SCHEMA = """
CREATE TABLE log (origin TEXT NOT NULL) STRICT;
CREATE TABLE signed (
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    note BLOB NOT NULL,
    seen_at_s INTEGER NOT NULL,
    PRIMARY KEY (size, root)
) STRICT;
CREATE TABLE edge (size INTEGER NOT NULL, peaks BLOB NOT NULL) STRICT;
CREATE TABLE unwitnessed (since_s INTEGER NOT NULL) STRICT;
CREATE TABLE proofs (
    code TEXT NOT NULL,
    place TEXT NOT NULL,
    detail TEXT NOT NULL,
    first BLOB NOT NULL,
    second BLOB NOT NULL,
    found_at_s INTEGER NOT NULL,
    PRIMARY KEY (code, place)
) STRICT;
"""


class StateRefused(Exception):
    """The state file is another log's, in use, or none of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A tree that the log signed.

    Attributes:
        size: number of leaves.
        root: 32 bytes.
        note: the signed note as it was seen.
    """

    size: int
    root: bytes
    note: bytes


class Memory:
    """The memory of one log, open in this process alone."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Use an open file; see `open_memory`."""
        self._connection = connection

    @property
    def origin(self) -> str | None:
        """The log that it is of; None before the first pass."""
        row = self._connection.execute("SELECT origin FROM log").fetchone()
        return None if row is None else str(row[0])

    def bind(self, origin: str) -> None:
        """Be of this log from now on.

        Raises:
            StateRefused: it is of another one.
        """
        if self.origin is None:
            with self._connection:
                self._connection.execute("INSERT INTO log VALUES (?)", (origin,))
        if self.origin != origin:
            raise StateRefused(f"This state is of the log {self.origin}, not of {origin}.")

    def newest(self) -> Signed | None:
        """The largest tree that was ever signed before our eyes."""
        query = "SELECT size, root, note FROM signed ORDER BY size DESC, rowid LIMIT 1"
        row = self._connection.execute(query).fetchone()
        return None if row is None else Signed(size=row[0], root=row[1], note=row[2])

    def signed(self) -> Mapping[int, Sequence[Signed]]:
        """Every tree that was signed before our eyes, by size."""
        found: dict[int, list[Signed]] = {}
        for size, root, note in self._connection.execute("SELECT size, root, note FROM signed"):
            found.setdefault(size, []).append(Signed(size=size, root=root, note=note))
        return found

    def add_signed(self, tree: Signed, at_s: int) -> None:
        """Remember that this was signed, durable on return; the first note of a tree stays."""
        with self._connection:
            self._connection.execute(
                "INSERT OR IGNORE INTO signed VALUES (?, ?, ?, ?)",
                (tree.size, tree.root, tree.note, at_s),
            )

    def edge(self) -> Frontier:
        """The edge of the newest tree whose entries were all read; at first the empty one."""
        row = self._connection.execute("SELECT size, peaks FROM edge").fetchone()
        if row is None:
            return Frontier.empty()
        size, peaks = row
        cut = range(0, len(peaks), HASH_BYTES)
        return Frontier(size, [peaks[at : at + HASH_BYTES] for at in cut])

    def keep_edge(self, edge: Frontier) -> None:
        """Remember the edge of a tree that has the signed root, durable on return."""
        peaks = b"".join(edge.nodes.values())
        with self._connection:
            self._connection.execute("DELETE FROM edge")
            self._connection.execute("INSERT INTO edge VALUES (?, ?)", (edge.size, peaks))

    def unwitnessed_since(self, since_s: int | None) -> int | None:
        """Remember since when no quorum has cosigned.

        Args:
            since_s: POSIX seconds, or None where it has.

        Returns:
            The earliest that was ever given since it last had; None where it has.
        """
        row = self._connection.execute("SELECT min(since_s) FROM unwitnessed").fetchone()
        with self._connection:
            if since_s is None:
                self._connection.execute("DELETE FROM unwitnessed")
                return None
            self._connection.execute("INSERT INTO unwitnessed VALUES (?)", (since_s,))
        return since_s if row[0] is None else min(row[0], since_s)

    def keep_proofs(self, findings: Iterable[Finding], at_s: int) -> None:
        """Keep what two signed notes prove, durable on return; the first of a place stays."""
        rows = [
            (one.code.value, one.place, one.detail, one.notes[0], one.notes[1], at_s)
            for one in findings
            if len(one.notes) == 2
        ]
        with self._connection:
            self._connection.executemany(
                "INSERT OR IGNORE INTO proofs VALUES (?, ?, ?, ?, ?, ?)", rows
            )

    def proofs(self) -> list[Finding]:
        """Everything that was ever proven, in the order in which it was found."""
        query = "SELECT code, place, detail, first, second FROM proofs ORDER BY found_at_s, rowid"
        return [
            Finding(code=Code(code), place=place, detail=detail, notes=(first, second))
            for code, place, detail, first, second in self._connection.execute(query)
        ]


@contextmanager
def open_memory(path: Path) -> Generator[Memory]:
    """Open a monitor's state, which is made if it is not there.

    Raises:
        StateRefused: it is no such file, or another process has it open.
        OSError: the folder is not there, or the disk refuses.
    """
    if not path.exists():
        create_private(path, b"")
    with path.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StateRefused(f"Another monitor is using {path}.") from error
        with closing(sqlite3.connect(path)) as connection:
            try:
                connection.execute("PRAGMA synchronous = EXTRA")
                if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,):
                    connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
                connection.execute("SELECT count(*) FROM proofs")
            except sqlite3.DatabaseError as error:
                raise StateRefused(f"{path} is no state of a monitor.") from error
            yield Memory(connection)
