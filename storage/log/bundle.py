"""A bundle of a log's leaves as far as it is proven, and what of it is not.

Does: shapes, and the small judgements over one item: whether an entry is the leaf of the signed
tree, which text a row holds, when a note was signed. Refuses to read a file or a database.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from evidence.errors import EvidenceError
from evidence.leaf import Leaf, leaf_of, parse_leaf
from evidence.merkle import hash_leaf
from evidence.statement import Statement
from evidence.tlog.checkpoint import open_checkpoint
from evidence.tlog.note import ML_DSA_44, VerifierKey
from storage.log.rows import LoggedRow
from storage.log.texts import LoggedText
from storage.records import StoredCheckpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What of a log's own files, or of its unpublished rows, cannot be believed.

    Attributes:
        code: a stable word of the module's list.
        place: `entry 17`, `text 17`, `checkpoint 300`, or a file's name.
        detail: one sentence for the operator, without personal data.
    """

    code: str
    place: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One leaf, as far as it is proven.

    Attributes:
        index: zero-based.
        leaf_hash: 32 bytes, in the signed tree.
        leaf: what it says; None where the entry is damaged.
        text: what lies beside it; None where it cannot be read.
        statement: the text, read strictly; None with it.
    """

    index: int
    leaf_hash: bytes
    leaf: Leaf | None
    text: LoggedText | None
    statement: Statement | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The leaves with first ≤ index < end, and the checkpoints that were signed for them.

    Attributes:
        first: index of the first.
        end: one more than the last index.
        published: whether they are from the log's files, and not from the database.
        entries: those that are proven, in their order.
        checkpoints: those that are proven, by size.
        faults: what is not, and why.
    """

    first: int
    end: int
    published: bool
    entries: list[Entry] = field(default_factory=list[Entry])
    checkpoints: dict[int, StoredCheckpoint] = field(default_factory=dict[int, StoredCheckpoint])
    faults: list[Fault] = field(default_factory=list[Fault])


def proven_leaf(leaves: Sequence[bytes], place: int, leaf_hash: bytes) -> Leaf | None:
    """The entry at a place, if it is the leaf that has this hash; a step of `ReadLog`."""
    raw = at_place(leaves, place)
    if raw is None or hash_leaf(raw) != leaf_hash:
        return None
    try:
        leaf = parse_leaf(raw)
    except EvidenceError:
        return None
    return leaf if leaf_of(leaf.statement_id, leaf.signature, leaf.public_key) == raw else None


def text_of(statement: bytes, row: LoggedRow) -> LoggedText:
    """What a row says beside an entry."""
    return LoggedText(
        statement=statement, received_at=row.received_at, committed_size=row.committed_size
    )


def at_place(items: Sequence[bytes], place: int) -> bytes | None:
    """An item, or None beyond the end of a bundle."""
    return items[place] if place < len(items) else None


def signed_at(note: bytes, log_keys: Sequence[VerifierKey]) -> datetime:
    """The whole second that the log's own ML-DSA line states."""
    opened = open_checkpoint(note, log_keys)
    times = [
        int.from_bytes(line.value[:8])
        for line in opened.note.signatures
        for key in opened.log_keys
        if key.kind == ML_DSA_44 and key.made(line)
    ]
    return datetime.fromtimestamp(max(times, default=0), UTC)


def fault_of(code: str, place: str, detail: str) -> Fault:
    """A fault in one line."""
    return Fault(code=code, place=place, detail=detail)
