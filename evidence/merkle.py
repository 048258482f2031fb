"""RFC 6962 Merkle trees over SHA-256: roots, proofs, and the growing right edge.

Every function takes hashes or a reader of hashes; where they are stored is not known here.
It refuses to guess: a proof that is one hash too long, too short or out of order is invalid,
and so is any hash that is not 32 bytes.

A tree of seven leaves. `node(level, index)` names the complete subtree over the leaves
[index × 2**level, (index + 1) × 2**level); the root and s are not complete and have no such name.

               root
          ┌─────┴──────┐
        (2,0)          s
       ┌──┴──┐      ┌──┴──┐
     (1,0) (1,1)  (1,2) (0,6)
      ┌┴┐   ┌┴┐    ┌┴┐
      0 1   2 3    4 5     6

Source: RFC 6962 §2.1; the verifying procedures are those of RFC 9162 §2.1.3.2 and §2.1.4.2.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Self

from evidence.errors import ProofInvalid

HASH_BYTES = 32
EMPTY_ROOT: bytes = sha256(b"").digest()

NodeReader = Callable[[int, int], bytes]
"""(level, index) → hash of the complete subtree over 2**level leaves, 32 bytes."""


def hash_leaf(data: bytes) -> bytes:
    """Return the 32-byte hash of one log entry, with the 0x00 prefix of RFC 6962 §2.1."""
    return sha256(b"\x00" + data).digest()


def hash_children(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of an inner node, with the 0x01 prefix of RFC 6962 §2.1."""
    return sha256(b"\x01" + left + right).digest()


def tree_root(size: int, node: NodeReader) -> bytes:
    """Return the root of the tree over the first `size` leaves, in O(log size) reads.

    Args:
        size: number of leaves, ≥ 0; the empty tree has the hash of the empty string.
        node: reader of complete subtrees.

    Raises:
        ValueError: the size is negative; the caller's mistake.
    """
    if size < 0:
        raise ValueError("a tree has no negative size")
    return EMPTY_ROOT if size == 0 else _range_hash(0, size, node)


def inclusion_proof(index: int, size: int, node: NodeReader) -> list[bytes]:
    """Return the audit path of one leaf, from the leaf's sibling up to the root's child.

    Args:
        index: 0 ≤ index < size.
        size: number of leaves of the tree that the proof leads to.
        node: reader of complete subtrees; at most 2 × log2(size) reads.

    Raises:
        ValueError: the index is not in the tree; the caller's mistake.

    Source: RFC 6962 §2.1.1.
    """
    if not 0 <= index < size:
        raise ValueError("the leaf is not in the tree")
    low, high = 0, size
    path: list[bytes] = []
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(_range_hash(middle, high, node))
            high = middle
        else:
            path.append(_range_hash(low, middle, node))
            low = middle
    path.reverse()
    return path


def consistency_proof(old_size: int, new_size: int, node: NodeReader) -> list[bytes]:
    """Return the proof that the tree of `old_size` is a prefix of the tree of `new_size`.

    The proof is empty for equal sizes and for the empty old tree, which is a prefix of any.

    Args:
        old_size: 0 ≤ old_size ≤ new_size.
        new_size: number of leaves of the newer tree.
        node: reader of complete subtrees; O(log new_size) reads.

    Raises:
        ValueError: the sizes are not in that order; the caller's mistake.

    Source: RFC 6962 §2.1.2 (SUBPROOF); tlog-witness for the empty old tree.
    """
    if not 0 <= old_size <= new_size:
        raise ValueError("the old tree is not a prefix of the new one")
    if old_size in (0, new_size):
        return []
    low, high = 0, new_size
    path: list[bytes] = []
    while old_size != high:
        middle = low + _split(high - low)
        if old_size <= middle:
            path.append(_range_hash(middle, high, node))
            high = middle
        else:
            path.append(_range_hash(low, middle, node))
            low = middle
    if low:  # the old tree is no node of its own: name its last subtree
        path.append(_range_hash(low, high, node))
    path.reverse()
    return path


