"""Tiles: the specification's paths and its tree of 70,000, bundles, and reading by tiles."""

import random
from collections import Counter

import pytest

from evidence.errors import TileInvalid, TooLarge
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
from evidence.tlog.tiles import (
    TileName,
    TileReader,
    decode_bundle,
    encode_bundle,
    node_in_tile,
    parse_tile_path,
    split_tile,
    tiles_of,
    width_in_tree,
)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (TileName(level=0, index=1234067), "tile/0/x001/x234/067"),
        (TileName(level=0, index=0), "tile/0/000"),
        (TileName(level=0, index=999), "tile/0/999"),
        (TileName(level=1, index=1000), "tile/1/x001/000"),
        (TileName(level=63, index=5, width=1), "tile/63/005.p/1"),
        (TileName(level=0, index=1234, width=12), "tile/0/x001/234.p/12"),
        (TileName(level=None, index=273, width=112), "tile/entries/273.p/112"),
        (TileName(level=None, index=1234067, width=255), "tile/entries/x001/x234/067.p/255"),
    ],
)
def test_names_are_written_and_read(name: TileName, path: str) -> None:
    """tlog-tiles: index 1234067 is x001/x234/067."""
    assert name.path() == path
    assert parse_tile_path(path) == name
    assert name.full() == TileName(level=name.level, index=name.index)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/001/",
        "/tile/0/001",
        "tile/00/001",
        "tile/64/001",
        "tile/-1/001",
        "tile/100/001",
        "tile/x/001",
        "tile/Entries/001",
        "tile/8/0/001",
        "tile/0/x000/001",
        "tile/0/001/001",
        "tile/0/x001/x001",
        "tile/0/X001/001",
        "tile/0/x1/001",
        "tile/0/001.p/0",
        "tile/0/001.p/01",
        "tile/0/001.p/256",
        "tile/0/001.p/999",
        "tile/0/001.p/1000",
        "tile/0/001.p/",
        "tile/0/001.p",
        "tile/0/../001",
        "tile/0/x001/../001",
        "tile/0/٠٠١",
        "tile/0/001\n",
        "tile/0/%30%30%31",
        "tile/0/" + "x999/" * 20 + "999",
    ],
)
def test_other_paths_are_refused(path: str) -> None:
    """One path for each tile, and nothing that leaves the folder."""
    with pytest.raises(TileInvalid):
        parse_tile_path(path)


@pytest.mark.parametrize(
    ("level", "index", "width"), [(64, 0, 1), (-1, 0, 1), (0, -1, 1), (0, 0, 0), (None, 0, 257)]
)
def test_names_that_no_tile_has_are_not_made(level: int | None, index: int, width: int) -> None:
    """Levels 0 to 63, no negative index, widths 1 to 256."""
    with pytest.raises(TileInvalid):
        TileName(level=level, index=index, width=width)


def test_a_tree_of_70000_has_the_tiles_of_the_specification() -> None:
    """273 full and one of 112, one full and one of 17, one of 1."""
    names = tiles_of(70_000)
    assert Counter((name.level, name.width) for name in names) == {
        (0, 256): 273,
        (0, 112): 1,
        (1, 256): 1,
        (1, 17): 1,
        (2, 1): 1,
    }
    assert len({name.path() for name in names}) == len(names)
    bundles = tiles_of(70_000, entries=True)
    assert Counter(name.width for name in bundles) == {256: 273, 112: 1}
    assert {name.level for name in bundles} == {None}


def test_a_tree_of_256_has_a_full_tile_and_one_hash_above() -> None:
    """tlog-tiles, “Partial Tiles”."""
    assert tiles_of(256) == [TileName(level=0, index=0), TileName(level=1, index=0, width=1)]
    assert tiles_of(0) == []
    assert tiles_of(0, entries=True) == []


def test_the_width_of_a_tile_follows_from_the_size() -> None:
    """floor(s / 256**l) mod 256 for the last tile, 256 before it, nothing behind it."""
    assert width_in_tree(0, 272, 70_000) == 256
    assert width_in_tree(0, 273, 70_000) == 112
    assert width_in_tree(0, 274, 70_000) == 0
    assert width_in_tree(1, 1, 70_000) == 17
    assert width_in_tree(None, 273, 70_000) == 112
    for name in tiles_of(70_000):
        assert width_in_tree(name.level, name.index, 70_000) == name.width


def test_bundles_are_written_and_read() -> None:
    """Length, entry, length, entry."""
    assert encode_bundle([b"ab", b"", b"c"]) == b"\x00\x02ab\x00\x00\x00\x01c"
    for entries in ([b""], [b"x" * 65_535] * 256, [b"ab", b"", b"c"]):
        assert decode_bundle(encode_bundle(entries)) == entries


@pytest.mark.parametrize("entries", [[], [b""] * 257, [b"x" * 65_536]])
def test_bundles_beyond_the_limits_are_not_made(entries: list[bytes]) -> None:
    """1 to 256 entries of at most 65,535 bytes."""
    with pytest.raises(TileInvalid):
        encode_bundle(entries)


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\x00\x01", b"\x00\x02a", b"\x00\x00\x00", b"\x00\x00" * 257]
)
def test_cut_and_overfull_bundles_are_refused(data: bytes) -> None:
    """A bundle ends with an entry's last byte."""
    with pytest.raises(TileInvalid):
        decode_bundle(data)


