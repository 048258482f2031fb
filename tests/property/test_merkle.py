"""Merkle trees of any size: what holds for every leaf, every pair of sizes and every mistake."""

from hashlib import sha256

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from evidence.errors import ProofInvalid
from evidence.merkle import (
    Frontier,
    consistency_proof,
    hash_children,
    hash_leaf,
    inclusion_proof,
    tree_root,
    verify_consistency,
    verify_inclusion,
)

SAME_LEAF = hash_leaf(b"the same leaf everywhere")
UNIFORM = [SAME_LEAF]
for _ in range(63):
    UNIFORM.append(hash_children(UNIFORM[-1], UNIFORM[-1]))


def uniform(level: int, _index: int) -> bytes:
    """The nodes of a tree whose leaves are all alike, however large it is."""
    return UNIFORM[level]


def striped(level: int, index: int) -> bytes:
    """The nodes of a tree whose leaf i is hash_leaf(i mod 4), however large it is."""
    if level == 0:
        return hash_leaf(bytes([index % 4]))
    if level > 2:
        below = striped(level - 1, 0)
        return hash_children(below, below)
    return hash_children(striped(level - 1, 2 * index), striped(level - 1, 2 * index + 1))


class CountedReader:
    """A NodeReader that counts its reads."""

    def __init__(self) -> None:
        """Start at nothing."""
        self.reads = 0

    def __call__(self, level: int, index: int) -> bytes:
        """Answer from the striped tree."""
        self.reads += 1
        return striped(level, index)


SIZES = st.integers(min_value=1, max_value=2**60) | st.integers(min_value=1, max_value=70)


@st.composite
def leaf_and_size(draw: st.DrawFn) -> tuple[int, int]:
    """An index and a size, 0 ≤ index < size."""
    size = draw(SIZES)
    return draw(st.integers(min_value=0, max_value=size - 1)), size


@given(leaf_and_size())
def test_inclusion_holds_in_trees_of_any_size(place: tuple[int, int]) -> None:
    """Made and verified with at most 2 × log2 reads; the leaf's neighbour does not pass."""
    index, size = place
    reader = CountedReader()
    proof = inclusion_proof(index, size, reader)
    assert reader.reads <= 2 * size.bit_length()
    assert len(proof) <= size.bit_length()
    root = tree_root(size, striped)
    verify_inclusion(hash_leaf(bytes([index % 4])), index, size, proof, root)
    with pytest.raises(ProofInvalid):
        verify_inclusion(hash_leaf(bytes([(index + 1) % 4])), index, size, proof, root)


@given(SIZES, SIZES)
def test_consistency_holds_between_any_sizes(one: int, other: int) -> None:
    """Made and verified with at most 2 × log2 reads; another history does not pass."""
    old_size, new_size = sorted((one, other))
    reader = CountedReader()
    proof = consistency_proof(old_size, new_size, reader)
    assert reader.reads <= 2 * new_size.bit_length()
    old_root, new_root = tree_root(old_size, striped), tree_root(new_size, striped)
    verify_consistency(old_size, old_root, new_size, new_root, proof)
    with pytest.raises(ProofInvalid):
        verify_consistency(old_size, tree_root(old_size, uniform), new_size, new_root, proof)
    with pytest.raises(ProofInvalid):
        verify_consistency(old_size, old_root, new_size, tree_root(new_size, uniform), proof)


@given(leaf_and_size(), st.data())
def test_a_flipped_bit_anywhere_is_refused(place: tuple[int, int], data: st.DataObject) -> None:
    """In the leaf, in the root or in any hash of the proof."""
    index, size = place
    leaf, root = hash_leaf(bytes([index % 4])), tree_root(size, striped)
    hashes = [leaf, root, *inclusion_proof(index, size, striped)]
    which = data.draw(st.integers(min_value=0, max_value=len(hashes) - 1))
    bit = data.draw(st.integers(min_value=0, max_value=255))
    flipped = bytearray(hashes[which])
    flipped[bit // 8] ^= 1 << (bit % 8)
    hashes[which] = bytes(flipped)
    with pytest.raises(ProofInvalid):
        verify_inclusion(hashes[0], index, size, hashes[2:], hashes[1])


@given(leaf_and_size(), st.integers(min_value=-4, max_value=2**60))
def test_another_index_is_refused(place: tuple[int, int], other: int) -> None:
    """Indices that differ by a multiple of four have equal paths here, so they are left out."""
    index, size = place
    assume(other % 4 != index % 4)
    proof = inclusion_proof(index, size, striped)
    with pytest.raises(ProofInvalid):
        verify_inclusion(
            hash_leaf(bytes([index % 4])), other, size, proof, tree_root(size, striped)
        )


@given(leaf_and_size(), st.lists(st.binary(max_size=40), max_size=70))
def test_arbitrary_proofs_are_refused(place: tuple[int, int], proof: list[bytes]) -> None:
    """Whatever the list holds, only ProofInvalid leaves the verifiers."""
    index, size = place
    assume(proof != inclusion_proof(index, size, striped))
    root = tree_root(size, striped)
    with pytest.raises(ProofInvalid):
        verify_inclusion(hash_leaf(bytes([index % 4])), index, size, proof, root)
    assume(proof != consistency_proof(index, size, striped))
    with pytest.raises(ProofInvalid):
        verify_consistency(index, tree_root(index, striped), size, root, proof)


@given(st.integers(), st.integers(), st.integers(min_value=0, max_value=40))
def test_arbitrary_numbers_are_refused_as_proofs_are(index: int, size: int, length: int) -> None:
    """Negative and endless numbers too; a proof of foreign hashes never passes."""
    foreign = [sha256(bytes([place])).digest() for place in range(length)]
    leaf, root = sha256(b"leaf").digest(), sha256(b"root").digest()
    with pytest.raises(ProofInvalid):
        verify_inclusion(leaf, index, size, foreign, root)
    with pytest.raises(ProofInvalid):
        verify_consistency(index, leaf, size, root, foreign)


@given(st.lists(st.binary(max_size=8), max_size=200), st.integers(min_value=0, max_value=200))
def test_a_frontier_may_be_taken_up_anywhere(leaves: list[bytes], stop: int) -> None:
    """Appending from a stored edge gives the same nodes and the same root."""
    nodes: dict[tuple[int, int], bytes] = {}
    whole = Frontier.empty()
    completed = [whole.append(hash_leaf(leaf)) for leaf in leaves]
    for level, index, value in (node for group in completed for node in group):
        nodes[level, index] = value
    start = min(stop, len(leaves))
    resumed = Frontier.at(start, lambda level, index: nodes[level, index])
    again = [resumed.append(hash_leaf(leaf)) for leaf in leaves[start:]]
    assert again == completed[start:]
    assert resumed.root() == whole.root()
    assert resumed.nodes == whole.nodes
