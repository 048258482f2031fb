"""A log that several processes have open: one leads it, the others follow, each can become either.

                  nobody leads ──▶ take it, recover, sequence ──┐
    follow ◀──────────────────────────────────────────────────── leadership lost, commit unknown …

One thread, the *elector*, looks every `POLL_S` who leads. Whoever finds the leader's time run out
asks the log's witnesses, takes the log over with the next epoch, and recovers it exactly as a
start does (`Log.open`): a take-over is a start. Two that try at once are told apart by one row.

Does: hands statements to the leader, wherever it is, and reads from its own tree or the leader's
rows. Refuses to lead again once anything was found damaged or put back: that is shown, and only a
new start looks again. A leadership that was merely lost (this process was paused, the database
was restarted) may be won again. Whoever finds a log led leaves it: nobody hoards, and the nodes
that start later follow.
"""

import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Self

from evidence.tlog.policy import Policy
from storage import records
from storage.db.notices import POLL_S
from storage.errors import (
    HeadConflict,
    IntegrityAlarm,
    LogUnconfirmed,
    NotFound,
    StorageError,
    Unavailable,
)
from storage.log import Log
from storage.log.asking import Asker
from storage.log.cosigned import Cosignatures, CosignedCheckpoint
from storage.log.following import FollowedLog
from storage.log.leading import Candidate, standing
from storage.log.opened import LogStatus, OpenLog
from storage.log.part import Part
from storage.log.reading import LogReader
from storage.log.relay import Relay
from storage.log.submission import (
    CommittedHead,
    Courier,
    LogStores,
    Outcome,
    Receipt,
    Submission,
)

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0
"""Between two questions to witnesses of which too few have answered."""

_READ_S = 1.0
"""How often whoever follows asks for the head unasked; whoever needs a later one asks at once."""


