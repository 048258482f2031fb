"""What anybody may ask of an open log, whoever leads it: receipts, proofs, checkpoint, tiles.

Does: proves from the tree as far as it has grown here. Refuses a tree that nobody was answered
for: what is in the database and not in the head store does not exist yet.
"""

from abc import ABC, abstractmethod

from evidence.merkle import consistency_proof, inclusion_proof
from evidence.tlog.policy import Policy
from storage import records
from storage.errors import NotFound
from storage.log.cosigned import Cosignatures, CosignedCheckpoint
from storage.log.sequencer import receipt_of
from storage.log.serving import published_tile
from storage.log.submission import CommittedHead, LogStores, Receipt
from storage.log.tree import LogTree


class LogReader(ABC):
    """The reading half of a log that this process leads or follows. Threads may share it."""

    def __init__(self, stores: LogStores, tree: LogTree, cosignatures: Cosignatures) -> None:
        """Put together by whoever grows the tree.

        Args:
            stores: of the log.
            tree: grown at least to what `latest` says.
            cosignatures: of the log.
        """
        self._stores = stores
        self._tree = tree
        self.cosignatures = cosignatures

    @abstractmethod
    def latest(self) -> CommittedHead:
        """The newest tree that was answered for, as far as is known here, with its signed note."""

    @abstractmethod
    def published_size(self) -> int:
        """Number of leaves under the published checkpoint, as far as is known here."""

    @abstractmethod
    def reach(self, size: int) -> None:
        """Look whether the log has grown so far, where another process may have made it grow."""

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
            signed = records.checkpoints_of(connection, log, [record.committed_size])
        self.reach(record.committed_size)
        if record.committed_size > self.latest().size:
            raise NotFound("this statement's batch is not complete yet")
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

    def checkpoint(self) -> bytes:
        """The published checkpoint with the cosignature lines known so far.

        Raises:
            NotFound: nothing is published yet.
        """
        if self._stores.tiles.checkpoint() is None:
            raise NotFound("nothing is published yet")
        return self.cosignatures.note(self.published_size())

    def tile(self, path: str) -> bytes:
        """See `serving.published_tile`."""
        return published_tile(self._stores.tiles, path)

    def _require_size(self, size: int) -> None:
        self.reach(size)
        if size > self.latest().size:
            raise ValueError("the log has not grown so far")
