"""The tree's nodes: from memory or from tiles, they are those of RFC 6962."""

import hashlib
import random
import shutil
from pathlib import Path

import pytest

from evidence.merkle import Frontier, inclusion_proof, tree_root
from evidence.tlog.tiles import TileName, tiles_of
from storage.errors import IntegrityAlarm
from storage.log.tree import LogTree
from storage.tiles import LocalTiles

LARGE = 66_000


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


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a published tree of 66,000 leaves, three levels high."""
    folder = tmp_path_factory.mktemp("published") / "tiles"
    tiles = LocalTiles.create(folder)
    tree, frontier = LogTree(tiles), Frontier.empty()
    grow(tree, frontier, LARGE)
    assert tree.growing_tiles > 250
    publish(tree, tiles, LARGE)
    assert tree.growing_tiles == 3  # one for each level
    return folder


@pytest.fixture
def large(published: Path, tmp_path: Path) -> LocalTiles:
    """Return a copy of that tree's store, which the test may spoil."""
    shutil.copytree(published, tmp_path / "large")
    return LocalTiles(tmp_path / "large")


def nodes_of(size: int) -> dict[tuple[int, int], bytes]:
    """Return every complete node of a tree."""
    frontier = Frontier.empty()
    return {
        (level, index): node
        for number in range(size)
        for level, index, node in frontier.append(leaf(number))
    }


def test_every_node_is_found_wherever_it_lies(large: LocalTiles) -> None:
    """Published or not, kept or not, each complete node of a tree of 3 levels is itself."""
    nodes = nodes_of(LARGE + 100)
    root = tree_root(LARGE, lambda level, index: nodes[level, index])
    tree = LogTree.load(large, LARGE, root, cached_blocks=3)
    grow(tree, tree.frontier(LARGE), LARGE + 100)
    places = random.Random(1).sample(sorted(nodes), 2000)
    assert {place: tree.node(*place) for place in places} == {p: nodes[p] for p in places}
    assert tree.node(16, 0) == nodes[16, 0]


def test_what_is_settled_is_still_known(tiles: LocalTiles) -> None:
    """A tile that left memory gives the same nodes, from what was kept and from the store."""
    tree, frontier = LogTree(tiles), Frontier.empty()
    nodes = grow(tree, frontier, 600)
    publish(tree, tiles, 600)
    assert tree.growing_tiles == 2
    assert {place: tree.node(*place) for place in nodes} == nodes


def go_on(tiles: LocalTiles, size: int) -> None:
    """Load a tree, let it grow, and compare it with one that was never published."""
    nodes = nodes_of(size + 300)

    def node(level: int, index: int) -> bytes:
        return nodes[level, index]

    loaded = LogTree.load(tiles, size, tree_root(size, node))
    frontier = loaded.frontier(size)
    grow(loaded, frontier, size + 300)
    assert frontier.root() == tree_root(size + 300, node)
    for index in (0, size // 2, size + 299):
        proof = inclusion_proof(index, size + 300, loaded.node)
        assert proof == inclusion_proof(index, size + 300, node)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 512, 513])
def test_a_loaded_tree_goes_on_like_the_first(tiles: LocalTiles, size: int) -> None:
    """The edge read from tiles grows to the same root and gives the same proofs."""
    tree = LogTree(tiles)
    grow(tree, Frontier.empty(), size)
    publish(tree, tiles, size)
    go_on(tiles, size)


@pytest.mark.parametrize("size", [40_000, 65_535, 65_536, 65_537, LARGE])
def test_a_large_tree_goes_on_as_well(large: LocalTiles, size: int) -> None:
    """Three levels high, and from tiles that are already wider than the checkpoint says."""
    go_on(large, size)


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
@pytest.mark.parametrize("place", [0, 100, 8191])
def test_a_flipped_byte_in_an_old_tile_is_an_alarm(
    large: LocalTiles, tmp_path: Path, level: int, place: int
) -> None:
    """A proof is never made from a tile that the level above does not know."""
    path = tmp_path / "large" / TileName(level=level, index=0).path()
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.unlink()
    path.write_bytes(data)
    nodes = nodes_of(LARGE)
    root = tree_root(LARGE, lambda level, index: nodes[level, index])
    tree = LogTree.load(large, LARGE, root)
    with pytest.raises(IntegrityAlarm, match="damaged"):
        inclusion_proof(0, LARGE, tree.node)
    assert inclusion_proof(65_900, LARGE, tree.node)


def test_a_missing_old_tile_is_an_alarm(tiles: LocalTiles, tmp_path: Path) -> None:
    """A tile that was removed is named."""
    tree, frontier = LogTree(tiles, cached_blocks=1), Frontier.empty()
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
