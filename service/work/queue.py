"""Pieces of work in the database's outbox.

    held ──content arrived──▶ waiting ──lease──▶ leased ──finish──▶ (row gone)
                                 ▲                  │
                                 └──retry, back-off─┴──too often──▶ failed

Does: adds a piece in the transaction of the fact that causes it, leases pieces to one worker at a
time, and counts attempts when it leases, so that work that kills its process is counted too.
Refuses to finish work whose lease another worker has taken over.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, delete, func, or_, select, update

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
    LEASED = "leased"
    FAILED = "failed"
    """Tried too often; stays for people to see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One leased piece of work.

    Attributes:
        id: its row.
        log: id of the log.
        organ: the organ.
        kind: what is to be done.
        subject: on what, 64 hex digits or an export's id.
        attempts: this one included.
        owner: to whom it is leased.
    """

    id: int
    log: str
    organ: str
    kind: str
    subject: str
    attempts: int
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On what terms pieces are leased.

    Attributes:
        lease_s: how long a piece stays with its worker.
        attempts: after how many attempts it is shown as failed.
    """

    lease_s: int
    attempts: int


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


def lease_pieces(
    connection: Connection,
    kind: str,
    owner: str,
    at: datetime,
    limit: int,
    terms: Terms,
    *,
    logs: Collection[str] | None = None,
) -> list[Piece]:
    """Take pieces that are due, oldest first.

    A piece that was tried before is taken alone, so that one bad item cannot keep failing the
    good ones beside it.

    Args:
        connection: in a write transaction.
        kind: what can be done.
        owner: unique to this worker.
        at: now, UTC.
        limit: how many at most.
        terms: lease and attempts.
        logs: ids of the logs whose work can be done; None for all.
    """
    query = _due(kind, at, logs).order_by(outbox.c.due_at, outbox.c.id).limit(limit)
    rows = connection.execute(query.with_for_update(skip_locked=True)).all()
    _fail(connection, [row.id for row in rows if row.attempts >= terms.attempts])
    rows = [row for row in rows if row.attempts < terms.attempts]
    if rows and rows[0].attempts:
        rows = rows[:1]
    rows = [row for number, row in enumerate(rows) if not (number and row.attempts)]
    until = at + timedelta(seconds=terms.lease_s)
    if rows:
        connection.execute(
            update(outbox)
            .where(outbox.c.id.in_([row.id for row in rows]))
            .values(
                state=State.LEASED.value,
                attempts=outbox.c.attempts + 1,
                lease_owner=owner,
                lease_until=until,
            )
        )
    return [
        Piece(
            id=row.id,
            log=row.log,
            organ=row.organ,
            kind=row.kind,
            subject=row.subject,
            attempts=row.attempts + 1,
            owner=owner,
        )
        for row in rows
    ]


def _due(kind: str, at: datetime, logs: Collection[str] | None) -> Select[Any]:
    free = or_(
        and_(outbox.c.state == State.WAITING.value, outbox.c.due_at <= at),
        and_(outbox.c.state == State.LEASED.value, outbox.c.lease_until <= at),
    )
    query = select(outbox).where(outbox.c.kind == kind, free)
    return query if logs is None else query.where(outbox.c.log.in_(logs))


def still_leased(connection: Connection, pieces: Sequence[Piece]) -> frozenset[Piece]:
    """Those of these pieces whose lease has not run out into another worker's hands.

    Until the transaction ends, nobody else can take them: the log's transactions run beside those
    that lease.

    Args:
        connection: in a write transaction.
        pieces: as leased.
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


def is_leased(connection: Connection, subject: str, at: datetime) -> bool:
    """Whether somebody is doing work on a subject now.

    Args:
        connection: to the database.
        subject: as in `Piece`.
        at: now, UTC.
    """
    live = (outbox.c.state == State.LEASED.value, outbox.c.lease_until > at)
    query = select(outbox.c.id).where(outbox.c.subject == subject, *live).limit(1)
    return connection.execute(query).first() is not None


def finish_pieces(connection: Connection, pieces: Sequence[Piece]) -> None:
    """Done: the rows go; what was done is told by its statements.

    Raises:
        LeaseLost: a piece is no longer this worker's; nothing may be written for it.
    """
    if len(still_leased(connection, pieces)) != len(pieces):
        raise LeaseLost("Another worker has taken this work over.")
    connection.execute(delete(outbox).where(outbox.c.id.in_([piece.id for piece in pieces])))


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
    terms: Terms,
    *,
    final: bool = False,
) -> State:
    """Put a piece back after a failure, or show it as failed.

    Args:
        connection: in a write transaction.
        piece: as leased.
        problem: code of what went wrong.
        at: now, UTC.
        terms: how many attempts there are.
        final: whether another attempt could only fail in the same way.

    Returns:
        Where it stands now.
    """
    state = State.FAILED if final or piece.attempts >= terms.attempts else State.WAITING
    pause_s = min(_FIRST_PAUSE_S * 2 ** (piece.attempts - 1), LONGEST_PAUSE_S)
    connection.execute(
        update(outbox)
        .where(
            outbox.c.id == piece.id,
            outbox.c.lease_owner == piece.owner,
            outbox.c.attempts == piece.attempts,
        )
        .values(
            state=state.value,
            due_at=at + timedelta(seconds=pause_s),
            lease_owner=None,
            lease_until=None,
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
    open_pieces = (outbox.c.log == log, outbox.c.state != State.FAILED.value)
    return connection.execute(select(func.count()).where(*open_pieces)).scalar_one()


def count_pieces(connection: Connection) -> Mapping[tuple[str, str], int]:
    """How many pieces there are by kind and state."""
    rows = connection.execute(
        select(outbox.c.kind, outbox.c.state, func.count()).group_by(outbox.c.kind, outbox.c.state)
    )
    return {(kind, state): count for kind, state, count in rows}


def _fail(connection: Connection, ids: Sequence[int]) -> None:
    """Work that ended its process so often that nobody was left to say why."""
    if ids:
        connection.execute(
            update(outbox)
            .where(outbox.c.id.in_(ids))
            .values(state=State.FAILED.value, lease_owner=None, lease_until=None)
        )
