"""The triggers that make evidence tables append-only, as migrations write them.

Does: refuses UPDATE and DELETE on a table, and an INSERT whose key is already taken: SQLite's
REPLACE would otherwise delete the older row without asking the delete trigger. Refuses: any
database for which such triggers have not been written and tried.
"""

from collections.abc import Iterator, Sequence

_REFUSE = "BEGIN SELECT RAISE(ABORT, 'evidence rows are only ever added'); END"


def append_only(dialect: str, table: str, keys: Sequence[Sequence[str]]) -> Iterator[str]:
    """The statements that protect one evidence table.

    Args:
        dialect: `sqlite`.
        table: the table's name.
        keys: the columns of its primary key and of every other unique constraint.

    Raises:
        NotImplementedError: another dialect: an unprotected evidence table is never made.
    """
    if dialect != "sqlite":
        raise NotImplementedError(f"no append-only triggers are written for {dialect}")
    taken = " OR ".join(f"({' AND '.join(f'{c} = NEW.{c}' for c in key)})" for key in keys)
    yield f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {_REFUSE}"
    yield f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {_REFUSE}"
    held = f"EXISTS (SELECT 1 FROM {table} WHERE {taken})"  # noqa: S608 - our own names
    yield f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN {held} {_REFUSE}"
