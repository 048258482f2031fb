"""The sequencer: one thread that turns what waits into one transaction and answers for it.

    wait → drain → transaction → commit → head swapped → tree grown → answers

There is no timer: while one batch is being committed the next one gathers, so the batch grows
with the load and a lone statement waits for nobody. What a crash leaves at each arrow:

- before the commit: nothing; nobody was answered.
- after the commit, before the swap: leaves that nobody was answered for. The start that follows
  finds the database ahead of the head and moves the head.
- after the swap: leaves that will be published by the start that follows; an answer may have
  been lost on the way, and the sender who repeats gets it again.

Refuses: to take anything before the log is confirmed, and to go on when a commit or a swap has an
unknown end, when another node took the log over, or when the database or the head is not as this
thread left it. It then halts, and only a new start, which looks at everything, signs again.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from evidence.merkle import Frontier, inclusion_proof
from evidence.tlog.checkpoint import LogSigner
from storage.errors import (
    LeadershipLost,
    LogRolledBack,
    LogUnconfirmed,
    StorageError,
    Unavailable,
)
from storage.log.batch import Batch, Identity, Verdict, run_batch
from storage.log.heads import Head
from storage.log.leading import Leadership
from storage.log.proving import inclusion_proofs
from storage.log.submission import (
    CommittedHead,
    LogStores,
    Outcome,
    Receipt,
    Submission,
)
from storage.log.tree import LogTree
from storage.records import StoredRecord

MAX_BATCH_ITEMS = 512
"""More than this goes into the next batch; one submission is never cut."""

MAX_WAITING_ITEMS = 8192
"""Beyond this a new submission is sent away: its sender can wait better than our memory."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    submission: Submission
    answer: Future[list[Outcome]]


