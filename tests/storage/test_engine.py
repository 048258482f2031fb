"""The database: durable, one writer at a time, and nothing from its rows in its errors."""

import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError

from storage.db.engine import Database, integrity_faults, migrate
from storage.db.tables import logs
from storage.errors import IntegrityAlarm, Unavailable
from storage.log.texts import TextKeys
from tests.storage.log_material import now


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


def test_return_commits_and_raising_rolls_back(database: Database) -> None:
    """A write block that raises leaves nothing."""
    row = {"organ": "o", "created_at": now()}
    with database.write() as connection:
        connection.execute(insert(logs).values(id="kept", origin="a", **row))
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(insert(logs), [{"id": i, "origin": i, **row} for i in ("lost", "kept")])
    with database.read() as connection:
        assert connection.execute(select(logs.c.id)).scalars().all() == ["kept"]


def test_a_read_is_one_snapshot(database: Database) -> None:
    """What another thread commits meanwhile is not seen until the next read."""
    row = {"organ": "o", "created_at": now()}
    count = text("SELECT count(*) FROM logs")
    with database.read() as reading:
        assert reading.execute(count).scalar_one() == 0
        with database.write() as writing:
            writing.execute(insert(logs).values(id="new", origin="a", **row))
        assert reading.execute(count).scalar_one() == 0
    with database.read() as reading:
        assert reading.execute(count).scalar_one() == 1


def test_writers_take_turns(database: Database) -> None:
    """Sixteen threads that read and then write lose no update and meet no lock."""

    def add(number: int) -> None:
        with database.write() as connection:
            seen = connection.execute(text("SELECT count(*) FROM logs")).scalar_one()
            values = {"id": str(seen), "organ": "o", "origin": str(number), "created_at": now()}
            connection.execute(insert(logs).values(**values))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(add, range(200)))
    with database.read() as connection:
        ids = connection.execute(select(logs.c.id)).scalars().all()
    assert sorted(ids, key=int) == [str(number) for number in range(200)]


@pytest.mark.parametrize("url", ["postgresql://h/d", "sqlite://", "sqlite:///:memory:"])
def test_other_databases_are_refused(url: str) -> None:
    """Only a SQLite file is taken; another database has no triggers yet."""
    with pytest.raises(ValueError, match="sqlite:///"):
        Database(url)


def test_unmigrated_is_refused(tmp_path: Path) -> None:
    """A missing database is not made, and one without our schema is not used."""
    database = Database(f"sqlite:///{tmp_path}/fengni.db")
    with pytest.raises(Unavailable, match="does not exist"):
        database.require_newest()
    assert list(tmp_path.iterdir()) == []
    sqlite3.connect(tmp_path / "fengni.db").close()
    with pytest.raises(Unavailable, match="migrate"):
        database.require_newest()
    database.close()


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    """A database in a folder that is not there is unavailable."""
    with pytest.raises(Unavailable):
        migrate(f"sqlite:///{tmp_path}/nowhere/fengni.db")


def test_a_damaged_file_is_an_alarm(tmp_path: Path) -> None:
    """Bytes that are no database raise the integrity alarm."""
    url = f"sqlite:///{tmp_path}/fengni.db"
    migrate(url)
    (tmp_path / "fengni.db").write_bytes(b"no database at all" * 1000)
    database = Database(url)
    with pytest.raises(IntegrityAlarm), database.read() as connection:
        connection.execute(select(logs.c.id)).all()
    database.close()


def test_a_sound_file_has_no_faults(database: Database) -> None:
    """A new database is sound."""
    with database.read() as connection:
        assert integrity_faults(connection, [logs]) == []


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


def test_errors_carry_no_rows(database: Database) -> None:
    """An error's text, which may reach a log file, does not hold what was written."""
    values = {"id": "a", "organ": "o", "origin": "secret-origin", "created_at": now()}
    with database.write() as connection:
        connection.execute(insert(logs).values(**values))
    with pytest.raises(IntegrityError) as caught, database.write() as connection:
        connection.execute(insert(logs).values(**values))
    assert "secret-origin" not in str(caught.value)


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
    with database.write() as connection:
        connection.execute(insert(logs).values(id="a", organ="o", origin="b", created_at=now()))
        for path in database.path.parent.iterdir():
            path.chmod(0o644)
    database.require_newest()
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
