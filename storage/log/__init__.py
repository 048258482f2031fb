"""The log: statements in one order that nobody can change unnoticed, each with its proof.

A `Log` is opened by one process at a time: the one that leads it and holds its head. Statements go
in by `submit`; what comes out is a `Receipt`: index, inclusion proof and signed checkpoint, the
same for ever. One second later at most it is published as tiles, bundles and checkpoint.

    with Log.open(stores, signer=signer, clock=clock) as log:
        [receipt] = log.submit(Submission(items=(pending,))).result()

Commit and publication are two steps; docs/explanation/log.md tells a leaf's life. The package
refuses to sign when anything it can ask has seen more, or something else, than it has, and, where
its opener says that too few have answered, before `confirm`.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import datetime
from types import TracebackType
from typing import Self

from evidence.merkle import tree_root
from evidence.tlog.checkpoint import LogSigner
from evidence.tlog.note import VerifierKey
from storage.errors import LeadershipLost, LogRolledBack, StorageError, Unavailable
from storage.log.cosigned import Cosignatures, CosignedCheckpoint
from storage.log.creation import create_log
from storage.log.leading import ALONE, Candidate, Leadership, lead
from storage.log.opened import LogStatus, OpenLog
from storage.log.publisher import PERIOD_S, Publisher
from storage.log.reading import LogReader
from storage.log.recovery import Recovered, catch_up, compare, recover
from storage.log.sequencer import Sequencer
from storage.log.submission import (
    Appended,
    CommittedHead,
    Courier,
    LogStores,
    Outcome,
    PendingStatement,
    Receipt,
    Submission,
    WitnessAnswer,
)

__all__ = [
    "Appended",
    "Candidate",
    "CommittedHead",
    "CosignedCheckpoint",
    "Courier",
    "Log",
    "LogStatus",
    "LogStores",
    "OpenLog",
    "Outcome",
    "PendingStatement",
    "Receipt",
    "Submission",
    "WitnessAnswer",
    "create_log",
]

MAX_UNPUBLISHED_LEAVES = 1 << 18
"""Beyond this new statements are sent away: publication fails, and memory is finite."""


class Log(LogReader, OpenLog):
    """One open log that this process leads. Threads may share it."""

    def __init__(
        self,
        stores: LogStores,
        recovered: Recovered,
        log_keys: tuple[VerifierKey, ...],
        sequencer: Sequencer,
        publisher: Publisher,
        leadership: Leadership,
        held: ExitStack,
    ) -> None:
        """Put together by `open`; begins to work."""
        super().__init__(stores, recovered.tree, Cosignatures(stores, recovered.organ, log_keys))
        self._sequencer = sequencer
        self._publisher = publisher
        self._leadership = leadership
        self._held = held
        publisher.start(lambda: sequencer.head, sequencer.halt)
        publisher.wake()
        sequencer.start()

    @classmethod
    def open(
        cls,
        stores: LogStores,
        *,
        signer: LogSigner,
        clock: Callable[[], datetime],
        witnessed: Iterable[WitnessAnswer] = (),
        confirmed: bool = True,
        published: Callable[[CommittedHead], None] = lambda _head: None,
        period_s: float = PERIOD_S,
        candidate: Candidate = ALONE,
    ) -> Self:
        """Recover a log and begin to work; what was committed and not published is published.

        Args:
            stores: of a log that `create_log` made.
            signer: of the log's origin.
            clock: now, UTC.
            witnessed: what each witness that can be reached knows of this log.
            confirmed: False where those are too few: nothing is signed before `confirm`.
            published: called in the publisher's thread after each publication, only to wake.
            period_s: at most one publication in this time.
            candidate: who this process is, and how long it waits for another leader to end.

        Raises:
            Unavailable: another process has this log open, or the database is not migrated.
            NotFound: the log was never made here, or its head or its texts' keys are gone.
            LogRolledBack: a store or a witness has seen more, or something else.
            IntegrityAlarm: something of ours is damaged; `fsck` tells what.
        """
        stores.heads.require_apart(stores.db)
        stores.db.require_schema()
        with ExitStack() as opening:
            leadership = opening.enter_context(lead(stores, candidate, taking=confirmed))
            opening.enter_context(stores.heads.hold())
            recovered = recover(stores, signer.verifier_keys, witnessed)
            publisher = Publisher(
                stores,
                recovered.tree,
                published_size=recovered.published.size,
                published=published,
                permitted=leadership.require_now,
                period_s=period_s,
            )
            catch_up(stores, recovered, publisher)
            sequencer = Sequencer(
                stores,
                organ=recovered.organ,
                tree=recovered.tree,
                head=recovered.head,
                signer=signer,
                clock=clock,
                committed=publisher.wake,
                leadership=leadership,
            )
            if confirmed:
                sequencer.confirm()
            leadership.tell(sequencer.halt)
            held = opening.pop_all()
        return cls(stores, recovered, signer.verifier_keys, sequencer, publisher, leadership, held)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish what waits, publish it, and let go of the head.

        Raises:
            StorageError: the last publication failed; the next start does it.
        """
        with self._held:
            self._sequencer.close()
            self._publisher.close()
            self._publisher.publish(self._sequencer.head)

    # ---------------------------------------------------------------- appending

    def submit(self, submission: Submission) -> Future[list[Outcome]]:
        """Queue statements that the caller has verified.

        Args:
            submission: one or more; their order is kept.

        Returns:
            A future of one outcome for each item, in their order: its receipt, or the
            exception with which `admit` refused it. A statement that is logged already gets
            its first receipt. The future itself fails, for all of its items, if the transaction
            or anything that `admit` and `effects` do fails; then nothing was logged, or the log
            has halted and the next start will tell.

        Raises:
            LogUnconfirmed: see `confirm`.
            Unavailable: too much waits or is unpublished, or the log is closed.
            StorageError: the log has halted; this is why.
        """
        if self.latest().size - self._publisher.published_size > MAX_UNPUBLISHED_LEAVES:
            raise Unavailable("too much is committed and not yet published")
        return self._sequencer.submit(submission)

    def confirm(self, witnessed: Iterable[WitnessAnswer], *, enough: bool) -> None:
        """Compare what witnesses say now with our tree, as at the start, and perhaps begin to sign.

        Args:
            witnessed: what each witness that can be reached knows of this log.
            enough: whether these are enough to sign from now on.

        Raises:
            LogRolledBack: one saw more, or something else; the log has halted.
            LeadershipLost: the same, because another node leads by now.
            IntegrityAlarm: a tile that the comparison needs is damaged; nothing has changed.
        """
        try:
            compare(witnessed, self.latest().size, lambda size: tree_root(size, self._tree.node))
        except LogRolledBack as alarm:
            raise self._halt_for(alarm) from alarm
        if enough:
            self._sequencer.confirm()
            self._leadership.take()

    def require_taking(self) -> None:
        """Demand that statements are taken, before anything is made for the log.

        Raises:
            LogUnconfirmed: see `confirm`.
            StorageError: the log has halted; this is why.
        """
        self._sequencer.require_taking()

    def halt(self, reason: str) -> None:
        """Sign nothing more until a new start, which will look at everything.

        Where another node leads by now, that node knows what is not known here: nobody put
        anything back, and this process merely has to follow.

        Args:
            reason: what somebody outside knows and we do not, one sentence for the operator.

        Raises:
            Unavailable: the database does not say who leads; nothing was changed.
        """
        self._halt_for(LogRolledBack(reason))

    def _halt_for(self, alarm: LogRolledBack) -> StorageError:
        """Halt for an alarm, or because another node leads, which explains it; returns which."""
        reason: StorageError = alarm
        try:
            self._leadership.require_now()
        except LeadershipLost as lost:
            reason = lost
        self._sequencer.halt(reason)
        return reason

    # ------------------------------------------------------------------ reading

    def latest(self) -> CommittedHead:
        """The newest tree that was answered for, with its signed note."""
        return self._sequencer.head

    def published_size(self) -> int:
        """Number of leaves under the published checkpoint."""
        return self._publisher.published_size

    def reach(self, size: int) -> None:
        """Nothing is to be looked for: this process alone makes it grow."""

    def publish(self) -> None:
        """Publish what is committed now, without waiting for the publisher's turn.

        Raises:
            StorageError: see `Publisher.publish`.
        """
        self._publisher.publish(self.latest())

    @property
    def term(self) -> int:
        """There is one."""
        return 1

    @property
    def leads(self) -> bool:
        """Whether this process sequences it: it has not halted."""
        return self._sequencer.fault is None

    def status(self) -> LogStatus:
        """How the log is doing, for health checks."""
        return LogStatus(
            size=self.latest().size,
            published_size=self._publisher.published_size,
            halted=self._sequencer.fault,
            confirmed=self._sequencer.confirmed,
            publication=self._publisher.fault,
            leads=self.leads,
        )
