"""What subscribers are told: the log is followed, and each delivery is sent until it is answered.

    1. what the log has taken since the last look becomes events, with the place of the next look,
       in one transaction: no entry is told twice, and none is left out
    2. each delivery is a piece of work of its own: sent, signed anew at every attempt, with the
       same id; a subscriber tells repeats by it
    3. 2xx is a yes; 410 ends it; anything else, and silence, is tried again later

Does: both. Refuses to tell what is not committed, and to hold anything up: sealing waits for no
subscriber.
"""

import threading
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, select, update
from sqlalchemy.exc import SQLAlchemyError

from evidence.errors import EvidenceError
from evidence.statement import parse_statement
from service.context import Context, Organ
from service.deployment_file import WebhookSettings
from service.key_files import read_key_file
from service.law.refusals import GivenUp, LeaseLost, Refusal
from service.logs import get_logger
from service.settings import SettingsInvalid
from service.webhooks.deliveries import (
    ALARM,
    QUARANTINED,
    STORED,
    WEBHOOK,
    Event,
    add_deliveries,
    find_delivery,
    mark_answered,
)
from service.webhooks.sending import SecretMalformed, Target, read_keys, send
from service.work.queue import Piece, finish_piece, still_leased
from service.work.worker import Failures, Task
from storage import records
from storage.db.inserting import insert_rows
from storage.db.tables import records as record_rows
from storage.db.tables import webhook_places
from storage.errors import NotFound, StorageError, Unavailable
from storage.records import StoredRecord

LOOK_S = 1.0
_AT_ONCE = 200
_GONE = 410
_log = get_logger("webhooks")


