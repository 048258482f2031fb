"""A bounded look into a stream: a range of bytes that is read at named offsets.

Does: gives walkers exact reads inside a range, and gives foreign parsers a file object
whose number of reads and bytes is limited, so that a 2 KB file cannot keep them busy for
minutes. Refuses: reads outside the range, and a parser that has used up its budget.

    window = Window.over(stream, size_bytes)
    window.take(4, 4) == b"ftyp"
"""

import io
from dataclasses import dataclass
from typing import BinaryIO, Self, cast

from evidence.errors import MediaInvalid, TooLarge

# A real block needs six reads for each entry and has some 200 entries; a TIFF of a thousand
# pages some 100,000. More than this is a structure made to keep a parser busy (exif-py#182).
MAX_READS = 200_000
# The longest single value that means anything to us is a sentence; strips are never read.
MAX_READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The bytes `start` to `start + size` of a seekable stream.

    Attributes:
        stream: seekable and readable; its position is not kept.
        start: offset of the first byte, ≥ 0.
        size: number of bytes, ≥ 0.
    """

    stream: BinaryIO
    start: int
    size: int

    @classmethod
    def over(cls, stream: BinaryIO, size_bytes: int) -> Self:
        """Return a window over the first `size_bytes` bytes of a stream."""
        return cls(stream=stream, start=0, size=size_bytes)

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Return a window over bytes in memory."""
        return cls(stream=io.BytesIO(data), start=0, size=len(data))

    def take(self, offset: int, length: int) -> bytes:
        """Return exactly the named bytes.

        Args:
            offset: from the window's start, ≥ 0.
            length: number of bytes, ≥ 0; callers bound it before they ask.

        Raises:
            MediaInvalid: the range, or the stream under it, ends earlier.
        """
        data = self.peek(offset, length)
        if len(data) != length:
            raise MediaInvalid("A structure names bytes beyond the end of the file.")
        return data

    def peek(self, offset: int, length: int) -> bytes:
        """Return the named bytes, or fewer where the range ends earlier."""
        length = min(length, self.size - offset)
        if length <= 0 or offset < 0:
            return b""
        self.stream.seek(self.start + offset)
        return self.stream.read(length)

    def cut(self, offset: int, length: int) -> "Window":
        """Return the named part as a window of its own, clipped to this one."""
        offset = min(max(offset, 0), self.size)
        length = max(0, min(length, self.size - offset))
        return Window(stream=self.stream, start=self.start + offset, size=length)

    def read_whole(self, limit: int) -> bytes:
        """Return all bytes of the window.

        Raises:
            TooLarge: the window is longer than `limit` bytes.
        """
        if self.size > limit:
            raise TooLarge(f"A block is longer than {limit} bytes.")
        return self.peek(0, self.size)


class MeteredReader(io.RawIOBase):
    """A read-only file over a window, for parsers that must not be believed.

    Threat: loops whose length the file names (a MakerNote with 10^9 elements). Every read is
    counted, and the parser is stopped by an exception when its budget is spent.
    """

    def __init__(self, window: Window, *, max_reads: int = MAX_READS) -> None:
        """Begin at the window's first byte with a budget of `max_reads` reads."""
        super().__init__()
        self._window = window
        self._position = 0
        self._reads_left = max_reads

    def readable(self) -> bool:
        """Say that reading is possible."""
        return True

    def seekable(self) -> bool:
        """Say that seeking is possible."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset; positions beyond the end are allowed and read as empty."""
        base = (0, self._position, self._window.size)[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes, never more than `MAX_READ_BYTES`.

        Raises:
            TooLarge: the budget is spent.
        """
        self._reads_left -= 1
        if self._reads_left < 0:
            raise TooLarge("The block needs more steps than any real one.")
        wanted = MAX_READ_BYTES if size < 0 else min(size, MAX_READ_BYTES)
        data = self._window.peek(self._position, wanted)
        self._position += len(data)
        return data

    def as_binary(self) -> BinaryIO:
        """Return itself under the name that foreign signatures ask for."""
        return cast("BinaryIO", self)
