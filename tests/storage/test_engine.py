"""Both databases: durable, one writer at a time, and nothing from their rows in their errors."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError

from storage.db.engine import Database, integrity_faults, unprotected
from storage.db.tables import EVIDENCE, logs
from tests.storage.log_material import now


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Yield a migrated database of each sort."""
    database = Database(database_url)
    yield database
    database.close()


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


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h/d",
        "postgresql+asyncpg://h/d",
        "postgresql+psycopg://h",
        "mysql://h/d",
        "no URL",
        "sqlite://",
        "sqlite:///:memory:",
    ],
)
def test_other_databases_are_refused(url: str) -> None:
    """Only a SQLite file and psycopg's PostgreSQL are taken: the others were never tried."""
    with pytest.raises(ValueError, match="database URL"):
        Database(url)


def test_a_sound_database_has_no_faults(database: Database) -> None:
    """A new database is sound, and every evidence table protected."""
    with database.read() as connection:
        assert integrity_faults(connection, [logs, *EVIDENCE]) == []
        assert unprotected(connection, EVIDENCE) == []


def test_turns_on_a_server_do_not_wait_for_each_other(database: Database) -> None:
    """A log's transaction runs beside those of work on a server; a file has one writer."""
    order: list[str] = []

    def work() -> None:
        with database.write():
            order.append("work")

    with ThreadPoolExecutor(1) as pool:
        with database.write("log demo"):
            other = pool.submit(work)
            wait([other], timeout=1.0 if database.path else 20.0)
            order.append("log")
        other.result(timeout=20)
    assert order == (["log", "work"] if database.path else ["work", "log"])


def test_errors_carry_no_rows(database: Database) -> None:
    """An error's text, which may reach a log file, does not hold what was written."""
    values = {"id": "a", "organ": "o", "origin": "secret-origin", "created_at": now()}
    with database.write() as connection:
        connection.execute(insert(logs).values(**values))
    with pytest.raises(IntegrityError) as caught, database.write() as connection:
        connection.execute(insert(logs).values(**values))
    assert "secret-origin" not in str(caught.value)
