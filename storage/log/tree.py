"""The tree's complete nodes: what is still growing in memory, the rest in published tiles.

A growing tile of height 8 keeps its hashes and the nodes above them; the right edge of the tree
is one such tile for each level. A tile that is full and published leaves memory. What a proof
needs of it is read again in blocks of height 4, a quarter of whose cost is reading: the upper
block of a tile is kept when it leaves, so a proof of any old leaf costs one small block.

                 (8,0)                    height 8: the next level's tile
            ┌──────┴──────┐               heights 4 to 7: the upper block
         (4,0)   …      (4,15)
         ┌─┴─┐          ┌─┴─┐             heights 0 to 3: sixteen lower blocks
         0 … 15        240 … 255          the tile as it is on disk

Does: takes the nodes that an append completed, gives back any complete node, and the bytes of
any tile. Refuses to believe the tile store: a block that is read must hash to the node that the
block above knows, up to the edge, which was checked against a signed root at start.

Threads: one writer (`add`), one publisher (`settle`), any number of readers.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable

from evidence.merkle import HASH_BYTES, Frontier, hash_children, tree_root
from evidence.tlog.tiles import TILE_HEIGHT, TILE_WIDTH, TileName, width_in_tree
from storage.errors import IntegrityAlarm, NotFound
from storage.tiles import TileStore

BLOCK_HEIGHT = 4
BLOCK_WIDTH = 1 << BLOCK_HEIGHT
CACHED_BLOCKS = 16_384
"""Blocks kept after use, about 1.3 kB each: the upper ones of four million leaves."""

Node = tuple[int, int, bytes]


class _Rows:
    """The nodes below one root by their height above the lowest, as hashes put end to end."""

    __slots__ = ("rows",)

    def __init__(self, hashes: bytes | bytearray = b"", *, height: int) -> None:
        self.rows = [bytearray(hashes)]
        while len(self.rows) < height:
            self.rows.append(_row_above(self.rows[-1]))

    def node(self, height: int, place: int) -> bytes:
        at = place * HASH_BYTES
        node = bytes(self.rows[height][at : at + HASH_BYTES])
        if len(node) != HASH_BYTES:
            raise ValueError("the tree has no such complete node")
        return node

    def root(self) -> bytes:
        """Root, where nothing is missing."""
        return bytes(_row_above(self.rows[-1]))


class LogTree:
    """Every complete node of one growing tree."""

    def __init__(self, tiles: TileStore, *, cached_blocks: int = CACHED_BLOCKS) -> None:
        """Begin with the empty tree.

        Args:
            tiles: where published tiles lie.
            cached_blocks: how many blocks of full tiles are kept, about 1.3 kB each.
        """
        self._tiles = tiles
        self._growing: dict[tuple[int, int], _Rows] = {}  # by tile level and index
        self._blocks: OrderedDict[tuple[int, int], _Rows] = OrderedDict()  # by block level …
        self._cached_blocks = cached_blocks
        self._turn = threading.Lock()

    @classmethod
    def load(
        cls, tiles: TileStore, size: int, root: bytes, *, cached_blocks: int = CACHED_BLOCKS
    ) -> "LogTree":
        """The tree of a published checkpoint: its right edge is read, the rest when needed.

        Args:
            tiles: where its tiles lie.
            size: number of leaves of a checkpoint whose signature was verified.
            root: its root, 32 bytes.
            cached_blocks: see the constructor.

        Raises:
            IntegrityAlarm: a tile of the edge is missing, or the edge has another root.
        """
        tree = cls(tiles, cached_blocks=cached_blocks)
        level = 0
        while size >> (TILE_HEIGHT * level):
            index = size >> (TILE_HEIGHT * (level + 1))
            width = width_in_tree(level, index, size)
            if width:
                hashes = _edge_tile(tiles, level, index, width)
                tree._growing[level, index] = _Rows(hashes, height=TILE_HEIGHT)
            level += 1
        if tree_root(size, tree.node) != root:
            raise IntegrityAlarm("the published tiles do not have the published root")
        return tree

    def frontier(self, size: int) -> Frontier:
        """The right edge of the tree at a size that it has reached."""
        return Frontier.at(size, self.node)

    def add(self, completed: Iterable[Node]) -> None:
        """Take nodes in the order in which appends complete them."""
        for level, index, node in completed:
            tile_level, height = divmod(level, TILE_HEIGHT)
            key = tile_level, index >> (TILE_HEIGHT - height)
            tile = self._growing.get(key)
            if tile is None:
                tile = self._growing[key] = _Rows(height=TILE_HEIGHT)
            tile.rows[height] += node

    def node(self, level: int, index: int) -> bytes:
        """Hash of a complete subtree that the tree has; a `merkle.NodeReader`.

        Raises:
            ValueError: the tree has no such node; the caller's mistake.
            IntegrityAlarm: the tile that holds it is missing or damaged.
            Unavailable: the tile store does not answer.
        """
        tile_level, height = divmod(level, TILE_HEIGHT)
        growing = self._growing.get((tile_level, index >> (TILE_HEIGHT - height)))
        if growing is not None:
            return growing.node(height, index & ((TILE_WIDTH >> height) - 1))
        block_level, height = divmod(level, BLOCK_HEIGHT)
        block = self._block(block_level, index >> (BLOCK_HEIGHT - height))
        return block.node(height, index & ((BLOCK_WIDTH >> height) - 1))

    def tile(self, level: int, index: int, width: int) -> bytes:
        """The first `width` hashes of a tile that is not settled yet."""
        return bytes(self._growing[level, index].rows[0][: width * HASH_BYTES])

    def settle(self, size: int) -> None:
        """Let go of the full tiles of the tree of this size: they are all published now."""
        for level, index in list(self._growing):
            if width_in_tree(level, index, size) == TILE_WIDTH:
                rows = self._growing[level, index].rows
                self._keep((2 * level + 1, index), _Rows(rows[BLOCK_HEIGHT], height=BLOCK_HEIGHT))
                if level:  # few, and every proof needs one: leaves alone are read when asked for
                    for place in range(BLOCK_WIDTH):
                        hashes = _piece(rows[0], place)
                        lower = _Rows(hashes, height=BLOCK_HEIGHT)
                        self._keep((2 * level, index * BLOCK_WIDTH + place), lower)
                del self._growing[level, index]

    @property
    def growing_tiles(self) -> int:
        """How many tiles are in memory because they are not full or not published."""
        return len(self._growing)

    def _block(self, level: int, index: int) -> _Rows:
        """A block of a full tile, from memory or from the tile store."""
        key = level, index
        with self._turn:
            block = self._blocks.get(key)
            if block is not None:
                self._blocks.move_to_end(key)
                return block
        block = self._read_block(level, index)
        self._keep(key, block)
        return block

    def _read_block(self, level: int, index: int) -> _Rows:
        """Read a block and check it against the one above, which checks itself so."""
        tile_level, is_upper = divmod(level, 2)
        tile, place = (index, 0) if is_upper else divmod(index, BLOCK_WIDTH)
        name = TileName(level=tile_level, index=tile).path()
        try:
            data = self._tiles.get(name)
        except NotFound as error:
            raise IntegrityAlarm(f"a published tile is missing: {name}") from error
        if is_upper:
            lower = _Rows(data, height=BLOCK_HEIGHT)
            block = _Rows(_row_above(lower.rows[-1]), height=BLOCK_HEIGHT)
        else:
            block = _Rows(_piece(data, place), height=BLOCK_HEIGHT)
        if block.root() != self.node(BLOCK_HEIGHT * (level + 1), index):
            raise IntegrityAlarm(f"a published tile is damaged: {name}")
        return block

    def _keep(self, key: tuple[int, int], block: _Rows) -> None:
        with self._turn:
            self._blocks[key] = block
            self._blocks.move_to_end(key)
            while len(self._blocks) > self._cached_blocks:
                self._blocks.popitem(last=False)


def _piece(hashes: bytes | bytearray, place: int) -> bytes | bytearray:
    """The hashes of one lower block of a tile."""
    first = place * BLOCK_WIDTH * HASH_BYTES
    return hashes[first : first + BLOCK_WIDTH * HASH_BYTES]


def _row_above(row: bytearray) -> bytearray:
    above = bytearray()
    data = bytes(row)
    for at in range(0, len(row) - HASH_BYTES, 2 * HASH_BYTES):
        middle = at + HASH_BYTES
        above += hash_children(data[at:middle], data[middle : middle + HASH_BYTES])
    return above


def _edge_tile(tiles: TileStore, level: int, index: int, width: int) -> bytes:
    """The first hashes of a tile at the edge; the store may hold more of it by now."""
    name = TileName(level=level, index=index).path()
    partial = tiles.get_partial(name)
    try:
        data = tiles.get(name) if partial is None else partial[1]
    except NotFound as error:
        raise IntegrityAlarm(f"a published tile is missing: {name}") from error
    if len(data) < width * HASH_BYTES:
        raise IntegrityAlarm(f"a published tile is shorter than its checkpoint says: {name}")
    return data[: width * HASH_BYTES]
