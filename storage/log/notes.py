"""Every signed checkpoint beside the log, so that receipts outlive the database.

A receipt leads into the checkpoint of its own batch, and the `checkpoint` file holds the newest
one only. So those that were signed while a bundle of 256 leaves grew are published under its
number, in the framing of entry bundles: `checkpoints/x001/234` belongs to
`tile/entries/x001/234`. One item is

    committed_at_ms (8 bytes) ‖ signed note

for each checkpoint of a size with 256·n < size ≤ 256·(n+1), smallest first; that of the empty log
comes first of all in bundle 0. A bundle during which none was signed has no file.

Does: writes and reads these bundles, and says which one a size belongs to. Refuses: bytes of
another form. Whether a note is signed is for the caller to verify.

Source: docs/adr/0018-truth-over-index.md.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from evidence.errors import EvidenceError
from evidence.tlog.tiles import TILE_WIDTH, TileName, decode_bundle, encode_bundle
from storage.errors import IntegrityAlarm
from storage.records import StoredCheckpoint

_NUMBER_BYTES = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def notes_name(index: int) -> str:
    """Name of the full checkpoint bundle with this number, such as `checkpoints/x001/234`."""
    path = TileName(level=None, index=index).path()
    return "checkpoints/" + path.removeprefix("tile/entries/")


def bundle_of(size: int) -> int:
    """The number of the bundle to which the checkpoint of a size belongs."""
    return max(0, size - 1) // TILE_WIDTH


def sizes_before(index: int) -> int:
    """The checkpoints of a bundle have sizes above this; for the first one the empty log counts."""
    return index * TILE_WIDTH if index else -1


def encode_notes(checkpoints: Iterable[StoredCheckpoint]) -> bytes:
    """The bundle of these checkpoints, which come in the order of their sizes; maybe empty."""
    return encode_bundle(
        [
            ((row.committed_at - _EPOCH) // _MS).to_bytes(_NUMBER_BYTES) + row.note
            for row in checkpoints
        ]
    )


def decode_notes(bundle: bytes) -> list[tuple[datetime, bytes]]:
    """(time of the commit, signed note) of each checkpoint of a bundle.

    Raises:
        IntegrityAlarm: the bytes have another form.
    """
    try:
        items = decode_bundle(bundle)
        return [
            (_EPOCH + int.from_bytes(item[:_NUMBER_BYTES]) * _MS, item[_NUMBER_BYTES:])
            for item in items
        ]
    except (EvidenceError, OverflowError) as error:
        raise IntegrityAlarm("a published bundle of checkpoints is damaged") from error
