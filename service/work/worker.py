"""A thread that leases one kind of work and does it until it is told to stop.

Does: leases in batches, calls the slice's function, and puts back what failed. Refuses to die of
one bad piece, and to hide it: each failure is counted at the piece, logged by its code, and ends
in a state that people see.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from evidence.errors import EvidenceError
from service.law.refusals import LeaseLost, Refusal
from service.logs import get_logger
from service.metrics import Metrics
from service.work.queue import Piece, State, Terms, lease_pieces, retry_piece
from storage.db.engine import Database
from storage.errors import StorageError

Failures = Mapping[Piece, Exception]
Do = Callable[[Sequence[Piece]], Failures]
_OURS = (EvidenceError, StorageError, Refusal)
GIVE_WAY_S = 30.0
"""So long work lets others go first; under a load that never ends it then goes on beside them."""

_GIVE_WAY_POLL_S = 0.2
_log = get_logger("work")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One kind of work.

    Attributes:
        kind: as in the outbox.
        do: does a batch: finishes each piece in the transaction of its result, and returns the
            pieces that failed with the reason. What it raises counts for the whole batch.
        batch: how many pieces are taken at once.
        poll_s: how often it looks without being woken, in seconds.
        gives_way: whether something more urgent is running now; then nothing new is begun, for
            at most `GIVE_WAY_S`.
    """

    kind: str
    do: Do
    batch: int = 1
    poll_s: float = 1.0
    gives_way: Callable[[], bool] = lambda: False


class Worker:
    """One thread for one task."""

    def __init__(
        self,
        task: Task,
        *,
        db: Database,
        clock: Callable[[], datetime],
        terms: Terms,
        owner: str,
        metrics: Metrics,
        logs: Callable[[], Collection[str] | None],
    ) -> None:
        """Prepare; `start` begins.

        Args:
            task: what it does.
            db: holds the outbox.
            clock: now, UTC.
            terms: lease and attempts.
            owner: unique to this worker over all processes.
            metrics: counts what ended.
            logs: ids of the logs whose work may be done now; None for all.
        """
        self._task = task
        self._db = db
        self._clock = clock
        self._terms = terms
        self._owner = owner
        self._metrics = metrics
        self._logs = logs
        self._due = threading.Event()
        self._closing = threading.Event()
        self._gave_way_since: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"work-{task.kind}", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def wake(self) -> None:
        """There may be something to do."""
        self._due.set()

    def close(self) -> None:
        """Finish the batch at hand and end."""
        self._closing.set()
        self._due.set()
        if self._thread.ident is not None:
            self._thread.join()

    def work_once(self) -> int:
        """Lease and do one batch; returns how many pieces it held."""
        with self._db.write() as connection:
            pieces = lease_pieces(
                connection,
                self._task.kind,
                self._owner,
                self._clock(),
                self._task.batch,
                self._terms,
                logs=self._logs(),
            )
        if pieces:
            self._do(pieces)
        return len(pieces)

    def _run(self) -> None:
        while not self._closing.is_set():
            if self._gives_way():
                self._closing.wait(_GIVE_WAY_POLL_S)
                continue
            try:
                idle = self.work_once() == 0
            # Mostly the database is away. A thread that ended for it, or for a mistake, would leave
            # work lying until the next start, and nobody would be told.
            except Exception as error:  # noqa: BLE001 - told, and tried again
                _log.error("work_stalled", kind=self._task.kind, exc_info=error)
                idle = True
            if idle:
                self._due.wait(self._task.poll_s)
                self._due.clear()

    def _gives_way(self) -> bool:
        if not self._task.gives_way():
            self._gave_way_since = None
            return False
        now = time.monotonic()
        self._gave_way_since = self._gave_way_since or now
        return now < self._gave_way_since + GIVE_WAY_S

    def _do(self, pieces: Sequence[Piece]) -> None:
        try:
            failures = self._task.do(pieces)
        except _OURS as error:
            failures = dict.fromkeys(pieces, error)
        except Exception as error:  # noqa: BLE001 - a mistake of ours: counted at every piece
            _log.error("work_mistake", kind=self._task.kind, exc_info=error)
            failures = dict.fromkeys(pieces, error)
        for piece, error in failures.items():
            self._put_back(piece, error)
        self._metrics.work.labels(self._task.kind, "done").inc(len(pieces) - len(failures))

    def _put_back(self, piece: Piece, error: Exception) -> None:
        if isinstance(error, LeaseLost):
            self._metrics.work.labels(piece.kind, "lease_lost").inc()
            return
        code = error.code if isinstance(error, _OURS) else "internal"
        with self._db.write() as connection:
            final = isinstance(error, EvidenceError)  # the same bytes are as wrong next time
            state = retry_piece(connection, piece, code, self._clock(), self._terms, final=final)
        outcome = "failed" if state is State.FAILED else "retried"
        self._metrics.work.labels(piece.kind, outcome).inc()
        _log.warning(
            "work_put_back",
            kind=piece.kind,
            subject=piece.subject,
            attempts=piece.attempts,
            code=code,
            state=state.value,
        )
