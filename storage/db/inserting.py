"""Inserting many rows with few statements.

A driver gives the interpreter away for each statement that it steps through, and must then wait
for its turn again. `executemany` steps once for each row, so a busy batch of a hundred rows would
stand in that queue a hundred times, while one statement with many rows stands there once.

psycopg's usual cursor reads a statement's text for placeholders each time it has more than fifty of
them, which took a third of a batch. Its raw cursor takes PostgreSQL's own `$1` and reads nothing.

Does: writes one multi-row INSERT for up to `MOST_ROWS` rows and binds values as the table's types
demand. Refuses rows that do not all name the same columns.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import cast

import psycopg
from sqlalchemy import Connection, Dialect, LargeBinary, Table
from sqlalchemy.exc import DBAPIError

MOST_ROWS = 64
"""Rows in one statement: 14 columns each stay far below every database's limit of parameters."""


def insert_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert rows in their order.

    Args:
        connection: in a write transaction.
        table: where.
        rows: all with the same columns; nothing happens for an empty list.

    Raises:
        sqlalchemy.exc.IntegrityError: a row breaks a rule of the table.
        KeyError: a row lacks a column that the first one has.
    """
    if not rows:
        return
    names = tuple(rows[0])
    binders = _binders(table, names, connection.dialect)
    driver = _driver(connection)
    for start in range(0, len(rows), MOST_ROWS):
        piece = rows[start : start + MOST_ROWS]
        values = [row[name] for row in piece for name in names]
        for place, bind in binders:
            values[place :: len(names)] = map(bind, values[place :: len(names)])
        sql = _sql(table.name, names, len(piece), numbered=driver is not None)
        if driver is None:
            connection.exec_driver_sql(sql, tuple(values))
        else:
            _run(driver, connection.dialect, sql, values)


_Driver = psycopg.Connection[tuple[object, ...]]


def _driver(connection: Connection) -> _Driver | None:
    """The driver's own connection, in the same transaction; None on SQLite."""
    if connection.dialect.name != "postgresql":
        return None
    return cast("_Driver", connection.connection.driver_connection)


def _run(driver: _Driver, dialect: Dialect, sql: str, values: Sequence[object]) -> None:
    """Never prepared: hardly two batches have as many rows."""
    try:
        with psycopg.RawCursor(driver) as cursor:
            cursor.execute(sql.encode(), values, prepare=False)
    except psycopg.Error as error:
        told = DBAPIError.instance(
            sql, None, error, psycopg.Error, hide_parameters=True, dialect=dialect
        )
        raise told from error


_Bind = Callable[[object], object]


@lru_cache(maxsize=64)
def _binders(
    table: Table, names: tuple[str, ...], dialect: Dialect
) -> tuple[tuple[int, _Bind], ...]:
    """The places of columns whose values the driver does not take as they are, each with its help.

    Bytes need none: every driver takes them, and SQLAlchemy's wrapping costs as much as the row.
    """
    types = [table.c[name].type for name in names]
    bound = ((place, of.bind_processor(dialect)) for place, of in enumerate(types))
    return tuple(
        (place, bind)
        for place, bind in bound
        if bind is not None and not isinstance(types[place], LargeBinary)
    )


@lru_cache(maxsize=512)
def _sql(table: str, names: tuple[str, ...], count: int, *, numbered: bool) -> str:
    """The statement's text; table and columns come from our own schema, never from outside."""
    places = ["?"] * (len(names) * count)
    if numbered:
        places = [f"${number}" for number in range(1, len(places) + 1)]
    rows = (
        ", ".join(places[start : start + len(names)]) for start in range(0, len(places), len(names))
    )
    columns = ", ".join(names)
    return f"INSERT INTO {table} ({columns}) VALUES {', '.join(f'({row})' for row in rows)}"  # noqa: S608
