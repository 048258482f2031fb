"""One upload while it is written into a file: hashed in the same pass, bounded as announced.

It decides nothing about the bytes: whether digest and length are the announced ones is the
caller's comparison. It keeps no bytes that did not finish, and takes none after the first that
was too many.
"""

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from storage.durable import PIECE_BYTES, NewFile, disk_errors, start_writing, write_fully
from storage.errors import TooLong
from storage.objects import StagedFile


class FileWriter:
    """One upload being written; its calls block and belong in a thread, one at a time.

    Leaving the `with` block without `finish` discards it.
    """

    def __init__(
        self,
        *,
        key: str,
        announced_bytes: int,
        new: NewFile,
        keep: Callable[[NewFile, str], Path],
        settle: Callable[[int], None],
        owed_bytes: int,
    ) -> None:
        """Made by `StagingFolder.begin` only.

        Args:
            key: where it will wait.
            announced_bytes: what may come.
            new: takes the bytes.
            keep: gives the file its name, durably, and tells where it lies.
            settle: hears how much of the promised room is no longer owed.
            owed_bytes: room promised and not yet allocated.
        """
        self._key = key
        self._announced_bytes = announced_bytes
        self._new = new
        self._keep = keep
        self._settle = settle
        self._owed_bytes = owed_bytes
        self._digest = hashlib.sha256()
        self._open = True
        self._turn = threading.RLock()  # a descriptor must not be closed under a writing thread
        self.size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Hash and keep the next bytes; they are not durable before `finish`.

        Best called with about 1 MiB: hashing and writing then leave the interpreter to others
        almost all the time, and nothing is copied here.

        Raises:
            TooLong: more came than announced. What this call brought is kept, further calls
                keep nothing, and `finish` hands over what came, for quarantine.
            DiskReserveReached, Unavailable: the disk did not take it; the upload is discarded.
        """
        with self._turn:
            self._require_open()
            if self.size_bytes > self._announced_bytes:
                raise TooLong("more bytes came than were announced")
            view = memoryview(data).cast("B")
            try:
                self._append(view)
            except BaseException:  # what was hashed and what was written may differ now
                self.discard()
                raise
            self.size_bytes += len(view)
            self._pay(min(self._owed_bytes, len(view)))
            if self.size_bytes > self._announced_bytes:
                raise TooLong("more bytes came than were announced")

    @property
    def sha256(self) -> str:
        """Digest of what was written so far, 64 hex digits."""
        return self._digest.hexdigest()

    def finish(self) -> StagedFile:
        """Make what came durable under a name; on return it would survive power loss.

        Fewer bytes than announced, or another digest, is no error here: the caller compares
        and decides between object and quarantine. The same upload finished twice gives the
        same staged file.

        Raises:
            IntegrityAlarm: damaged bytes lie under this very key and digest; they stay.
            SyncFailed: final; nothing was promised and the bytes are dropped.
            DiskReserveReached, Unavailable: nothing was promised.
        """
        with self._turn:
            self._require_open()
            sha256 = self._digest.hexdigest()
            try:
                with disk_errors("finishing an upload"):
                    if self.size_bytes < self._announced_bytes:
                        os.truncate(self._new.fd, self.size_bytes)
                    path = self._keep(self._new, f"{self._key}.{sha256}")
            finally:
                self.discard()
        return StagedFile(key=self._key, path=path, sha256=sha256, size_bytes=self.size_bytes)

    def discard(self) -> None:
        """Let go of the upload: nothing of it stays unless it was finished. Repeatable.

        Where another thread is still writing, its write is waited for.
        """
        with self._turn:
            if self._open:
                self._open = False
                self._pay(self._owed_bytes)
                self._new.close()

    def _append(self, view: memoryview) -> None:
        with disk_errors("writing an upload"):
            for start in range(0, len(view), PIECE_BYTES):
                piece = view[start : start + PIECE_BYTES]
                self._digest.update(piece)
                write_fully(self._new.fd, piece)
            start_writing(self._new.fd, self.size_bytes, len(view))

    def _require_open(self) -> None:
        if not self._open:
            raise ValueError("this upload was finished or discarded")

    def _pay(self, settled_bytes: int) -> None:
        self._owed_bytes -= settled_bytes
        self._settle(settled_bytes)