def test_a_bundle_larger_than_any_can_be_is_not_interpreted() -> None:
    """The limit comes first."""
    with pytest.raises(TooLarge):
        decode_bundle(bytes(256 * 65_537 + 1))


def test_a_tile_of_the_wrong_length_is_refused() -> None:
    """32 bytes for each hash of its width."""
    assert split_tile(bytes(64), 2) == [bytes(32), bytes(32)]
    for length in (0, 63, 65, 96):
        with pytest.raises(TileInvalid):
            split_tile(bytes(length), 2)


def test_subtrees_are_found_in_tiles() -> None:
    """Eight levels of the tree share one level of tiles."""
    assert node_in_tile(0, 300) == (TileName(level=0, index=1), 44, 0)
    assert node_in_tile(7, 3) == (TileName(level=0, index=1), 128, 7)
    assert node_in_tile(8, 3) == (TileName(level=1, index=0), 3, 0)
    assert node_in_tile(19, 70) == (TileName(level=2, index=2), 48, 3)


class TiledTree:
    """A tree of some leaves, as tiles in memory and as the nodes that appends completed."""

    def __init__(self, size: int) -> None:
        """Fill the tiles the way a log does: with every eighth level of completed nodes."""
        self.size = size
        self.leaves = [hash_leaf(number.to_bytes(4, "big")) for number in range(size)]
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.roots = [Frontier.empty().root()]
        self.fetched: list[TileName] = []
        frontier = Frontier.empty()
        for leaf in self.leaves:
            for level, index, value in frontier.append(leaf):
                self.nodes[level, index] = value
            self.roots.append(frontier.root())

    def fetch(self, name: TileName) -> bytes:
        """Answer as a store of tiles does."""
        self.fetched.append(name)
        start = name.index * 256
        level = 8 * (name.level or 0)
        return b"".join(self.nodes[level, start + place] for place in range(name.width))


TREE = TiledTree(70_000)


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 4_000, 65_535, 65_536, 65_537, 70_000])
def test_proofs_from_tiles_verify(size: int) -> None:
    """Roots, inclusion and consistency in trees of many sizes, by the tiles of each size."""
    reader = TileReader(TREE.fetch, size)
    choose = random.Random(size)
    assert tree_root(size, reader) == TREE.roots[size]
    assert Frontier.at(size, reader).root() == TREE.roots[size]
    for _ in range(50):
        index, old_size = choose.randrange(size), choose.randrange(1, size + 1)
        proof = inclusion_proof(index, size, reader)
        verify_inclusion(TREE.leaves[index], index, size, proof, TREE.roots[size])
        path = consistency_proof(old_size, size, reader)
        verify_consistency(old_size, TREE.roots[old_size], size, TREE.roots[size], path)


def test_every_node_from_tiles_is_the_node_of_the_tree() -> None:
    """All complete subtrees of the first 1,100 leaves."""
    reader = TileReader(TREE.fetch, 1_100)
    for (level, index), value in TREE.nodes.items():
        if (index + 1) << level <= 1_100:
            assert reader(level, index) == value


def test_a_proof_fetches_few_tiles_and_only_those_of_its_tree() -> None:
    """At 70,000 leaves: one tile for each level and at most one more at the right edge."""
    of_tree = set(tiles_of(TREE.size))
    for index in (0, 255, 256, 65_535, 65_536, 69_887, 69_888, 69_999):
        TREE.fetched.clear()
        inclusion_proof(index, TREE.size, TileReader(TREE.fetch, TREE.size))
        assert set(TREE.fetched) <= of_tree
        assert len(TREE.fetched) == len(set(TREE.fetched))
        assert len(TREE.fetched) <= 5


def test_the_tiles_used_last_are_kept() -> None:
    """With room for two tiles, a third one drives out the one not used for longest."""
    reader = TileReader(TREE.fetch, TREE.size, cached_tiles=2)
    TREE.fetched.clear()
    for leaf in (0, 300, 1, 600, 2, 301):
        reader(0, leaf)
    assert [name.index for name in TREE.fetched] == [0, 1, 2, 1]


def test_a_subtree_that_is_not_complete_is_not_read() -> None:
    """The caller's mistake: a node that the tree does not have."""
    reader = TileReader(TREE.fetch, 1_000)
    for level, index in ((0, 1_000), (3, 125), (10, 0), (-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="complete"):
            reader(level, index)


def test_a_cut_tile_is_refused() -> None:
    """A store that answers with too few or too many bytes is not believed."""
    for wrong in (b"", bytes(32 * 255), bytes(32 * 257)):
        reader = TileReader(lambda _, answer=wrong: answer, 70_000)
        with pytest.raises(TileInvalid):
            reader(0, 0)


def test_a_flipped_bit_in_a_tile_spoils_the_root() -> None:
    """Tiles are not trusted: what is computed from them no longer meets the checkpoint."""

    def fetch(name: TileName) -> bytes:
        data = bytearray(TREE.fetch(name))
        data[5] ^= 1
        return bytes(data)

    assert tree_root(70_000, TileReader(fetch, 70_000)) != TREE.roots[70_000]
    assert hash_children(TREE.nodes[0, 0], TREE.nodes[0, 1]) == TREE.nodes[1, 0]
