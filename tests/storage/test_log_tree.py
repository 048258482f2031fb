"""The tree's nodes: from memory or from tiles, they are those of RFC 6962."""

import hashlib
import random
from pathlib import Path

import pytest

from evidence.merkle import Frontier, inclusion_proof, tree_root
from evidence.tlog.tiles import TileName, tiles_of
from storage.errors import IntegrityAlarm
from storage.log.tree import LogTree
from storage.tiles import LocalTiles


def leaf(index: int) -> bytes:
    """Return some leaf hash."""
    return hashlib.sha256(index.to_bytes(8)).digest()


def grow(tree: LogTree, frontier: Frontier, size: int) -> dict[tuple[int, int], bytes]:
    """Append up to a size; returns every node that was completed."""
    nodes = {}
    while frontier.size < size:
        completed = frontier.append(leaf(frontier.size))
        tree.add(completed)
        nodes |= {(level, index): node for level, index, node in completed}
    return nodes


def publish(tree: LogTree, tiles: LocalTiles, size: int) -> None:
    """Put every tile of a tree into the store, and settle it."""
    for name in tiles_of(size):
        assert name.level is not None
        data = tree.tile(name.level, name.index, name.width)
        if name.width == 256:
            tiles.put(name.path(), data)
        else:
            tiles.put_partial(name.full().path(), name.width, data)
    tree.settle(size)


@pytest.fixture
def tiles(tmp_path: Path) -> LocalTiles:
    """Return an empty tile store."""
    return LocalTiles.create(tmp_path / "tiles")


def test_every_node_is_found_wherever_it_lies(tiles: LocalTiles) -> None:
    """Published or not, cached or not, each complete node of a tree of 3 levels is itself."""
    tree, frontier = LogTree(tiles, cached_tiles=2), Frontier.empty()
    nodes = grow(tree, frontier, 70_000)
    publish(tree, tiles, 69_000)
    nodes |= grow(tree, frontier, 70_100)
    places = random.Random(1).sample(sorted(nodes), 3000)
    assert {place: tree.node(*place) for place in places} == {p: nodes[p] for p in places}
    assert tree.node(16, 0) == nodes[16, 0]


def test_memory_lets_go_of_what_is_published(tiles: LocalTiles) -> None:
    """After publication only the edge is kept: one tile for each level."""
    tree, frontier = LogTree(tiles), Frontier.empty()
    grow(tree, frontier, 66_000)
    assert tree.growing_tiles > 250
    publish(tree, tiles, 66_000)
    assert tree.growing_tiles == 3


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 512, 65_536, 65_537, 66_000])
def test_a_loaded_tree_goes_on_like_the_first(tiles: LocalTiles, size: int) -> None:
    """The edge read from tiles grows to the same root and gives the same proofs."""
    tree, frontier = LogTree(tiles), Frontier.empty()
    grow(tree, frontier, size)
    publish(tree, tiles, size)
    loaded = LogTree.load(tiles, size, tree_root(size, tree.node))
    again = loaded.frontier(size)
    grow(tree, frontier, size + 300)
    grow(loaded, again, size + 300)
    assert again.root() == frontier.root()
    for index in (0, size // 2, size + 299):
        proof = inclusion_proof(index, size + 300, loaded.node)
        assert proof == inclusion_proof(index, size + 300, tree.node)


def test_a_wider_tile_than_the_checkpoint_is_cut(tiles: LocalTiles) -> None:
    """A crash after the tiles and before the checkpoint leaves more than is needed."""
    tree, frontier = LogTree(tiles), Frontier.empty()
    grow(tree, frontier, 300)
    root = frontier.root()
    grow(tree, frontier, 600)
    publish(tree, tiles, 600)
    assert LogTree.load(tiles, 300, root).frontier(300).root() == root


def test_another_root_is_an_alarm(tiles: LocalTiles) -> None:
    """Tiles that do not have the signed root are not used."""
    tree, frontier = LogTree(tiles), Frontier.empty()
    grow(tree, frontier, 300)
    publish(tree, tiles, 300)
    with pytest.raises(IntegrityAlarm, match="root"):
        LogTree.load(tiles, 300, bytes(32))
    with pytest.raises(IntegrityAlarm):
        LogTree.load(tiles, 400, frontier.root())


@pytest.mark.parametrize("level", [0, 1])
def test_a_flipped_byte_in_an_old_tile_is_an_alarm(
    tiles: LocalTiles, tmp_path: Path, level: int
) -> None:
    """A proof is never made from a tile that the level above does not know."""
    tree, frontier = LogTree(tiles, cached_tiles=1), Frontier.empty()
    grow(tree, frontier, 66_000)
    publish(tree, tiles, 66_000)
    path = tmp_path / "tiles" / TileName(level=level, index=0).path()
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.unlink()
    path.write_bytes(data)
    with pytest.raises(IntegrityAlarm, match="damaged"):
        inclusion_proof(0, 66_000, tree.node)
    assert inclusion_proof(65_900, 66_000, tree.node)


def test_a_missing_old_tile_is_an_alarm(tiles: LocalTiles, tmp_path: Path) -> None:
    """A tile that was removed is named."""
    tree, frontier = LogTree(tiles, cached_tiles=1), Frontier.empty()
    grow(tree, frontier, 1000)
    publish(tree, tiles, 1000)
    (tmp_path / "tiles" / "tile/0/000").unlink()
    with pytest.raises(IntegrityAlarm, match="tile/0/000"):
        inclusion_proof(0, 1000, tree.node)


def test_a_node_that_is_not_complete_is_a_mistake(tiles: LocalTiles) -> None:
    """A reader is told, not given something shorter."""
    tree, frontier = LogTree(tiles), Frontier.empty()
    grow(tree, frontier, 5)
    with pytest.raises(ValueError, match="complete"):
        tree.node(0, 5)
    with pytest.raises(ValueError, match="complete"):
        tree.node(2, 1)
