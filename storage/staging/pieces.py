"""One upload in the staging bucket: how it is written in pieces, read again and let go of.

    pieces/<key>/<transfer>/<number>   5 MiB of it, all pieces but the last
    waiting/<key>.<sha256>             its head, then its last piece

    fengni-staged 1 <transfer> <pieces before the last> <bytes in all>

Does: holds one piece in memory. Refuses to give an upload a name before all of it is durable.
"""

import hashlib
import io
import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Self

from storage.errors import IntegrityAlarm, NotFound, TooLong, Unavailable
from storage.s3 import Files

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PIECE_BYTES = 5 << 20
"""The longest piece: with what the receiver holds, an upload stays below 8 MB of memory."""

PIECES = "pieces/"
WAITING = "waiting/"
PIECE_KEY = re.compile(r"pieces/([^/]+)/([0-9a-f]{32})/[0-9]{8}")
_HEAD = re.compile(rb"fengni-staged 1 ([0-9a-f]{32}) (0|[1-9][0-9]{0,7}) (0|[1-9][0-9]{0,18})\n")
_HEAD_BYTES = 128
_BUFFER_BYTES = 1 << 18

Straight = Callable[[str, bytes], None]
"""Takes an object's name and its bytes; on return they are durable where objects lie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What the first line of a complete upload says.

    Attributes:
        transfer: which pieces are its.
        pieces: how many there are before the last one.
        size_bytes: of the whole upload.
        length: of the line itself.
    """

    transfer: str
    pieces: int
    size_bytes: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedPieces:
    """`Staged` in a bucket.

    Attributes:
        files: the bucket.
        key: see there.
        sha256: see there.
        size_bytes: see there.
    """

    files: Files
    key: str
    sha256: str
    size_bytes: int

    @property
    def name(self) -> str:
        """Key of its head in the bucket."""
        return f"{WAITING}{self.key}.{self.sha256}"

    def open(self) -> BinaryIO:
        """See `Staged.open`."""
        return open_pieces(self.files, self.name, self.key)

    def consume(self) -> None:
        """See `Staged.consume`: the head goes first, for pieces alone are an abandoned upload."""
        if self.size_bytes <= PIECE_BYTES:  # it is all in its head, if it was staged at all
            self.files.remove([self.name])
        else:
            remove_upload(self.files, self.name, self.key)


