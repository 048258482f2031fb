"""PostgreSQL: durable sessions, two roles, and a server that is away, full or kept waiting."""

import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, insert, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from storage.db import postgres as backend
from storage.db.engine import Database, integrity_faults, migrate, unprotected
from storage.db.grants import excess
from storage.db.tables import EVIDENCE, logs, metadata
from storage.errors import IntegrityAlarm, Unavailable
from tests.postgres import OWNER, SERVICE, PostgresServer
from tests.storage.log_material import now

NAMES = [table.name for table in EVIDENCE]
CHANGES = ("UPDATE {} SET organ = 'x'", "DELETE FROM {}", "TRUNCATE {}")


@pytest.fixture(scope="module", params=["postgres", "system_postgres"])
def server(request: pytest.FixtureRequest) -> PostgresServer:
    """Each server in its turn."""
    found: PostgresServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def name(server: PostgresServer) -> Iterator[str]:
    """A migrated database."""
    with server.database() as name:
        yield name


@pytest.fixture
def database(server: PostgresServer, name: str) -> Iterator[Database]:
    """The same, for the service's role."""
    database = Database(server.url(name))
    yield database
    database.close()


def _add(connection: Connection, log: str) -> None:
    row = {"id": log, "organ": "o", "origin": log, "created_at": now()}
    connection.execute(insert(logs).values(**row))


def setting(connection: Connection, name: str) -> object:
    """What a session has set."""
    return connection.exec_driver_sql(f"SHOW {name}").scalar_one()


def test_durable_sessions(server: PostgresServer, name: str, database: Database) -> None:
    """Commits wait for the disk whatever the server's default, and nobody waits for ever."""
    server.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with database.read() as connection:
        assert setting(connection, "synchronous_commit") == "on"
        assert setting(connection, "lock_timeout") == "10s"
        assert setting(connection, "idle_in_transaction_session_timeout") == "10s"
        assert setting(connection, "transaction_isolation") == "repeatable read"
        assert setting(connection, "transaction_read_only") == "on"
    with database.write() as connection:
        assert setting(connection, "synchronous_commit") == "on"
        assert setting(connection, "transaction_isolation") == "read committed"
        assert setting(connection, "transaction_read_only") == "off"


def test_a_stronger_promise_of_the_server_stays(
    server: PostgresServer, name: str, database: Database
) -> None:
    """Where standbys must have applied a commit, our sessions do not ask for less."""
    server.execute(f"ALTER DATABASE {name} SET synchronous_commit = remote_apply")
    with database.read() as connection:
        assert setting(connection, "synchronous_commit") == "remote_apply"


@pytest.mark.parametrize("change", CHANGES, ids=["update", "delete", "truncate"])
def test_all_roles_are_refused(
    server: PostgresServer, name: str, database: Database, change: str
) -> None:
    """The service lacks the grant; the owner meets the trigger, and so does a master as replica."""
    owner, master = Database(server.url(name, OWNER)), Database(server.url(name, "postgres"))
    for table in NAMES:
        order = text(change.format(table))
        with pytest.raises(ProgrammingError, match="denied"), database.write() as connection:
            connection.execute(order)
        with pytest.raises(IntegrityError, match="only ever added"), owner.write() as connection:
            connection.execute(order)
        with pytest.raises(IntegrityError, match="only ever added"), as_replica(master) as replica:
            replica.execute(order)
    owner.close()
    master.close()


@contextmanager
def as_replica(database: Database) -> Generator[Connection]:
    """A session that plays a replica, for which ordinary triggers do not fire."""
    with database.write() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        yield connection


def test_the_service_cannot_lift_its_protection(database: Database) -> None:
    """It owns no table, so it can neither switch a trigger off nor drop it."""
    for order in (
        "ALTER TABLE records DISABLE TRIGGER USER",
        "DROP TRIGGER records_no_update ON records",
        "DROP TABLE records",
        "ALTER FUNCTION refuse_change() RENAME TO refuse_nothing",
    ):
        with pytest.raises(ProgrammingError), database.write() as connection:
            connection.execute(text(order))


def test_the_service_has_what_it_needs_and_no_more(
    server: PostgresServer, name: str, database: Database
) -> None:
    """Every table can be read and added to; migrating again takes back what was given since."""
    with database.read() as connection:
        assert excess(connection) == []
        rows = connection.execute(text(_GRANTED), {"role": SERVICE}).mappings()
        granted = {row["table_name"]: row["granted"] for row in rows}
    work = dict.fromkeys(metadata.tables, "DELETE INSERT SELECT UPDATE")
    expected = work | dict.fromkeys(NAMES, "INSERT SELECT") | {"alembic_version": "SELECT"}
    assert granted == expected
    server.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {SERVICE}", name)
    with database.read() as connection:
        assert excess(connection) == NAMES
    migrate(server.url(name, OWNER), service_role=SERVICE)
    with database.read() as connection:
        assert excess(connection) == []