class JoinedLog(OpenLog):
    """One log that this process leads or follows; the interface of `Log`. Threads may share it."""

    def __init__(self, part: Part) -> None:
        """Prepare; `join` begins, and nothing is read or taken before.

        Raises:
            NotFound: the log was never made here.
            Unavailable: a store does not answer, or the database is not migrated.
        """
        stores = part.stores
        stores.heads.require_apart(stores.db)
        stores.db.require_schema()
        self._part = part
        keys = part.signer.verifier_keys
        self.cosignatures = Cosignatures(stores, _organ_of(stores), keys)
        self._term = 0
        self._alarm: Exception | None = None
        self._led: Log | None = None
        self._relay: Relay | None = None
        self._pause_s = _FIRST_PAUSE_S
        self._read_at = time.monotonic()
        self._ended = threading.Event()
        self._elector = threading.Thread(target=self._run, name="log-elector", daemon=True)

    def join(self, courier: Courier) -> None:
        """Lead where nobody does, else follow.

        Args:
            courier: writes statements for other nodes, and reads theirs.

        Raises:
            LogRolledBack: a store or a witness has seen more, or something else.
            IntegrityAlarm: something of ours is damaged; `fsck` tells what.
            Unavailable: a store does not answer.
        """
        part, self._courier = self._part, courier
        self._note_standing()
        if not (self._may_try() and self._try_to_lead()):
            self._now: LogReader = self._follow()
        self._asker = Asker(part.stores, courier, part.notices, leader=self._leader)
        part.notices.tell(part.stores.log_id, self._woken)
        self._asker.start()
        self._elector.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish what waits here, give the log back, and end.

        Raises:
            StorageError: the last publication failed; the next leader does it.
        """
        self._ended.set()
        if self._elector.ident is None:  # it never joined, or leads and did not get further
            self._step_down()
            return
        self._elector.join()
        try:
            self._step_down()
        finally:
            self._asker.close()

    # ---------------------------------------------------------------- appending

    def submit(self, submission: Submission) -> Future[list[Outcome]]:
        """Queue statements that the caller has verified, wherever the log is led.

        See `Log.submit`. At another node `admit` and `effects` are called; here only `pack` of the
        courier must know them.

        Raises:
            LogUnconfirmed, Unavailable, StorageError: as there.
        """
        self.require_taking()
        led = self._led
        if led is None:
            return self._asker.ask(submission)
        try:
            return self._kept(submission, led.submit(submission))
        except StorageError:
            if led.status().halted is None:
                raise
        return self._asker.ask(submission)  # the elector has not looked since it halted

    def require_taking(self) -> None:
        """Demand that statements are taken, as far as is known here; see `Log.require_taking`."""
        if self._alarm is not None:
            raise self._alarm
        led, known = self._led, self._standing
        if led is not None and led.status().halted is None:
            led.require_taking()
        elif known is not None and self._left_s() > 0 and not known.taking:
            raise LogUnconfirmed("too few witnesses have told yet how far this log was")

    def halt(self, reason: str) -> None:
        """Neither sign nor lead any more until a new start; see `Log.halt`.

        Whoever follows has nothing to halt: it believes the head store alone.
        """
        led = self._led
        if led is None:
            return
        led.halt(reason)
        fault = led.status().halted
        if isinstance(fault, IntegrityAlarm):
            self._alarm = self._alarm or fault

    # ------------------------------------------------------------------ reading

    def latest(self) -> CommittedHead:
        """The newest tree that was answered for, as far as is known here."""
        return self._now.latest()

    def reach(self, size: int) -> None:
        """See `LogReader.reach`."""
        self._now.reach(size)

    def receipt(self, statement_id: str, key_id: str) -> Receipt:
        """See `LogReader.receipt`."""
        return self._now.receipt(statement_id, key_id)

    def proof(self, index: int, size: int) -> list[bytes]:
        """See `LogReader.proof`."""
        return self._now.proof(index, size)

    def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """See `LogReader.consistency`."""
        return self._now.consistency(old_size, new_size)

    def newest_cosigned(self, index: int, policy: Policy) -> CosignedCheckpoint | None:
        """See `Cosignatures.newest`."""
        return self.cosignatures.newest(index, policy)

    def checkpoint(self) -> bytes:
        """See `LogReader.checkpoint`."""
        return self._now.checkpoint()

    def tile(self, path: str) -> bytes:
        """See `serving.published_tile`."""
        return self._now.tile(path)

    def publish(self) -> None:
        """See `Log.publish`; whoever follows publishes nothing.

        Raises:
            Unavailable: another node leads.
        """
        if self._led is None:
            raise Unavailable("another node publishes this log")
        self._led.publish()

    @property
    def term(self) -> int:
        """How often this process began to lead it."""
        return self._term

    @property
    def alive(self) -> bool:
        """Whether this process still elects and asks; no thread comes back by itself."""
        return self._elector.is_alive() and self._asker.alive

    @property
    def leads(self) -> bool:
        """Whether this process sequences it now."""
        led = self._led
        return led is not None and led.leads

    def status(self) -> LogStatus:
        """How the log is doing here, for health checks."""
        led, known = self._led, self._standing
        here = None if led is None else led.status()
        leader = None if known is None or self._left_s() <= 0 else known.node
        if here is not None:  # whoever steps down has not looked yet who leads instead
            leader = self._part.node if here.leads else None
        return LogStatus(
            size=self._now.latest().size,
            published_size=0 if here is None else here.published_size,
            halted=self._alarm,
            confirmed=(known is not None and known.taking) if here is None else here.confirmed,
            publication=None if here is None else here.publication,
            leads=here is not None and here.leads,
            leader=leader,
            epoch=None if known is None else known.epoch,
            waited_s=self._asker.waited_s,
        )

    # ----------------------------------------------------------------- electing

    def _run(self) -> None:
        while not self._ended.wait(POLL_S):
            try:
                self._look()
            except IntegrityAlarm as alarm:
                self._alarm = self._alarm or alarm
            except StorageError:  # a store is away: looked at again
                continue

    def _look(self) -> None:
        """One turn: stay, step down, follow, or try to lead."""
        led = self._led
        if led is not None:
            fault = led.status().halted
            if fault is None and self._alarm is None:
                self._confirm(led)
                return
            self._stop_for(fault)
        self._note_standing()
        if self._alarm is not None or (self._may_try() and self._try_to_lead()):
            return
        if not isinstance(self._now, FollowedLog):
            self._now = self._follow()
        elif time.monotonic() - self._read_at > _READ_S:
            self._read_at = time.monotonic()
            self._now.refresh()

    def _note_standing(self) -> None:
        self._standing = standing(self._part.stores.db, self._part.stores.log_id)
        self._seen_at = time.monotonic()

    def _left_s(self) -> float:
        """Seconds until others may try, as far as was seen last."""
        if self._standing is None:
            return 0.0
        return self._standing.left_s - (time.monotonic() - self._seen_at)

    def _may_try(self) -> bool:
        return self._standing is None or self._standing.left_s <= 0

    def _try_to_lead(self) -> bool:
        """Hear the witnesses, take the log, recover it; False where another was faster."""
        part = self._part
        heard = part.witnessed()
        try:
            led = Log.open(
                part.stores,
                signer=part.signer,
                clock=part.clock,
                witnessed=heard.answers,
                confirmed=heard.enough,
                published=part.published,
                period_s=part.period_s,
                candidate=Candidate(node=part.node, channel=part.notices.channel),
            )
        except (Unavailable, HeadConflict):  # or a store is away, or the head moved meanwhile
            return False
        self._term += 1
        self._pause_s = _FIRST_PAUSE_S
        self._relay = Relay(
            part.stores,
            self._courier,
            part.notices,
            submit=led.submit,
            halted=lambda: led.status().halted is not None,
        )
        self._led = self._now = led
        self._relay.start()
        with suppress(StorageError):
            self._note_standing()
        return True

    def _confirm(self, led: Log) -> None:
        """Ask again while too few witnesses have answered."""
        if led.status().confirmed or self._ended.wait(self._pause_s):
            return
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        heard = self._part.witnessed()
        led.confirm(heard.answers, enough=heard.enough)

    def _kept(self, submission: Submission, first: Future[list[Outcome]]) -> Future[list[Outcome]]:
        """The log's answer; where it halted before it had one, that of the next leader.

        Nothing is logged twice: a statement that was committed all the same gets its receipt.
        """
        answer: Future[list[Outcome]] = Future()
        answer.set_running_or_notify_cancel()

        def settle(done: Future[list[Outcome]]) -> None:
            """Runs in the log's thread."""
            fault, led = done.exception(), self._led
            halted = led is None or led.status().halted is not None
            if isinstance(fault, StorageError) and halted and self._alarm is None:
                with suppress(StorageError):
                    self._asker.ask(submission).add_done_callback(partial(_hand_on, answer))
                    return
            _hand_on(answer, done)

        first.add_done_callback(settle)
        return answer

    def _stop_for(self, fault: Exception | None) -> None:
        """End this term: damage for good, anything else until the next one is won."""
        lost = isinstance(fault, StorageError) and not isinstance(fault, IntegrityAlarm)
        if fault is not None and not lost:
            self._alarm = self._alarm or fault
        with suppress(StorageError):
            self._step_down()

    def _step_down(self) -> None:
        led, relay = self._led, self._relay
        if led is None or relay is None:
            return
        relay.end()
        try:
            led.close()
        finally:
            relay.close()
            self._led = self._relay = None  # its tree is read until there is another

    def _follow(self) -> FollowedLog:
        return FollowedLog(self._part.stores, self._part.signer.verifier_keys, self.cosignatures)

    def _leader(self) -> str:
        return "" if self._standing is None else self._standing.channel

    def _woken(self) -> None:
        self._asker.wake()
        relay = self._relay
        if relay is not None:
            relay.wake()


def _organ_of(stores: LogStores) -> str:
    with stores.db.read() as connection:
        known = records.log_of(connection, stores.log_id)
    if known is None:
        raise NotFound("the database does not know this log")
    return known[0]


def _hand_on(answer: Future[list[Outcome]], done: Future[list[Outcome]]) -> None:
    fault = done.exception()
    if fault is None:
        answer.set_result(done.result())
    else:
        answer.set_exception(fault)
