"""Reading a log's entries and recomputing its tree, leaf by leaf.

    1. for each group of 256 entries: the bundle, the leaf hashes' tile, the hash above it
    2. each entry is a leaf of ours; its hash is the one in the tile
    3. the root of a full group is the hash in the tile above, and so on upward
    4. every leaf is appended to the edge that was known before; at each size at which the log has
       signed something, the root is taken

Does: finds each file that differs from the others, and names the one that is wrong where two of
three agree. Refuses to judge signatures: what the roots mean is the caller's question.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from evidence.errors import EvidenceError, LeafInvalid, TileInvalid
from evidence.leaf import parse_leaf
from evidence.merkle import Frontier, hash_children, hash_leaf
from evidence.tlog.tiles import (
    TILE_HEIGHT,
    TILE_WIDTH,
    TileName,
    decode_bundle,
    split_tile,
    width_in_tree,
)
from service.monitor.findings import Code, Finding
from service.monitor.source import Absent

MAX_FINDINGS = 100
"""Of one pass: a log of which every file is wrong needs no longer list."""

Fetch = Callable[[TileName], bytes]
"""A file as the log hands it out; raises `Absent`, or `Unreachable`, which ends the walk."""


@dataclass(slots=True, kw_only=True)
class Walked:
    """What a walk found.

    Attributes:
        edge: of the tree over the entries that were read; grows while the walk goes on.
        roots: the roots at the sizes that were asked for.
        findings: files that are missing, damaged or malformed.
    """

    edge: Frontier
    roots: dict[int, bytes] = field(default_factory=dict[int, bytes])
    findings: list[Finding] = field(default_factory=list[Finding])

    def add(self, code: Code, place: str, detail: str) -> None:
        """Note one finding, as long as there are not too many."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(code=code, place=place, detail=detail))


class Walk:
    """One walk over the files of a tree of one size."""

    def __init__(self, fetch: Fetch, size: int, wanted: Collection[int]) -> None:
        """Prepare; `run` reads.

        Args:
            fetch: reads a file of the log.
            size: number of leaves of the checkpoint.
            wanted: sizes at which the root is wanted.
        """
        self._fetch = fetch
        self._size = size
        self._wanted = frozenset(wanted)
        self._tiles: dict[tuple[int, int], list[bytes] | None] = {}

    def run(self, edge: Frontier) -> Walked:
        """Do the steps of the module from an edge on; ends where a group cannot be read."""
        walked = Walked(edge=edge)
        self._take_root(walked)
        first = edge.size // TILE_WIDTH
        for group in range(first, -(-self._size // TILE_WIDTH)):
            hashes = self._group(walked, group)
            if hashes is None:
                return walked
            for leaf_hash in hashes[edge.size - group * TILE_WIDTH :]:
                edge.append(leaf_hash)
                self._take_root(walked)
        self._check_upper(walked, first)
        return walked

    def _take_root(self, walked: Walked) -> None:
        if walked.edge.size in self._wanted:
            walked.roots[walked.edge.size] = walked.edge.root()

    def _group(self, walked: Walked, group: int) -> list[bytes] | None:
        """Steps 1 to 3 for one group; its leaf hashes, or None where none can be had."""
        name = self._name(None, group)
        entries = self._entries(walked, name)
        tile = self._tile(walked, 0, group)
        if entries is None or tile is None:
            return entries or tile
        above = self._above(walked, 0, group)
        if entries != tile:
            told = f"The entries and their hashes disagree in group {group}."
            if above is not None and above == _root(entries):
                walked.add(Code.TILE_DAMAGED, self._name(0, group).path(), told)
            elif above is not None and above == _root(tile):
                walked.add(Code.TILE_DAMAGED, name.path(), told)
                return tile
            else:
                walked.add(
                    Code.TILE_DAMAGED, f"{name.path()} or {self._name(0, group).path()}", told
                )
        elif above is not None and above != _root(tile):
            self._blame(walked, 0, group)
        return entries

    def _entries(self, walked: Walked, name: TileName) -> list[bytes] | None:
        """The hashes of the entries in one bundle, each a leaf of ours (2)."""
        try:
            entries = decode_bundle(self._fetch(name))
        except Absent:
            walked.add(Code.TILE_MISSING, name.path(), "The entries are not there.")
            return None
        except EvidenceError as error:
            walked.add(Code.TILE_DAMAGED, name.path(), f"The bundle is malformed: {error.detail}.")
            return None
        if len(entries) != name.width:
            walked.add(Code.TILE_DAMAGED, name.path(), "The bundle has another number of entries.")
            return None
        for place, entry in enumerate(entries, name.index * TILE_WIDTH):
            try:
                parse_leaf(entry)
            except LeafInvalid as error:
                walked.add(Code.ENTRY_MALFORMED, f"entry {place}", error.detail)
        return [hash_leaf(entry) for entry in entries]

    def _check_upper(self, walked: Walked, first: int) -> None:
        """Step 3 above the leaves, as far as new groups reach."""
        level = 1
        while self._size >> (TILE_HEIGHT * level):
            first //= TILE_WIDTH
            last = (self._size >> (TILE_HEIGHT * level)) - 1
            for index in range(first, last // TILE_WIDTH + 1):
                tile = self._tile(walked, level, index)
                if tile is None or len(tile) < TILE_WIDTH:
                    continue
                above = self._above(walked, level, index)
                if above is not None and above != _root(tile):
                    self._blame(walked, level, index)
            level += 1

    def _blame(self, walked: Walked, level: int, index: int) -> None:
        """A full tile and the hash above it disagree, and what is below agrees with the tile."""
        path = self._name(level + 1, index // TILE_WIDTH).path()
        told = f"It has another hash for {self._name(level, index).path()}."
        walked.add(Code.TILE_DAMAGED, path, told)

    def _above(self, walked: Walked, level: int, index: int) -> bytes | None:
        """The hash of a full tile in the tile above it; None for a tile that is not full."""
        if width_in_tree(level, index, self._size) < TILE_WIDTH:
            return None
        tile = self._tile(walked, level + 1, index // TILE_WIDTH)
        return None if tile is None else tile[index % TILE_WIDTH]

    def _tile(self, walked: Walked, level: int, index: int) -> list[bytes] | None:
        """The hashes of a tile, fetched once; a leaf tile is not kept."""
        if (level, index) in self._tiles:
            return self._tiles[level, index]
        name = self._name(level, index)
        found: list[bytes] | None = None
        try:
            found = split_tile(self._fetch(name), name.width)
        except Absent:
            walked.add(Code.TILE_MISSING, name.path(), "The tile is not there.")
        except TileInvalid:
            walked.add(Code.TILE_DAMAGED, name.path(), "The tile has another length.")
        if level:
            self._tiles[level, index] = found
        return found

    def _name(self, level: int | None, index: int) -> TileName:
        width = width_in_tree(level, index, self._size)
        return TileName(level=level, index=index, width=width)


def _root(hashes: list[bytes]) -> bytes:
    """The root over 256 hashes."""
    while len(hashes) > 1:
        pairs = zip(hashes[::2], hashes[1::2], strict=True)
        hashes = [hash_children(left, right) for left, right in pairs]
    return hashes[0]
