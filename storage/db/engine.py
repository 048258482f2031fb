"""Connections to the database: short reads, and writes that wait their turn.

Does: opens SQLite so that a committed transaction survives a crash and a power cut (WAL,
synchronous=FULL), lets one writer at a time begin, and brings a database to the newest schema.
Refuses: any other database until its triggers are written and tried (PostgreSQL comes with the
part for many machines), and a database whose schema is not the newest.

    sqlite:////var/lib/fengni/db/fengni.db          the URL of an absolute path
"""

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Protocol, cast

from sqlalchemy import Connection, Engine, Table, create_engine, event, func, or_, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, OperationalError

from storage.db.migrations import current_revision, newest_revision, upgrade
from storage.durable import keep_private
from storage.errors import IntegrityAlarm, Unavailable

BUSY_TIMEOUT_MS = 10_000
READERS_KEPT = 8
_WRITES = "fengni_writes"
_STORAGE_CLASS: dict[type, str] = {
    str: "text",
    bytes: "blob",
    int: "integer",
    datetime: "integer",
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


class Database:
    """One database. `read` and `write` hand out a connection inside a transaction.

    Threads may share it. Writers of this process queue on a lock instead of polling the file;
    writers of other processes are waited for up to `BUSY_TIMEOUT_MS`.
    """

    def __init__(self, url: str) -> None:
        """Prepare to open; nothing is touched before the first transaction.

        Args:
            url: `sqlite:///` and a path.

        Raises:
            ValueError: the URL names another kind of database, or none on disk.
        """
        self.path = _sqlite_path(url)
        self.url = url
        self._engine = _engine(url)
        self._turn = threading.Lock()

    @contextmanager
    def read(self) -> Generator[Connection, None, None]:
        """A connection that sees one snapshot from its first statement to the end.

        Raises:
            Unavailable: the database cannot be opened or read, or is locked for too long.
            IntegrityAlarm: its file is damaged.
        """
        with _database_errors(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Generator[Connection, None, None]:
        """A connection that may write: returning commits durably, raising rolls back.

        Raises:
            Unavailable: the database cannot be opened or written, or is locked for too long;
                if the commit itself failed, only a look at the rows tells what is there.
        """
        with (
            _database_errors(),
            self._turn,
            self._engine.connect().execution_options(**{_WRITES: True}) as connection,
            connection.begin(),
        ):
            yield connection

    def require_newest(self) -> None:
        """Refuse a database that was not migrated; take others' rights from one that was.

        Raises:
            Unavailable: it is missing, or its schema is not the one of this version.
        """
        if not self.path.is_file():
            raise Unavailable("the database does not exist: make it with `fengni init`")
        keep_private(self.path)
        with self.read() as connection:
            if current_revision(connection) != newest_revision():
                raise Unavailable("the database has not the schema of this version: migrate it")

    def close(self) -> None:
        """Close every idle connection."""
        self._engine.dispose()


def migrate(url: str) -> None:
    """Bring a database to the newest schema, making it where it does not exist.

    The folder must exist. Only the owner may read the file. Running it again changes nothing.

    Args:
        url: as for `Database`.

    Raises:
        ValueError: the URL names another kind of database.
        Unavailable: the file cannot be opened or written.
    """
    keep_private(_sqlite_path(url))
    engine = _engine(url)
    try:
        with (
            _database_errors(),
            engine.connect().execution_options(**{_WRITES: True}) as connection,
            connection.begin(),
        ):
            upgrade(connection)
    finally:
        engine.dispose()


def integrity_faults(connection: Connection, tables: Sequence[Table]) -> list[str]:
    """What is wrong with the file itself: pages, indexes, or values of another type.

    SQLite keeps any type in any column, and one flipped bit of a row's header makes bytes text.

    Args:
        connection: to the database.
        tables: whose values are looked at.

    Returns:
        One sentence for each fault, at most ten of SQLite's own; empty means sound.
    """
    found = connection.exec_driver_sql("PRAGMA integrity_check(10)").scalars().all()
    faults = [] if found == ["ok"] else [str(fault) for fault in found]
    return faults + value_faults(connection, tables)


def value_faults(connection: Connection, tables: Sequence[Table]) -> list[str]:
    """Which of these tables have values of another type than their columns say."""
    faults: list[str] = []
    for table in tables:
        wrong = [
            func.typeof(column).not_in([_STORAGE_CLASS[column.type.python_type], "null"])
            for column in table.c
        ]
        count = connection.execute(select(func.count()).where(or_(*wrong))).scalar_one()
        if count:
            faults.append(f"{table.name} has values of another type in {count} rows")
    return faults


@contextmanager
def _database_errors() -> Generator[None, None, None]:
    """Give the faults of file, disk and locking a name of ours; others are mistakes and stay."""
    try:
        yield
    except OperationalError as error:
        raise Unavailable("the database cannot be opened, read or written") from error
    except DatabaseError as error:
        if type(error) is DatabaseError:  # SQLite's "malformed"; its subclasses are mistakes
            raise IntegrityAlarm("the database's file is damaged") from error
        raise


def _sqlite_path(url: str) -> Path:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in {None, "", ":memory:"}:
        raise ValueError("the database URL must be sqlite:/// and a path")
    return Path(str(parsed.database))


def _engine(url: str) -> Engine:
    engine = create_engine(
        url,
        pool_size=READERS_KEPT,
        max_overflow=-1,
        hide_parameters=True,  # else an error's text would carry statements into logs
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: object, _record: object) -> None:
    """Take BEGIN away from the driver, which would begin later than we do, and set pragmas."""
    sqlite = cast("_SQLiteConnection", connection)
    sqlite.isolation_level = None
    for pragma in _PRAGMAS:
        sqlite.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
