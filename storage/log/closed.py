"""A log that has ended: what it published, and nothing else.

Does: hands out the published checkpoint with its cosignatures, and tiles. Refuses to sign, to
append, and to be more than what is published: a log that ended because its leaves are lost is
served as far as they are there.
"""

from collections.abc import Sequence

from evidence.tlog.checkpoint import open_checkpoint
from evidence.tlog.note import VerifierKey
from storage.errors import NotFound
from storage.log.cosigned import Cosignatures
from storage.log.serving import published_tile
from storage.log.submission import LogStores


class ClosedLog:
    """One log that ended. Threads may share it."""

    def __init__(self, stores: LogStores, organ: str, log_keys: Sequence[VerifierKey]) -> None:
        """Look at its stores; nothing is held or changed.

        Args:
            stores: of the log.
            organ: of the log.
            log_keys: its public keys.
        """
        self._stores = stores
        self.log_keys = tuple(log_keys)
        self.cosignatures = Cosignatures(stores, organ, log_keys)

    def checkpoint(self) -> bytes:
        """The last published checkpoint with the cosignature lines that are known.

        Raises:
            NotFound: nothing was ever published.
        """
        note = self._stores.tiles.checkpoint()
        if note is None:
            raise NotFound("nothing is published")
        try:
            return self.cosignatures.note(open_checkpoint(note, self.log_keys).checkpoint.size)
        except NotFound:  # the database was put back further than what is published
            return note

    def tile(self, path: str) -> bytes:
        """See `serving.published_tile`."""
        return published_tile(self._stores.tiles, path)
