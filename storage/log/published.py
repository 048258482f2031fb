"""fsck's look at what is published: bundles, encrypted texts and tiles, up to one checkpoint.

Does: hands out the published leaf hashes, and compares every file with what the walk over the
database computed. Refuses to judge which side is right; it says where they differ.
"""

from collections.abc import Iterable, Mapping

from evidence.errors import EvidenceError
from evidence.merkle import HASH_BYTES
from evidence.tlog.tiles import (
    TILE_HEIGHT,
    TILE_WIDTH,
    TileName,
    decode_bundle,
    width_in_tree,
)
from storage.errors import IntegrityAlarm, NotFound
from storage.log.findings import Findings
from storage.log.rows import LoggedRow
from storage.log.submission import LogStores
from storage.log.texts import open_text, texts_name
from storage.log.tree import Node


class PublishedFiles:
    """The files of one published tree, read once each in the order of the walk."""

    def __init__(self, stores: LogStores, size: int, findings: Findings) -> None:
        """Look at the files that a tree of `size` leaves must have."""
        self._stores = stores
        self._size = size
        self._findings = findings
        self._rows: dict[int, bytearray] = {}  # by tile level: hashes of the tile being made
        self._done: dict[int, int] = {}  # by tile level: tiles compared so far
        self._leaves = b""
        self._leaves_of = -1

    def leaf_hash(self, index: int) -> bytes | None:
        """The hash that the published tile has for a leaf, or None where there is none."""
        if index >= self._size:
            return None
        tile, place = divmod(index, TILE_WIDTH)
        if tile != self._leaves_of:
            self._leaves_of = tile
            self._leaves = self._read_tile(0, tile) or b""
        found = self._leaves[place * HASH_BYTES : (place + 1) * HASH_BYTES]
        return found if len(found) == HASH_BYTES else None

    def add_nodes(self, completed: Iterable[Node]) -> None:
        """Take the nodes that a leaf completed; compare each tile that becomes full."""
        for level, index, node in completed:
            tile_level, height = divmod(level, TILE_HEIGHT)
            if height or (index + 1) << level > self._size:
                continue
            row = self._rows.setdefault(tile_level, bytearray())
            row += node
            if len(row) == TILE_WIDTH * HASH_BYTES:
                self._compare(tile_level, bytes(row))
                row.clear()

    def finish(self) -> None:
        """Compare the tiles that are partial in this tree."""
        for tile_level, row in self._rows.items():
            if row:
                self._compare(tile_level, bytes(row))

    def check_bundles(self, first: int, end: int, rows: Mapping[int, LoggedRow]) -> None:
        """Compare the bundles of one number with the rows first ≤ index < end."""
        end = min(end, self._size)
        if first >= end:
            return
        name = TileName(level=None, index=first // TILE_WIDTH).path()
        entries = self._read_bundle(name, end - first, "bundle")
        if entries is not None:
            for index, entry in enumerate(entries, start=first):
                row = rows.get(index)
                if row is not None and row.leaf() not in (entry, None):
                    detail = f"entry {index} is not the leaf of its record"
                    self._findings.add("bundle_differs", name, detail)
        self._check_texts(first, end, rows)

    def _check_texts(self, first: int, end: int, rows: Mapping[int, LoggedRow]) -> None:
        name = texts_name(first // TILE_WIDTH)
        items = self._read_bundle(name, end - first, "text_bundle")
        keys = self._stores.texts.find(self._stores.origin, first, end - first)
        for index, item in enumerate(items or (), start=first):
            if index not in keys:
                self._findings.add("text_key_missing", name, f"text {index} has no key")
                continue
            try:
                text = open_text(keys[index], self._stores.origin, index, item)
            except IntegrityAlarm as alarm:
                self._findings.add("text_unreadable", name, f"text {index}: {alarm.detail}")
                continue
            row = rows.get(index)
            held = (text.statement, text.received_at, text.committed_size)
            if row and held != (row.statement, row.received_at, row.committed_size):
                detail = f"text {index} or its times are not those of its record"
                self._findings.add("text_bundle_differs", name, detail)

    def _compare(self, level: int, computed: bytes) -> None:
        index = self._done.get(level, 0)
        self._done[level] = index + 1
        name = TileName(level=level, index=index).path()
        held = self._leaves if (level, index) == (0, self._leaves_of) else None
        held = held or self._read_tile(level, index)
        if held is None:
            self._findings.add("tile_missing", name, "the tile is not published")
        elif held[: len(computed)] != computed:
            self._findings.add("tile_differs", name, "the tile is not what the leaves make")

    def _read_tile(self, level: int, index: int) -> bytes | None:
        width = width_in_tree(level, index, self._size)
        return self._read(TileName(level=level, index=index).path(), width)

    def _read_bundle(self, name: str, width: int, code: str) -> list[bytes] | None:
        data = self._read(name, width)
        if data is None:
            self._findings.add(f"{code}_missing", name, "the bundle is not published")
            return None
        try:
            items = decode_bundle(data)
        except EvidenceError as error:
            self._findings.add(f"{code}_differs", name, error.detail)
            return None
        if len(items) < width:
            self._findings.add(f"{code}_differs", name, "the bundle is too short")
        return items[:width]

    def _read(self, name: str, width: int) -> bytes | None:
        """A full file, or where the tree needs less, whatever is there of it."""
        partial = None if width == TILE_WIDTH else self._stores.tiles.get_partial(name)
        if partial is not None:
            return partial[1]
        try:
            return self._stores.tiles.get(name)
        except (NotFound, IntegrityAlarm):
            return None
