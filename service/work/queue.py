"""Pieces of work in the database's outbox.

    held ──content arrived──▶ waiting ──hand over──▶ handed ──take──▶ leased ──finish──▶ (row gone)
                                 ▲                                      │
                                 └────────── retry, back-off ───────────┴──too often──▶ failed

Does: adds a piece in the transaction of the fact that causes it, hands pieces to one workflow at a
time, and counts an attempt when it begins, so that work that kills its process is counted too.
Refuses to finish work that another workflow, or a later run of the same, has taken over.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import Connection, and_, bindparam, delete, or_, select, update

from service.law.refusals import LeaseLost
from storage.db.inserting import insert_rows
from storage.db.tables import outbox

_FIRST_PAUSE_S = 1
LONGEST_PAUSE_S = 15 * 60


class State(StrEnum):
    """Where a piece of work stands."""

    HELD = "held"
    """Something else must happen first, such as the arrival of the content."""

    WAITING = "waiting"
    HANDED = "handed"
    """A workflow has it and has not begun."""

    LEASED = "leased"
    """A workflow does it; the lease ends with the work, or when its process is taken for dead."""

    FAILED = "failed"
    """Tried too often; stays for people to see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One piece of work that a workflow has begun.

    Attributes:
        id: its row.
        log: id of the log.
        organ: the organ.
        kind: what is to be done.
        subject: on what, 64 hex digits or an export's id.
        attempts: this one included.
        owner: id of the workflow that does it.
    """

    id: int
    log: str
    organ: str
    kind: str
    subject: str
    attempts: int
    owner: str


def add_pieces(
    connection: Connection,
    *,
    log: str,
    organ: str,
    kind: str,
    subjects: Sequence[str],
    at: datetime,
    state: State = State.WAITING,
) -> None:
    """Leave work behind, in the caller's transaction.

    Args:
        connection: in a write transaction.
        log: id of the log.
        organ: the organ.
        kind: what is to be done.
        subjects: on what; nothing happens for an empty list.
        at: now, UTC.
        state: `HELD` where something else must happen first.
    """
    rows = [
        {
            "log": log,
            "organ": organ,
            "kind": kind,
            "subject": subject,
            "state": state.value,
            "attempts": 0,
            "due_at": at,
            "created_at": at,
        }
        for subject in subjects
    ]
    insert_rows(connection, outbox, rows)


def release_pieces(
    connection: Connection, kind: str, subjects: Sequence[tuple[str, str]], at: datetime
) -> None:
    """Let held work begin.

    Args:
        connection: in a write transaction.
        kind: what is to be done.
        subjects: at least one (id of the log, subject).
        at: now, UTC.
    """
    released = update(outbox).where(
        outbox.c.log == bindparam("of_log"),
        outbox.c.kind == kind,
        outbox.c.subject == bindparam("of_subject"),
        outbox.c.state == State.HELD.value,
    )
    connection.execute(
        released.values(state=State.WAITING.value, due_at=at),
        [{"of_log": log, "of_subject": subject} for log, subject in subjects],
    )


def hand_over(
    connection: Connection,
    kind: str,
    batch: str,
    at: datetime,
    limit: int,
    attempts: int,
    *,
    logs: Collection[str] | None = None,
) -> int:
    """Give pieces that are due to a workflow, oldest first; it begins with `take`.

    A piece that was tried before goes alone, so that one bad item cannot keep failing the good
    ones beside it.

    Args:
        connection: in a write transaction, in which the workflow is enqueued too.
        kind: what can be done.
        batch: id of the workflow.
        at: now, UTC.
        limit: how many at most.
        attempts: how many there are before a piece is shown as failed.
        logs: ids of the logs whose work can be done; None for all.

    Returns:
        How many it got.
    """
    free = and_(outbox.c.state == State.WAITING.value, outbox.c.due_at <= at)
    query = select(outbox.c.id, outbox.c.attempts).where(outbox.c.kind == kind, free)
    if logs is not None:
        query = query.where(outbox.c.log.in_(logs))
    query = query.order_by(outbox.c.due_at, outbox.c.id).limit(limit)
    rows = connection.execute(query.with_for_update(skip_locked=True)).all()
    _fail(connection, [row.id for row in rows if row.attempts >= attempts])
    rows = [row for row in rows if row.attempts < attempts]
    if rows and rows[0].attempts:
        rows = rows[:1]
    ids = [row.id for number, row in enumerate(rows) if not (number and row.attempts)]
    if ids:
        connection.execute(
            update(outbox)
            .where(outbox.c.id.in_(ids))
            .values(state=State.HANDED.value, lease_owner=batch)
        )
    return len(ids)


def kinds_to_hand(connection: Connection, at: datetime) -> frozenset[str]:
    """Kinds of which something is due now and nothing waits for a worker."""
    due = and_(outbox.c.state == State.WAITING.value, outbox.c.due_at <= at)
    query = (
        select(outbox.c.kind, outbox.c.state)
        .where(or_(due, outbox.c.state == State.HANDED.value))
        .distinct()
    )
    found = {(kind, state) for kind, state in connection.execute(query)}
    return frozenset(kind for kind, _ in found if (kind, State.HANDED.value) not in found)


def take(
    connection: Connection, batch: str, at: datetime, *, logs: Collection[str] | None = None
) -> list[Piece]:
    """Begin with the pieces of a workflow, counting an attempt at each.

    What an earlier run of the same workflow had begun and not ended is not begun again here: that
    run ended its process, or was taken for dead. Those pieces wait again, each for a workflow of
    its own, with their attempts counted.

    Args:
        connection: in a write transaction.
        batch: id of the workflow.
        at: now, UTC.
        logs: ids of those whose work can be done here; others' pieces wait again. None for all.
    """
    mine = select(outbox).where(outbox.c.lease_owner == batch).order_by(outbox.c.id)
    rows = connection.execute(mine.with_for_update()).all()
    begun = [row for row in rows if row.state == State.LEASED.value]
    fresh = [row for row in rows if row.state == State.HANDED.value]
    _wait_again(connection, [row.id for row in begun], at)
    elsewhere = [row.id for row in fresh if logs is not None and row.log not in logs]
    _wait_again(connection, elsewhere, at + timedelta(seconds=_FIRST_PAUSE_S))
    taken = [row for row in fresh if row.id not in elsewhere]
    if taken:
        connection.execute(
            update(outbox)
            .where(outbox.c.id.in_([row.id for row in taken]))
            .values(state=State.LEASED.value, attempts=outbox.c.attempts + 1)
        )
    return [
        Piece(
            id=row.id,
            log=row.log,
            organ=row.organ,
            kind=row.kind,
            subject=row.subject,
            attempts=row.attempts + 1,
            owner=batch,
        )
        for row in taken
    ]


def batches(connection: Connection) -> list[str]:
    """Ids of the workflows that have work."""
    query = select(outbox.c.lease_owner).where(outbox.c.lease_owner.is_not(None)).distinct()
    return [str(batch) for batch in connection.execute(query).scalars()]


def take_back(connection: Connection, ended: Sequence[str], at: datetime) -> int:
    """Let work wait again whose workflows have ended or are gone.

    Args:
        connection: in a write transaction.
        ended: ids of workflows that will do nothing any more.
        at: now, UTC.

    Returns:
        How many pieces wait again.
    """
    left = update(outbox).where(outbox.c.lease_owner.in_(ended))
    back = connection.execute(left.values(state=State.WAITING.value, lease_owner=None, due_at=at))
    return back.rowcount


def still_leased(connection: Connection, pieces: Sequence[Piece]) -> frozenset[Piece]:
    """Those of these pieces that nobody else has taken over.

    Until the write transaction ends, nobody can: the log's run beside those that hand over.
    """
    rows = connection.execute(
        select(outbox.c.id, outbox.c.lease_owner, outbox.c.attempts)
        .where(
            outbox.c.id.in_([piece.id for piece in pieces]), outbox.c.state == State.LEASED.value
        )
        .order_by(outbox.c.id)
        .with_for_update()
    )
    leased = {tuple(row) for row in rows}
    return frozenset(p for p in pieces if (p.id, p.owner, p.attempts) in leased)


def is_leased(connection: Connection, subject: str) -> bool:
    """Whether a workflow does work on a subject now.

    Args:
        connection: to the database.
        subject: as in `Piece`.
    """
    leased = (outbox.c.subject == subject, outbox.c.state == State.LEASED.value)
    return connection.execute(select(outbox.c.id).where(*leased).limit(1)).first() is not None


def finish_pieces(connection: Connection, pieces: Sequence[Piece]) -> None:
    """Done: the rows go; what was done is told by its statements.

    Raises:
        LeaseLost: a piece was taken over; nothing may be written for it.
    """
    if len(still_leased(connection, pieces)) != len(pieces):
        raise LeaseLost("Another worker has taken this work over.")
    connection.execute(delete(outbox).where(outbox.c.id.in_([piece.id for piece in pieces])))


def begin_again(connection: Connection, log: str, kind: str, before: datetime, at: datetime) -> int:
    """As `revive_pieces`, whatever pieces failed of, if they were due before a time."""
    given_up = (outbox.c.log == log, outbox.c.kind == kind, outbox.c.state == State.FAILED.value)
    begun = connection.execute(
        update(outbox)
        .where(*given_up, outbox.c.due_at <= before)
        .values(state=State.WAITING.value, attempts=0, due_at=at)
    )
    return begun.rowcount


def drop_pieces(connection: Connection, log: str, subject: str) -> None:
    """Let go of everything that was to be done on a subject: there is nothing left to do it on."""
    connection.execute(delete(outbox).where(outbox.c.log == log, outbox.c.subject == subject))


def finish_piece(connection: Connection, piece: Piece) -> None:
    """As `finish_pieces`, for one."""
    finish_pieces(connection, [piece])


def retry_piece(
    connection: Connection,
    piece: Piece,
    problem: str,
    at: datetime,
    attempts: int,
    *,
    final: bool = False,
) -> State:
    """Put a piece back after a failure, or show it as failed.

    Args:
        connection: in a write transaction.
        piece: as taken.
        problem: code of what went wrong.
        at: now, UTC.
        attempts: how many there are.
        final: whether another attempt could only fail in the same way.

    Returns:
        Where it stands now.
    """
    state = State.FAILED if final or piece.attempts >= attempts else State.WAITING
    connection.execute(
        update(outbox)
        .where(
            outbox.c.id == piece.id,
            outbox.c.lease_owner == piece.owner,
            outbox.c.attempts == piece.attempts,
        )
        .values(
            state=state.value,
            due_at=at + timedelta(seconds=_pause_s(piece.attempts)),
            lease_owner=None,
            problem=problem,
        )
    )
    return state


def revive_pieces(connection: Connection, log: str, kind: str, problem: str, at: datetime) -> int:
    """Begin again with what was given up, once that which it failed of is over.

    Args:
        connection: in a write transaction.
        log: id of the log.
        kind: of the work.
        problem: code of the last failure; what failed of anything else stays failed.
        at: now, UTC.

    Returns:
        How many pieces wait again.
    """
    given_up = (outbox.c.log == log, outbox.c.kind == kind, outbox.c.state == State.FAILED.value)
    revived = connection.execute(
        update(outbox)
        .where(*given_up, outbox.c.problem == problem)
        .values(state=State.WAITING.value, attempts=0, due_at=at)
    )
    return revived.rowcount


def _fail(connection: Connection, ids: Sequence[int]) -> None:
    """Work that ended its process so often that nobody was left to say why."""
    if ids:
        connection.execute(
            update(outbox)
            .where(outbox.c.id.in_(ids))
            .values(state=State.FAILED.value, lease_owner=None)
        )


def _wait_again(connection: Connection, ids: Sequence[int], due_at: datetime) -> None:
    if ids:
        connection.execute(
            update(outbox)
            .where(outbox.c.id.in_(ids))
            .values(state=State.WAITING.value, lease_owner=None, due_at=due_at)
        )


def _pause_s(attempts: int) -> int:
    return min(_FIRST_PAUSE_S * 2 ** (attempts - 1), LONGEST_PAUSE_S)
