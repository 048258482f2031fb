"""PostgreSQL: many nodes, one database, every commit on the server's disk before it is answered.

Does: opens connections so that a committed transaction survives a crash of the server
(synchronous_commit) and no node can hold a lock for long, reads one snapshot (REPEATABLE READ,
READ ONLY), and lets writers of one turn wait for each other, on whatever node they are. Refuses
another driver than psycopg 3, and lets no row into an error's text.

    postgresql+psycopg://fengni@db.example/fengni?sslmode=verify-full

Errors of class XX (the server found damage) are alarms; a server that is away, full, read-only or
kept waiting is unavailable; anything else is a mistake of ours and stays what it is.
"""

import hashlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, cast

import psycopg
from sqlalchemy import Connection, Engine, Table, bindparam, create_engine, event, text
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import DatabaseError, OperationalError

from storage.db.migrations.triggers import trigger_names
from storage.db.tables import EVIDENCE
from storage.errors import IntegrityAlarm, StorageError, Unavailable

DRIVER = "postgresql+psycopg"
LOCK_TIMEOUT_MS = 10_000
STATEMENT_TIMEOUT_MS = 60_000
IDLE_TIMEOUT_MS = 10_000
"""A transaction whose node says nothing for so long is ended: the node was paused or is gone."""

CONNECTIONS_KEPT = 8
CONNECTIONS_MOST = 32
"""Of one process. A server for several of them needs as many times more."""

_CONNECT_TIMEOUT_S = 10
_CONNECTING: Mapping[str, Any] = MappingProxyType(
    {"connect_timeout": _CONNECT_TIMEOUT_S, "application_name": "fengni"}
)
_SESSION = f"""SELECT
set_config('synchronous_commit', CASE current_setting('synchronous_commit')
    WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false),
set_config('lock_timeout', '{LOCK_TIMEOUT_MS}', false),
set_config('statement_timeout', '{STATEMENT_TIMEOUT_MS}', false),
set_config('idle_in_transaction_session_timeout', '{IDLE_TIMEOUT_MS}', false),
set_config('tcp_keepalives_idle', '10', false),
set_config('tcp_keepalives_interval', '3', false),
set_config('tcp_keepalives_count', '3', false)"""
_READ_ONLY = "25006"
_IDLE_TOO_LONG = "25P03"
_DAMAGE_CLASS = "XX"


class _Session(Protocol):
    autocommit: bool

    def execute(self, sql: str, /) -> object: ...


class _DriverError(Protocol):
    sqlstate: str | None


class PostgresServer:
    """One database of a server."""

    path: Path | None = None

    def __init__(self, url: str) -> None:
        """Prepare to connect; nothing is asked before the first transaction.

        Raises:
            ValueError: the URL names another driver, or no database.
        """
        parsed = make_url(url)
        if parsed.drivername != DRIVER or not parsed.database:
            raise ValueError(f"a PostgreSQL database URL must be {DRIVER}:// and name a database")
        self.engine = _engine(url)
        self._reading = self.engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )

    def reading(self) -> Connection:
        """A connection whose transaction sees one snapshot and cannot write."""
        return self._reading.connect()

    def writing(self) -> Connection:
        """A connection whose statements each see what is committed when they begin."""
        return self.engine.connect()

    def turn(self, name: str) -> str:
        """Whose turn a writer waits for: each name has its own."""
        return name

    def take_turn(self, connection: Connection, name: str) -> None:
        """Wait until no transaction on any node has this turn; it ends with the transaction."""
        key = int.from_bytes(hashlib.sha256(f"fengni {name}".encode()).digest()[:8], signed=True)
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (key,))

    def require_there(self) -> None:
        """Nothing can be looked for without connecting, which the next step does."""

    def session(self) -> "psycopg.Connection[tuple[Any, ...]]":
        """A connection of one's own, each statement a transaction; see `Database.session`.

        Raises:
            Unavailable: the server does not answer.
        """
        positional, named = self.engine.dialect.create_connect_args(self.engine.url)
        with session_errors():
            session = psycopg.connect(*positional, **{**named, **_CONNECTING}, autocommit=True)
            session.execute(_SESSION.encode())
            session.execute("SET synchronous_commit = off")
        return session

    def named(self, error: DatabaseError) -> StorageError | None:
        """A fault of server, disk or locking under a name of ours; None for a mistake."""
        state = cast("_DriverError", error.orig).sqlstate or ""
        if state.startswith(_DAMAGE_CLASS):
            return IntegrityAlarm("the database server finds its files damaged")
        if isinstance(error, OperationalError) or state in {_READ_ONLY, _IDLE_TOO_LONG}:
            return Unavailable("the database cannot be reached, read or written")
        return None


