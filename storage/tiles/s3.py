"""The tile store that is an S3 bucket, shared by every node that may lead the log or serve it.

    <log>/store                   "fengni-tiles 1", so that no other bucket is taken for this one
    <log>/tile/0/x001/234         a full tile; also entries and texts, under their C2SP names
    <log>/tile/0/x001/234.p       the same tile while it grows: its width, a line feed, its bytes
    <log>/checkpoint              the newest published signed note

The bucket has no locks and no versions: what may be replaced cannot lie in a locked one, and what
may not is proven by the checkpoint above it. Full tiles are compared with what is there before
they are sent and after; nothing rests on the server's own create-once. Growing tiles and the
checkpoint are replaced under `If-Match`: a server that compares refuses a node that was deposed
meanwhile. One that does not compare lets it put an older checkpoint there until the leader's next
publication; `Conditions` says which kind of server this is, as measured.

A writer remembers what it put last, so that a publication costs one request for each file that
has grown. Refuses to remember for readers.
"""

import re
import threading
from dataclasses import dataclass
from typing import Self

from storage.errors import AlreadyExists, HeadConflict, NotFound, Unavailable
from storage.s3 import Files
from storage.tiles import (
    WIDEST,
    checked_parts,
    is_one_growing,
    require_bytes,
    require_width,
)

