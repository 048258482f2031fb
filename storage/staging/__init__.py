"""Where uploads wait: hashed while they are written, durable when finished, kept when wrong.

    <root>/waiting/<key>.<sha256>               complete uploads that are no objects yet
    <root>/quarantine/<key>.<sha256>.<reason>   uploads that were not what was announced
    <root>/tmp/                                 uploads in progress, without a name

An upload in progress has no name: a crash leaves nothing of it and the sender begins again.
A finished one carries its digest in its name, so it can be adopted after a crash without a
record elsewhere. Nothing that finished is ever removed here: it becomes an object
(`ObjectStore.put_once` takes it) or goes to quarantine. It refuses to take bytes that would
eat into the disk reserve, before the first of them is read from the sender.
"""

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from storage.durable import (
    NewFile,
    Tree,
    allocate,
    disk_errors,
    hash_from_disk,
    open_file,
)
from storage.errors import (
    DiskReserveReached,
    IntegrityAlarm,
    NameRefused,
    NotFound,
    SyncFailed,
)
from storage.objects import StagedFile
from storage.staging.writer import StagedWriter

_WAITING = "waiting"
_QUARANTINE = "quarantine"
_KEY = re.compile(r"[0-9a-z][0-9a-z_-]{0,95}")
_WAITING_NAME = re.compile(rf"({_KEY.pattern})\.([0-9a-f]{{64}})")
_QUARANTINE_NAME = re.compile(_WAITING_NAME.pattern + r"\.([a-z][a-z_]{0,47})")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedFile:
    """An upload that is kept although it is not what was announced.

    Attributes:
        key: under which it was staged.
        path: where the bytes lie now.
        sha256: of the bytes that came, 64 hex digits.
        size_bytes: how many came.
        reason: a code such as `digest_mismatch`.
    """

    key: str
    path: Path
    sha256: str
    size_bytes: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What an earlier run left behind.

    Attributes:
        finished: complete uploads that never became objects: to be adopted.
        dropped: how many unfinished uploads were removed when the staging area was opened;
            0 where the file system lets them vanish by themselves.
        strangers: names in the waiting folder that no call here made; untouched.
    """

    finished: tuple[StagedFile, ...]
    dropped: int
    strangers: tuple[str, ...]


class Staging:
    """One staging folder; best on the file system of the objects, which then costs no copy."""

    def __init__(self, root: Path, *, reserve_bytes: int) -> None:
        """Open a folder that `Staging.create` made.

        Args:
            root: the folder.
            reserve_bytes: free space that uploads must leave, ≥ 0. Uploads of this process
                are counted with their full announced size; other processes' only as far as
                the file system has allocated them.

        Raises:
            Unavailable: there is none.
        """
        self._root = root
        self._reserve_bytes = reserve_bytes
        self._tree = Tree(root)
        self._lock = threading.Lock()
        self._promised_bytes = 0  # announced, neither written nor allocated
        with disk_errors("opening the staging area"):
            for name in (_WAITING, _QUARANTINE):
                with self._tree.folder(name):
                    pass

    @classmethod
    def create(cls, root: Path, *, reserve_bytes: int) -> Self:
        """Make the folder, or open one that is there already.

        Raises:
            DiskReserveReached, SyncFailed, Unavailable: it could not be made.
        """
        tree = Tree.create(root)
        with disk_errors("making the staging area"):
            for name in (_WAITING, _QUARANTINE):
                with tree.folder(name, make=True):
                    pass
        return cls(root, reserve_bytes=reserve_bytes)

    def begin(self, key: str, announced_bytes: int) -> StagedWriter:
        """Promise room for an upload and open it.

        Args:
            key: 1 to 96 of `0-9 a-z _ -`, beginning with a letter or digit; need not be free.
            announced_bytes: what the sender announced, ≥ 0.

        Raises:
            DiskReserveReached: these bytes would leave less than the reserve.
            NameRefused: the key has another form.
            SyncFailed, Unavailable: the disk does not take it.
        """
        if not _KEY.fullmatch(key):
            raise NameRefused("a staging key is 1 to 96 of a-z, 0-9, underscore and hyphen")
        self._tree.check()
        with disk_errors("beginning an upload"), self._lock:
            free_bytes = self._tree.free_bytes() - self._promised_bytes - announced_bytes
            if free_bytes < self._reserve_bytes:
                raise DiskReserveReached("taking this upload would eat into the disk reserve")
            new = self._tree.new_file()
            try:
                allocated = allocate(new.fd, announced_bytes)
            except OSError:
                new.close()
                raise
            owed_bytes = 0 if allocated else announced_bytes
            self._promised_bytes += owed_bytes
        return StagedWriter(
            key=key,
            announced_bytes=announced_bytes,
            new=new,
            keep=self._keep,
            settle=self._settle,
            owed_bytes=owed_bytes,
        )

    def quarantine(self, staged: StagedFile, reason: str) -> QuarantinedFile:
        """Take a finished upload aside for good; a repeat after a crash is harmless.

        Args:
            staged: as `finish` or `sweep` gave it.
            reason: 1 to 48 of `a-z _`, beginning with a letter.

        Raises:
            NameRefused: the reason, the key or the digest has another form.
            NotFound: the bytes lie neither in waiting nor in quarantine.
            SyncFailed, Unavailable: they are still where they were.
        """
        name = f"{staged.key}.{staged.sha256}.{reason}"
        if not _QUARANTINE_NAME.fullmatch(name):
            raise NameRefused("a quarantine reason is 1 to 48 of a-z and underscore")
        with (
            disk_errors("quarantining an upload"),
            self._tree.folder(_WAITING) as waiting,
            self._tree.folder(_QUARANTINE) as aside,
        ):
            with contextlib.suppress(FileNotFoundError):
                _move(self._tree, f"{staged.key}.{staged.sha256}", waiting, name, aside)
            try:
                size_bytes = os.stat(name, dir_fd=aside, follow_symlinks=False).st_size
            except FileNotFoundError as error:
                raise NotFound("no such upload is waiting or in quarantine") from error
        return QuarantinedFile(
            key=staged.key,
            path=self._root / _QUARANTINE / name,
            sha256=staged.sha256,
            size_bytes=size_bytes,
            reason=reason,
        )

    def sweep(self) -> Leftovers:
        """What earlier runs left, durable from now on; called before the first upload.

        The bytes are not hashed here: `put_once` reads them before it believes them.

        Raises:
            SyncFailed, Unavailable: the folder cannot be read.
        """
        finished: list[StagedFile] = []
        strangers: list[str] = []
        with disk_errors("sweeping the staging area"), self._tree.folder(_WAITING) as waiting:
            self._tree.sync(waiting)
            for name, size_bytes in _listing(waiting):
                match = _WAITING_NAME.fullmatch(name)
                if match is None or size_bytes is None:
                    strangers.append(name)
                    continue
                path = self._root / _WAITING / name
                finished.append(
                    StagedFile(key=match[1], path=path, sha256=match[2], size_bytes=size_bytes)
                )
        return Leftovers(
            finished=tuple(finished), dropped=self._tree.dropped, strangers=tuple(strangers)
        )

    def quarantined(self) -> Iterator[QuarantinedFile]:
        """Everything in quarantine, by name.

        Raises:
            Unavailable: the folder cannot be read.
        """
        with disk_errors("listing the quarantine"), self._tree.folder(_QUARANTINE) as aside:
            found = _listing(aside)
        for name, size_bytes in found:
            match = _QUARANTINE_NAME.fullmatch(name)
            if match is not None and size_bytes is not None:
                yield QuarantinedFile(
                    key=match[1],
                    path=self._root / _QUARANTINE / name,
                    sha256=match[2],
                    size_bytes=size_bytes,
                    reason=match[3],
                )

    def _settle(self, settled_bytes: int) -> None:
        """Take back room that was promised and is written now, or no longer needed."""
        with self._lock:
            self._promised_bytes -= settled_bytes

    def _keep(self, new: NewFile, name: str) -> Path:
        """Give a written upload its name, durably; one that is there must be equal."""
        with self._tree.folder(_WAITING) as waiting:
            try:
                self._tree.give_name(new.fd, name, waiting)
            except FileExistsError:
                _require_equal(name, waiting, name.rpartition(".")[2])
                self._tree.sync(waiting)
            except SyncFailed:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=waiting)
                raise
        return self._root / _WAITING / name


def _move(tree: Tree, name: str, folder: int, new_name: str, new_folder: int) -> None:
    """Give a file its new name, durably, and only then take the old one."""
    fd = open_file(name, folder)
    try:
        with contextlib.suppress(FileExistsError):  # an earlier try came as far as this
            tree.give_name(fd, new_name, new_folder)
    finally:
        os.close(fd)
    os.unlink(name, dir_fd=folder)


def _require_equal(name: str, folder: int, sha256: str) -> None:
    fd = open_file(name, folder)
    try:
        if hash_from_disk(fd)[0] != sha256:
            raise IntegrityAlarm("damaged bytes lie in staging under the digest of this upload")
    finally:
        os.close(fd)


def _listing(folder: int) -> list[tuple[str, int | None]]:
    """Names in a folder, ascending, with the length of each regular file; None for the rest."""
    with os.scandir(folder) as found:
        return sorted(
            (
                entry.name,
                entry.stat(follow_symlinks=False).st_size
                if entry.is_file(follow_symlinks=False)
                else None,
            )
            for entry in found
        )
