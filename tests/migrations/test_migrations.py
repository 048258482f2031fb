"""Migrations: linear, repeatable, equal to the tables, and evidence is protected after each."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

import storage.db.migrations
from storage.db.engine import Database, migrate
from storage.db.migrations import current_revision, newest_revision
from storage.db.migrations.triggers import append_only
from storage.db.tables import EVIDENCE, metadata


def schema(path: Path) -> list[tuple[str, str]]:
    """Return everything that the database declares, by name."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()


def test_the_history_is_one_line() -> None:
    """Each revision has one successor, the first has no predecessor, and numbers rise by one."""
    folder = Path(storage.db.migrations.__file__).parent
    revisions = [one.revision for one in ScriptDirectory(str(folder)).walk_revisions()]
    expected = [f"{number:04d}" for number in range(len(revisions), 0, -1)]
    assert revisions == expected


def test_the_migrated_schema_is_that_of_the_tables(tmp_path: Path) -> None:
    """Running all migrations gives exactly the tables that the code uses."""
    url = f"sqlite:///{tmp_path}/fengni.db"
    migrate(url)
    database = Database(url)
    with database.read() as connection:
        assert current_revision(connection) == newest_revision()
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


def test_migrating_again_changes_nothing(tmp_path: Path) -> None:
    """A second run leaves schema and rows as they are."""
    path = tmp_path / "a folder with 100%" / "fengni.db"
    path.parent.mkdir()
    migrate(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO logs VALUES ('a', 'o', 'origin', 0)")
    before = schema(path)
    migrate(f"sqlite:///{path}")
    assert schema(path) == before
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT id FROM logs").fetchall() == [("a",)]


@pytest.mark.parametrize("table", [table.name for table in EVIDENCE])
def test_every_evidence_table_has_its_triggers(tmp_path: Path, table: str) -> None:
    """No evidence table is left without the two triggers that protect it."""
    migrate(f"sqlite:///{tmp_path}/fengni.db")
    names = {name for name, _sql in schema(tmp_path / "fengni.db")}
    assert {f"{table}_no_update", f"{table}_no_delete"} <= names


def test_a_database_without_triggers_of_its_own_is_refused() -> None:
    """No evidence table is made on a database for which nobody wrote its protection."""
    with pytest.raises(ValueError, match="postgresql"):
        list(append_only("postgresql", "records"))
