"""What is to be done again and again, whoever asks: scrub, and clearing away what is past.

    1. an organ whose last scrub is older than `scrub_every_s` gets one piece of work, which the
       engine hands to one process; the log says when the last one was
    2. deliveries that ended longer than `webhooks_kept_s` ago go
    3. packages whose time is over go: from staging that nodes share, and from this node's folder

Does: looks once a minute on each node that works; that several look changes nothing. A piece for a
scrub exists once for each log. Who takes it asks the log again: a run that stated its result and
was killed before it could let go of its work is not done a second time. Refuses to touch what the
log names: only work rows and packages, which can be made anew, are removed.
"""

import threading
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from evidence.errors import EvidenceError
from service.context import Context, Organ
from service.exports.workflow import expire_packages
from service.logs import get_logger
from service.scrub import Bounds, scrub_organ
from service.scrub.last import SCRUB, first_stored, last_scrub
from service.webhooks.deliveries import purge_deliveries
from service.work.counts import has_piece
from service.work.queue import Piece, add_pieces, begin_again, finish_piece
from service.work.worker import Failures, Task
from storage.errors import StorageError

LOOK_S = 60.0
_FAULTS = (StorageError, SQLAlchemyError, EvidenceError, OSError)
_log = get_logger("duties")


class Duties:
    """One thread of each process that works, and the work of a scrub."""

    def __init__(self, context: Context) -> None:
        """Prepare; `start` begins."""
        self._context = context
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="duties", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """End after the look at hand; a scrub that runs ends after its content, and is stated."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def task(self) -> Task:
        """The scrub of one organ."""
        return Task(kind=SCRUB, do=self.scrub)

    def look(self) -> int:
        """Do what is due now (1 to 3); returns how many scrubs were left to the engine."""
        context = self._context
        at = context.clock()
        kept_since = at - timedelta(seconds=context.settings.webhooks_kept_s)
        with context.db.write() as connection:
            purge_deliveries(connection, kept_since)
        expire_packages(context)
        return sum(self._ask(organ, at) for organ in context.organs.values())

    def scrub(self, pieces: Sequence[Piece]) -> Failures:
        """Scrub one organ, unless the log says that it was done meanwhile."""
        context, settings = self._context, self._context.settings
        [piece] = pieces
        organ = context.organs[piece.organ]
        with context.db.read() as connection:
            due = self._is_due(connection, organ, context.clock())
        if due:
            bounds = Bounds(
                size_bytes=settings.scrub_bytes,
                seconds=float(settings.scrub_s),
                ended=self._closing.is_set,
            )
            found = scrub_organ(context, organ, bounds)
            _log.info("scrubbed", organ=organ.id, outcomes=dict(found.outcomes))
        with context.db.write() as connection:
            finish_piece(connection, piece)
            self._show(connection, organ)
        return {}

    def _ask(self, organ: Organ, at: datetime) -> int:
        """Leave the piece of a scrub behind if one is due and none is there (1).

        One that was given up begins again after a period.
        """
        with self._context.db.read() as connection:
            self._show(connection, organ)
            there = has_piece(connection, organ.log_id, SCRUB)
            if not self._is_due(connection, organ, at):
                return 0
        if there:
            before = at - timedelta(seconds=self._context.settings.scrub_every_s)
            with self._context.db.write() as connection:
                return begin_again(connection, organ.log_id, SCRUB, before, at)
        try:
            with self._context.db.write() as connection:
                add_pieces(
                    connection,
                    log=organ.log_id,
                    organ=organ.id,
                    kind=SCRUB,
                    subjects=[SCRUB],
                    at=at,
                )
        except IntegrityError:
            return 0  # another node was faster
        return 1

    def _is_due(self, connection: Connection, organ: Organ, at: datetime) -> bool:
        every_s = self._context.settings.scrub_every_s
        since = self._since(connection, organ)
        return bool(every_s and since is not None and at >= since + timedelta(seconds=every_s))

    def _show(self, connection: Connection, organ: Organ) -> None:
        since = self._since(connection, organ)
        if since is not None:
            self._context.metrics.scrub_last.labels(organ.log_id).set(since.timestamp())

    def _since(self, connection: Connection, organ: Organ) -> datetime | None:
        """The last scrub; before the first one, when there was first something to look at."""
        logs = [log.id for log in organ.settings.logs]
        return last_scrub(connection, logs) or first_stored(connection, logs)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self.look()
            except _FAULTS as error:
                _log.error("duties_stalled", exc_info=error)
            self._closing.wait(LOOK_S)
