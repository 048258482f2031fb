"""Where a log's public files lie: tiles, bundles and the checkpoint, under C2SP names.

Full tiles and bundles are write-once. Partial ones grow by replacement and go when the full one
is there; the checkpoint is replaced. The store knows names and bytes: what a tile holds, and
whether the checkpoint is signed, is the business of `evidence.tlog`.

    tile/0/x001/234          a full tile of hashes, level 0, index 1234
    tile/entries/000         a full bundle of entries
    texts/000                a full bundle of encrypted texts
    checkpoints/000          every checkpoint that was signed for leaves of the same bundle
    tile/0/x001/234.p/12     the same tile while it holds 12 hashes
    checkpoint               the newest published signed note

Source: C2SP tlog-tiles, commit 5ba5ee83.
"""

import contextlib
import os
import re
from pathlib import Path
from typing import Protocol, Self

from storage.durable import Tree, disk_errors, open_file
from storage.errors import AlreadyExists, NameRefused, NotFound

_LEVEL = r"(?:[0-9]|[1-5][0-9]|6[0-3])"
_INDEX = r"(?:/x(?!000)[0-9]{3}(?:/x[0-9]{3}){0,5})?/[0-9]{3}"
_NAME = re.compile(rf"(?:tile/(?:entries|{_LEVEL})|texts|checkpoints){_INDEX}")
_WIDTH = re.compile(r"[1-9][0-9]{0,2}")
_WIDEST = 255
_CHECKPOINT = "checkpoint"


class TileStore(Protocol):
    """A log's files by name. One publisher writes; any number of readers read."""

    def put(self, name: str, data: bytes) -> None:
        """Keep a full tile or bundle for ever and return when that would survive power loss.

        The same bytes again are success. Once it is there, partial forms of it are dropped.

        Args:
            name: as `TileName.path()` gives it for a full tile, or `texts/` or `checkpoints/`
                with an index in the same form; never a partial name.
            data: not empty.

        Raises:
            AlreadyExists: the name holds other bytes, or a partial form of it is no prefix.
            NameRefused: the name has another form.
            DiskReserveReached, SyncFailed, Unavailable: nothing was promised.
        """
        ...

    def get(self, name: str) -> bytes:
        """The full tile or bundle.

        Raises:
            NotFound: it is not there, or only a partial form is.
            NameRefused: the name has another form.
            IntegrityAlarm: something other than a file of this store lies under the name.
            Unavailable: the store does not answer.
        """
        ...

    def put_partial(self, name: str, width: int, data: bytes) -> None:
        """Keep the first `width` elements of a tile that is still growing; durable on return.

        A wider form replaces a narrower one in one step: a reader sees either. A form that is
        no wider than what is held (or the full tile) changes nothing and is success, if what
        is held begins with it: a smaller size is always answerable as a prefix.

        Args:
            name: the name of the full tile.
            width: 1 ≤ width ≤ 255.
            data: the bytes of those elements; begin with those of every narrower form.

        Raises:
            AlreadyExists: neither of the two forms is a prefix of the other.
            NameRefused, DiskReserveReached, SyncFailed, Unavailable: as `put`.
        """
        ...

    def get_partial(self, name: str) -> tuple[int, bytes] | None:
        """The widest partial form, as (width, bytes); None if there is none or the tile is full.

        Raises:
            NameRefused, IntegrityAlarm, Unavailable: as `get`.
        """
        ...

    def put_checkpoint(self, data: bytes) -> None:
        """Replace the published checkpoint in one step; durable on return.

        Raises:
            DiskReserveReached, SyncFailed, Unavailable: the former one may still be there.
        """
        ...

    def checkpoint(self) -> bytes | None:
        """The published checkpoint, or None before the first.

        Raises:
            IntegrityAlarm, Unavailable: as `get`.
        """
        ...


