"""The leader's side of the work table: what waits at other nodes is sequenced and answered here.

    woken → rows that wait are taken, oldest first → read, each signature verified again →
    submitted like the leader's own → answers written, many at once → their nodes woken

Does: takes, submits, answers, and removes what dead nodes left. Refuses to believe a row: whoever
administers the database could write one, so `Courier.unpack` verifies everything. Leaves a row as
it is when its own log halts meanwhile: the next leader takes it, and what was logged already gets
its first receipt there.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from storage.db.notices import POLL_S, Notices
from storage.errors import StorageError
from storage.log.mail import KEPT_S, Letter, Mail
from storage.log.submission import Courier, LogStores, Outcome, Submission


class Relay:
    """One term of a leader's service to the other nodes."""

    def __init__(
        self,
        stores: LogStores,
        courier: Courier,
        notices: Notices,
        *,
        submit: Callable[[Submission], Future[list[Outcome]]],
        halted: Callable[[], bool],
    ) -> None:
        """Prepare; `start` begins.

        Args:
            stores: of the log.
            courier: reads submissions and writes answers.
            notices: of this process.
            submit: hands a submission to the log that this process leads.
            halted: whether that log has halted, so that its faults are no answers.
        """
        self._courier = courier
        self._submit = submit
        self._halted = halted
        self._mail = Mail(stores.db, stores.log_id, notices.channel)
        self._taken: set[int] = set()
        self._answered: deque[Letter] = deque()
        self._swept_at = time.monotonic()
        self._wake = threading.Condition()
        self._woken = True
        self._closing = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-relay", daemon=True)

    def start(self) -> None:
        """Begin to take."""
        self._thread.start()

    def wake(self) -> None:
        """There may be a request."""
        with self._wake:
            self._woken = True
            self._wake.notify()

    def end(self) -> None:
        """Take nothing more; what is taken is still answered by `close`."""
        with self._wake:
            self._closing = True
            self._ending.set()
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def close(self) -> None:
        """Write the last answers, once the log has given them."""
        try:
            self._answer()
        except StorageError:  # then the next leader finds the statements logged
            pass
        finally:
            self._mail.close()

    def _run(self) -> None:
        while not self._closing:
            try:
                self._answer()
                taken = self._take()
                self._sweep()
            except StorageError:  # the server is away, and may have lost rows: all is taken again
                self._taken.clear()
                self._ending.wait(POLL_S)
                continue
            with self._wake:
                if not (taken or self._woken or self._answered or self._closing):
                    self._wake.wait(POLL_S)
                self._woken = False

    def _take(self) -> int:
        """Hand on what waits; returns how much it was."""
        letters = self._mail.take(list(self._taken))
        for letter in letters:
            self._taken.add(letter.id)
            try:
                answer = self._submit(self._courier.unpack(letter.content))
            except Exception as error:  # noqa: BLE001 - a foreign row: whatever is wrong with it
                self._note(letter, error)
            else:
                answer.add_done_callback(partial(self._done, letter))
        return len(letters)

    def _done(self, letter: Letter, answer: Future[list[Outcome]]) -> None:
        """Runs in the log's thread."""
        fault = answer.exception()
        if not isinstance(fault, Exception):
            self._note(letter, answer.result())
        else:
            self._note(letter, fault)

    def _note(self, letter: Letter, answer: list[Outcome] | Exception) -> None:
        if isinstance(answer, Exception) and self._halted():
            return  # it stays for the next leader
        packed = self._courier.pack_answer(answer)
        with self._wake:
            self._answered.append(letter._replace(content=packed))
            self._wake.notify()

    def _answer(self) -> None:
        with self._wake:
            letters = list(self._answered)
        if letters:
            self._mail.answer(letters)
            for letter in letters:
                self._taken.discard(letter.id)
            with self._wake:
                for _ in letters:
                    self._answered.popleft()

    def _sweep(self) -> None:
        if time.monotonic() - self._swept_at > KEPT_S:
            self._swept_at = time.monotonic()
            self._mail.sweep()