class PiecesWriter:
    """`StagedWriter` into a bucket: holds at most one piece in memory."""

    def __init__(
        self,
        files: Files,
        *,
        key: str,
        announced_bytes: int,
        sha256: str | None,
        straight: Straight | None,
    ) -> None:
        """Made by `StagingBucket.begin` only."""
        self._files = files
        self._key = key
        self._announced_bytes = announced_bytes
        self._expected = sha256
        self._straight = straight
        self._transfer = secrets.token_hex(16)
        self._digest = hashlib.sha256()
        self._buffer = io.BytesIO()
        self._sent: list[str] = []
        self._open = True
        self._turn = threading.RLock()
        self.size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    @property
    def sha256(self) -> str:
        """See `StagedWriter.sha256`."""
        return self._digest.hexdigest()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See `StagedWriter.write`; sends a piece whenever one is full and more comes."""
        with self._turn:
            self._require_open()
            if self.size_bytes > self._announced_bytes:
                raise TooLong("more bytes came than were announced")
            view = memoryview(data).cast("B")
            try:
                self._take(view)
            except BaseException:  # what was hashed and what was sent may differ now
                self.discard()
                raise
            if self.size_bytes > self._announced_bytes:
                raise TooLong("more bytes came than were announced")

    def finish(self) -> StagedPieces:
        """See `StagedWriter.finish`."""
        with self._turn:
            self._require_open()
            staged = StagedPieces(
                files=self._files, key=self._key, sha256=self.sha256, size_bytes=self.size_bytes
            )
            straight = self._straight if self._is_whole() else None
            if straight is not None:
                straight(staged.sha256, self._buffer.getvalue())
                self._open = False
                self._buffer = io.BytesIO()
                return staged
            self._complete(staged)
            return staged

    def discard(self) -> None:
        """See `StagedWriter.discard`; pieces that cannot be removed now are swept later."""
        with self._turn:
            if not self._open:
                return
            self._open = False
            self._buffer = io.BytesIO()
            if self._sent:
                self._forget(self._sent)

    def _is_whole(self) -> bool:
        """Whether it is what was announced and nothing of it was sent yet."""
        as_announced = (self._expected, self._announced_bytes) == (self.sha256, self.size_bytes)
        return as_announced and not self._sent

    def _take(self, view: memoryview) -> None:
        while view:
            if self._buffer.tell() == PIECE_BYTES:
                self._send()
            taken = view[: PIECE_BYTES - self._buffer.tell()]
            self._digest.update(taken)
            self._buffer.write(taken)
            self.size_bytes += len(taken)
            view = view[len(taken) :]

    def _send(self) -> None:
        key = _piece_key(self._key, self._transfer, len(self._sent))
        self._sent.append(key)  # before it is there, so that what may be there is removed
        self._files.put(key, self._buffer.getvalue())
        self._buffer = io.BytesIO()

    def _complete(self, staged: StagedPieces) -> None:
        """Write the head, and find out whether somebody took the pieces for abandoned.

        From the moment the head may be there the pieces are no longer this writer's to remove:
        where the server did not answer, the upload is complete or swept one day.
        """
        if self._is_there(staged):
            self.discard()
            return
        sent, self._sent = self._sent, []
        head = f"fengni-staged 1 {self._transfer} {len(sent)} {self.size_bytes}\n"
        self._files.put(staged.name, head.encode() + self._buffer.getvalue())
        if not has_pieces(self._files, self._key, self._transfer, len(sent)):
            self._forget([staged.name])
            raise Unavailable("the upload was given up meanwhile; it begins again")
        self.discard()

    def _is_there(self, staged: StagedPieces) -> bool:
        """Whether these very bytes wait under this name already; what lacks pieces does not."""
        digest = hashlib.sha256()
        size_bytes = 0
        try:
            with staged.open() as stream:
                while piece := stream.read(_BUFFER_BYTES):
                    digest.update(piece)
                    size_bytes += len(piece)
        except NotFound:
            return False
        if (digest.hexdigest(), size_bytes) != (staged.sha256, staged.size_bytes):
            raise IntegrityAlarm("damaged bytes lie in staging under the digest of this upload")
        return True

    def _forget(self, keys: list[str]) -> None:
        try:
            self._files.remove(keys)
        except Unavailable:
            return  # swept later

    def _require_open(self) -> None:
        if not self._open:
            raise ValueError("this upload was finished or discarded")


class _Pieces(io.RawIOBase):
    """The bytes of a complete upload, one piece after the other, the last one from its head."""

    def __init__(self, files: Files, name: str, key: str) -> None:
        super().__init__()
        self._files, self._name = files, name
        self._head = read_head(files, name)
        self._keys = iter(_piece_keys(key, self._head))
        self._piece = memoryview(b"")
        self._at_end = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill the buffer as far as one piece goes; 0 at the end."""
        if not self._piece and not self._at_end:
            self._fetch()
        target = memoryview(buffer).cast("B")
        taken = self._piece[: len(target)]
        target[: len(taken)] = taken
        self._piece = self._piece[len(taken) :]
        return len(taken)

    def _fetch(self) -> None:
        key = next(self._keys, None)
        if key is not None:
            self._piece = memoryview(self._files.read(key))
            return
        self._at_end = True
        self._piece = memoryview(self._files.read(self._name))[self._head.length :]


def open_pieces(files: Files, name: str, key: str) -> BinaryIO:
    """The bytes of a complete upload, whose head has this name, as a stream; holds one piece.

    Raises:
        NotFound, IntegrityAlarm, Unavailable: as `read_head`; reading raises them as well.
    """
    return io.BufferedReader(_Pieces(files, name, key), _BUFFER_BYTES)


def read_head(files: Files, name: str) -> Head:
    """The first line of a complete upload.

    Raises:
        NotFound: it is not there.
        IntegrityAlarm: what is there has none.
        Unavailable: the server does not answer.
    """
    found = _HEAD.match(files.read(name, 0, _HEAD_BYTES))
    if found is None:
        raise IntegrityAlarm("what waits in the staging bucket was not written by this program")
    return Head(
        transfer=found[1].decode(),
        pieces=int(found[2]),
        size_bytes=int(found[3]),
        length=len(found[0]),
    )


def remove_upload(files: Files, name: str, key: str) -> None:
    """Remove a complete upload, its head first; one that is gone is no error.

    Args:
        files: the bucket.
        name: of its head.
        key: under which its pieces lie.

    Raises:
        IntegrityAlarm, Unavailable: as `read_head`.
    """
    try:
        head = read_head(files, name)
    except NotFound:
        return
    files.remove([name])
    if head.pieces:
        files.remove(_piece_keys(key, head))


def has_pieces(files: Files, key: str, transfer: str, count: int) -> bool:
    """Whether all pieces before the last one are there.

    Raises:
        Unavailable: the server does not answer.
    """
    if not count:
        return True
    there = {one.key for one in files.list(f"{PIECES}{key}/{transfer}/")}
    return all(_piece_key(key, transfer, number) in there for number in range(count))


def _piece_keys(key: str, head: Head) -> list[str]:
    return [_piece_key(key, head.transfer, number) for number in range(head.pieces)]


def _piece_key(key: str, transfer: str, number: int) -> str:
    return f"{PIECES}{key}/{transfer}/{number:08d}"
