"""SQLite: durable settings, a file only for its owner, and damage of it is found."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Table, func, insert, select, text
from sqlalchemy.exc import IntegrityError

from storage.db.engine import Database, integrity_faults, migrate
from storage.db.tables import EVIDENCE, logs
from storage.errors import IntegrityAlarm, Unavailable
from storage.log.texts import TextKeys
from tests.storage.log_material import now
from tests.storage.test_records import fill


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Yield a migrated database."""
    url = f"sqlite:///{tmp_path}/fengni.db"
    migrate(url)
    database = Database(url)
    yield database
    database.close()


def pragma(database: Database, name: str) -> object:
    """Return what a new connection has set."""
    with database.read() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()


def test_durable_settings(database: Database) -> None:
    """Every connection writes ahead, syncs fully and runs delete triggers on REPLACE."""
    assert pragma(database, "journal_mode") == "wal"
    assert pragma(database, "synchronous") == 2
    assert pragma(database, "recursive_triggers") == 1
    assert pragma(database, "foreign_keys") == 1


def test_unmigrated_is_refused(tmp_path: Path) -> None:
    """A missing database is not made, and one without our schema is not used."""
    database = Database(f"sqlite:///{tmp_path}/fengni.db")
    with pytest.raises(Unavailable, match="does not exist"):
        database.require_schema()
    assert list(tmp_path.iterdir()) == []
    sqlite3.connect(tmp_path / "fengni.db").close()
    with pytest.raises(Unavailable, match="migrate"):
        database.require_schema()
    database.close()


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    """A database in a folder that is not there is unavailable."""
    with pytest.raises(Unavailable):
        migrate(f"sqlite:///{tmp_path}/nowhere/fengni.db")


def test_a_file_has_no_roles(tmp_path: Path) -> None:
    """Whoever names a service role for a file has mistaken the database."""
    with pytest.raises(ValueError, match="roles"):
        migrate(f"sqlite:///{tmp_path}/fengni.db", service_role="fengni")


def test_a_damaged_file_is_an_alarm(tmp_path: Path) -> None:
    """Bytes that are no database raise the integrity alarm."""
    url = f"sqlite:///{tmp_path}/fengni.db"
    migrate(url)
    (tmp_path / "fengni.db").write_bytes(b"no database at all" * 1000)
    database = Database(url)
    with pytest.raises(IntegrityAlarm), database.read() as connection:
        connection.execute(select(logs.c.id)).all()
    database.close()


def test_a_broken_index_is_found(tmp_path: Path) -> None:
    """SQLite's own check is asked, and says which index lacks a row."""
    migrate(f"sqlite:///{tmp_path}/fengni.db")
    names = ("ix_outbox_state_due_at", "ix_uploads_state_updated_at")
    with closing(sqlite3.connect(tmp_path / "fengni.db")) as raw, raw:
        raw.execute(
            "INSERT INTO outbox (log, organ, kind, subject, state, attempts, due_at, created_at)"
            " VALUES ('l', 'o', 'k', 's', 'waiting', 0, 0, 0)"
        )
        pages = dict(raw.execute("SELECT name, rootpage FROM sqlite_schema").fetchall())
        raw.execute("PRAGMA writable_schema = ON")
        for name, other in (names, names[::-1]):
            change = "UPDATE sqlite_schema SET rootpage = ? WHERE name = ?"
            raw.execute(change, (pages[other], name))
    database = Database(f"sqlite:///{tmp_path}/fengni.db")
    with database.read() as connection:
        faults = integrity_faults(connection, [])
    assert "row 1 missing from index ix_outbox_state_due_at" in faults
    database.close()


def test_a_value_of_another_type_is_found(database: Database) -> None:
    """Text where a number belongs, as a flipped bit of a row's header leaves it."""
    values = {"id": "a", "organ": "o", "origin": "b", "created_at": now()}
    with database.write() as connection:
        connection.execute(insert(logs).values(**values))
        connection.execute(text("UPDATE logs SET organ = x'00'"))
    with database.read() as connection:
        assert integrity_faults(connection, [logs]) == ["logs has values of another type in 1 rows"]


@pytest.mark.parametrize("table", EVIDENCE, ids=lambda table: table.name)
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE {table} SET organ = 'other'",
        "DELETE FROM {table}",
        "INSERT OR REPLACE INTO {table} SELECT * FROM {table}",
        "UPDATE OR REPLACE {table} SET log = 'other'",
    ],
    ids=["update", "delete", "replace", "update-or-replace"],
)
def test_no_evidence_row_can_be_changed(database: Database, table: Table, change: str) -> None:
    """UPDATE, DELETE and REPLACE on an evidence table are refused, and nothing is different."""
    with database.write() as connection:
        fill(connection)
    with database.read() as connection:
        before = connection.execute(select(table)).all()
    with (
        pytest.raises(IntegrityError, match="only ever added"),
        database.write() as connection,
    ):
        connection.execute(text(change.format(table=table.name)))
    with database.read() as connection:
        assert connection.execute(select(table)).all() == before
        assert connection.execute(select(func.count()).select_from(table)).scalar_one() > 0


@pytest.fixture
def open_umask() -> Iterator[None]:
    """What most accounts have: others may read what they make."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """The files of a folder with their modes."""
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


@pytest.mark.usefixtures("open_umask")
def test_only_its_owner_reads_a_database(tmp_path: Path) -> None:
    """The file and what SQLite writes beside it, while it is open."""
    url = f"sqlite:///{tmp_path}/fengni.db"
    migrate(url)
    database = Database(url)
    row = {"id": "a", "organ": "o", "origin": "b", "created_at": now()}
    with database.write() as connection:
        connection.execute(insert(logs).values(**row))
    names = ("fengni.db", "fengni.db-wal", "fengni.db-shm")
    assert modes(tmp_path) == dict.fromkeys(names, 0o600)
    database.close()


@pytest.mark.usefixtures("open_umask")
def test_a_database_of_an_earlier_version_is_closed_to_others(database: Database) -> None:
    """What was made for everybody to read is taken back at the next start, while it is open."""
    assert database.path is not None
    with database.write() as connection:
        connection.execute(insert(logs).values(id="a", organ="o", origin="b", created_at=now()))
        for path in database.path.parent.iterdir():
            path.chmod(0o644)
    database.require_schema()
    assert set(modes(database.path.parent).values()) == {0o600}
    with database.read() as connection:
        assert connection.execute(select(logs.c.id)).scalars().all() == ["a"]


@pytest.mark.usefixtures("open_umask")
def test_only_its_owner_reads_the_keys_of_texts(tmp_path: Path) -> None:
    """The key file of texts is kept like the database, also one of an earlier version."""
    path = tmp_path / "texts.db"
    keys = TextKeys.create(path)
    keys.provide("log.example", 0, 3)
    names = ("texts.db", "texts.db-wal", "texts.db-shm")
    assert modes(tmp_path) == dict.fromkeys(names, 0o600)
    keys.close()
    path.chmod(0o644)
    again = TextKeys(path)
    assert modes(tmp_path)["texts.db"] == 0o600
    again.close()