_STORE = "store"
_STORE_TEXT = b"fengni-tiles 1\n"
_CHECKPOINT = "checkpoint"
_CANARY = "canary"
_ATTEMPTS = 5
_LOG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SIZE = re.compile(rb"[^\n]+\n(0|[1-9][0-9]{0,18})\n")
_NO_TAG = "0" * 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Whether the server compares where it is asked to, as measured on a canary.

    Attributes:
        creates_once: `If-None-Match: *` refuses a name that is taken.
        replaces_known: `If-Match` refuses to replace anything but what was seen.
    """

    creates_once: bool
    replaces_known: bool


@dataclass(frozen=True, slots=True)
class _Grown:
    """A partial form as this writer knows it to lie in the bucket."""

    width: int
    data: bytes
    tag: str


class S3Tiles:
    """`TileStore` over one bucket, for one log; see the protocol for the promises."""

    def __init__(self, files: Files, log: str) -> None:
        """Open a store that `S3Tiles.create` made.

        Args:
            files: the bucket, without locks.
            log: id of the log: 1 to 63 of `a-z 0-9 -`, beginning with a letter or digit.

        Raises:
            ValueError: the id has another form.
            Unavailable: no store of this log lies there, or nobody answers.
        """
        self._files = files
        self._prefix = _prefix(log)
        self._turn = threading.Lock()
        self._grown: dict[str, _Grown] = {}
        self._published: tuple[int, str] | None = None
        try:
            marked = files.read(self._prefix + _STORE) == _STORE_TEXT
        except NotFound:
            marked = False
        if not marked:
            raise Unavailable("no tile store of this log lies in the bucket")

    @classmethod
    def create(cls, files: Files, log: str) -> Self:
        """Make a store, and its bucket, or open the one that is there.

        Raises:
            ValueError: the id has another form.
            Unavailable: it could not be made.
        """
        prefix = _prefix(log)
        files.make(object_lock=False)
        files.require()
        files.put(prefix + _STORE, _STORE_TEXT)
        return cls(files, log)

    def conditions(self) -> Conditions:
        """Try on a canary whether the server compares; nothing of the log is touched.

        Raises:
            Unavailable: nobody answers.
        """
        key = self._prefix + _CANARY
        self._files.put(key, b"canary\n")
        creates = self._files.put_new(key, b"again\n") is None
        replaces = self._files.put_over(key, b"again\n", _NO_TAG) is None
        self._files.remove([key])
        return Conditions(creates_once=creates, replaces_known=replaces)

    def put(self, name: str, data: bytes) -> None:
        """See `TileStore.put`: looked for, sent, read back."""
        checked_parts(name)
        require_bytes(data)
        key = self._prefix + name
        with self._turn:
            there = self._there(key)
            if key not in there:
                partial = self._partial(key) if f"{key}.p" in there else None
                if partial is not None and not data.startswith(partial.data):
                    raise AlreadyExists(f"the full tile {name} does not begin with the partial one")
                self._files.put_new(key, data)
            if self._files.read(key) != data:
                raise AlreadyExists(f"the tile {name} holds other bytes")
            self._grown.pop(key, None)
            if f"{key}.p" in there:
                self._files.remove([f"{key}.p"])

    def get(self, name: str) -> bytes:
        """See `TileStore.get`."""
        checked_parts(name)
        try:
            return self._files.read(self._prefix + name)
        except NotFound as error:
            raise NotFound(f"no tile {name} is held") from error

    def put_partial(self, name: str, width: int, data: bytes) -> None:
        """See `TileStore.put_partial`: one object for a tile, replaced as it grows."""
        checked_parts(name)
        require_bytes(data)
        require_width(width)
        key = self._prefix + name
        with self._turn:
            for _ in range(_ATTEMPTS):
                held = self._grown.get(key) or self._look(key)
                if held is not None and not is_one_growing(held.width, held.data, width, data):
                    raise AlreadyExists(f"the partial tile {name} holds other bytes")
                if held is not None and held.width >= width:
                    return
                over = None if held is None else held.tag
                tag = self._send(f"{key}.p", b"%d\n%b" % (width, data), over)
                if tag is not None:
                    self._remember(key, _Grown(width, data, tag))
                    return
                self._grown.pop(key, None)  # another node put it: look, and decide again
        raise Unavailable("another node publishes the same tile")

    def get_partial(self, name: str) -> tuple[int, bytes] | None:
        """See `TileStore.get_partial`."""
        checked_parts(name)
        key = self._prefix + name
        partial = self._partial(key)
        if partial is None or key in self._there(key):
            return None
        return partial.width, partial.data

    def put_checkpoint(self, data: bytes) -> None:
        """See `TileStore.put_checkpoint`; the size is the second line of the note."""
        require_bytes(data)
        key = self._prefix + _CHECKPOINT
        with self._turn:
            for _ in range(_ATTEMPTS):
                known = self._published or self._shown()
                if known is not None and known[0] > _size(data):
                    self._published = None
                    raise HeadConflict("another node has published a larger tree")
                tag = self._send(key, data, known and known[1])
                self._published = (_size(data), tag) if tag else None
                if tag is not None:
                    return
        raise Unavailable("another node publishes this log")

    def checkpoint(self) -> bytes | None:
        """See `TileStore.checkpoint`."""
        try:
            return self._files.read(self._prefix + _CHECKPOINT)
        except NotFound:
            return None

    def _send(self, key: str, data: bytes, over: str | None) -> str | None:
        """Send what replaces a file that was seen, or is the first."""
        files = self._files
        return files.put_new(key, data) if over is None else files.put_over(key, data, over)

    def _shown(self) -> tuple[int, str] | None:
        try:
            note, tag = self._files.read_tagged(self._prefix + _CHECKPOINT)
        except NotFound:
            return None
        return _size(note), tag

    def _there(self, key: str) -> set[str]:
        """Which of the two forms of a tile are there, in one request."""
        return {one.key for one in self._files.list(key)} & {key, f"{key}.p"}

    def _look(self, key: str) -> _Grown | None:
        """What is held of a tile; the full one is wider than any partial form."""
        there = self._there(key)
        if key in there:
            return _Grown(WIDEST + 1, self._files.read(key), "")
        return self._partial(key) if f"{key}.p" in there else None

    def _partial(self, key: str) -> _Grown | None:
        try:
            raw, tag = self._files.read_tagged(f"{key}.p")
        except NotFound:
            return None
        head, _, data = raw.partition(b"\n")
        if not head.isdigit() or not 1 <= int(head) <= WIDEST:
            raise Unavailable("a partial tile in the bucket is of another format")
        return _Grown(int(head), data, tag)

    def _remember(self, key: str, grown: _Grown) -> None:
        """Keep the newest form of each kind of file: a log grows at one edge."""
        kind = _kind(key)
        for other in [one for one in self._grown if _kind(one) == kind]:
            del self._grown[other]
        if grown.tag:
            self._grown[key] = grown


def _kind(key: str) -> str:
    """`<log>/texts`, or `<log>/tile/<level>`, of a key."""
    return re.split(r"/x?[0-9]{3}(?:/|$)", key, maxsplit=1)[0]


def _prefix(log: str) -> str:
    if not _LOG.fullmatch(log):
        raise ValueError("a log's id is 1 to 63 of a-z, 0-9 and hyphen")
    return f"{log}/"


def _size(note: bytes) -> int:
    """The size that a checkpoint says; what is none has none."""
    found = _SIZE.match(note)
    return int(found[1]) if found else 0
