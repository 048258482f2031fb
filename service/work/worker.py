"""One kind of work, and doing a batch of it.

Does: begins with a workflow's pieces, calls the slice's function, and puts back what failed.
Refuses to die of one bad piece, and to hide it: each failure is counted at the piece, logged by
its code, and ends in a state that people see.
"""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from evidence.errors import EvidenceError
from service.law.refusals import GivenUp, LeaseLost, Refusal
from service.logs import get_logger
from service.metrics import Metrics
from service.work.queue import Piece, State, retry_piece, take, take_back
from storage.db.engine import Database
from storage.errors import StorageError

Failures = Mapping[Piece, Exception]
Do = Callable[[Sequence[Piece]], Failures]
_OURS = (EvidenceError, StorageError, Refusal)
_AGAIN_S = 1.0
T = TypeVar("T")
_log = get_logger("work")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One kind of work.

    Attributes:
        kind: as in the outbox.
        do: does a batch: finishes each piece in the transaction of its result, and returns the
            pieces that failed with the reason. What it raises counts for the whole batch.
        batch: how many pieces are taken at once.
        slots: how many batches a process does at once.
        gives_way: whether something more urgent is running now; then nothing new is begun, for
            at most `GIVE_WAY_S`.
    """

    kind: str
    do: Do
    batch: int = 1
    slots: int = 1
    gives_way: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What doing work needs of its process.

    Attributes:
        db: holds the outbox.
        clock: now, UTC.
        attempts: after how many a piece is shown as failed.
        metrics: counts what ended.
        logs: ids of the logs whose work may be done now; None for all.
    """

    db: Database
    clock: Callable[[], datetime]
    attempts: int
    metrics: Metrics
    logs: Callable[[], Collection[str] | None]


class Worker:
    """Does batches of one kind; several threads may."""

    def __init__(self, task: Task, terms: Terms, closing: threading.Event) -> None:
        """Prepare.

        Args:
            task: what it does.
            terms: see there.
            closing: set once nothing new may begin.
        """
        self.task = task
        self._terms = terms
        self._closing = closing

    def work(self, batch: str) -> None:
        """Do the pieces of one workflow; it may be run again at any time, by any process."""
        pieces = self._answered(lambda: self._take(batch))
        if pieces:
            self._do(pieces)

    def _take(self, batch: str) -> list[Piece]:
        terms = self._terms
        with terms.db.write() as connection:
            if self._closing.is_set():
                take_back(connection, [batch], terms.clock())
                return []
            return take(connection, batch, terms.clock(), logs=terms.logs())

    def _do(self, pieces: Sequence[Piece]) -> None:
        try:
            failures = self.task.do(pieces)
        except _OURS as error:
            failures = dict.fromkeys(pieces, error)
        except Exception as error:  # noqa: BLE001 - a mistake of ours: counted at every piece
            _log.error("work_mistake", kind=self.task.kind, exc_info=error)
            failures = dict.fromkeys(pieces, error)
        for piece, error in failures.items():
            self._put_back(piece, error)
        self._terms.metrics.work.labels(self.task.kind, "done").inc(len(pieces) - len(failures))

    def _put_back(self, piece: Piece, error: Exception) -> None:
        if isinstance(error, LeaseLost):
            self._terms.metrics.work.labels(piece.kind, "lease_lost").inc()
            return
        code = error.code if isinstance(error, _OURS) else "internal"
        state = self._answered(lambda: self._retry(piece, code, error))
        outcome = "failed" if state is State.FAILED else "retried"
        self._terms.metrics.work.labels(piece.kind, outcome).inc()
        _log.warning(
            "work_put_back",
            kind=piece.kind,
            subject=piece.subject,
            attempts=piece.attempts,
            code=code,
            state=state.value,
        )

    def _retry(self, piece: Piece, code: str, error: Exception) -> State:
        final = isinstance(error, EvidenceError | GivenUp)  # the same bytes are as wrong next time
        terms = self._terms
        with terms.db.write() as connection:
            at, attempts = terms.clock(), terms.attempts
            return retry_piece(connection, piece, code, at, attempts, final=final)

    def _answered(self, question: Callable[[], T]) -> T:
        """Ask the database until it answers: the engine cannot know what became of a batch."""
        while True:
            try:
                return question()
            except StorageError as error:
                _log.error("work_stalled", kind=self.task.kind, exc_info=error)
                if self._closing.wait(_AGAIN_S):
                    raise
