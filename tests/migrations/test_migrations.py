"""Migrations: linear, repeatable, equal to the tables, tried with data, protected after each."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import ProgrammingError

import storage.db.migrations
from storage.db.engine import Database, migrate, unprotected
from storage.db.migrations import current_revision, newest_revision
from storage.db.migrations.triggers import append_only
from storage.db.tables import EVIDENCE, metadata
from tests.postgres import OWNER, SERVICE, PostgresServer

FIRST_ROWS = {
    "records": "'l', 'o', 0, 's', 'k', 'capture', NULL, NULL, :raw, :raw, 1, 1",
    "texts": "'l', 'o', 0, :raw",
    "public_keys": "'l', 'o', 'k', :raw",
    "checkpoints": "'l', 'o', 1, :raw, :raw, 1",
    "cosignatures": "'l', 'o', 1, 'w', '01020304', 'line', 1, 1",
    "timestamps": "'l', 'o', 'checkpoint', 1, 't', :raw, 1, 1",
    "logs": "'l', 'o', 'origin', 1",
    "outbox": "7, 'l', 'o', 'k', 's', 'waiting', 0, 1, NULL, NULL, NULL, 1",
    "uploads": "'l', 's', 'o', 'stored', 'd', 5, 'image/jpeg', NULL, NULL, NULL, 1",
    "tokens": "'t', 'o', 'h', 'read', 'd', 1, 2, NULL",
    "exports": "'e', 'l', 'o', 'ready', 'h', 's', NULL, NULL, NULL, 1, NULL, NULL",
    "views": "'l', 'h', 's', 'o', 1",
}
"""One row for each table of revision 0001, in the order of its columns then."""


@pytest.fixture(params=["sqlite", "postgres", "system_postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of each sort that nobody has migrated, for the role that will own its tables."""
    if request.param == "sqlite":
        folder = tmp_path / "a folder with 100%"
        folder.mkdir()
        yield f"sqlite:///{folder}/fengni.db"
    else:
        server: PostgresServer = request.getfixturevalue(request.param)
        name = server.empty()
        yield server.url(name, OWNER)
        server.drop(name)


def rows(connection: Connection) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table that revision 0001 had; without the column that went since."""
    return {
        table: [
            tuple(value for name, value in row._mapping.items() if name != "lease_until")
            for row in connection.execute(text(f"SELECT * FROM {table}"))  # noqa: S608
        ]
        for table in FIRST_ROWS
    }


def fill(connection: Connection) -> None:
    """One row in each table of revision 0001."""
    for table, values in FIRST_ROWS.items():
        order = text(f"INSERT INTO {table} VALUES ({values})")  # noqa: S608
        connection.execute(order, {"raw": b"\x00\xff"} if ":raw" in values else {})


def test_the_history_is_one_line() -> None:
    """Each revision has one successor, the first has no predecessor, and numbers rise by one."""
    folder = Path(storage.db.migrations.__file__).parent
    revisions = [one.revision for one in ScriptDirectory(str(folder)).walk_revisions()]
    expected = [f"{number:04d}" for number in range(len(revisions), 0, -1)]
    assert revisions == expected


def test_the_migrated_schema_is_that_of_the_tables(empty_url: str) -> None:
    """Running all migrations gives exactly the tables that the code uses, all of them protected."""
    migrate(empty_url, revision=str(newest_revision()))  # without the workflow engine's tables
    database = Database(empty_url)
    with database.read() as connection:
        assert current_revision(connection) == newest_revision()
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert unprotected(connection, EVIDENCE) == []
    database.close()


def test_rows_of_the_first_revision_come_through(empty_url: str) -> None:
    """What was written under revision 0001 is there, unchanged, under the newest; twice as well."""
    migrate(empty_url, revision="0001")
    database = Database(empty_url)
    with database.write() as connection:
        assert current_revision(connection) == "0001"
        fill(connection)
        before = rows(connection)
    for _ in range(2):
        migrate(empty_url)
        with database.read() as connection:
            assert current_revision(connection) == newest_revision()
            assert rows(connection) == before
            assert set(metadata.tables) <= set(inspect(connection).get_table_names())
            assert unprotected(connection, EVIDENCE) == []
    database.close()


def test_work_that_was_leased_by_the_clock_waits_again(empty_url: str) -> None:
    """Revision 0005 knows no such leases; attempts stay counted."""
    migrate(empty_url, revision="0002")
    database = Database(empty_url)
    leased = "7, 'l', 'o', 'k', 's', 'leased', 2, 1, 'a worker', 9, NULL, 1"
    with database.write() as connection:
        connection.execute(text(f"INSERT INTO outbox VALUES ({leased})"))  # noqa: S608
    migrate(empty_url)
    with database.read() as connection:
        query = text("SELECT state, attempts, lease_owner FROM outbox")
        assert tuple(connection.execute(query).one()) == ("waiting", 2, None)
    database.close()


def test_the_service_role_cannot_migrate(postgres: PostgresServer) -> None:
    """Only the owner of the tables changes them."""
    with postgres.database() as name:
        postgres.execute("UPDATE alembic_version SET version_num = '0001'", name)
        with pytest.raises(ProgrammingError, match="permission denied"):
            migrate(postgres.url(name, SERVICE))


def test_a_database_without_triggers_of_its_own_is_refused() -> None:
    """No evidence table is made on a database for which nobody wrote its protection."""
    with pytest.raises(ValueError, match="mysql"):
        list(append_only("mysql", "records"))
