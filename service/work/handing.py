"""Handing work over: due pieces of one kind become one workflow, in one transaction.

Does: takes pieces from the outbox and enqueues the workflow that will do them in the same
transaction, so that a batch is handed over exactly once, whoever dies. Refuses to hand over a
batch while one of its kind still waits for a worker: pieces that gather meanwhile share the next.
"""

import threading
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from service.logs import get_logger
from service.work.queue import hand_over, kinds_to_hand
from service.work.worker import Task, Terms

GIVE_WAY_S = 30.0
"""So long work lets others go first; under a load that never ends it then goes on beside them."""

_GIVE_WAY_POLL_S = 0.2
_POLL_S = 0.5
Enqueue = Callable[[Connection, str, str], None]
_log = get_logger("handing")


class Handing:
    """One thread that hands over the work of every kind."""

    def __init__(
        self,
        tasks: Sequence[Task],
        terms: Terms,
        enqueue: Enqueue,
        new_id: Callable[[], str],
        room: Callable[[str], bool],
    ) -> None:
        """Prepare; `start` begins.

        Args:
            tasks: every kind that is done.
            terms: of this process.
            enqueue: enqueues the workflow of (connection, kind, id) in its transaction.
            new_id: a fresh id for a workflow.
            room: whether this process could begin another batch of a kind.
        """
        self._tasks = {task.kind: task for task in tasks}
        self._terms = terms
        self._enqueue = enqueue
        self._new_id = new_id
        self._room = room
        self._gave_way_since: dict[str, float] = {}
        self._due = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="handing", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to hand over."""
        self._thread.start()

    def wake(self) -> None:
        """There may be something to hand over, or room for it."""
        self._due.set()

    def close(self) -> None:
        """End after the batch at hand."""
        self._closing.set()
        self._due.set()
        if self._thread.ident is not None:
            self._thread.join()

    def hand_over_once(self, kind: str) -> int:
        """Hand one batch of a kind over; returns how many pieces it holds."""
        task, terms = self._tasks[kind], self._terms
        with terms.db.write() as connection:
            if kind not in kinds_to_hand(connection, terms.clock()):
                return 0  # another process was faster
            batch = self._new_id()
            handed = hand_over(
                connection,
                kind,
                batch,
                terms.clock(),
                task.batch,
                terms.attempts,
                logs=terms.logs(),
            )
            if handed:
                self._enqueue(connection, kind, batch)
        return handed

    def _run(self) -> None:
        while not self._closing.is_set():
            self._due.clear()
            pause_s = _POLL_S
            try:
                with self._terms.db.read() as connection:
                    kinds = kinds_to_hand(connection, self._terms.clock())
                for kind in kinds & self._tasks.keys():
                    if not self._room(kind):
                        continue  # whoever makes room wakes this thread
                    if self._gives_way(self._tasks[kind]):
                        pause_s = _GIVE_WAY_POLL_S
                    else:
                        self.hand_over_once(kind)
            # Mostly the database is away. A thread that ended for it, or for a mistake, would leave
            # work lying until the next start, and nobody would be told.
            except Exception as error:  # noqa: BLE001 - told, and tried again
                _log.error("handing_stalled", exc_info=error)
            self._due.wait(pause_s)

    def _gives_way(self, task: Task) -> bool:
        if not task.gives_way():
            self._gave_way_since.pop(task.kind, None)
            return False
        now = time.monotonic()
        return now < self._gave_way_since.setdefault(task.kind, now) + GIVE_WAY_S
