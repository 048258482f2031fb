"""Tiles and entry bundles: a log as a finite set of immutable files.

A full tile holds 256 hashes of 32 bytes. The n-th tile of level l holds the roots of the
complete subtrees over 256**l leaves, numbers 256 × n to 256 × n + 255. A partial tile is the
tile's beginning, as far as a tree of some size has it. Names:

    tile/0/x001/x234/067          a full tile of leaf hashes
    tile/1/000.p/17               the first 17 hashes of a tile one level up
    tile/entries/x001/x234/067    the 256 entries under the first one

This module names, packs and reads them. It fetches nothing itself, and it does not make a tile
trustworthy: whoever reads hashes out of tiles verifies them against a checkpoint's root.

Source: C2SP tlog-tiles.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from evidence.errors import TileInvalid, TooLarge
from evidence.merkle import HASH_BYTES, hash_children

TILE_WIDTH: Final = 256
TILE_HEIGHT: Final = 8
MAX_LEVEL: Final = 63
MAX_ENTRY_BYTES: Final = 65_535
MAX_BUNDLE_BYTES: Final = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)
MAX_PATH_CHARS: Final = 64

_PATH = re.compile(
    r"tile/(?P<level>0|[1-9][0-9]?|entries)/(?P<index>(?:x[0-9]{3}/)*[0-9]{3})"
    r"(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TileName:
    """Which tile or entry bundle.

    Attributes:
        level: 0 (leaf hashes) to 63, or None for an entry bundle.
        index: ≥ 0, number of the tile within its level.
        width: hashes or entries in it, 1 to 256; 256 is a full tile.
    """

    level: int | None
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        """Refuse names that no tile can have."""
        if self.level is not None and not 0 <= self.level <= MAX_LEVEL:
            raise TileInvalid("a tile's level lies between 0 and 63")
        if self.index < 0 or not 1 <= self.width <= TILE_WIDTH:
            raise TileInvalid("a tile's index is not negative and its width is 1 to 256")

    def path(self) -> str:
        """Return the path below the log's prefix, such as `tile/0/x001/234.p/12`."""
        level = "entries" if self.level is None else str(self.level)
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{level}/{_index_path(self.index)}{partial}"

    def full(self) -> "TileName":
        """Return the name of the full tile at this place."""
        return TileName(level=self.level, index=self.index)


def parse_tile_path(path: str) -> TileName:
    """Read a path that `TileName.path` would write, and no other.

    Raises:
        TileInvalid: superfluous zeros, a level above 63, a width of 0 or above 255, or
            anything else, `..` included.
    """
    match = _PATH.fullmatch(path) if len(path) <= MAX_PATH_CHARS else None
    if match is None:
        raise TileInvalid("this is no path of a tile")
    level, width = match["level"], match["width"]
    name = TileName(
        level=None if level == "entries" else int(level),
        index=int(match["index"].replace("x", "").replace("/", "")),
        width=TILE_WIDTH if width is None else int(width),
    )
    if name.path() != path:
        raise TileInvalid("this is not the canonical path of its tile")
    return name


def tiles_of(size: int, *, entries: bool = False) -> list[TileName]:
    """Return every tile that a tree of this size has, level 0 first, partial ones included.

    Args:
        size: number of leaves, ≥ 0.
        entries: name the entry bundles instead of the hash tiles.
    """
    if entries:
        return _level_tiles(None, size)
    names: list[TileName] = []
    level = 0
    while size:
        names += _level_tiles(level, size)
        level, size = level + 1, size >> TILE_HEIGHT
    return names