class LocalTiles:
    """`TileStore` over one directory; see the protocol for the promises.

    The tree has the layout of the specification, so any static file server can publish it.
    """

    def __init__(self, root: Path) -> None:
        """Open a store that `LocalTiles.create` made.

        Raises:
            Unavailable: no store lies there.
        """
        self._tree = Tree(root)

    @classmethod
    def create(cls, root: Path) -> Self:
        """Make a store in a folder whose parent exists, or open the one that is there.

        Raises:
            DiskReserveReached, SyncFailed, Unavailable: it could not be made.
        """
        Tree.create(root)
        return cls(root)

    def put(self, name: str, data: bytes) -> None:
        """See `TileStore.put`."""
        *path, last = _parts(name)
        _require_bytes(data)
        with disk_errors("keeping a tile"), self._tree.folder(*path, make=True) as folder:
            held = _read(last, folder)
            if held is None:
                if not data.startswith(self._widest(path, last)[1]):
                    raise AlreadyExists(f"the full tile {name} does not begin with the partial one")
                with contextlib.suppress(FileExistsError):
                    self._tree.create_file(data, last, folder)
                held = _read(last, folder)
            if held != data:
                raise AlreadyExists(f"the tile {name} holds other bytes")
            self._tree.sync(folder)  # whoever made it may not have come so far
            self._drop_partials(path, last, folder)

    def get(self, name: str) -> bytes:
        """See `TileStore.get`."""
        *path, last = _parts(name)
        with disk_errors("reading a tile"):
            data = self._full(path, last)
        if data is None:
            raise NotFound(f"no tile {name} is held")
        return data

    def put_partial(self, name: str, width: int, data: bytes) -> None:
        """See `TileStore.put_partial`: one file a width, narrower ones removed afterwards."""
        *path, last = _parts(name)
        _require_bytes(data)
        if not 1 <= width <= _WIDEST:
            raise ValueError("a partial tile has a width of 1 to 255")
        with disk_errors("keeping a partial tile"):
            full = self._full(path, last)
            held_width, held = self._widest(path, last) if full is None else (_WIDEST + 1, full)
            if not _is_one_growing(held_width, held, width, data):
                raise AlreadyExists(f"the partial tile {name} holds other bytes")
            if full is not None:
                return
            with self._tree.folder(*path, f"{last}.p", make=True) as folder:
                if width > held_width:
                    with contextlib.suppress(FileExistsError):
                        self._tree.create_file(data, str(width), folder)
                self._tree.sync(folder)
                for narrower in _widths(folder):
                    if narrower < max(width, held_width):
                        os.unlink(str(narrower), dir_fd=folder)

    def get_partial(self, name: str) -> tuple[int, bytes] | None:
        """See `TileStore.get_partial`."""
        *path, last = _parts(name)
        with disk_errors("reading a partial tile"):
            if self._full(path, last) is not None:
                return None
            width, data = self._widest(path, last)
        return (width, data) if width else None

    def put_checkpoint(self, data: bytes) -> None:
        """See `TileStore.put_checkpoint`."""
        _require_bytes(data)
        with disk_errors("publishing a checkpoint"), self._tree.folder() as folder:
            self._tree.replace_file(data, _CHECKPOINT, folder)

    def checkpoint(self) -> bytes | None:
        """See `TileStore.checkpoint`."""
        with disk_errors("reading the checkpoint"), self._tree.folder() as folder:
            return _read(_CHECKPOINT, folder)

    def _full(self, path: list[str], last: str) -> bytes | None:
        try:
            with self._tree.folder(*path) as folder:
                return _read(last, folder)
        except FileNotFoundError:
            return None

    def _widest(self, path: list[str], last: str) -> tuple[int, bytes]:
        """The widest partial form as (width, bytes); (0, b"") if there is none."""
        try:
            with self._tree.folder(*path, f"{last}.p") as folder:
                while widths := _widths(folder):
                    data = _read(str(widths[-1]), folder)
                    if data is not None:  # else a wider one has just taken its place
                        return widths[-1], data
        except FileNotFoundError:
            pass
        return 0, b""

    def _drop_partials(self, path: list[str], last: str, above: int) -> None:
        """Remove the partial forms of a full tile; what a crash leaves, nobody reads."""
        with contextlib.suppress(FileNotFoundError):
            with self._tree.folder(*path, f"{last}.p") as folder:
                for width in _widths(folder):
                    os.unlink(str(width), dir_fd=folder)
            os.rmdir(f"{last}.p", dir_fd=above)


def _parts(name: str) -> list[str]:
    """The components of a checked name; this is why no path from outside reaches the disk."""
    if not _NAME.fullmatch(name):
        raise NameRefused("this is not the name of a full tile or of a bundle")
    return name.split("/")


def _require_bytes(data: bytes) -> None:
    if not data:
        raise ValueError("an empty file is never published")


def _is_one_growing(held_width: int, held: bytes, width: int, data: bytes) -> bool:
    """True if the two forms are the same tile at two times."""
    if width == held_width:
        return data == held
    return data.startswith(held) if width > held_width else held.startswith(data)


def _read(name: str, folder: int) -> bytes | None:
    try:
        fd = open_file(name, folder)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        return file.read()


def _widths(folder: int) -> list[int]:
    """The widths that are there, ascending; what has another name is not ours."""
    return sorted(int(name) for name in os.listdir(folder) if _WIDTH.fullmatch(name))
