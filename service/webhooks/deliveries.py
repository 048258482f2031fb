"""The rows of deliveries: who is to be told what, and whether he was.

    {"type": "capture.stored", "timestamp": "2026-11-26T09:00:00.000Z",
     "data": {"capture": "…64 hex…", "index": 17, "log": "county-a-2026", "statement": "…64 hex…"}}

Does: work rows only; what happened is told by the log. A delivery and the piece of work that sends
it are written in one transaction.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, delete, exists, insert, or_, select, update

from evidence.schema import format_time
from service.deployment_file import OrganSettings
from service.work.counts import pieces_of
from service.work.queue import State, add_pieces
from storage.db.tables import deliveries, outbox

WEBHOOK = "webhook"
"""The kind of work that a delivery leaves behind."""

STORED = "capture.stored"
QUARANTINED = "capture.quarantined"
EXPORT_READY = "export.ready"
ALARM = "log.alarm"
PENDING = "pending"
DELIVERED = "delivered"
_AT_ONCE = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that subscribers may want to know.

    Attributes:
        kind: one of the four above.
        data: ids, digests, numbers and codes; nothing about people or places.
        at: when, UTC.
    """

    kind: str
    data: Mapping[str, str | int]
    at: datetime

    def body(self) -> bytes:
        """What is sent and signed."""
        told = {"type": self.kind, "timestamp": format_time(self.at), "data": self.data}
        return json.dumps(told, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One delivery.

    Attributes:
        id: 32 hex digits.
        log: id of the log.
        organ: the organ.
        webhook: its name in the deployment file.
        event: the kind of event.
        body: as it is sent.
        state: `pending`, `delivered`, or `failed` where it is no longer tried.
        answer: the last HTTP status, where there was one.
        problem: code of the last failure, or empty.
        created_at: UTC.
    """

    id: str
    log: str
    organ: str
    webhook: str
    event: str
    body: bytes
    state: str
    answer: int | None
    problem: str
    created_at: datetime


def add_deliveries(
    connection: Connection, organ: OrganSettings, events: Sequence[tuple[str, Event]]
) -> int:
    """Leave a delivery behind for each subscriber of each event, in the caller's transaction.

    Args:
        connection: in a write transaction.
        organ: whose subscribers are told.
        events: each with a fresh id of 32 hex digits.

    Returns:
        How many there are.
    """
    count = 0
    for fresh, event in events:
        wanting = [hook for hook in organ.webhooks if event.kind in hook.events]
        for number, hook in enumerate(wanting):
            name = f"{fresh}{number:04x}"
            connection.execute(
                insert(deliveries).values(
                    id=name,
                    log=organ.log.id,
                    organ=organ.id,
                    webhook=hook.name,
                    event=event.kind,
                    body=event.body(),
                    state=PENDING,
                    created_at=event.at,
                )
            )
            add_pieces(
                connection,
                log=organ.log.id,
                organ=organ.id,
                kind=WEBHOOK,
                subjects=[name],
                at=event.at,
            )
            count += 1
    return count


def find_delivery(connection: Connection, log: str, delivery_id: str) -> Delivery | None:
    """One delivery of a log, or None."""
    found = _read(connection, deliveries.c.log == log, deliveries.c.id == delivery_id)
    return found[0] if found else None


def list_deliveries(connection: Connection, limit: int) -> list[Delivery]:
    """The newest deliveries of all logs, newest first."""
    return _read(connection, limit=limit)


def mark_answered(
    connection: Connection, delivery_id: str, answer: int, delivered_at: datetime | None
) -> None:
    """Note what a subscriber answered, and whether that was a yes."""
    values: dict[str, object] = {"answer": answer}
    if delivered_at is not None:
        values |= {"state": DELIVERED, "delivered_at": delivered_at}
    connection.execute(update(deliveries).where(deliveries.c.id == delivery_id).values(**values))


def purge_deliveries(connection: Connection, before: datetime) -> int:
    """Remove deliveries that ended before a time, in a write transaction; returns how many.

    One that was given up ended when it was last tried; its piece of work goes with it. One that is
    still tried, or is sent again, stays.
    """
    work = (
        outbox.c.log == deliveries.c.log,
        outbox.c.kind == WEBHOOK,
        outbox.c.subject == deliveries.c.id,
    )
    given_up = exists().where(*work, outbox.c.state == State.FAILED.value, outbox.c.due_at < before)
    answered = (deliveries.c.state == DELIVERED, deliveries.c.delivered_at < before)
    ended = or_(and_(*answered, ~exists().where(*work)), given_up)
    names = list(connection.execute(select(deliveries.c.id).where(ended).limit(_AT_ONCE)).scalars())
    if names:
        failed = (outbox.c.kind == WEBHOOK, outbox.c.state == State.FAILED.value)
        connection.execute(delete(outbox).where(*failed, outbox.c.subject.in_(names)))
        connection.execute(delete(deliveries).where(deliveries.c.id.in_(names)))
    return len(names)


def replay_delivery(connection: Connection, delivery_id: str, at: datetime) -> bool:
    """Send a delivery again, under the same id; returns whether there is one.

    One that is still being tried is left alone.
    """
    found = _read(connection, deliveries.c.id == delivery_id)
    if not found:
        return False
    one = found[0]
    if one.state == "failed":
        connection.execute(
            update(outbox)
            .where(outbox.c.log == one.log, outbox.c.kind == WEBHOOK, outbox.c.subject == one.id)
            .values(state=State.WAITING.value, attempts=0, due_at=at)
        )
    elif one.state == DELIVERED:
        add_pieces(connection, log=one.log, organ=one.organ, kind=WEBHOOK, subjects=[one.id], at=at)
        connection.execute(
            update(deliveries).where(deliveries.c.id == one.id).values(state=PENDING)
        )
    return True


def _read(connection: Connection, *wanted: object, limit: int = 1) -> list[Delivery]:
    query = select(deliveries).where(*wanted)  # type: ignore[arg-type]
    rows = connection.execute(query.order_by(deliveries.c.created_at.desc()).limit(limit)).all()
    found: list[Delivery] = []
    for row in rows:
        state, problem = pieces_of(connection, row.log, row.id).get(WEBHOOK, (None, ""))
        found.append(
            Delivery(
                id=row.id,
                log=row.log,
                organ=row.organ,
                webhook=row.webhook,
                event=row.event,
                body=row.body,
                state="failed" if state is State.FAILED else row.state,
                answer=row.answer,
                problem=problem,
                created_at=row.created_at,
            )
        )
    return found
