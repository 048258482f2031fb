"""Merkle trees: the values of RFC 6962, every small tree, and the refusals."""

import base64
import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from evidence import merkle
from evidence.errors import ProofInvalid
from evidence.merkle import (
    EMPTY_ROOT,
    Frontier,
    NodeReader,
    consistency_proof,
    hash_children,
    hash_leaf,
    inclusion_proof,
    tree_root,
    verify_consistency,
    verify_inclusion,
)


def definition_of_root(leaves: list[bytes]) -> bytes:
    """The recursive definition of RFC 6962 §2.1, written without looking at the code."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = definition_of_root(leaves[:split]), definition_of_root(leaves[split:])
    return sha256(b"\x01" + left + right).digest()


def leaves_of(size: int) -> list[bytes]:
    """Distinct small leaves."""
    return [b"leaf %d" % number for number in range(size)]


class CountingNodes:
    """Every complete subtree of a tree, and how often one was asked for."""

    def __init__(self, size: int) -> None:
        """Grow the tree leaf by leaf and keep what each append completed."""
        self.frontier = Frontier.empty()
        self.known: dict[tuple[int, int], bytes] = {}
        self.reads = 0
        for leaf in leaves_of(size):
            for level, index, value in self.frontier.append(hash_leaf(leaf)):
                self.known[level, index] = value

    def __call__(self, level: int, index: int) -> bytes:
        """Answer as a NodeReader; a subtree that is not complete is a KeyError."""
        self.reads += 1
        return self.known[level, index]


NODES = CountingNodes(300)
ROOTS = [definition_of_root(leaves_of(size)) for size in range(301)]


def test_the_empty_tree_has_the_hash_of_the_empty_string() -> None:
    """RFC 6962 §2.1: MTH({}) = SHA-256()."""
    expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert EMPTY_ROOT.hex() == expected
    assert tree_root(0, NODES).hex() == expected


def test_the_prefixes_keep_leaves_and_nodes_apart() -> None:
    """The empty leaf and the node over two empty strings have the published hashes."""
    assert hash_leaf(b"").hex() == (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    )
    assert hash_children(b"N123", b"N456").hex() == (
        "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb"
    )


def test_roots_of_all_sizes_are_those_of_the_definition() -> None:
    """Frontier, tree_root and the recursive definition agree on every size to 300."""
    frontier = Frontier.empty()
    for size in range(301):
        assert frontier.size == size
        assert frontier.root() == ROOTS[size]
        assert tree_root(size, NODES) == ROOTS[size]
        assert Frontier.at(size, NODES).nodes == frontier.nodes
        frontier.append(hash_leaf(b"leaf %d" % size))


def test_every_inclusion_proof_to_size_300_verifies() -> None:
    """All 45,150 pairs of leaf and size."""
    hashes = [hash_leaf(leaf) for leaf in leaves_of(300)]
    for size in range(1, 301):
        for index in range(size):
            proof = inclusion_proof(index, size, NODES)
            verify_inclusion(hashes[index], index, size, proof, ROOTS[size])


def test_every_consistency_proof_to_size_130_verifies() -> None:
    """All 8,646 pairs of sizes, the empty old tree among them."""
    for new_size in range(131):
        for old_size in range(new_size + 1):
            proof = consistency_proof(old_size, new_size, NODES)
            verify_consistency(old_size, ROOTS[old_size], new_size, ROOTS[new_size], proof)


def test_an_inclusion_proof_fits_one_index_and_one_size_only() -> None:
    """At size 13 each proof is refused for every other index and every other size."""
    size = 13
    hashes = [hash_leaf(leaf) for leaf in leaves_of(32)]
    for index in range(size):
        proof = inclusion_proof(index, size, NODES)
        for other_index in range(-1, 32):
            for other_size in range(33):
                if (other_index, other_size) == (index, size):
                    continue
                with pytest.raises(ProofInvalid):
                    verify_inclusion(
                        hashes[index], other_index, other_size, proof, ROOTS[other_size]
                    )


def wrong_paths(proof: list[bytes]) -> Iterator[list[bytes]]:
    """The proof with one thing wrong: length, order, a bit, a hash of another size."""
    junk = sha256(b"junk").digest()
    yield [*proof, junk]
    yield [junk, *proof]
    for place in range(len(proof)):
        before, after, value = proof[:place], proof[place + 1 :], proof[place]
        yield before + after
        yield [*before, bytes([value[0] ^ 1]) + value[1:], *after]
        yield [*before, value[:-1], *after]
        yield [*before, value + b"\x00", *after]
        yield [*before, b"", *after]
    if len(proof) > 1:
        yield proof[::-1]


def test_an_altered_inclusion_proof_is_refused() -> None:
    """Longer, shorter, reordered, flipped or wrongly sized hashes never verify."""
    for size in (1, 2, 3, 7, 8, 9, 64, 65, 300):
        for index in {0, size // 2, size - 1}:
            leaf = hash_leaf(b"leaf %d" % index)
            for wrong in wrong_paths(inclusion_proof(index, size, NODES)):
                with pytest.raises(ProofInvalid):
                    verify_inclusion(leaf, index, size, wrong, ROOTS[size])


def test_an_altered_consistency_proof_is_refused() -> None:
    """Longer, shorter, reordered, flipped or wrongly sized hashes never verify."""
    for old_size, new_size in ((1, 2), (2, 3), (3, 7), (4, 7), (6, 8), (8, 8), (0, 5), (64, 300)):
        proof = consistency_proof(old_size, new_size, NODES)
        for wrong in wrong_paths(proof):
            with pytest.raises(ProofInvalid):
                verify_consistency(old_size, ROOTS[old_size], new_size, ROOTS[new_size], wrong)


@pytest.mark.parametrize(
    ("old_size", "new_size", "old_root", "new_root"),
    [
        (3, 7, ROOTS[4], ROOTS[7]),
        (3, 7, ROOTS[3], ROOTS[8]),
        (4, 7, ROOTS[5], ROOTS[7]),
        (7, 7, ROOTS[7], ROOTS[6]),
        (0, 7, ROOTS[1], ROOTS[7]),
        (0, 0, ROOTS[1], ROOTS[1]),
        (7, 3, ROOTS[7], ROOTS[3]),
        (-1, 3, ROOTS[0], ROOTS[3]),
        (3, 7, ROOTS[3][:31], ROOTS[7]),
        (7, 7, b"", b""),
    ],
)
def test_consistency_with_a_wrong_root_or_size_is_refused(
    old_size: int, new_size: int, old_root: bytes, new_root: bytes
) -> None:
    """No proof can help roots or sizes that are not those of one history."""
    honest = 0 <= old_size <= new_size
    proof = consistency_proof(old_size, new_size, NODES) if honest else []
    with pytest.raises(ProofInvalid):
        verify_consistency(old_size, old_root, new_size, new_root, proof)


def test_a_consistency_proof_without_hashes_is_refused() -> None:
    """An empty proof between different sizes shows nothing."""
    for old_size in (3, 4):
        with pytest.raises(ProofInvalid):
            verify_consistency(old_size, ROOTS[old_size], 7, ROOTS[7], [])


def test_a_leaf_or_root_that_is_no_hash_is_refused() -> None:
    """Leaf hash and root are 32 bytes, whatever the proof says."""
    proof = inclusion_proof(2, 5, NODES)
    leaf = hash_leaf(b"leaf 2")
    for wrong_leaf, wrong_root in ((leaf[:31], ROOTS[5]), (leaf, ROOTS[5] + b"\x00"), (b"", b"")):
        with pytest.raises(ProofInvalid):
            verify_inclusion(wrong_leaf, 2, 5, proof, wrong_root)


def test_asking_for_what_cannot_exist_is_the_callers_mistake() -> None:
    """Indices and sizes outside the tree are ValueError, not evidence errors."""
    nodes: NodeReader = NODES
    for call in (
        lambda: tree_root(-1, nodes),
        lambda: inclusion_proof(5, 5, nodes),
        lambda: inclusion_proof(-1, 5, nodes),
        lambda: consistency_proof(6, 5, nodes),
        lambda: consistency_proof(-1, 5, nodes),
        lambda: Frontier(-1, ()),
        lambda: Frontier(3, (EMPTY_ROOT,)),
    ):
        with pytest.raises(ValueError, match="tree"):
            call()


def test_an_append_names_exactly_the_subtrees_that_it_completed() -> None:
    """The eighth leaf completes one subtree of each level, the ninth only itself."""
    frontier = Frontier.at(7, NODES)
    completed = frontier.append(hash_leaf(b"leaf 7"))
    assert [(level, index) for level, index, _ in completed] == [(0, 7), (1, 3), (2, 1), (3, 0)]
    assert completed[-1][2] == ROOTS[8]
    assert frontier.append(hash_leaf(b"leaf 8")) == [(0, 8, hash_leaf(b"leaf 8"))]


def test_proofs_read_a_number_of_nodes_that_grows_with_the_logarithm() -> None:
    """A proof in a tree of 300 leaves reads at most 2 × 9 nodes."""
    most = 2 * (300).bit_length()
    for index in range(300):
        NODES.reads = 0
        inclusion_proof(index, 300, NODES)
        assert NODES.reads <= most
        NODES.reads = 0
        consistency_proof(index, 300, NODES)
        assert NODES.reads <= most


def test_the_split_is_the_largest_power_of_two_below_the_size() -> None:
    """RFC 6962 §2.1: k < n ≤ 2k."""
    for size in range(2, 300):
        split = merkle._split(size)
        assert split < size <= 2 * split
        assert split.bit_count() == 1


def vector_files(shared: Path, kind: str) -> list[Path]:
    """The JSON files of one kind."""
    return sorted((shared / "vectors" / "merkle" / kind).rglob("*.json"))


def decode(value: str) -> bytes:
    """Base64 of the vectors."""
    return base64.b64decode(value)


def test_inclusion_vectors_of_another_project(shared: Path) -> None:
    """transparency-dev/merkle testdata: each is accepted or refused as it demands."""
    outcomes: dict[bool, int] = {True: 0, False: 0}
    for path in vector_files(shared, "inclusion"):
        vector: dict[str, Any] = json.loads(path.read_text())
        arguments = (
            decode(vector["leafHash"]),
            vector["leafIdx"],
            vector["treeSize"],
            [decode(value) for value in vector["proof"] or ()],
            decode(vector["root"]),
        )
        assert refused(verify_inclusion, arguments) == vector["wantErr"], path
        outcomes[vector["wantErr"]] += 1
    assert outcomes == {True: 92, False: 6}


SHORT_ROOTS = "sizes-are-equal-one-and-proof-is-empty.json"
"""Its equal roots are the text “don't care 2”: no SHA-256 hash, which we refuse on purpose."""


def test_consistency_vectors_of_another_project(shared: Path) -> None:
    """transparency-dev/merkle testdata, but for one whose roots are not hashes."""
    outcomes: dict[bool, int] = {True: 0, False: 0}
    for path in vector_files(shared, "consistency"):
        vector: dict[str, Any] = json.loads(path.read_text())
        arguments = (
            vector["size1"],
            decode(vector["root1"]),
            vector["size2"],
            decode(vector["root2"]),
            [decode(value) for value in vector["proof"] or ()],
        )
        expected = True if path.name == SHORT_ROOTS else vector["wantErr"]
        assert refused(verify_consistency, arguments) == expected, path
        outcomes[vector["wantErr"]] += 1
    assert outcomes == {True: 92, False: 6}


def refused(verify: Callable[..., None], arguments: tuple[object, ...]) -> bool:
    """Whether a verifier raises ProofInvalid."""
    try:
        verify(*arguments)
    except ProofInvalid:
        return True
    return False
