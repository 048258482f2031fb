"""The tree's complete nodes: what is still growing in memory, the rest in published tiles.

A tile of height 8 keeps its hashes and the nodes above them in nine rows; the right edge of the
tree is one growing tile for each level. A tile that is full and published leaves memory: it is
read again from the tile store when a proof needs it, and kept for a while.

Does: takes the nodes that an append completed, gives back any complete node, and the bytes of
any tile. Refuses to believe the tile store: a full tile that is read must hash to the node that
the level above knows, up to the edge, which was checked against a signed root at start.

Threads: one writer (`add`), one publisher (`settle`), any number of readers.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable

from evidence.merkle import HASH_BYTES, Frontier, hash_children, tree_root
from evidence.tlog.tiles import TILE_HEIGHT, TILE_WIDTH, TileName, width_in_tree
from storage.errors import IntegrityAlarm, NotFound
from storage.tiles import TileStore

CACHED_TILES = 1024
"""Full tiles kept after use: 16 kB each."""

Node = tuple[int, int, bytes]


class _Rows:
    """The nodes of one tile by height above its hashes, as bytes put end to end."""

    __slots__ = ("_rows",)

    def __init__(self, hashes: bytes = b"") -> None:
        self._rows = [bytearray(hashes)]
        for height in range(1, TILE_HEIGHT):
            self._rows.append(_row_above(self._rows[height - 1]))

    def add(self, height: int, node: bytes) -> None:
        self._rows[height] += node

    def node(self, height: int, place: int) -> bytes:
        at = place * HASH_BYTES
        node = bytes(self._rows[height][at : at + HASH_BYTES])
        if len(node) != HASH_BYTES:
            raise ValueError("the tree has no such complete node")
        return node

    def hashes(self, width: int) -> bytes:
        return bytes(self._rows[0][: width * HASH_BYTES])

    def root(self) -> bytes:
        """Root of a full tile."""
        return bytes(_row_above(self._rows[-1]))


class LogTree:
    """Every complete node of one growing tree."""

    def __init__(self, tiles: TileStore, *, cached_tiles: int = CACHED_TILES) -> None:
        """Begin with the empty tree.

        Args:
            tiles: where published tiles lie.
            cached_tiles: how many full tiles are kept after use, 16 kB each.
        """
        self._tiles = tiles
        self._growing: dict[tuple[int, int], _Rows] = {}
        self._cached: OrderedDict[tuple[int, int], _Rows] = OrderedDict()
        self._cached_tiles = cached_tiles
        self._turn = threading.Lock()

    @classmethod
    def load(
        cls, tiles: TileStore, size: int, root: bytes, *, cached_tiles: int = CACHED_TILES
    ) -> "LogTree":
        """The tree of a published checkpoint: its right edge is read, the rest when needed.

        Args:
            tiles: where its tiles lie.
            size: number of leaves of a checkpoint whose signature was verified.
            root: its root, 32 bytes.
            cached_tiles: see the constructor.

        Raises:
            IntegrityAlarm: a tile of the edge is missing, or the edge has another root.
        """
        tree = cls(tiles, cached_tiles=cached_tiles)
        level = 0
        while size >> (TILE_HEIGHT * level):
            index = size >> (TILE_HEIGHT * (level + 1))
            width = width_in_tree(level, index, size)
            if width:
                tree._growing[level, index] = _Rows(_edge_tile(tiles, level, index, width))
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
            rows = self._growing.get(key)
            if rows is None:
                rows = self._growing[key] = _Rows()
            rows.add(height, node)

    def node(self, level: int, index: int) -> bytes:
        """Hash of a complete subtree that the tree has; a `merkle.NodeReader`.

        Raises:
            ValueError: the tree has no such node; the caller's mistake.
            IntegrityAlarm: the tile that holds it is missing or damaged.
            Unavailable: the tile store does not answer.
        """
        tile_level, height = divmod(level, TILE_HEIGHT)
        tile, place = divmod(index, TILE_WIDTH >> height)
        return self._rows(tile_level, tile).node(height, place)

    def tile(self, level: int, index: int, width: int) -> bytes:
        """The first `width` hashes of a tile that the tree has; raises as `node`."""
        return self._rows(level, index).hashes(width)

    def settle(self, size: int) -> None:
        """Let go of the full tiles of the tree of this size: they are all published now."""
        done = [
            (level, index)
            for level, index in list(self._growing)
            if width_in_tree(level, index, size) == TILE_WIDTH
        ]
        for key in done:
            self._keep(key, self._growing[key])
            del self._growing[key]

    @property
    def growing_tiles(self) -> int:
        """How many tiles are in memory because they are not full or not published."""
        return len(self._growing)

    def _rows(self, level: int, index: int) -> _Rows:
        key = level, index
        rows = self._growing.get(key) or self._cached_rows(key)
        if rows is None:
            rows = self._read(level, index)
            self._keep(key, rows)
        return rows

    def _read(self, level: int, index: int) -> _Rows:
        """Read a full tile and check it against the level above, which checks itself so."""
        name = TileName(level=level, index=index).path()
        try:
            data = self._tiles.get(name)
        except NotFound as error:
            raise IntegrityAlarm(f"a published tile is missing: {name}") from error
        rows = _Rows(data)
        if len(data) != TILE_WIDTH * HASH_BYTES or rows.root() != self.node(
            TILE_HEIGHT * (level + 1), index
        ):
            raise IntegrityAlarm(f"a published tile is damaged: {name}")
        return rows

    def _cached_rows(self, key: tuple[int, int]) -> _Rows | None:
        with self._turn:
            rows = self._cached.get(key)
            if rows is not None:
                self._cached.move_to_end(key)
            return rows

    def _keep(self, key: tuple[int, int], rows: _Rows) -> None:
        with self._turn:
            self._cached[key] = rows
            self._cached.move_to_end(key)
            while len(self._cached) > self._cached_tiles:
                self._cached.popitem(last=False)


def _row_above(row: bytearray) -> bytearray:
    above = bytearray()
    for at in range(0, len(row) - HASH_BYTES, 2 * HASH_BYTES):
        middle = at + HASH_BYTES
        above += hash_children(bytes(row[at:middle]), bytes(row[middle : middle + HASH_BYTES]))
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
