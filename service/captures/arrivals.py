"""Arrivals: the rows of received content, many to a transaction.

A transfer ends with one small row. Written one by one, a busy hour would cost one disk sync each;
here whatever waits goes into one transaction, as in the log's own sealer. There is no timer: a
lone transfer waits for nobody.

Does: notes that content is durable, releases its ingest, and answers. Refuses to note what was
noted before: the first arrival's time stays.
"""

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from service.captures.queries import ContentState, Upload, find_uploads, mark_received
from service.work.queue import release_pieces
from storage.db.engine import Database
from storage.errors import Unavailable
from storage.log.batch import whole_ms

STORE = "store"
"""The kind of work that an arrival releases."""

_MOST = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Content that is durable in staging and is what was announced.

    Attributes:
        upload: the row as it was before.
        received_at: when its last byte was durable, UTC.
    """

    upload: Upload
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What the row says now.

    Attributes:
        upload: the row.
        first: False where another transfer of the same content had arrived before.
    """

    upload: Upload
    first: bool


_Waiting = tuple[Arrival, "Future[Noted]"]


class Arrivals:
    """One thread that notes arrivals."""

    def __init__(self, db: Database, noted: Callable[[], None]) -> None:
        """Prepare; `start` begins.

        Args:
            db: the database.
            noted: called after each transaction; must only wake somebody.
        """
        self._db = db
        self._noted = noted
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="arrivals", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to note."""
        self._thread.start()

    def close(self) -> None:
        """Note what waits and end."""
        self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def note(self, arrival: Arrival) -> "Future[Noted]":
        """Hand an arrival in; the future is done when its row is committed.

        It fails with `Unavailable` where the database did not take it; the content stays in
        staging and is adopted at the next start, or by the sender's next attempt.
        """
        answer: Future[Noted] = Future()
        answer.set_running_or_notify_cancel()  # a sender who hangs up does not undo an arrival
        self._queue.put((arrival, answer))
        return answer

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            ending = False
            while len(batch) < _MOST and not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    ending = True
                    break
                batch.append(following)
            self._answer(batch)
            if ending:
                return

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        try:
            noted = self._write([arrival for arrival, _ in batch])
        except (SQLAlchemyError, Unavailable) as error:
            fault = Unavailable("the database did not take an arrival")
            fault.__cause__ = error
            for _, answer in batch:
                answer.set_exception(fault)
            return
        for (_, answer), one in zip(batch, noted, strict=True):
            answer.set_result(one)
        self._noted()

    def _write(self, arrivals: Sequence[Arrival]) -> list[Noted]:
        with self._db.write() as connection:
            rows = _rows_of(connection, arrivals)
            fresh: dict[tuple[str, str], Arrival] = {}
            for arrival in arrivals:
                place = (arrival.upload.log, arrival.upload.capture)
                if rows[place].state is ContentState.ANNOUNCED:
                    fresh.setdefault(place, arrival)
            if fresh:
                arrived = [(one.upload, one.received_at) for one in fresh.values()]
                mark_received(connection, arrived)
                release_pieces(connection, STORE, list(fresh), arrived[-1][1])
        return [_noted(arrival, rows, fresh) for arrival in arrivals]


def _rows_of(connection: Connection, arrivals: Sequence[Arrival]) -> dict[tuple[str, str], Upload]:
    """What the database says of each now, by log and capture."""
    rows: dict[tuple[str, str], Upload] = {}
    for log in {arrival.upload.log for arrival in arrivals}:
        captures = [one.upload.capture for one in arrivals if one.upload.log == log]
        found = find_uploads(connection, log, captures)
        if len(found) != len(set(captures)):
            raise Unavailable("an announced capture has lost its row")
        rows |= {(log, capture): upload for capture, upload in found.items()}
    return rows


def _noted(
    arrival: Arrival,
    rows: Mapping[tuple[str, str], Upload],
    fresh: Mapping[tuple[str, str], Arrival],
) -> Noted:
    """The row as it is now, and whether it was this arrival that brought it there."""
    place = (arrival.upload.log, arrival.upload.capture)
    bringer = fresh.get(place)
    if bringer is None:
        return Noted(upload=rows[place], first=False)
    at = whole_ms(bringer.received_at)
    row = replace(rows[place], state=ContentState.RECEIVED, received_at=at)
    return Noted(upload=row, first=bringer is arrival)
