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
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

from evidence.merkle import consistency_proof, inclusion_proof, tree_root
from evidence.tlog.checkpoint import LogSigner
from evidence.tlog.note import VerifierKey
from evidence.tlog.policy import Policy
from storage import records
from storage.errors import LogRolledBack, NotFound, Unavailable
from storage.log.cosigned import Cosignatures, CosignedCheckpoint
from storage.log.creation import create_log
from storage.log.leading import ALONE, Candidate, lead
from storage.log.publisher import PERIOD_S, Publisher
from storage.log.recovery import Recovered, catch_up, compare, recover
from storage.log.sequencer import Sequencer, receipt_of
from storage.log.serving import published_tile
from storage.log.submission import (
    Appended,
    CommittedHead,
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
    "Log",
    "LogStatus",
    "LogStores",
    "Outcome",
    "PendingStatement",
    "Receipt",
    "Submission",
    "WitnessAnswer",
    "create_log",
]

MAX_UNPUBLISHED_LEAVES = 1 << 18
"""Beyond this new statements are sent away: publication fails, and memory is finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStatus:
    """How a log is doing.

    Attributes:
        size: number of leaves that were answered for.
        published_size: number of leaves under the published checkpoint.
        halted: why nothing is signed any more, or None.
        confirmed: whether enough witnesses have told how far it was, so that it may sign.
        publication: why the last publication failed, or None.
    """

    size: int
    published_size: int
    halted: Exception | None
    confirmed: bool
    publication: Exception | None


class Log:
    """One open log. Threads may share it."""

    def __init__(
        self,
        stores: LogStores,
        recovered: Recovered,
        log_keys: tuple[VerifierKey, ...],
        sequencer: Sequencer,
        publisher: Publisher,
        held: ExitStack,
    ) -> None:
        """Put together by `open`; begins to work."""
        self._stores = stores
        self._sequencer = sequencer
        self._publisher = publisher
        self._tree = recovered.tree
        self._held = held
        self.cosignatures = Cosignatures(stores, recovered.organ, log_keys)
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
        stores.db.require_newest()
        with ExitStack() as opening:
            leadership = opening.enter_context(lead(stores, candidate))
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
        return cls(stores, recovered, signer.verifier_keys, sequencer, publisher, held)

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
            IntegrityAlarm: a tile that the comparison needs is damaged; nothing has changed.
        """
        try:
            compare(witnessed, self.latest().size, lambda size: tree_root(size, self._tree.node))
        except LogRolledBack as alarm:
            self._sequencer.halt(alarm)
            raise
        if enough:
            self._sequencer.confirm()

    def require_taking(self) -> None:
        """Demand that statements are taken, before anything is made for the log.

        Raises:
            LogUnconfirmed: see `confirm`.
            StorageError: the log has halted; this is why.
        """
        self._sequencer.require_taking()

    def halt(self, reason: str) -> None:
        """Sign nothing more until a new start, which will look at everything.

        Args:
            reason: what somebody outside knows and we do not, one sentence for the operator.
        """
        self._sequencer.halt(LogRolledBack(reason))

    # ------------------------------------------------------------------ proving

    def latest(self) -> CommittedHead:
        """The newest tree that was answered for, with its signed note."""
        return self._sequencer.head

    def receipt(self, statement_id: str, key_id: str) -> Receipt:
        """The receipt that a statement got when it was logged, byte for byte.

        Raises:
            NotFound: it is not logged, or its batch is not complete yet.
            IntegrityAlarm: a tile or a checkpoint that it needs is damaged.
        """
        log = self._stores.log_id
        with self._stores.db.read() as connection:
            record = records.find_record(connection, log, statement_id)
            if record is None or record.key_id != key_id:
                raise NotFound("this statement is not in the log")
            if record.committed_size > self.latest().size:
                raise NotFound("this statement's batch is not complete yet")
            signed = records.checkpoints_of(connection, log, [record.committed_size])
        return receipt_of(record, signed[record.committed_size].note, self._tree)

    def proof(self, index: int, size: int) -> list[bytes]:
        """Inclusion proof of a leaf in the tree of a size, the leaf's sibling first.

        Args:
            index: 0 ≤ index < size.
            size: at most that of `latest`.

        Raises:
            ValueError: outside these bounds.
            IntegrityAlarm: a tile that it needs is damaged.
        """
        self._require_size(size)
        return inclusion_proof(index, size, self._tree.node)

    def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """Proof that the tree of one size is a beginning of the tree of another.

        Args:
            old_size: 0 ≤ old_size ≤ new_size.
            new_size: at most that of `latest`.

        Raises:
            ValueError: outside these bounds.
            IntegrityAlarm: a tile that it needs is damaged.
        """
        self._require_size(new_size)
        return consistency_proof(old_size, new_size, self._tree.node)

    def newest_cosigned(self, index: int, policy: Policy) -> CosignedCheckpoint | None:
        """See `Cosignatures.newest`."""
        return self.cosignatures.newest(index, policy)

    # ------------------------------------------------------------------ serving

    def checkpoint(self) -> bytes:
        """The published checkpoint with the cosignature lines known so far.

        Raises:
            NotFound: nothing is published yet.
        """
        if self._stores.tiles.checkpoint() is None:
            raise NotFound("nothing is published yet")
        return self.cosignatures.note(self._publisher.published_size)

    def tile(self, path: str) -> bytes:
        """See `serving.published_tile`."""
        return published_tile(self._stores.tiles, path)

    def publish(self) -> None:
        """Publish what is committed now, without waiting for the publisher's turn.

        Raises:
            StorageError: see `Publisher.publish`.
        """
        self._publisher.publish(self.latest())

    def status(self) -> LogStatus:
        """How the log is doing, for health checks."""
        return LogStatus(
            size=self.latest().size,
            published_size=self._publisher.published_size,
            halted=self._sequencer.fault,
            confirmed=self._sequencer.confirmed,
            publication=self._publisher.fault,
        )

    def _require_size(self, size: int) -> None:
        if size > self.latest().size:
            raise ValueError("the log has not grown so far")
