"""The triggers that make evidence tables append-only, as migrations write them.

Does: refuses UPDATE and DELETE on a table. SQLite's REPLACE deletes the older row first; our
connections set `recursive_triggers`, so the delete trigger refuses that too. Refuses: any
database for which such triggers have not been written and tried.
"""

from collections.abc import Iterator

_REFUSE = "BEGIN SELECT RAISE(ABORT, 'evidence rows are only ever added'); END"


def append_only(dialect: str, table: str) -> Iterator[str]:
    """The statements that protect one evidence table.

    Args:
        dialect: `sqlite`.
        table: the table's name.

    Raises:
        ValueError: another dialect: an unprotected evidence table is never made.
    """
    if dialect != "sqlite":
        raise ValueError(f"no append-only triggers are written for {dialect}")
    yield f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {_REFUSE}"
    yield f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {_REFUSE}"