class Sequencer:
    """The only writer of one log."""

    def __init__(
        self,
        stores: LogStores,
        *,
        organ: str,
        tree: LogTree,
        head: CommittedHead,
        signer: LogSigner,
        clock: Callable[[], datetime],
        committed: Callable[[], None],
        leadership: Leadership,
    ) -> None:
        """Take over a log that recovery found whole; `start` begins to work, `confirm` to take.

        Args:
            stores: with the head held by this process.
            organ: of the log.
            tree: grown to `head`.
            head: the newest commit.
            signer: of the log's origin.
            clock: now, UTC.
            committed: called after each batch, to wake the publisher.
            leadership: asked inside each transaction whether another node took over.
        """
        self._stores = stores
        self._organ = organ
        self._tree = tree
        self._frontier = tree.frontier(head.size)
        self._head = head
        self._signer = signer
        self._clock = clock
        self._committed = committed
        self._confirmed = False
        self._leadership = leadership
        self._queue: deque[_Waiting] = deque()
        self._waiting_items = 0
        self._wake = threading.Condition()
        self._closing = False
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="log-sequencer", daemon=True)

    @property
    def head(self) -> CommittedHead:
        """The newest tree that is in the database, the head store and the tree at once."""
        return self._head

    @property
    def fault(self) -> Exception | None:
        """Why it halted, or None."""
        return self._fault

    @property
    def confirmed(self) -> bool:
        """Whether it may sign, as far as those outside are concerned."""
        return self._confirmed

    def confirm(self) -> None:
        """Take submissions from now on; a halted log stays halted."""
        with self._wake:
            self._confirmed = True

    def require_taking(self) -> None:
        """Demand that submissions are taken at all.

        Raises:
            LogUnconfirmed: not yet.
            StorageError: the log halted, and this is why.
        """
        if self._fault is not None:
            raise self._fault
        if not self._confirmed:
            raise LogUnconfirmed("too few witnesses have told yet how far this log was")

    def start(self) -> None:
        """Begin to take batches."""
        self._thread.start()

    def close(self) -> None:
        """Take nothing more, finish what waits, and end."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def submit(self, submission: Submission) -> Future[list[Outcome]]:
        """Queue a submission.

        Returns:
            A future of one outcome for each item, in their order.

        Raises:
            Unavailable: too much is waiting, or the log is closed; nothing was taken.
            StorageError: see `require_taking`.
        """
        answer: Future[list[Outcome]] = Future()
        with self._wake:
            self.require_taking()
            if self._closing:
                raise Unavailable("the log is closed")
            if self._waiting_items >= MAX_WAITING_ITEMS:
                raise Unavailable("too many statements wait for the log")
            self._queue.append(_Waiting(submission, answer))
            self._waiting_items += len(submission.items)
            self._wake.notify()
        return answer

    def halt(self, fault: Exception) -> None:
        """Sign nothing more; the first reason stays."""
        with self._wake:
            self._fault = self._fault or fault
            self._wake.notify()

    def _run(self) -> None:
        try:
            while batch := self._drain():
                self._answer(batch)
        finally:
            self.halt(Unavailable("the log is closed"))
            for waiting in self._queue:
                _fail(waiting, self._fault or Unavailable("the log is closed"))

    def _drain(self) -> list[_Waiting]:
        """What waits, up to one batch; empty when there is no more to do."""
        with self._wake:
            while not self._queue and not self._closing and self._fault is None:
                self._wake.wait()
            if self._fault is not None:
                return []
            batch: list[_Waiting] = []
            items = 0
            while self._queue:
                items += len(self._queue[0].submission.items)
                if batch and items > MAX_BATCH_ITEMS:
                    break
                batch.append(self._queue.popleft())
                self._waiting_items -= len(batch[-1].submission.items)
            return batch

    def _answer(self, waiting: list[_Waiting]) -> None:
        """Commit a batch, then give every sender what is his: outcomes, or the fault."""
        alive = [one for one in waiting if one.answer.set_running_or_notify_cancel()]
        try:
            outcomes = self._commit([one.submission for one in alive])
        except Exception as error:  # noqa: BLE001 - whatever it is: untold, a sender waits for ever
            fault = _named(error)
            for one in alive:
                one.answer.set_exception(fault)
            return
        for one, outcome in zip(alive, outcomes, strict=True):
            one.answer.set_result(outcome)

    def _commit(self, submissions: Sequence[Submission]) -> list[list[Outcome]]:
        batch = Batch(submissions=submissions, frontier=_copy(self._frontier))
        self._transact(batch)
        first = self._head.size
        if batch.head is not None:
            self._advance(batch, batch.head)
        proofs = inclusion_proofs(first, self._head.size, self._frontier, self._tree.node)
        hashes = dict(zip(batch.fresh, proofs, strict=True))
        return [
            [self._outcome(batch, hashes, verdict) for verdict in verdicts]
            for verdicts in batch.verdicts
        ]

    def _transact(self, batch: Batch) -> None:
        complete = False
        try:
            with self._stores.db.write(self._stores.turn) as connection:
                self._leadership.require(connection)
                run_batch(
                    connection,
                    batch,
                    log=self._stores.log_id,
                    organ=self._organ,
                    before=self._head,
                    signer=self._signer,
                    at=self._clock(),
                )
                complete = True
        except (LogRolledBack, LeadershipLost) as alarm:
            self.halt(alarm)
            raise
        except Exception as error:  # raised again; a driver may fail a commit with anything
            if complete and batch.head is not None:  # the commit itself: it may have happened
                self.halt(_named(error))
            raise

    def _advance(self, batch: Batch, head: CommittedHead) -> None:
        """Move the head store, then the tree, then what readers see."""
        before = Head(size=self._head.size, root=self._head.root)
        try:
            self._stores.heads.swap(before, Head(size=head.size, root=head.root))
            self._tree.add(batch.completed)
        except Exception as error:  # committed, but nobody may be told before a new start
            self.halt(error)
            raise
        self._frontier = batch.frontier
        self._head = head
        self._committed()

    def _outcome(
        self, batch: Batch, hashes: Mapping[Identity, tuple[bytes, ...]], verdict: Verdict
    ) -> Outcome:
        if isinstance(verdict, Exception):
            return verdict
        known = batch.known.get(verdict)
        if known is not None:
            try:
                return receipt_of(known, batch.notes[known.committed_size], self._tree)
            except StorageError as error:  # an old tile is damaged: the new items are not at fault
                return error
        new = batch.fresh[verdict]
        return Receipt(
            statement_id=new.statement.id,
            key_id=new.statement.signer,
            index=new.index,
            received_at=new.received_at,
            size=self._head.size,
            hashes=hashes[verdict],
            checkpoint=self._head.note,
        )


def receipt_of(record: StoredRecord, note: bytes, tree: LogTree) -> Receipt:
    """The receipt of a logged statement, as it was given the first time.

    Args:
        record: of the statement.
        note: the signed checkpoint of `record.committed_size`.
        tree: grown at least so far.
    """
    return Receipt(
        statement_id=record.statement_id,
        key_id=record.key_id,
        index=record.index,
        received_at=record.received_at,
        size=record.committed_size,
        hashes=tuple(inclusion_proof(record.index, record.committed_size, tree.node)),
        checkpoint=note,
    )


def _copy(frontier: Frontier) -> Frontier:
    return Frontier(frontier.size, list(frontier.nodes.values()))


def _fail(waiting: _Waiting, fault: Exception) -> None:
    if waiting.answer.set_running_or_notify_cancel():
        waiting.answer.set_exception(fault)


def _named(error: Exception) -> Exception:
    """The database's own errors under a name of ours; others, which may be faults, as they are."""
    if not isinstance(error, SQLAlchemyError):
        return error
    fault = Unavailable("the database did not take the batch")
    fault.__cause__ = error
    return fault