@contextmanager
def session_errors() -> Generator[None, None, None]:
    """Give the faults of a session of one's own a name of ours, without what the server quotes."""
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise Unavailable("the database cannot be reached, read or written") from error


def faults(connection: Connection, tables: Sequence[Table]) -> list[str]:
    """What is wrong with the tables themselves: indexes that are unfinished or lack rows.

    Whoever walks the rows has the server check the pages. Indexes are compared with their tables
    where the extension `amcheck` is installed and this role may use it.

    Args:
        connection: to the database.
        tables: whose indexes are looked at.

    Returns:
        One sentence for each fault.
    """
    names = [table.name for table in tables]
    told = _invalid_indexes(connection, names)
    if connection.execute(_AMCHECK).scalar_one():
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        for row in connection.execute(_INDEXES, {"names": names}).all():
            with connection.begin_nested():
                told += _index_faults(connection, row.name)
    return told


def quick_faults(connection: Connection) -> list[str]:
    """Settings of the server with which a confirmed commit may be lost, and unfinished indexes."""
    unsafe = [
        f"the server runs with {name} = off"
        for name in ("fsync", "full_page_writes")
        if connection.exec_driver_sql(f"SHOW {name}").scalar_one() == "off"
    ]
    return unsafe + _invalid_indexes(connection, [table.name for table in EVIDENCE])


def unprotected(connection: Connection, tables: Sequence[Table]) -> list[str]:
    """Names of those tables that lack a trigger that refuses change, or have it switched off."""
    there = {tuple(row) for row in connection.execute(_TRIGGERS)}
    return [
        table.name
        for table in tables
        if not {(table.name, name) for name in trigger_names("postgresql", table.name)} <= there
    ]


_INDEXES = text(
    "SELECT i.indexrelid::regclass::text AS name, i.indisvalid AND i.indisready AS valid"
    " FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid"
    " WHERE c.relnamespace = current_schema()::regnamespace AND c.relname IN :names ORDER BY 1"
).bindparams(bindparam("names", expanding=True))
_TRIGGERS = text(
    "SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
    " WHERE c.relnamespace = current_schema()::regnamespace AND t.tgenabled = 'A'"
)
_AMCHECK = text(
    "SELECT coalesce(bool_or(has_function_privilege(oid, 'EXECUTE')), false) FROM pg_proc"
    " WHERE oid = to_regprocedure('bt_index_check(regclass, boolean)')"
)
_CHECK_INDEX = text("SELECT bt_index_check(CAST(:index AS regclass), true)")


def _invalid_indexes(connection: Connection, tables: Sequence[str]) -> list[str]:
    rows = connection.execute(_INDEXES, {"names": tables})
    return [f"the index {row.name} is not valid" for row in rows if not row.valid]


def _index_faults(connection: Connection, index: str) -> list[str]:
    try:
        connection.execute(_CHECK_INDEX, {"index": index})
    except DatabaseError as error:
        if (cast("_DriverError", error.orig).sqlstate or "").startswith(_DAMAGE_CLASS):
            return [f"the index {index} is not what its table holds"]
        raise
    return []


def _engine(url: str) -> Engine:
    engine = create_engine(
        url,
        pool_size=CONNECTIONS_KEPT,
        max_overflow=CONNECTIONS_MOST - CONNECTIONS_KEPT,
        pool_timeout=LOCK_TIMEOUT_MS / 1000,
        hide_parameters=True,  # else an error's text would carry statements into logs
        connect_args=dict(_CONNECTING),
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "handle_error", _without_rows)
    return engine


def _prepare(connection: object, _record: object) -> None:
    """Make the session's promises; a stronger synchronous_commit of the server's stays."""
    session = cast("_Session", connection)
    session.autocommit = True
    session.execute(_SESSION)
    session.autocommit = False


def _without_rows(context: ExceptionContext) -> None:
    """Keep the first line of what the server said: the DETAIL after it quotes rows."""
    for error in (context.original_exception, context.sqlalchemy_exception):
        if error is not None and error.args and isinstance(error.args[0], str):
            error.args = (error.args[0].partition("\n")[0], *error.args[1:])
