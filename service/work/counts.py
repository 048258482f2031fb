"""What the outbox still holds: of one capture, of one log, in all.

Does: reads. What becomes of a piece is the matter of `service.work.queue`.
"""

from collections.abc import Mapping

from sqlalchemy import Connection, func, select

from service.work.queue import State
from storage.db.tables import outbox


def pieces_of(connection: Connection, log: str, subject: str) -> Mapping[str, tuple[State, str]]:
    """What is still to be done on a subject: (state, last problem or empty) by kind."""
    rows = connection.execute(
        select(outbox.c.kind, outbox.c.state, outbox.c.problem).where(
            outbox.c.log == log, outbox.c.subject == subject
        )
    )
    return {row.kind: (State(row.state), row.problem or "") for row in rows}


def waiting_in(connection: Connection, log: str) -> int:
    """How many pieces of a log are not done and not given up."""
    still_open = (outbox.c.log == log, outbox.c.state != State.FAILED.value)
    return connection.execute(select(func.count()).where(*still_open)).scalar_one()


def count_pieces(connection: Connection) -> Mapping[tuple[str, str], int]:
    """How many pieces there are by kind and state."""
    rows = connection.execute(
        select(outbox.c.kind, outbox.c.state, func.count()).group_by(outbox.c.kind, outbox.c.state)
    )
    return {(kind, state): count for kind, state, count in rows}


def has_piece(connection: Connection, log: str, kind: str) -> bool:
    """Whether any piece of a kind is there for a log, in whatever state."""
    found = select(outbox.c.id).where(outbox.c.log == log, outbox.c.kind == kind).limit(1)
    return connection.execute(found).scalar_one_or_none() is not None
