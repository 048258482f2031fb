"""The staging area that is a folder of one machine.

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
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Self

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
    NotFound,
    SyncFailed,
)
from storage.objects import Staged, StagedFile
from storage.staging import (
    QUARANTINE_NAME,
    WAITING_NAME,
    Leftovers,
    QuarantinedFile,
    checked_key,
    quarantine_name,
)
from storage.staging.writer import FileWriter

_WAITING = "waiting"
_QUARANTINE = "quarantine"


class StagingFolder:
    """One staging folder; best on the file system of the objects, which then costs no copy."""

    def __init__(self, root: Path, *, reserve_bytes: int) -> None:
        """Open a folder that `StagingFolder.create` made.

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

    @property
    def shared(self) -> bool:
        """No: it is a folder of this machine."""
        return False

    def begin(self, key: str, announced_bytes: int, *, sha256: str | None = None) -> FileWriter:
        """See `Staging.begin`: room is promised."""
        del sha256  # what is staged here becomes an object without being moved
        checked_key(key)
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
        return FileWriter(
            key=key,
            announced_bytes=announced_bytes,
            new=new,
            keep=self._keep,
            settle=self._settle,
            owed_bytes=owed_bytes,
        )

    def waiting(self, key: str, sha256: str, size_bytes: int) -> StagedFile:
        """See `Staging.waiting`."""
        path = self._root / _WAITING / f"{checked_key(key)}.{sha256}"
        return StagedFile(key=key, path=path, sha256=sha256, size_bytes=size_bytes)

    def holds(self, key: str, sha256: str) -> bool:
        """See `Staging.holds`."""
        name = f"{checked_key(key)}.{sha256}"
        with disk_errors("looking for an upload"), self._tree.folder(_WAITING) as waiting:
            try:
                os.stat(name, dir_fd=waiting, follow_symlinks=False)
            except FileNotFoundError:
                return False
        return True

    def quarantine(self, staged: Staged, reason: str) -> QuarantinedFile:
        """See `Staging.quarantine`."""
        name = quarantine_name(staged.key, staged.sha256, reason)
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
            sha256=staged.sha256,
            size_bytes=size_bytes,
            reason=reason,
        )

    def open_quarantined(self, kept: QuarantinedFile) -> BinaryIO:
        """See `Staging.open_quarantined`."""
        name = quarantine_name(kept.key, kept.sha256, kept.reason)
        with disk_errors("reading the quarantine"), self._tree.folder(_QUARANTINE) as aside:
            try:
                return os.fdopen(open_file(name, aside), "rb")
            except FileNotFoundError as error:
                raise NotFound("no such upload is in quarantine") from error

    def drop_quarantined(self, kept: QuarantinedFile) -> None:
        """See `Staging.drop_quarantined`."""
        name = quarantine_name(kept.key, kept.sha256, kept.reason)
        with disk_errors("removing from quarantine"), self._tree.folder(_QUARANTINE) as aside:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=aside)
            self._tree.sync(aside)

    def sweep(self, is_live: Callable[[str], bool] = lambda _key: False) -> Leftovers:
        """See `Staging.sweep`; what earlier runs finished is durable from now on."""
        finished: list[StagedFile] = []
        strangers: list[str] = []
        with disk_errors("sweeping the staging area"), self._tree.folder(_WAITING) as waiting:
            self._tree.sync(waiting)
            for name, size_bytes in _listing(waiting):
                match = WAITING_NAME.fullmatch(name)
                if match is None or size_bytes is None:
                    strangers.append(name)
                    continue
                if is_live(match[1]):
                    continue
                path = self._root / _WAITING / name
                finished.append(
                    StagedFile(key=match[1], path=path, sha256=match[2], size_bytes=size_bytes)
                )
        return Leftovers(
            finished=tuple(finished), dropped=self._tree.dropped, strangers=tuple(strangers)
        )

    def quarantined(self) -> Iterator[QuarantinedFile]:
        """See `Staging.quarantined`."""
        with disk_errors("listing the quarantine"), self._tree.folder(_QUARANTINE) as aside:
            found = _listing(aside)
        for name, size_bytes in found:
            match = QUARANTINE_NAME.fullmatch(name)
            if match is not None and size_bytes is not None:
                yield QuarantinedFile(
                    key=match[1],
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
