"""Digests of content: SHA-256, written as lowercase hex.

Does: names bytes by their digest and compares names. Refuses to hash anything that it
was not handed: it opens no file.

    9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08  (of "test")
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from evidence.errors import DigestMismatch, FieldInvalid

_HEX = re.compile(r"[0-9a-f]{64}")


def sha256_hex(data: bytes) -> str:
    """Name bytes by their SHA-256, 64 lowercase hex digits."""
    return hashlib.sha256(data).hexdigest()


def check_sha256_hex(text: str) -> str:
    """Return the name unchanged if it is 64 lowercase hex digits.

    Raises:
        FieldInvalid: it is anything else.
    """
    if not _HEX.fullmatch(text):
        msg = "A digest is 64 lowercase hexadecimal digits."
        raise FieldInvalid(msg)
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was actually read.

    Attributes:
        sha256: 64 lowercase hex digits.
        size_bytes: how many bytes were hashed.
    """

    sha256: str
    size_bytes: int

    def require(self, *, sha256: str, size_bytes: int) -> None:
        """Refuse bytes that are not the announced ones.

        Raises:
            DigestMismatch: the size or the digest differs.
        """
        if self.size_bytes != size_bytes:
            msg = f"The content has {self.size_bytes} bytes; {size_bytes} were announced."
            raise DigestMismatch(msg)
        if self.sha256 != sha256:
            msg = f"The content's SHA-256 is {self.sha256}; {sha256} was announced."
            raise DigestMismatch(msg)


class Hasher:
    """SHA-256 and length of a stream in one pass. Releases the GIL for large pieces."""

    __slots__ = ("_sha256", "_size_bytes")

    def __init__(self) -> None:
        """Begin with nothing read."""
        self._sha256 = hashlib.sha256()
        self._size_bytes = 0

    def update(self, piece: bytes | memoryview) -> None:
        """Take the next piece of the stream."""
        self._sha256.update(piece)
        self._size_bytes += len(piece)

    def measured(self) -> Measured:
        """What was read so far; the stream may go on."""
        return Measured(sha256=self._sha256.hexdigest(), size_bytes=self._size_bytes)


def measure(pieces: Iterable[bytes | memoryview]) -> Measured:
    """Hash a stream handed in as pieces."""
    hasher = Hasher()
    for piece in pieces:
        hasher.update(piece)
    return hasher.measured()
