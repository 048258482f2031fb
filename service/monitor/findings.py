"""What a monitor can find, each with a code that stays.

Does: shapes only. Refuses to rank what is found: a log with any finding is not as it must be. What
could not be asked is no finding (`Unreachable`); it makes a pass undecided.

    two_histories        the log signed two trees that exclude each other; both notes are kept
    rolled_back          it shows fewer entries than it signed before; both notes are kept
    checkpoint_invalid   what it shows as its checkpoint is not signed by the pinned keys
    cosignature_invalid  a line of a pinned witness does not verify
    tile_missing         a file that the checkpoint covers is not there
    tile_damaged         a file is not what the tree over the entries demands
    tree_differs         the files agree with each other, and not with the signed root
    entry_malformed      an entry is no statement's leaf
    receipt_dropped      what a device was promised is not in the tree
    unwitnessed          too few witnesses have cosigned, for too long
    stale                nothing new was signed, for too long
"""

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """The codes of the module."""

    TWO_HISTORIES = "two_histories"
    ROLLED_BACK = "rolled_back"
    CHECKPOINT_INVALID = "checkpoint_invalid"
    COSIGNATURE_INVALID = "cosignature_invalid"
    TILE_MISSING = "tile_missing"
    TILE_DAMAGED = "tile_damaged"
    TREE_DIFFERS = "tree_differs"
    ENTRY_MALFORMED = "entry_malformed"
    RECEIPT_DROPPED = "receipt_dropped"
    UNWITNESSED = "unwitnessed"
    STALE = "stale"


PROOFS = frozenset({Code.TWO_HISTORIES, Code.ROLLED_BACK})
"""What stays true for ever, because the log's own signatures say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it must be.

    Attributes:
        code: see the module.
        place: a path below the log's address, a size, or a file's name.
        detail: one sentence.
        notes: the signed notes that prove it, where some do.
    """

    code: Code
    place: str
    detail: str
    notes: tuple[bytes, ...] = ()
