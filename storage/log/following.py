"""A log that another process leads, read here: the tree grows by what that one committed.

    1. the published tree is loaded from its tiles and must have the published root
    2. the head store is asked: its size and root, and nothing else, say how far the log is
    3. the database's leaves up to there are appended and must lead to that root
    4. the database's checkpoint of that size must have that root and the log's signatures

Steps 2 to 4 are repeated as the log grows. What the database has beyond the head store is not
there yet: its leader has answered nobody for it.

Does: reads. Refuses, as a start does, a head store that knows more than the database has, another
root, or less than it knew before; whoever follows then says so and serves what was confirmed.
"""

import threading

from evidence.errors import EvidenceError
from evidence.tlog.checkpoint import open_checkpoint
from evidence.tlog.note import VerifierKey
from evidence.tlog.tiles import TILE_WIDTH
from storage import records
from storage.errors import IntegrityAlarm, LogRolledBack
from storage.log.cosigned import Cosignatures
from storage.log.heads import Head
from storage.log.reading import LogReader
from storage.log.recovery import CATCH_UP_LEAVES, published_head
from storage.log.rows import leaf_hashes
from storage.log.submission import CommittedHead, LogStores
from storage.log.tree import LogTree


class FollowedLog(LogReader):
    """The reading half of a log that another process leads. Threads may share it."""

    def __init__(
        self, stores: LogStores, log_keys: tuple[VerifierKey, ...], cosignatures: Cosignatures
    ) -> None:
        """Load the tree as far as the head store says.

        Args:
            stores: of the log.
            log_keys: public keys of its signer.
            cosignatures: of the log.

        Raises:
            LogRolledBack: head store, tiles and database do not agree.
            IntegrityAlarm: something of ours is damaged.
            NotFound: the log was never made here.
            Unavailable: a store does not answer.
        """
        self._log_keys = log_keys
        self._turn = threading.Lock()
        published = published_head(stores, log_keys)
        tree = LogTree.load(stores.tiles, published.size, published.root)
        super().__init__(stores, tree, cosignatures)
        self._frontier = tree.frontier(published.size)
        self._settled = published.size // TILE_WIDTH * TILE_WIDTH
        self._head = self._grow(stores.heads.read())

    def latest(self) -> CommittedHead:
        """The newest tree that the head store confirmed when it was asked last."""
        return self._head

    def published_size(self) -> int:
        """Number of leaves under the published checkpoint, as the tile store has it now."""
        size = published_head(self._stores, self._log_keys).size
        self.reach(size)
        if size > self._head.size:
            raise LogRolledBack("the published checkpoint is of more leaves than the head store's")
        return size

    def reach(self, size: int) -> None:
        """Ask the head store again, where the log is not known to have grown so far."""
        if size > self._head.size:
            self.refresh()

    def refresh(self) -> None:
        """Do steps 2 to 4 again.

        Raises:
            LogRolledBack, IntegrityAlarm, Unavailable: as for the constructor.
        """
        with self._turn:
            head = self._stores.heads.read()
            known = Head(size=self._head.size, root=self._head.root)
            if head == known:
                return
            if head.size <= known.size:
                raise LogRolledBack(
                    f"the head store said {known.size} leaves before and says {head.size} now, or "
                    "another tree: it was put back"
                )
            self._head = self._grow(head)
            self._settle()

    def _grow(self, head: Head) -> CommittedHead:
        """Append up to a head (3) and read its checkpoint (4)."""
        log = self._stores.log_id
        with self._stores.db.read() as connection:
            signed = records.checkpoints_of(connection, log, [head.size]).get(head.size)
            leaves = leaf_hashes(connection, log, self._frontier.size, head.size)
            for index, leaf_hash in leaves:
                if index != self._frontier.size:
                    break
                self._tree.add(self._frontier.append(leaf_hash))
                if self._frontier.size - self._settled >= CATCH_UP_LEAVES:
                    self._settle()
        if signed is None or self._frontier.size != head.size:
            raise LogRolledBack(
                f"the head store saw {head.size} leaves and the database has "
                f"{self._frontier.size}: it was put back"
            )
        if not head.root == self._frontier.root() == signed.root:
            raise LogRolledBack(f"the head store saw another tree of {head.size} leaves than ours")
        self._require_signed(signed.note, head)
        return CommittedHead(
            size=head.size, root=head.root, note=signed.note, committed_at=signed.committed_at
        )

    def _require_signed(self, note: bytes, head: Head) -> None:
        kinds = frozenset(key.kind for key in self._log_keys)
        try:
            checkpoint = open_checkpoint(note, self._log_keys, require=kinds).checkpoint
        except EvidenceError as error:
            raise IntegrityAlarm("a checkpoint was not signed by this log") from error
        if (checkpoint.size, checkpoint.root) != (head.size, head.root):
            raise IntegrityAlarm("a checkpoint's row is not what its note says")

    def _settle(self) -> None:
        """Let go of full tiles once they are published: they are read again when needed."""
        if self._frontier.size - self._settled < TILE_WIDTH:
            return
        published = published_head(self._stores, self._log_keys).size
        full = min(published, self._frontier.size) // TILE_WIDTH * TILE_WIDTH
        if full > self._settled:
            self._tree.settle(full)
            self._settled = full
