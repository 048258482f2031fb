"""Whether another capture needs the same object: bytes under their own digest can be shared.

Does: looks through what the logs of this deployment say is stored. Refuses to guess from a digest
in a work table: a statement that is in force counts. It reads every such text, so it takes as long
as there are many; only disposals of content that is not sealed ask.
"""

from sqlalchemy import Connection, and_, exists, func, select
from sqlalchemy.sql.elements import ColumnElement

from storage.db.tables import records, texts


def is_named_elsewhere(connection: Connection, name: str, capture: str) -> bool:
    """Whether a statement about another capture, not disposed of, says that it lies in this object.

    Args:
        connection: of the database of every log that uses the store.
        name: of the object, 64 hex digits.
        capture: whose statements do not count.
    """
    other = records.alias("other")
    gone = exists().where(
        other.c.log == records.c.log,
        other.c.subject == records.c.subject,
        other.c.kind == "disposed",
    )
    joined = records.join(texts, and_(texts.c.log == records.c.log, texts.c.idx == records.c.idx))
    query = (
        select(records.c.idx)
        .select_from(joined)
        .where(
            records.c.kind.in_(["stored", "inspected"]),
            records.c.subject != capture,
            ~gone,
            _holds(connection, name.encode("ascii")),
        )
        .limit(1)
    )
    return connection.execute(query).first() is not None


def _holds(connection: Connection, part: bytes) -> ColumnElement[bool]:
    if connection.dialect.name == "sqlite":
        return func.instr(texts.c.statement, part) > 0
    return texts.c.statement.op("LIKE", is_comparison=True)(b"%" + part + b"%")