_GRANTED = """
SELECT table_name, string_agg(privilege_type, ' ' ORDER BY privilege_type) AS granted
FROM information_schema.role_table_grants
WHERE grantee = :role AND table_schema = 'public'  -- the workflow engine's own schema is its affair
GROUP BY 1
"""


def test_protection_that_was_lifted_is_named(
    server: PostgresServer, name: str, database: Database
) -> None:
    """A trigger that is switched off, or set to spare replicas, or gone."""
    server.execute("ALTER TABLE records DISABLE TRIGGER records_no_update", name)
    server.execute("ALTER TABLE texts ENABLE TRIGGER texts_no_delete", name)
    server.execute("DROP TRIGGER checkpoints_no_truncate ON checkpoints", name)
    with database.read() as connection:
        assert unprotected(connection, EVIDENCE) == ["records", "texts", "checkpoints"]


def test_an_unfinished_index_is_named(
    server: PostgresServer, name: str, database: Database
) -> None:
    """An index that was never completed answers wrongly."""
    server.execute(
        "UPDATE pg_index SET indisvalid = false"
        " WHERE indexrelid = 'ix_records_log_subject'::regclass",
        name,
    )
    with database.read() as connection:
        told = integrity_faults(connection, EVIDENCE)
    assert told == ["the index ix_records_log_subject is not valid"]


def test_unmigrated_and_missing_are_refused(server: PostgresServer) -> None:
    """A database without our schema is not used; one that is not there is not made."""
    name = server.empty()
    database = Database(server.url(name, OWNER))
    with pytest.raises(Unavailable, match="migrate"):
        database.require_schema()
    database.close()
    server.drop(name)
    gone = Database(server.url(name, OWNER))
    with pytest.raises(Unavailable, match="cannot be reached"):
        gone.require_schema()
    with pytest.raises(Unavailable):
        migrate(server.url(name, OWNER))
    gone.close()


def test_a_connection_that_was_cut_is_replaced(
    server: PostgresServer, name: str, database: Database
) -> None:
    """Whoever was inside is told, and the next transaction gets a new connection."""

    def cut(connection: Connection) -> None:
        _add(connection, "a")
        server.execute(_END_ALL, values=(name,))

    with pytest.raises(Unavailable), database.write() as connection:
        cut(connection)
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM logs")).scalar_one() == 0


_END_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"


def test_a_writer_that_is_kept_waiting_is_told(
    server: PostgresServer, name: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another node's writer of the same turn is waited for, but not for ever."""
    short = backend._SESSION.replace("'lock_timeout', '10000'", "'lock_timeout', '300'")
    monkeypatch.setattr(backend, "_SESSION", short)
    other = Database(server.url(name))
    begun = time.monotonic()
    with database.write("log demo"):
        with pytest.raises(Unavailable), other.write("log demo"):
            pass
        with other.write("log of somebody else"):
            pass
    assert time.monotonic() - begun > 0.3
    other.close()


def test_a_transaction_whose_node_sleeps_is_ended(
    server: PostgresServer, name: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that was stopped in the middle holds nobody up, and commits nothing afterwards."""
    monkeypatch.setattr(backend, "_SESSION", backend._SESSION.replace("10000", "300"))
    sleeper = Database(server.url(name))

    def sleep(connection: Connection) -> None:
        _add(connection, "a")
        time.sleep(0.6)
        with database.write() as other:
            _add(other, "b")

    with pytest.raises(Unavailable), sleeper.write() as connection:
        sleep(connection)
    with database.read() as connection:
        assert connection.execute(text("SELECT id FROM logs")).scalars().all() == ["b"]
    sleeper.close()


def test_turns_are_kept_between_processes(server: PostgresServer, name: str) -> None:
    """Two processes' writers of one turn lose no update."""
    others = [Database(server.url(name)) for _ in range(2)]  # each with locks of its own

    def add(number: int) -> None:
        with others[number % 2].write() as connection:
            seen = connection.execute(text("SELECT count(*) FROM logs")).scalar_one()
            _add(connection, str(seen))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(60)))
    with others[0].read() as connection:
        ids = connection.execute(text("SELECT id FROM logs")).scalars().all()
    assert sorted(ids, key=int) == [str(number) for number in range(60)]
    for one in others:
        one.close()


def test_what_the_server_finds_damaged_is_an_alarm(database: Database) -> None:
    """An error of PostgreSQL's class XX is nobody's mistake."""
    with pytest.raises(IntegrityAlarm), database.read() as connection:
        connection.execute(text(_DAMAGED))


_DAMAGED = """
DO $$ BEGIN RAISE EXCEPTION 'invalid page in block 7' USING ERRCODE = 'data_corrupted'; END $$
"""
