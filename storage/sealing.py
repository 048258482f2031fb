r"""Sealed content: stored bytes that only their own key opens, segment by segment.

    header    "fengni-sealed/1\n" (16) ‖ size of the content (8) ‖ 8,388,608 (8)
    segment i AES-256-GCM( content from 8,388,608·i on, at most 8,388,608 bytes ), its tag last (16)

Integers are unsigned, big-endian. There is a segment for each 8 MiB that were begun, and one of no
bytes where the content has none. The nonce of segment i is i in 12 bytes; its associated data are

    header (32) ‖ SHA-256 of the content (32) ‖ i (8) ‖ number of segments (8)

so a segment opens in its own place of its own content only. A key seals one content and no other:
the same nonce never meets other bytes, and doing it again after a crash gives the same object.

Does: seals a stream and reads parts of a sealed one, two segments in memory at most. Refuses bytes
that are not those of the digest, and whatever was cut off, added, moved or changed.

Source: docs/stored-content.md.
"""

import hashlib
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.errors import IntegrityAlarm

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

FORMAT = "fengni-sealed/1"
SEGMENT_BYTES = 8 * 1024 * 1024
HEADER_BYTES = 32
TAG_BYTES = 16
_MAGIC = f"{FORMAT}\n".encode()


class _Filling(Protocol):
    def readinto(self, buffer: memoryview, /) -> int | None: ...


def sealed_size(size_bytes: int) -> int:
    """The length of the stored bytes of a content of so many bytes."""
    return HEADER_BYTES + size_bytes + TAG_BYTES * _count(size_bytes)


def seal(
    key: bytes,
    sha256: str,
    size_bytes: int,
    content: BinaryIO,
    write: Callable[[bytes], object],
) -> None:
    """Write the stored bytes: the header, then each segment in one piece.

    Args:
        key: 32 bytes, of this content alone.
        sha256: of the content, 64 hex digits.
        size_bytes: of the content.
        content: at its start.
        write: takes each piece, and keeps none.

    Raises:
        IntegrityAlarm: the bytes are others, fewer or more; what was written is worth nothing.
    """
    cipher, digest = AESGCM(key), hashlib.sha256()
    write(_header(size_bytes))
    left = size_bytes
    for index in range(_count(size_bytes)):
        plain = _read(content, min(SEGMENT_BYTES, left))
        left -= len(plain)
        digest.update(plain)
        if not left and (digest.hexdigest() != sha256 or content.read(1)):
            raise IntegrityAlarm("what was to be sealed is not the content of its digest")
        write(cipher.encrypt(_nonce(index), plain, _bound(sha256, size_bytes, index)))
        del plain  # before the next one comes


class SealedStream(io.RawIOBase):
    """The content of a sealed object as a seekable stream; only the segments asked for are read."""

    def __init__(self, stored: BinaryIO, key: bytes, sha256: str, size_bytes: int) -> None:
        """Stand at the start of the content; no segment is read yet.

        Args:
            stored: the stored bytes, seekable; closed with this stream.
            key: 32 bytes.
            sha256: of the content, as it was stated.
            size_bytes: of the content, as it was stated.

        Raises:
            IntegrityAlarm: the object has another length than such content has.
        """
        super().__init__()
        # A buffer would read on into the next segment.
        self._stored = stored.detach() if isinstance(stored, io.BufferedReader) else stored
        self._cipher = AESGCM(key)
        self._sha256 = sha256
        self._size_bytes = size_bytes
        self._position: int = 0
        self._index: int = -1
        self._plain = memoryview(b"")
        if self._stored.seek(0, io.SEEK_END) != sealed_size(size_bytes):
            self.close()
            raise IntegrityAlarm("a sealed object was cut off or added to")

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The position of the next byte of the content."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a position of the content, also beyond its end; returns it.

        Raises:
            ValueError: it is before the start, or `whence` is none of the three.
        """
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}
        if whence not in starts or starts[whence] + offset < 0:
            raise ValueError("no such position in a stream")
        self._position = starts[whence] + offset
        return self._position

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill the buffer as far as one segment goes; 0 at the end.

        Raises:
            IntegrityAlarm: the segment is not the one that was sealed there, or the key another.
            NotFound, Unavailable: see `ObjectStore.open`.
        """
        target = memoryview(buffer).cast("B")
        if self._position >= self._size_bytes or not target:
            return 0
        index, start = self._position // SEGMENT_BYTES, self._position % SEGMENT_BYTES
        if index != self._index:
            self._plain = memoryview(self._open(index))
            self._index = index
        taken = self._plain[start : start + len(target)]
        target[: len(taken)] = taken
        self._position += len(taken)
        return len(taken)

    def close(self) -> None:
        """Close the stored bytes too."""
        if not self.closed:
            self._stored.close()
        super().close()

    def _open(self, index: int) -> bytes:
        self._plain, self._index = memoryview(b""), -1  # two segments in memory, not three
        length = min(SEGMENT_BYTES, self._size_bytes - index * SEGMENT_BYTES) + TAG_BYTES
        head = 0 if index else HEADER_BYTES
        self._stored.seek(0 if head else HEADER_BYTES + index * (SEGMENT_BYTES + TAG_BYTES))
        sealed = memoryview(_read(self._stored, head + length))
        if head and bytes(sealed[:head]) != _header(self._size_bytes):
            raise IntegrityAlarm("a sealed object has another header than its content's")
        bound = _bound(self._sha256, self._size_bytes, index)
        try:
            return self._cipher.decrypt(_nonce(index), sealed[head:], bound)
        except InvalidTag as error:
            raise IntegrityAlarm("a segment of a sealed object does not open") from error


def _header(size_bytes: int) -> bytes:
    return _MAGIC + size_bytes.to_bytes(8) + SEGMENT_BYTES.to_bytes(8)


def _count(size_bytes: int) -> int:
    return max(1, -(-size_bytes // SEGMENT_BYTES))


def _nonce(index: int) -> bytes:
    return index.to_bytes(12)


def _bound(sha256: str, size_bytes: int, index: int) -> bytes:
    place = index.to_bytes(8) + _count(size_bytes).to_bytes(8)
    return _header(size_bytes) + bytes.fromhex(sha256) + place


def _read(stream: BinaryIO | io.RawIOBase, count: int) -> bytearray:
    """Exactly so many bytes: a raw stream may give fewer at a time.

    Raises:
        IntegrityAlarm: they end before.
    """
    taken = bytearray(count)
    filled = 0
    with memoryview(taken) as rest:
        while filled < count:
            got: int | None = cast("_Filling", stream).readinto(rest[filled:])
            if not got:
                raise IntegrityAlarm("a content or a sealed object ends too early")
            filled += got
    return taken
