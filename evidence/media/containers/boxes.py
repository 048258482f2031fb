"""Boxes of the ISO base media file format, read within limits.

Does: lists the boxes of one level, with 64-bit sizes and sizes “to the end”, and finds a
box by its path. Refuses to descend by itself: a caller names each step, so that a thousand
nested boxes cost nothing.

    00 00 00 18 "ftyp" "heic" … | 00 00 01 2C "meta" … | 00 00 00 01 "mdat" size64 …

Source: ISO/IEC 14496-12 §4.2.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from evidence.errors import MediaInvalid
from evidence.media.window import Window

# One level of a real file has at most some hundred boxes; a fragmented film has two for each
# second. More than this on one level is refused.
MAX_BOXES = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One box.

    Attributes:
        kind: its four bytes.
        body: what stands behind the header.
        cut_short: the box names more bytes than there are.
        end: offset behind the box in the window that was listed.
    """

    kind: bytes
    body: Window
    cut_short: bool
    end: int

    def full(self) -> tuple[int, int, Window]:
        """Return version, flags and the rest of a full box.

        Raises:
            MediaInvalid: the four bytes are not there.
        """
        head = self.body.take(0, 4)
        return head[0], int.from_bytes(head[1:], "big"), self.body.cut(4, self.body.size)


def boxes(window: Window) -> Iterator[Box]:
    """Yield the boxes of one level, in order.

    Args:
        window: a file, or the body of a box that holds boxes.

    Raises:
        MediaInvalid: a size is impossible, or there are more than MAX_BOXES boxes.
    """
    offset = 0
    for _ in range(MAX_BOXES):
        head = window.peek(offset, 16)
        if len(head) < 8:
            return
        size, kind, header = int.from_bytes(head[:4], "big"), head[4:8], 8
        if size == 1:
            size, header = int.from_bytes(head[8:], "big"), 16
        elif size == 0:
            size = window.size - offset
        if size < header:
            raise MediaInvalid("A box is shorter than its own header.")
        body = window.cut(offset + header, size - header)
        yield Box(kind=kind, body=body, cut_short=body.size < size - header, end=offset + size)
        offset += size
    raise MediaInvalid(f"There are more than {MAX_BOXES} boxes on one level.")


def find(window: Window, *path: bytes) -> Box | None:
    """Return the first box at a path, or None.

    Args:
        window: where the path begins.
        path: kinds, outermost first; at least one.

    Raises:
        MediaInvalid: a level on the way is malformed before the box was met.
    """
    for box in boxes(window):
        if box.kind == path[0]:
            return box if len(path) == 1 else find(box.body, *path[1:])
    return None


class Cursor:
    """Reads big-endian integers one after another out of bytes.

    Raises `MediaInvalid` when the bytes end; that is its whole use.
    """

    def __init__(self, data: bytes) -> None:
        """Begin at the first byte."""
        self._data = data
        self._at = 0

    def take(self, length: int) -> bytes:
        """Return the next bytes."""
        part = self._data[self._at : self._at + length]
        if len(part) != length:
            raise MediaInvalid("A box ends in the middle of a field.")
        self._at += length
        return part

    def number(self, length: int) -> int:
        """Return the next unsigned integer of `length` bytes; 0 for no bytes."""
        return int.from_bytes(self.take(length), "big")

    def signed(self, length: int) -> int:
        """Return the next signed integer of `length` bytes."""
        return int.from_bytes(self.take(length), "big", signed=True)

    def text(self) -> bytes:
        """Return the bytes up to the next NUL and step behind it."""
        part, _, _ = self._data[self._at :].partition(b"\x00")
        self._at = min(self._at + len(part) + 1, len(self._data))
        return part
