"""How far each capture has come, as the log alone says, and the work rows that follow from it.

    announced ──▶ stored ──▶ inspected        statements of these kinds about the capture
                     └──▶ requested ──▶ approved ──▶ disposed

Does: takes what the walk over a log yields into a temporary database on disk, so that memory does
not grow, and gives each capture with the rows of `uploads` and `outbox` that it must have. Refuses
to guess what no statement says: whether content is on its way, and how often work was tried.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from evidence.canonical import JSONValue
from evidence.schema import parse_time
from evidence.statement import Statement
from service.captures.arrivals import STORE
from service.captures.queries import ContentState
from service.captures.workflow import INSPECT
from service.law.retention import APPROVALS
from service.retention.deeds import DISPOSE
from storage.log.bundle import Bundle

_SCHEMA = """
CREATE TABLE captures (
    id TEXT PRIMARY KEY, idx INTEGER NOT NULL, organ TEXT NOT NULL, sha256 TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, media_type TEXT NOT NULL, stored_at TEXT, inspected INTEGER,
    approvals INTEGER NOT NULL, begun INTEGER NOT NULL, disposed INTEGER NOT NULL
) WITHOUT ROWID
"""
_VOID = "UPDATE captures SET approvals = 0 WHERE id = ? AND begun = 0"
_STEPS = {
    "retained": _VOID,
    "held": _VOID,
    "disposal_requested": _VOID,
    "disposal_approved": "UPDATE captures SET approvals = approvals + 1 WHERE id = ?",
    "disposal_begun": "UPDATE captures SET begun = 1 WHERE id = ?",
}
"""What a custody statement changes: as many approvals as there may be, never fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One capture of one log.

    Attributes:
        capture: its id.
        index: of its entry.
        organ: as it says.
        sha256: of the announced content.
        size_bytes: of the announced content.
        media_type: of the announced content.
        received_at: when the content was complete, UTC; None where it is not stored.
        inspected: whether the server stated an inspection.
        approved: whether as many persons approved its disposal as must, so that work may be left.
        disposed: whether its content was disposed of.
    """

    capture: str
    index: int
    organ: str
    sha256: str
    size_bytes: int
    media_type: str
    received_at: datetime | None
    inspected: bool
    approved: bool
    disposed: bool

    @property
    def state(self) -> ContentState:
        """How far it has come at least."""
        if self.disposed:
            return ContentState.DISPOSED
        return ContentState.ANNOUNCED if self.received_at is None else ContentState.STORED

    @property
    def work(self) -> tuple[str, ...]:
        """The kinds of work that must be left on it."""
        if self.disposed:
            return ()
        if self.received_at is None:
            return (STORE,)
        return () if self.inspected else (INSPECT,)

    @property
    def perhaps(self) -> tuple[str, ...]:
        """Work that may be left on it; whether it is due still, its own rules decide when done."""
        return (DISPOSE,) if self.approved and not self.disposed else ()

    @property
    def ended(self) -> tuple[str, ...]:
        """The kinds of work that cannot be left on it."""
        if self.disposed:
            return (STORE, INSPECT, DISPOSE)
        done = () if self.received_at is None else (STORE,)
        return (*done, INSPECT) if self.inspected else done


class Courses:
    """The captures of one log; close it."""

    def __init__(self) -> None:
        """Begin with none."""
        self._connection = sqlite3.connect("")  # a temporary file, which is gone with the handle
        self._connection.execute(_SCHEMA)

    def take(self, bundle: Bundle) -> None:
        """Note what these entries say, in the order of the log."""
        for entry in bundle.entries:
            if entry.statement is not None:
                self._take(entry.index, entry.statement)

    def all(self) -> Iterator[Course]:
        """Every capture, by id."""
        query = "SELECT * FROM captures ORDER BY id"
        for row in self._connection.execute(query):
            yield _course(row)

    def find(self, capture: str) -> Course | None:
        """One of them, or None where the log has no such capture."""
        query = "SELECT * FROM captures WHERE id = ?"
        row = self._connection.execute(query, (capture,)).fetchone()
        return None if row is None else _course(row)

    def close(self) -> None:
        """Let go of it."""
        self._connection.close()

    def _take(self, index: int, statement: Statement) -> None:
        body, about = statement.body, statement.about
        if statement.kind == "capture":
            content = body["content"]
            if not isinstance(content, dict):
                raise TypeError("a capture without content passed its schema")
            row = (content["sha256"], content["size_bytes"], content["media_type"])
            self._connection.execute(
                "INSERT OR IGNORE INTO captures VALUES (?, ?, ?, ?, ?, ?, NULL, 0, 0, 0, 0)",
                (statement.id, index, statement.organ, *row),
            )
        elif about is not None and statement.kind == "stored":
            first = "UPDATE captures SET stored_at = ? WHERE id = ? AND stored_at IS NULL"
            self._connection.execute(first, (str(body["received_at"]), about.statement))
            self._connection.execute(_VOID, (about.statement,))
        elif about is not None and statement.kind == "inspected":
            query = "UPDATE captures SET inspected = 1 WHERE id = ?"
            self._connection.execute(query, (about.statement,))
        elif about is not None and statement.kind == "custody":
            query = _STEPS.get(str(body["event"]))
            if query is not None:
                self._connection.execute(query, (about.statement,))
        elif about is not None and _is_certificate(statement.kind, body):
            query = "UPDATE captures SET disposed = 1 WHERE id = ?"
            self._connection.execute(query, (about.statement,))


def _is_certificate(kind: str, body: Mapping[str, JSONValue]) -> bool:
    return kind == "disposed" and body["disposed"] == "content"


def _course(row: tuple[str, int, str, str, int, str, str | None, int, int, int, int]) -> Course:
    capture, index, organ, sha256, size_bytes, media_type, stored_at, *further = row
    inspected, approvals, begun, disposed = further
    return Course(
        capture=capture,
        index=index,
        organ=organ,
        sha256=sha256,
        size_bytes=size_bytes,
        media_type=media_type,
        received_at=None if stored_at is None else parse_time(stored_at),
        inspected=bool(inspected),
        approved=approvals >= APPROVALS or bool(begun),
        disposed=bool(disposed),
    )