def verify_inclusion(
    leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Raise unless the proof leads from this leaf at this index to this root.

    Args:
        leaf_hash: 32 bytes, from `hash_leaf`.
        index: 0 ≤ index < size.
        size: number of leaves under the root.
        proof: hashes of 32 bytes, the leaf's sibling first.
        root: 32 bytes.

    Raises:
        ProofInvalid: anything about it is wrong; the sender's fault.

    Source: RFC 9162 §2.1.3.2.
    """
    _require_hashes(leaf_hash, root, *proof)
    if not 0 <= index < size:
        raise ProofInvalid("the proof names a leaf outside its tree")
    node, last, current = index, size - 1, leaf_hash
    for sibling in proof:
        if last == 0:
            raise ProofInvalid("the inclusion proof is too long")
        if node & 1 or node == last:
            current = hash_children(sibling, current)
            node, last = _skip_missing_siblings(node, last)
        else:
            current = hash_children(current, sibling)
        node, last = node >> 1, last >> 1
    if last:
        raise ProofInvalid("the inclusion proof is too short")
    if current != root:
        raise ProofInvalid("the inclusion proof does not lead to the root")


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Raise unless the proof shows that the new tree only appended to the old one.

    Args:
        old_size: ≥ 0; the empty tree takes an empty proof and the root of the empty tree.
        old_root: 32 bytes.
        new_size: ≥ old_size.
        new_root: 32 bytes.
        proof: hashes of 32 bytes, in the order of RFC 6962.

    Raises:
        ProofInvalid: anything about it is wrong; the sender's fault.

    Source: RFC 9162 §2.1.4.2; tlog-witness for the empty old tree.
    """
    _require_hashes(old_root, new_root, *proof)
    if not 0 <= old_size <= new_size:
        raise ProofInvalid("the newer tree is smaller than the older one")
    if old_size in (0, new_size):
        _verify_trivial_consistency(old_size, old_root, new_size, new_root, proof)
        return
    old_seen, new_seen = _fold_consistency(old_size, old_root, new_size, proof)
    if old_seen != old_root:
        raise ProofInvalid("the consistency proof does not lead to the older root")
    if new_seen != new_root:
        raise ProofInvalid("the consistency proof does not lead to the newer root")


class Frontier:
    """The right edge of a growing tree: the roots of its complete subtrees, largest first.

    Mutable, because a log appends millions of leaves one by one. It keeps at most one hash
    for each set bit of the size and never sees a leaf's data.
    """

    __slots__ = ("_peaks", "_size")

    def __init__(self, size: int, peaks: Sequence[bytes]) -> None:
        """Take the peaks of a tree as `peaks_of(size)` names them.

        Args:
            size: number of leaves, ≥ 0.
            peaks: one hash of 32 bytes for each set bit of `size`, largest subtree first.

        Raises:
            ValueError: the peaks are not those of a tree of this size.
        """
        if size < 0 or len(peaks) != size.bit_count():
            raise ValueError("these are not the peaks of a tree of this size")
        self._size = size
        self._peaks = list(peaks)

    @classmethod
    def empty(cls) -> Self:
        """Return the edge of the tree without leaves."""
        return cls(0, ())

    @classmethod
    def at(cls, size: int, node: NodeReader) -> Self:
        """Return the edge of an existing tree, read in O(log size) from complete subtrees."""
        return cls(size, [node(level, index) for level, index in peaks_of(size)])

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    @property
    def nodes(self) -> dict[tuple[int, int], bytes]:
        """The complete subtrees of the edge by (level, index)."""
        return dict(zip(peaks_of(self._size), self._peaks, strict=True))

    def root(self) -> bytes:
        """Return the root of the tree, 32 bytes."""
        return _fold_right(self._peaks) if self._peaks else EMPTY_ROOT

    def append(self, leaf_hash: bytes) -> list[tuple[int, int, bytes]]:
        """Append one leaf.

        Args:
            leaf_hash: 32 bytes, from `hash_leaf`.

        Returns:
            The complete subtrees that this leaf completed as (level, index, hash): the leaf
            itself first, then upward.
        """
        peaks, index, level, current = self._peaks, self._size, 0, leaf_hash
        completed = [(0, index, leaf_hash)]
        while index & 1:
            current = sha256(b"\x01" + peaks.pop() + current).digest()
            index >>= 1
            level += 1
            completed.append((level, index, current))
        peaks.append(current)
        self._size += 1
        return completed


def peaks_of(size: int) -> list[tuple[int, int]]:
    """Return (level, index) of the complete subtrees that make up a tree, largest first."""
    return _complete_subtrees(0, size)


def _split(size: int) -> int:
    """Return the largest power of two below `size`, for size ≥ 2 (k of RFC 6962 §2.1)."""
    return 1 << ((size - 1).bit_length() - 1)


def _complete_subtrees(low: int, high: int) -> list[tuple[int, int]]:
    """Cut [low, high) into complete subtrees; low is a multiple of each one's width."""
    found: list[tuple[int, int]] = []
    while low < high:
        level = (high - low).bit_length() - 1
        found.append((level, low >> level))
        low += 1 << level
    return found


def _range_hash(low: int, high: int, node: NodeReader) -> bytes:
    return _fold_right([node(level, index) for level, index in _complete_subtrees(low, high)])


def _fold_right(peaks: Sequence[bytes]) -> bytes:
    current = peaks[-1]
    for peak in reversed(peaks[:-1]):
        current = hash_children(peak, current)
    return current


def _require_hashes(*hashes: bytes) -> None:
    if any(len(value) != HASH_BYTES for value in hashes):
        raise ProofInvalid("a hash of the proof is not 32 bytes long")


def _skip_missing_siblings(node: int, last: int) -> tuple[int, int]:
    """Climb past the levels at which the right edge has no sibling (RFC 9162, step 4.2)."""
    while not node & 1 and node:
        node, last = node >> 1, last >> 1
    return node, last


def _verify_trivial_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    if proof:
        raise ProofInvalid("a proof for equal sizes or from the empty tree must be empty")
    if old_size == 0 and old_root != EMPTY_ROOT:
        raise ProofInvalid("the older tree is empty but its root is not that of an empty tree")
    if old_size == new_size and old_root != new_root:
        raise ProofInvalid("two roots are claimed for one size")


def _fold_consistency(
    old_size: int, old_root: bytes, new_size: int, proof: Sequence[bytes]
) -> tuple[bytes, bytes]:
    """Return the older and the newer root to which a proof leads, for 0 < old < new."""
    complete = old_size & (old_size - 1) == 0
    path = [old_root, *proof] if complete else list(proof)
    if not path:
        raise ProofInvalid("the consistency proof is empty")
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old_seen = new_seen = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofInvalid("the consistency proof is too long")
        if node & 1 or node == last:
            old_seen = hash_children(sibling, old_seen)
            new_seen = hash_children(sibling, new_seen)
            node, last = _skip_missing_siblings(node, last)
        else:
            new_seen = hash_children(new_seen, sibling)
        node, last = node >> 1, last >> 1
    if last:
        raise ProofInvalid("the consistency proof is too short")
    return old_seen, new_seen
