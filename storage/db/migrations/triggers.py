"""The triggers that make evidence tables append-only, as migrations write them.

Does: refuses UPDATE and DELETE on a table, and TRUNCATE where a database has it. SQLite's REPLACE
deletes the older row first; our connections set `recursive_triggers`, so the delete trigger
refuses that too. PostgreSQL's triggers fire once for a statement, even for one that meets no row,
and ALWAYS: a session that plays a replica does not get around them. Refuses: any database for
which such triggers have not been written and tried.
"""

from collections.abc import Iterator

_SAID = "evidence rows are only ever added"
_REFUSE = f"BEGIN SELECT RAISE(ABORT, '{_SAID}'); END"
_FUNCTION = f"""
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION '{_SAID}' USING ERRCODE = 'integrity_constraint_violation';
END
$$
"""
_CHANGES = {
    "sqlite": ("update", "delete"),
    "postgresql": ("update", "delete", "truncate"),
}


def trigger_names(dialect: str, table: str) -> list[str]:
    """Names of the triggers that protect one evidence table."""
    return [f"{table}_no_{change}" for change in _CHANGES[dialect]]


def append_only(dialect: str, table: str) -> Iterator[str]:
    """The statements that protect one evidence table.

    Args:
        dialect: `sqlite` or `postgresql`.
        table: the table's name.

    Raises:
        ValueError: another dialect: an unprotected evidence table is never made.
    """
    if dialect not in _CHANGES:
        raise ValueError(f"no append-only triggers are written for {dialect}")
    if dialect == "postgresql":
        yield _FUNCTION
    for change in _CHANGES[dialect]:
        name = f"{table}_no_{change}"
        if dialect == "sqlite":
            yield f"CREATE TRIGGER {name} BEFORE {change.upper()} ON {table} {_REFUSE}"
        else:
            yield (
                f"CREATE TRIGGER {name} BEFORE {change.upper()} ON {table}"
                " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
            )
            yield f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}"
