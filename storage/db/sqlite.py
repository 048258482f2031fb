"""SQLite: one file, one writer at a time, every commit on the disk before it is answered.

Does: opens the file so that a committed transaction survives a crash and a power cut (WAL,
synchronous=FULL), and says what is wrong with the file. Refuses a URL that names no file.

    sqlite:////var/lib/fengni/db/fengni.db          the URL of an absolute path
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol, cast

from sqlalchemy import Connection, Engine, Table, create_engine, event, func, or_, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, OperationalError

from storage.db.migrations.triggers import trigger_names
from storage.durable import keep_private
from storage.errors import IntegrityAlarm, StorageError, Unavailable

BUSY_TIMEOUT_MS = 10_000
READERS_KEPT = 8
_WRITES = "fengni_writes"
_STORAGE_CLASS: dict[type, str] = {
    str: "text",
    bytes: "blob",
    int: "integer",
    datetime: "integer",
    bool: "integer",
}
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "recursive_triggers=ON",  # else REPLACE deletes rows without asking the delete trigger
    f"busy_timeout={BUSY_TIMEOUT_MS}",
)


class _SQLiteConnection(Protocol):
    isolation_level: str | None

    def execute(self, sql: str, /) -> object: ...


class SQLiteFile:
    """One database file."""

    def __init__(self, url: str, *, scrubbed: bool = False) -> None:
        """Prepare to open; nothing is touched before the first transaction.

        Args:
            url: see the module.
            scrubbed: what is deleted is overwritten.

        Raises:
            ValueError: the URL names no file.
        """
        named = make_url(url).database
        if named in {None, "", ":memory:"}:
            raise ValueError("a SQLite database URL must be sqlite:/// and a path")
        self.path = Path(str(named))
        self.engine = _engine(url, scrubbed=scrubbed)
        self._writing = self.engine.execution_options(**{_WRITES: True})

    def reading(self) -> Connection:
        """A connection whose transaction sees one snapshot."""
        return self.engine.connect()

    def writing(self) -> Connection:
        """A connection whose transaction may write."""
        return self._writing.connect()

    def turn(self, name: str) -> str:
        """Whose turn a writer waits for: there is one for the whole file."""
        del name
        return "the file"

    def take_turn(self, connection: Connection, name: str) -> None:
        """Nothing more is to be done: BEGIN IMMEDIATE has waited for other processes."""

    def require_there(self) -> None:
        """Refuse to make the file by opening it; take others' rights from one that is there.

        Raises:
            Unavailable: it is not there.
        """
        if not self.path.is_file():
            raise Unavailable("the database does not exist: make it with `fengni init`")
        keep_private(self.path)

    def named(self, error: DatabaseError) -> StorageError | None:
        """A fault of file, disk or locking under a name of ours; None for a mistake."""
        if isinstance(error, OperationalError):
            return Unavailable("the database cannot be opened, read or written")
        if type(error) is DatabaseError:  # SQLite's "malformed"; its subclasses are mistakes
            return IntegrityAlarm("the database's file is damaged")
        return None


def faults(connection: Connection, tables: Sequence[Table]) -> list[str]:
    """What is wrong with the file itself: pages, indexes, or values of another type.

    SQLite keeps any type in any column, and one flipped bit of a row's header makes bytes text.

    Args:
        connection: to the database.
        tables: whose values are looked at.

    Returns:
        One sentence for each fault, at most ten of SQLite's own.
    """
    found = connection.exec_driver_sql("PRAGMA integrity_check(10)").scalars().all()
    told = [] if found == ["ok"] else [str(fault) for fault in found]
    return told + value_faults(connection, tables)


def value_faults(connection: Connection, tables: Sequence[Table]) -> list[str]:
    """Which of these tables have values of another type than their columns say."""
    told: list[str] = []
    for table in tables:
        wrong = [
            func.typeof(column).not_in([_STORAGE_CLASS[column.type.python_type], "null"])
            for column in table.c
        ]
        count = connection.execute(select(func.count()).where(or_(*wrong))).scalar_one()
        if count:
            told.append(f"{table.name} has values of another type in {count} rows")
    return told


def quick_faults(connection: Connection) -> list[str]:
    """The same without comparing indexes with their tables: what can be told at once."""
    found = connection.exec_driver_sql("PRAGMA quick_check(10)").scalars().all()
    return [] if found == ["ok"] else [str(fault) for fault in found]


def unprotected(connection: Connection, tables: Sequence[Table]) -> list[str]:
    """Names of those tables that lack one of the triggers that refuse change."""
    query = text("SELECT tbl_name, name FROM sqlite_master WHERE type = 'trigger'")
    there = {tuple(row) for row in connection.execute(query)}
    return [
        table.name
        for table in tables
        if not {(table.name, name) for name in trigger_names("sqlite", table.name)} <= there
    ]


def _engine(url: str, *, scrubbed: bool) -> Engine:
    engine = create_engine(
        url,
        pool_size=READERS_KEPT,
        max_overflow=-1,
        hide_parameters=True,  # else an error's text would carry statements into logs
    )
    event.listen(engine, "connect", _prepare)
    if scrubbed:
        event.listen(engine, "connect", _scrub)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: object, _record: object) -> None:
    """Take BEGIN away from the driver, which would begin later than we do, and set pragmas."""
    sqlite = cast("_SQLiteConnection", connection)
    sqlite.isolation_level = None
    for pragma in _PRAGMAS:
        sqlite.execute(f"PRAGMA {pragma}")


def _scrub(connection: object, _record: object) -> None:
    cast("_SQLiteConnection", connection).execute("PRAGMA secure_delete=ON")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
