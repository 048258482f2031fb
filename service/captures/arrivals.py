"""Arrivals: the rows of received content, many to a transaction.

A transfer ends with one small row. Written one by one, a busy hour would cost one disk sync each;
here whatever waits goes into one transaction, as in the log's own sealer. There is no timer: a
lone transfer waits for nobody.

Does: notes that content is durable, releases its ingest, and answers. Refuses to note what was
noted before: the first arrival's time stays.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from service.captures.queries import Upload, find_upload, mark_received
from service.work.queue import release_piece
from storage.db.engine import Database
from storage.errors import Unavailable

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
        noted: list[Noted] = []
        with self._db.write() as connection:
            for arrival in arrivals:
                upload, at = arrival.upload, arrival.received_at
                first = mark_received(connection, upload, at)
                if first:
                    release_piece(connection, upload.log, STORE, upload.capture, at)
                row = find_upload(connection, upload.log, upload.capture)
                if row is None:
                    raise Unavailable("an announced capture has lost its row")
                noted.append(Noted(upload=row, first=first))
        return noted
