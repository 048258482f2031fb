"""Asking the node that leads: what is handed in here waits in a work table for its answer.

    wait → write all that waits as one statement → leader woken → answers taken away → answered

What comes while one statement is on its way goes into the next one, as in the sequencer, so many
announcements cost few statements. A leader that dies is waited for: its successor finds the rows.

Does: writes, waits, writes again what a crash of the database took, and gives up after `ANSWER_S`.
Refuses to keep more than `MAX_WAITING_ITEMS` waiting. Whoever is told `log_unanswered` repeats, and
gets the first receipt if the statement was logged after all.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass

from storage.db.notices import POLL_S, Notices
from storage.errors import LogUnanswered, StorageError, Unavailable
from storage.log.leading import LEASE_S
from storage.log.mail import Letter, Mail
from storage.log.sequencer import MAX_WAITING_ITEMS
from storage.log.submission import Courier, LogStores, Outcome, Submission

ANSWER_S = 3 * LEASE_S
"""So long an answer is waited for: a leader may die, and the next one has to look at everything."""

_IDLE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """One submission on its way."""

    request: bytes
    items: int
    answer: Future[list[Outcome]]
    asked_at: float


class Asker:
    """One process's waiting submissions to one log that it does not lead. Threads may share it."""

    def __init__(
        self,
        stores: LogStores,
        courier: Courier,
        notices: Notices,
        *,
        leader: Callable[[], str],
    ) -> None:
        """Prepare; `start` begins.

        Args:
            stores: of the log.
            courier: writes submissions and reads answers.
            notices: wakes.
            leader: the channel where the leader listens, as far as is known.
        """
        self._courier = courier
        self._leader = leader
        self._mail = Mail(stores.db, stores.log_id, notices.channel)
        self._queue: deque[_Asked] = deque()
        self._open: dict[int, _Asked] = {}
        self._items = 0
        self._wake = threading.Condition()
        self._woken = False
        self._broken = False
        self._closing = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-asker", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether somebody asks."""
        return self._thread.is_alive()

    @property
    def waited_s(self) -> float:
        """How long the oldest submission of this process waits."""
        with self._wake:
            times = [one.asked_at for one in (*self._queue, *self._open.values())]
        return time.monotonic() - min(times) if times else 0.0

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def close(self) -> None:
        """Take nothing more, and tell whoever waits that there was no answer."""
        with self._wake:
            self._closing = True
            self._ending.set()
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join()
        self._mail.close()

    def wake(self) -> None:
        """There may be an answer."""
        with self._wake:
            self._woken = True
            self._wake.notify()

    def ask(self, submission: Submission) -> Future[list[Outcome]]:
        """Queue a submission; see `Log.submit`.

        Raises:
            Unavailable: too much waits, or the log is closed; nothing was taken.
        """
        asked = _Asked(
            request=self._courier.pack(submission),
            items=len(submission.items),
            answer=Future(),
            asked_at=time.monotonic(),
        )
        with self._wake:
            if self._closing:
                raise Unavailable("the log is closed")
            if self._items >= MAX_WAITING_ITEMS:
                raise Unavailable("too many statements wait for the log's leader")
            self._queue.append(asked)
            self._items += asked.items
            self._wake.notify()
        return asked.answer

    def _run(self) -> None:
        try:
            while self._wait():
                try:
                    self._mend()
                    self._send()
                    self._collect()
                except StorageError:  # the server is away; everything is looked at again
                    self._broken = True
                    self._ending.wait(POLL_S)
                self._give_up()
        finally:  # also after a mistake of ours: nobody may wait for a thread that is gone
            with self._wake:
                self._closing = True
                left = [*self._queue, *self._open.values()]
            for one in left:
                fault = LogUnanswered("the server was stopped before the log had answered")
                self._settle(one, fault)

    def _wait(self) -> bool:
        """Until there is something to do; False in the end."""
        with self._wake:
            if not (self._queue or self._woken or self._closing):
                self._wake.wait(POLL_S if self._open else _IDLE_S)
            self._woken = False
            return not self._closing

    def _send(self) -> None:
        with self._wake:
            waiting = list(self._queue)
            self._queue.clear()
        if not waiting:
            return
        try:
            ids = self._mail.ask([one.request for one in waiting], self._leader())
        except BaseException:
            with self._wake:
                self._queue.extendleft(reversed(waiting))
            raise
        with self._wake:
            self._open.update(zip(ids, waiting, strict=True))

    def _collect(self) -> None:
        if self._open:
            for letter in self._mail.collect():
                with self._wake:
                    asked = self._open.pop(letter.id, None)
                if asked is not None:
                    self._settle(asked, self._read(letter))

    def _read(self, letter: Letter) -> list[Outcome] | Exception:
        try:
            return self._courier.unpack_answer(letter.content)
        except ValueError as error:
            return error

    def _mend(self) -> None:
        """After a fault: what the server has lost is written again."""
        if self._broken and self._open:
            missing = self._mail.missing(list(self._open))
            with self._wake:
                self._queue.extendleft(self._open.pop(one) for one in reversed(missing))
        self._broken = False

    def _give_up(self) -> None:
        end = time.monotonic() - ANSWER_S
        with self._wake:
            late = {row: one for row, one in self._open.items() if one.asked_at < end}
            for row in late:
                del self._open[row]
            unsent = [one for one in self._queue if one.asked_at < end]
            for one in unsent:
                self._queue.remove(one)
        fault = LogUnanswered("the node that leads this log has not answered; it may be logged")
        for one in (*late.values(), *unsent):
            self._settle(one, fault)
        if late:
            with suppress(StorageError):  # else the leader sweeps them
                self._mail.drop(list(late))

    def _settle(self, asked: _Asked, answer: list[Outcome] | Exception) -> None:
        with self._wake:
            self._items -= asked.items
        if not asked.answer.set_running_or_notify_cancel():
            return
        if isinstance(answer, Exception):
            asked.answer.set_exception(answer)
        else:
            asked.answer.set_result(answer)
