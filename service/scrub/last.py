"""When an organ's contents were last scrubbed, as its logs say.

Does: reads `check` statements from the newest on. Refuses a row of its own for it: the log says it
on every node, and after a rebuild.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from sqlalchemy import Connection, func, select

from evidence.errors import EvidenceError
from evidence.statement import parse_statement
from storage import records
from storage.db.tables import records as record_rows

SCRUB = "scrub"
"""The kind of work that scrubs an organ; there is one piece for each log at most."""


def last_scrub(connection: Connection, logs: Sequence[str]) -> datetime | None:
    """When the last scrub of an organ ended, UTC; None where none did.

    Args:
        connection: of a snapshot or transaction.
        logs: ids of all the organ's logs.
    """
    found = [at for log in logs if (at := _last_in(connection, log)) is not None]
    return max(found, default=None)


def first_stored(connection: Connection, logs: Sequence[str]) -> datetime | None:
    """When the first content of an organ was stored, UTC; None where there is none.

    Args:
        connection: of a snapshot or transaction.
        logs: ids of all the organ's logs.
    """
    query = select(func.min(record_rows.c.received_at)).where(
        record_rows.c.log.in_(logs), record_rows.c.kind == "stored"
    )
    return connection.execute(query).scalar_one_or_none()


def _last_in(connection: Connection, log: str) -> datetime | None:
    query = (
        select(record_rows.c.idx, record_rows.c.received_at)
        .where(record_rows.c.log == log, record_rows.c.kind == "check")
        .order_by(record_rows.c.idx.desc())
    )
    for row in connection.execute(query):
        try:
            said = parse_statement(records.text_at(connection, log, row.idx) or b"")
        except EvidenceError:
            continue  # fsck names it
        if said.body.get("check") == "scrub":
            return cast("datetime", row.received_at)
    return None