class Following:
    """One thread that follows the logs of organs with subscribers (1)."""

    def __init__(self, context: Context, left: Callable[[], None]) -> None:
        """Prepare; `start` begins.

        Args:
            context: logs and subscribers.
            left: called when deliveries were left behind.
        """
        self._context = context
        self._left = left
        self._alarmed: set[str] = set()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="following", daemon=True)

    def start(self) -> None:
        """Begin to follow, where anybody has subscribed."""
        if any(organ.settings.webhooks for organ in self._context.organs.values()):
            self._thread.start()

    def close(self) -> None:
        """End after the look at hand."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def look(self, organ: Organ) -> int:
        """Leave deliveries behind for what a log took since the last look; returns how many."""
        context = self._context
        with context.db.write() as connection:
            place = _place(connection, organ, context)
            query = (
                select(record_rows.c.idx, record_rows.c.kind)
                .where(record_rows.c.log == organ.log_id, record_rows.c.idx >= place)
                .order_by(record_rows.c.idx)
                .limit(_AT_ONCE)
            )
            taken = connection.execute(query).all()
            if not taken:
                return 0
            events = [
                (context.new_id().replace("-", ""), event)
                for row in taken
                if row.kind in {"stored", "custody"}
                and (event := _event(connection, organ, row.idx)) is not None
            ]
            count = add_deliveries(connection, organ.settings, events)
            _move(connection, organ, taken[-1].idx + 1)
        return count

    def alarm(self, organ: Organ) -> int:
        """Tell once that a log takes nothing any more, as long as there is a database to say so."""
        status = organ.log.status()
        if status.halted is None or organ.log_id in self._alarmed:
            return 0
        self._alarmed.add(organ.log_id)
        data = {"log": organ.log_id, "alarm": "halted", "size": status.published_size}
        event = Event(kind=ALARM, data=data, at=self._context.clock())
        with self._context.db.write() as connection:
            fresh = self._context.new_id().replace("-", "")
            return add_deliveries(connection, organ.settings, [(fresh, event)])

    def _run(self) -> None:
        while not self._closing.wait(LOOK_S):
            for organ in self._context.organs.values():
                if not organ.settings.webhooks:
                    continue
                try:
                    if self.look(organ) + self.alarm(organ):
                        self._left()
                except (StorageError, SQLAlchemyError, EvidenceError) as error:
                    _log.error("following_stalled", log=organ.log_id, exc_info=error)


class Delivering:
    """Sends deliveries (2, 3)."""

    def __init__(self, context: Context) -> None:
        """Read every subscriber's keys.

        Raises:
            SettingsInvalid: a key file is missing.
            SettingsInvalid: or it holds no key.
        """
        self._context = context
        self._targets = {
            (organ.id, hook.name): _target(context, hook)
            for organ in context.organs.values()
            for hook in organ.settings.webhooks
        }

    def task(self) -> Task:
        """The work that events leave behind; a slow subscriber holds up one of four."""
        return Task(kind=WEBHOOK, do=self.deliver, slots=4)

    def deliver(self, pieces: Sequence[Piece]) -> Failures:
        """Send each."""
        failures: dict[Piece, Exception] = {}
        for piece in pieces:
            try:
                self._deliver(piece)
            except (StorageError, Refusal) as error:
                failures[piece] = error
        return failures

    def _deliver(self, piece: Piece) -> None:
        context = self._context
        with context.db.read() as connection:
            delivery = find_delivery(connection, piece.log, piece.subject)
        if delivery is None:
            raise NotFound("the delivery of this work is not there")
        target = self._targets.get((delivery.organ, delivery.webhook))
        if target is None:
            raise GivenUp("The deployment names no such webhook any more.")
        answer = send(target, delivery.id, delivery.body, context.clock())
        yes = 200 <= answer < 300
        with context.db.write() as connection:
            if piece not in still_leased(connection, [piece]):
                raise LeaseLost("Another worker has taken this delivery over.")
            mark_answered(connection, delivery.id, answer, context.clock() if yes else None)
            if yes:
                finish_piece(connection, piece)
        if answer == _GONE:
            raise GivenUp("The subscriber is gone.")
        if not yes:
            raise Unavailable("a subscriber did not accept a delivery")


def _target(context: Context, hook: WebhookSettings) -> Target:
    try:
        held = read_key_file(context.settings, hook.secret_file)
        keys = read_keys(held.decode("ascii", "replace"))
    except SecretMalformed as error:
        raise SettingsInvalid(f"The webhook {hook.name}: {error}.") from error
    return Target(url=hook.url, keys=keys, private=context.settings.webhooks_private)


def _event(connection: Connection, organ: Organ, index: int) -> Event | None:
    """What an entry means to a subscriber, if anything."""
    record = records.record_at(connection, organ.log_id, index)
    if record is None or record.subject is None:
        return None
    kind = STORED if record.kind == "stored" else _custody(connection, organ, record)
    if kind is None:
        return None
    data: dict[str, str | int] = {
        "capture": record.subject,
        "index": record.index,
        "log": organ.log_id,
        "statement": record.statement_id,
    }
    return Event(kind=kind, data=data, at=record.received_at)


def _custody(connection: Connection, organ: Organ, record: StoredRecord) -> str | None:
    text = records.text_at(connection, organ.log_id, record.index)
    said = None if text is None else parse_statement(text).body.get("event")
    return QUARANTINED if said == "quarantined" else None


def _place(connection: Connection, organ: Organ, context: Context) -> int:
    """Where the next look begins; whoever subscribes is told what comes after that."""
    query = select(webhook_places.c.idx).where(webhook_places.c.log == organ.log_id)
    place = connection.execute(query).scalar_one_or_none()
    if place is None:
        place = organ.log.latest().size
        row = {"log": organ.log_id, "organ": organ.id, "idx": place, "since": context.clock()}
        insert_rows(connection, webhook_places, [row])
    return int(place)


def _move(connection: Connection, organ: Organ, index: int) -> None:
    connection.execute(
        update(webhook_places).where(webhook_places.c.log == organ.log_id).values(idx=index)
    )
