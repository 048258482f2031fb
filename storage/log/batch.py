"""One batch, one transaction: who is admitted, what is written, what is signed.

1. The database still ends where this process left it; else somebody else wrote, or it was put
   back, and nothing is signed.
2. Each item in its order: logged before, or earlier in this batch (a repeat); refused by its
   `admit`; or new, and then it gets the next index.
3. Leaves go to a copy of the tree's edge, which gives size and root.
4. Records, texts and keys are inserted.
5. One checkpoint is signed and inserted.
6. Effects run, once for all submissions that share them.

Does not commit, swap the head or answer: that is the sequencer's. Refuses nothing by itself but
step 1; whatever raises elsewhere leaves the transaction to be rolled back.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Connection

from evidence.leaf import leaf_of
from evidence.merkle import Frontier, hash_leaf
from evidence.tlog.checkpoint import Checkpoint, LogSigner
from storage import records
from storage.errors import LogRolledBack
from storage.log.submission import (
    Appended,
    CommittedHead,
    Effects,
    PendingStatement,
    Submission,
)
from storage.log.tree import Node
from storage.records import NewRecord, StoredCheckpoint, StoredRecord

Identity = tuple[str, str]
Verdict = Identity | Exception


@dataclass(slots=True, kw_only=True)
class Batch:
    """A batch on its way through its transaction.

    Attributes:
        submissions: in the order in which they came.
        frontier: a copy of the tree's edge, grown by the new leaves.
        known: records of items that were logged before.
        notes: signed notes of the checkpoints of `known`, by size.
        verdicts: for each submission and item, its identity or why it was refused.
        appended: for each submission, what is new.
        fresh: the records of what is new, in the order of the log.
        completed: the tree's nodes that the new leaves completed.
        head: what was signed, or None where nothing was new.
    """

    submissions: Sequence[Submission]
    frontier: Frontier
    known: dict[Identity, StoredRecord] = field(default_factory=dict[Identity, StoredRecord])
    notes: dict[int, bytes] = field(default_factory=dict[int, bytes])
    verdicts: list[list[Verdict]] = field(default_factory=list[list[Verdict]])
    appended: list[list[Appended]] = field(default_factory=list[list[Appended]])
    fresh: dict[Identity, NewRecord] = field(default_factory=dict[Identity, NewRecord])
    completed: list[Node] = field(default_factory=list[Node])
    head: CommittedHead | None = None


def run_batch(
    connection: Connection,
    batch: Batch,
    *,
    log: str,
    organ: str,
    before: CommittedHead,
    signer: LogSigner,
    at: datetime,
) -> None:
    """Do steps 1 to 6 of the module's procedure inside an open write transaction.

    Args:
        connection: in a write transaction.
        batch: with submissions and frontier; the rest is filled in.
        log: id of the log.
        organ: of the log.
        before: the head on which the batch builds.
        signer: of the log's origin.
        at: now, UTC; a clock that went back since the last commit is held there.

    Raises:
        LogRolledBack: step 1.
        Exception: whatever `admit` (beyond its refusals), `effects` or the database raise.
    """
    _require_unmoved(connection, log, before)  # 1
    _find_known(connection, log, batch)
    _judge(connection, batch)  # 2
    for new in (new for appended in batch.appended for new in appended):  # 3
        batch.fresh[new.pending.identity] = _grow(batch, new)
    if not batch.fresh:
        return
    size = batch.frontier.size
    records.add_records(connection, log, size, list(batch.fresh.values()))  # 4
    batch.head = _sign(batch.frontier, signer, max(at, before.committed_at))  # 5
    records.add_checkpoint(connection, log, organ, stored_checkpoint(batch.head))
    for effects, appended in _by_effects(batch):  # 6
        effects(connection, appended)


def stored_checkpoint(head: CommittedHead) -> StoredCheckpoint:
    """The row of a head."""
    return StoredCheckpoint(
        size=head.size, root=head.root, note=head.note, committed_at=head.committed_at
    )


def sign_head(signer: LogSigner, size: int, root: bytes, at: datetime) -> CommittedHead:
    """Sign a tree; the caller sees to it that sizes only grow.

    Args:
        signer: of the log's origin.
        size: number of leaves.
        root: 32 bytes.
        at: UTC.
    """
    checkpoint = Checkpoint(origin=signer.origin, size=size, root=root)
    note = signer.sign(checkpoint, int(at.timestamp()))
    return CommittedHead(size=size, root=root, note=note, committed_at=at)


def whole_ms(at: datetime) -> datetime:
    """A time as the database keeps it: UTC, cut to milliseconds."""
    at = at.astimezone(UTC)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def _require_unmoved(connection: Connection, log: str, before: CommittedHead) -> None:
    newest = records.newest_checkpoint(connection, log)
    if newest is None or (newest.size, newest.root) != (before.size, before.root):
        raise LogRolledBack("the database does not end where this process left it")


def _find_known(connection: Connection, log: str, batch: Batch) -> None:
    ids = [item.statement.id for one in batch.submissions for item in one.items]
    found = records.find_records(connection, log, ids)
    if found:
        sizes = sorted({record.committed_size for record in found})
        signed = records.checkpoints_of(connection, log, sizes)
        batch.known = {(record.statement_id, record.key_id): record for record in found}
        batch.notes = {size: checkpoint.note for size, checkpoint in signed.items()}


def _judge(connection: Connection, batch: Batch) -> None:
    index = batch.frontier.size
    taken: set[Identity] = set()
    for submission in batch.submissions:
        verdicts: list[Verdict] = []
        appended: list[Appended] = []
        for item in submission.items:
            if item.identity not in batch.known and item.identity not in taken:
                try:
                    submission.admit(connection, item.statement, index)
                except submission.refusals as refusal:
                    verdicts.append(refusal)
                    continue
                taken.add(item.identity)
                appended.append(Appended(pending=item, index=index))
                index += 1
            verdicts.append(item.identity)
        batch.verdicts.append(verdicts)
        batch.appended.append(appended)


def _by_effects(batch: Batch) -> Iterable[tuple[Effects, list[Appended]]]:
    """What is new, together for each kind of effects: a busy batch then writes its rows at once."""
    shared: dict[Effects, list[Appended]] = {}
    for submission, appended in zip(batch.submissions, batch.appended, strict=True):
        if appended:
            shared.setdefault(submission.effects, []).extend(appended)
    return shared.items()


def _grow(batch: Batch, new: Appended) -> NewRecord:
    item: PendingStatement = new.pending
    leaf = leaf_of(item.statement.id, item.signed.signature, item.public_key)
    leaf_hash = hash_leaf(leaf)
    batch.completed += batch.frontier.append(leaf_hash)
    return NewRecord(
        index=new.index,
        statement=item.statement,
        signature=item.signed.signature,
        public_key=item.public_key,
        leaf_hash=leaf_hash,
        received_at=whole_ms(item.received_at),
    )


def _sign(frontier: Frontier, signer: LogSigner, at: datetime) -> CommittedHead:
    return sign_head(signer, frontier.size, frontier.root(), whole_ms(at))