def width_in_tree(level: int | None, index: int, size: int) -> int:
    """Return how many hashes or entries of this tile a tree of `size` leaves has, 0 to 256."""
    in_level = size >> (TILE_HEIGHT * (level or 0))
    return max(0, min(TILE_WIDTH, in_level - TILE_WIDTH * index))


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Return an entry bundle: each entry after its length as a big-endian uint16.

    Args:
        entries: 1 to 256 of them, each at most 65,535 bytes.

    Raises:
        TileInvalid: other counts or lengths.
    """
    if not 1 <= len(entries) <= TILE_WIDTH:
        raise TileInvalid("a bundle has 1 to 256 entries")
    if any(len(entry) > MAX_ENTRY_BYTES for entry in entries):
        raise TileInvalid("an entry is longer than 65,535 bytes")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(data: bytes) -> list[bytes]:
    """Read an entry bundle of 1 to 256 entries.

    Raises:
        TooLarge: longer than any bundle can be; TileInvalid: cut, empty, or too many entries.
    """
    if len(data) > MAX_BUNDLE_BYTES:
        raise TooLarge("a bundle is larger than 256 entries can be")
    entries: list[bytes] = []
    position = 0
    while position < len(data) and len(entries) <= TILE_WIDTH:
        start = position + 2
        position = start + int.from_bytes(data[position:start], "big")
        if start > len(data) or position > len(data):
            raise TileInvalid("a bundle ends in the middle of an entry")
        entries.append(data[start:position])
    if not 1 <= len(entries) <= TILE_WIDTH:
        raise TileInvalid("a bundle has 1 to 256 entries")
    return entries


def split_tile(data: bytes, width: int) -> list[bytes]:
    """Cut a tile of this width into its hashes.

    Raises:
        TileInvalid: the length is not 32 × width.
    """
    if len(data) != HASH_BYTES * width:
        raise TileInvalid("a tile has not the length of its width")
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def node_in_tile(level: int, index: int) -> tuple[TileName, int, int]:
    """Return where the complete subtree `node(level, index)` is found.

    Returns:
        The full tile's name, the offset of the first of its hashes below that subtree, and
        the subtree's height above these hashes, 0 to 7: it is the root over 2**height of them.
    """
    tile_level, height = divmod(level, TILE_HEIGHT)
    tile_index, offset = divmod(index << height, TILE_WIDTH)
    return TileName(level=tile_level, index=tile_index), offset, height


class TileReader:
    """A `NodeReader` for a tree of one size over tiles that the caller fetches.

    It keeps the tiles that it used last with the inner nodes hashed from them, so that a proof
    costs few fetches and many proofs cost few hashes. It trusts the tiles: verify what is
    computed from them.
    """

    __slots__ = ("_cache", "_cached_tiles", "_fetch", "size")

    def __init__(
        self, fetch: Callable[[TileName], bytes], size: int, *, cached_tiles: int = 1024
    ) -> None:
        """Take the source of tiles.

        Args:
            fetch: returns exactly 32 × width bytes for a tile of this tree; its own errors
                pass through.
            size: number of leaves; the tiles asked for are those of a tree of this size.
            cached_tiles: how many tiles are kept, about 25 kB each at most.
        """
        self.size = size
        self._fetch = fetch
        self._cached_tiles = cached_tiles
        self._cache: OrderedDict[tuple[int, int], dict[tuple[int, int], bytes]] = OrderedDict()

    def __call__(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree, 32 bytes.

        Raises:
            ValueError: the tree has no such complete subtree; the caller's mistake.
            TileInvalid: the fetched tile has not the length of its width.
        """
        if level < 0 or index < 0 or (index + 1) << level > self.size:
            raise ValueError("the tree has no such complete subtree")
        tile, offset, height = node_in_tile(level, index)
        return _inner_node(self._nodes(tile), height, offset >> height)

    def _nodes(self, tile: TileName) -> dict[tuple[int, int], bytes]:
        """Return the known nodes of a tile by (height, place), fetching it where it is new."""
        key = (tile.level or 0, tile.index)
        nodes = self._cache.get(key)
        if nodes is None:
            width = width_in_tree(tile.level, tile.index, self.size)
            name = TileName(level=tile.level, index=tile.index, width=width)
            hashes = split_tile(self._fetch(name), width)
            nodes = {(0, place): value for place, value in enumerate(hashes)}
            self._cache[key] = nodes
            if len(self._cache) > self._cached_tiles:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return nodes


def _inner_node(nodes: dict[tuple[int, int], bytes], height: int, place: int) -> bytes:
    """Return a node inside a tile, hashing and remembering what is not known yet."""
    value = nodes.get((height, place))
    if value is None:
        left = _inner_node(nodes, height - 1, 2 * place)
        right = _inner_node(nodes, height - 1, 2 * place + 1)
        value = nodes[height, place] = hash_children(left, right)
    return value


def _level_tiles(level: int | None, in_level: int) -> list[TileName]:
    """Name the tiles of one level that holds `in_level` hashes or entries."""
    full, rest = divmod(in_level, TILE_WIDTH)
    names = [TileName(level=level, index=index) for index in range(full)]
    if rest:
        names.append(TileName(level=level, index=full, width=rest))
    return names


def _index_path(index: int) -> str:
    """Write an index in groups of three digits, all but the last with an x before them."""
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03d}")
    return "/".join(reversed(groups))
