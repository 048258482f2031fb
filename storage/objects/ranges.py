"""Streams: a version of an object in pieces, and bytes that are proven while they are read.

Does: holds one piece in memory and no connection between two reads, so a slow reader ties up
nothing in the store. Refuses to write and to have a file descriptor.
"""

import hashlib
import io
from typing import TYPE_CHECKING, BinaryIO

from storage.errors import IntegrityAlarm
from storage.objects.bucket import Bucket
from storage.objects.locks import Held

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PIECE_BYTES = 4 << 20
"""What one request fetches: a photo comes in one or two."""


class Ranges(io.RawIOBase):
    """The bytes of one version; wrap it in a buffered reader."""

    def __init__(self, bucket: Bucket, held: Held) -> None:
        """Stand at the start; nothing is fetched yet."""
        super().__init__()
        self._bucket = bucket
        self._held = held
        self._position = 0
        self._piece = memoryview(b"")
        self._first = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a position, also beyond the end; returns it.

        Raises:
            ValueError: it is before the start, or `whence` is none of the three.
        """
        starts = {
            io.SEEK_SET: 0,
            io.SEEK_CUR: self._position,
            io.SEEK_END: self._held.size_bytes,
        }
        if whence not in starts or starts[whence] + offset < 0:
            raise ValueError("no such position in a stream")
        self._position = starts[whence] + offset
        return self._position

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill the buffer as far as one piece goes; 0 at the end.

        Raises:
            NotFound: the version is gone.
            Unavailable: the store does not answer.
        """
        left = self._held.size_bytes - self._position
        target = memoryview(buffer).cast("B")
        if left <= 0 or not target:
            return 0
        start = self._position - self._first
        if not 0 <= start < len(self._piece):
            count = min(max(PIECE_BYTES, len(target)), left)  # never in two, never more
            held = self._held
            self._piece = memoryview(
                self._bucket.read(held.key, held.version, self._position, count)
            )
            self._first, start = self._position, 0
        taken = self._piece[start : start + len(target)]
        target[: len(taken)] = taken
        self._position += len(taken)
        return len(taken)


class ProvingReader(io.RawIOBase):
    """Bytes that must have a digest and a length; the last of them come only if they do."""

    def __init__(self, stream: BinaryIO, sha256: str, size_bytes: int) -> None:
        """Read from a stream at its start."""
        super().__init__()
        self._stream = stream
        self._sha256 = sha256
        self._size_bytes = size_bytes
        self._taken_bytes = 0
        self._digest = hashlib.sha256()
        if size_bytes == 0:
            self._prove()

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill the buffer as far as one read goes; 0 at the end.

        Raises:
            IntegrityAlarm: it ends early, goes on too long, or has another digest.
            StorageError: what the stream raises.
        """
        target = memoryview(buffer).cast("B")
        left = self._size_bytes - self._taken_bytes
        if left <= 0 or not target:
            return 0
        data = self._stream.read(min(len(target), left))
        if not data:
            raise self._alarm()
        self._digest.update(data)
        self._taken_bytes += len(data)
        if self._taken_bytes == self._size_bytes:
            self._prove()
        target[: len(data)] = data
        return len(data)

    def _prove(self) -> None:
        if self._stream.read(1) or self._digest.hexdigest() != self._sha256:
            raise self._alarm()

    def _alarm(self) -> IntegrityAlarm:
        return IntegrityAlarm(f"what was staged as {self._sha256} has another digest or length")
