"""Where a log's public files lie: tiles, bundles and the checkpoint, under C2SP names.

Full tiles and bundles are write-once. Partial ones grow by replacement and go when the full one
is there; the checkpoint is replaced. The store knows names and bytes: what a tile holds, and
whether the checkpoint is signed, is the business of `evidence.tlog`.

    tile/0/x001/234          a full tile of hashes, level 0, index 1234
    tile/entries/000         a full bundle of entries
    texts/000                a full bundle of encrypted texts
    tile/0/x001/234.p/12     the same tile while it holds 12 hashes
    checkpoint               the newest published signed note

Source: C2SP tlog-tiles, commit 5ba5ee83.
"""

from typing import Protocol


class TileStore(Protocol):
    """A log's files by name. One publisher writes; any number of readers read."""

    def put(self, name: str, data: bytes) -> None:
        """Keep a full tile or bundle for ever and return when that would survive power loss.

        The same bytes again are success. Once it is there, partial forms of it are dropped.

        Args:
            name: as `TileName.path()` gives it for a full tile, or `texts/` with an index in
                the same form; never a partial name.
            data: not empty.

        Raises:
            AlreadyExists: the name holds other bytes, or a partial form of it is no prefix.
            NameRefused: the name has another form.
            DiskReserveReached, SyncFailed, Unavailable: nothing was promised.
        """
        ...

    def get(self, name: str) -> bytes:
        """The full tile or bundle.

        Raises:
            NotFound: it is not there, or only a partial form is.
            NameRefused: the name has another form.
            IntegrityAlarm: something other than a file of this store lies under the name.
            Unavailable: the store does not answer.
        """
        ...

    def put_partial(self, name: str, width: int, data: bytes) -> None:
        """Keep the first `width` elements of a tile that is still growing; durable on return.

        A wider form replaces a narrower one in one step: a reader sees either. A form that is
        no wider than what is held (or the full tile) changes nothing and is success, if what
        is held begins with it: a smaller size is always answerable as a prefix.

        Args:
            name: the name of the full tile.
            width: 1 ≤ width ≤ 255.
            data: the bytes of those elements; begin with those of every narrower form.

        Raises:
            AlreadyExists: neither of the two forms is a prefix of the other.
            NameRefused, DiskReserveReached, SyncFailed, Unavailable: as `put`.
        """
        ...

    def get_partial(self, name: str) -> tuple[int, bytes] | None:
        """The widest partial form, as (width, bytes); None if there is none or the tile is full.

        Raises:
            NameRefused, IntegrityAlarm, Unavailable: as `get`.
        """
        ...

    def put_checkpoint(self, data: bytes) -> None:
        """Replace the published checkpoint in one step; durable on return.

        Raises:
            DiskReserveReached, SyncFailed, Unavailable: the former one may still be there.
        """
        ...

    def checkpoint(self) -> bytes | None:
        """The published checkpoint, or None before the first.

        Raises:
            IntegrityAlarm, Unavailable: as `get`.
        """
        ...
