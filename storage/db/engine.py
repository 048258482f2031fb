"""Connections to the database: short reads, and writes that wait their turn.

Does: opens SQLite (one machine) or PostgreSQL (many nodes) with the same promises, and brings a
database to the newest schema. What the two do differently is in `storage.db.sqlite` and
`storage.db.postgres`. Refuses any other database, and one whose schema does not serve this
version.

    sqlite:////var/lib/fengni/db/fengni.db                               one machine
    postgresql+psycopg://fengni@db.example/fengni?sslmode=verify-full    many nodes
"""

import threading
from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg import Connection as PsycopgConnection
from sqlalchemy import Connection, Table
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from storage.db import postgres, sqlite
from storage.db.grants import grant
from storage.db.migrations import current_revision, newest_revision, serves, upgrade
from storage.db.postgres import PostgresServer
from storage.db.sqlite import SQLiteFile
from storage.db.workflows import prepare_workflows
from storage.durable import keep_private
from storage.errors import Unavailable

WORK = "work"
"""The turn of everybody who writes work tables; each log has one of its own."""

_MIGRATION = "migration"


class Database:
    """One database. `read` and `write` hand out a connection inside a transaction.

    Threads may share it. Writers of one turn wait for each other, first in this process and then
    for those of other processes, at most ten seconds. On SQLite all turns are one.
    """

    def __init__(self, url: str, *, scrubbed: bool = False) -> None:
        """Prepare to open; nothing is touched before the first transaction.

        Args:
            url: see the module.
            scrubbed: a file overwrites what is deleted from it.

        Raises:
            ValueError: the URL names another kind of database, or none that lasts.
        """
        self._backend = _backend(url, scrubbed=scrubbed)
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    @property
    def path(self) -> Path | None:
        """The file, where the database is one."""
        return self._backend.path

    @contextmanager
    def read(self) -> Generator[Connection, None, None]:
        """A connection that sees one snapshot from its first statement to the end.

        Raises:
            Unavailable: the database cannot be reached or read, or is locked for too long.
            IntegrityAlarm: its files are damaged.
        """
        with _database_errors(self._backend), self._backend.reading() as connection:
            yield connection

    @contextmanager
    def write(self, turn: str = WORK) -> Generator[Connection, None, None]:
        """A connection that may write: returning commits durably, raising rolls back.

        What another transaction of the same turn has committed is seen, and none runs beside
        this one. Rows that writers of two turns share must be locked by whoever decides on them.

        Args:
            turn: `WORK`, or the name of a log whose leaves are written.

        Raises:
            Unavailable: the database cannot be reached or written, or is locked for too long;
                if the commit itself failed, only a look at the rows tells what is there.
        """
        with (
            _database_errors(self._backend),
            self._turns[self._backend.turn(turn)],
            self._backend.writing() as connection,
            connection.begin(),
        ):
            self._backend.take_turn(connection, turn)
            yield connection

    def session(self) -> "PsycopgConnection[tuple[Any, ...]]":
        """A connection of one's own to a server, each statement a transaction.

        For work rows that promise nothing: no commit waits for the disk, and the server may
        forget the last ones in a crash. For one thread, which closes it.

        Raises:
            Unavailable: the server does not answer, or the database is a file.
        """
        if isinstance(self._backend, SQLiteFile):
            raise Unavailable("a database file has no other nodes to talk to")
        return self._backend.session()

    def require_schema(self) -> None:
        """Refuse a database on which this version may not work; take others' rights from a file.

        A schema that is newer is taken where it says that it serves this version too, so that old
        and new nodes may run side by side (ADR 0019).

        Raises:
            Unavailable: it is missing, was not migrated, or serves only newer versions.
        """
        self._backend.require_there()
        with self.read() as connection:
            if serves(connection):
                return
            if (current_revision(connection) or "") > newest_revision():
                raise Unavailable("the database serves only newer versions: update this node")
            raise Unavailable("the database has not the schema of this version: `fengni migrate`")

    def close(self) -> None:
        """Close every idle connection."""
        self._backend.engine.dispose()


def migrate(url: str, *, service_role: str | None = None, revision: str = "head") -> None:
    """Bring a database to a schema; a file is made where it does not exist, a server's is not.

    The workflow engine's tables come with the newest one.

    The folder of a file must exist, and only its owner may read the file. Running it again changes
    nothing.

    Args:
        url: as for `Database`; on PostgreSQL with the role that owns the tables.
        service_role: on PostgreSQL, the role that the service uses: it gets what
            `storage.db.grants` says and nothing else. None where both are the owner's.
        revision: the newest, or for a test an older one.

    Raises:
        ValueError: the URL names another kind of database, or a role for a file.
        Unavailable: the database cannot be reached or written.
    """
    backend = _backend(url)
    if backend.path is not None:
        if service_role is not None:
            raise ValueError("a database file has no roles")
        keep_private(backend.path)
    try:
        with (
            _database_errors(backend),
            backend.writing() as connection,
            connection.begin(),
        ):
            backend.take_turn(connection, _MIGRATION)
            upgrade(connection, revision)
            if service_role is not None:
                grant(connection, service_role)
        if revision == "head":
            with _database_errors(backend):
                prepare_workflows(url, service_role)
    finally:
        backend.engine.dispose()


def integrity_faults(connection: Connection, tables: Sequence[Table]) -> list[str]:
    """What is wrong with the database itself: pages, indexes, or values of another type.

    Args:
        connection: to the database.
        tables: whose values or indexes are looked at.

    Returns:
        One sentence for each fault; empty means sound.
    """
    looked = sqlite.faults if connection.dialect.name == "sqlite" else postgres.faults
    return looked(connection, tables)


def value_faults(connection: Connection, tables: Sequence[Table]) -> list[str]:
    """Which of these tables have values of another type than their columns say.

    PostgreSQL takes no others.
    """
    return sqlite.value_faults(connection, tables) if connection.dialect.name == "sqlite" else []


def quick_faults(connection: Connection) -> list[str]:
    """What is wrong with the database as far as it can be told at once; empty where nothing is."""
    looked = sqlite.quick_faults if connection.dialect.name == "sqlite" else postgres.quick_faults
    return looked(connection)


def unprotected(connection: Connection, tables: Sequence[Table]) -> list[str]:
    """Names of those tables whose triggers do not all refuse UPDATE, DELETE and TRUNCATE."""
    looked = sqlite.unprotected if connection.dialect.name == "sqlite" else postgres.unprotected
    return looked(connection, tables)


def _backend(url: str, *, scrubbed: bool = False) -> SQLiteFile | PostgresServer:
    try:
        name = make_url(url).get_backend_name()
    except ArgumentError as error:
        raise ValueError("the database URL is malformed") from error
    if name == "sqlite":
        return SQLiteFile(url, scrubbed=scrubbed)
    if name == "postgresql":
        return PostgresServer(url)
    raise ValueError("the database URL must be sqlite:/// or postgresql+psycopg://")


@contextmanager
def _database_errors(backend: SQLiteFile | PostgresServer) -> Generator[None, None, None]:
    """Give the faults of disk, server and locking a name of ours; others are mistakes and stay."""
    try:
        yield
    except DatabaseError as error:
        named = backend.named(error)
        if named is None:
            raise
        raise named from error
    except PoolTimeoutError as error:
        raise Unavailable("too many connections to the database are in use") from error
