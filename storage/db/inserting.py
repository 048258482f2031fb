"""Inserting many rows with few statements.

A driver gives the interpreter away for each statement that it steps through, and must then wait
for its turn again. `executemany` steps once for each row, so a busy batch of a hundred rows would
stand in that queue a hundred times, while one statement with many rows stands there once.

Does: writes one multi-row INSERT for up to `MOST_ROWS` rows and binds values as the table's types
demand. Refuses rows that do not all name the same columns.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from sqlalchemy import Connection, Dialect, Table

MOST_ROWS = 64
"""Rows in one statement: 14 columns each stay far below every database's limit of parameters."""

_PLACEHOLDER = {"qmark": "?", "format": "%s", "pyformat": "%s"}


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
    for start in range(0, len(rows), MOST_ROWS):
        piece = rows[start : start + MOST_ROWS]
        values = tuple(
            row[name] if bind is None else bind(row[name])
            for row in piece
            for name, bind in binders
        )
        sql = _sql(table.name, names, len(piece), connection.dialect.paramstyle)
        connection.exec_driver_sql(sql, values)


_Bind = Callable[[object], object]


@lru_cache(maxsize=64)
def _binders(
    table: Table, names: tuple[str, ...], dialect: Dialect
) -> tuple[tuple[str, _Bind | None], ...]:
    """Each column with what turns a value into the driver's form."""
    return tuple((name, table.c[name].type.bind_processor(dialect)) for name in names)


@lru_cache(maxsize=512)
def _sql(table: str, names: tuple[str, ...], count: int, paramstyle: str) -> str:
    """The statement's text; table and columns come from our own schema, never from outside."""
    row = f"({', '.join([_PLACEHOLDER[paramstyle]] * len(names))})"
    columns = ", ".join(names)
    return f"INSERT INTO {table} ({columns}) VALUES {', '.join([row] * count)}"  # noqa: S608
