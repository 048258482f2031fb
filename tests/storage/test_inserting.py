"""Many rows with few statements: the same rows as one by one, all or none."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, event, select
from sqlalchemy.exc import IntegrityError

from storage.db.engine import Database
from storage.db.inserting import MOST_ROWS, insert_rows
from storage.db.tables import checkpoints

AT = datetime(2026, 11, 26, 9, 0, 0, 123000, tzinfo=UTC)


def row(size: int) -> dict[str, object]:
    """A checkpoint's row."""
    return {
        "log": "demo",
        "organ": "county-a",
        "size": size,
        "root": bytes([size % 256]) * 32,
        "note": b"note \x00 \xff",
        "committed_at": AT,
    }


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """An empty database of each sort."""
    database = Database(database_url)
    yield database
    database.close()


def read(connection: Connection) -> list[dict[str, object]]:
    """Every row, by size."""
    found = connection.execute(select(checkpoints).order_by(checkpoints.c.size)).mappings()
    return [dict(one) for one in found]


@pytest.mark.parametrize("count", [0, 1, 2, MOST_ROWS, MOST_ROWS + 1, 3 * MOST_ROWS + 5])
def test_every_row_arrives_as_it_was(db: Database, count: int) -> None:
    """Bytes, times and integers come back unchanged, whatever the number of rows."""
    rows = [row(size) for size in range(count)]
    with db.write() as connection:
        insert_rows(connection, checkpoints, rows)
    with db.read() as connection:
        assert rows == read(connection)


def test_a_batch_is_a_handful_of_statements(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred rows are two statements, which is why this exists."""
    seen: list[str] = []
    execute = psycopg.RawCursor.execute

    def counted(cursor: Any, query: Any, *values: Any, **how: Any) -> Any:  # noqa: ANN401
        """What goes past SQLAlchemy, to PostgreSQL."""
        seen.append(query.decode()[:6])
        return execute(cursor, query, *values, **how)

    monkeypatch.setattr(psycopg.RawCursor, "execute", counted)
    with db.write() as connection:
        event.listen(
            connection, "before_cursor_execute", lambda *call: seen.append(str(call[2])[:6])
        )
        insert_rows(connection, checkpoints, [row(size) for size in range(100)])
    assert seen == ["INSERT", "INSERT"]


def test_one_bad_row_leaves_nothing(db: Database) -> None:
    """A row that breaks a rule of the table sinks the transaction, not a part of it."""
    with pytest.raises(IntegrityError), db.write() as connection:
        insert_rows(connection, checkpoints, [row(1), row(2), row(1)])
    with pytest.raises(KeyError), db.write() as connection:
        insert_rows(connection, checkpoints, [row(1), {"log": "demo"}])
    with db.read() as connection:
        assert read(connection) == []
