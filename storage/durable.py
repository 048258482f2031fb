"""The order of system calls after which a name and its bytes survive power loss.

    file without a name → write → fsync(file) → link under its name → fsync(folder)

A name therefore never points at bytes that are not on disk, nothing half-written is ever
visible, and what a crash interrupts leaves no trace or a complete file. `link` refuses a name
that is taken, so nothing is overwritten by a race. Folders are made, and synced into their
parent, before the first file goes into them.

It follows no symbolic link inside the tree and takes no path from anyone: callers hand over
names that they have checked. It refuses to sync again after a sync failed, because the kernel
may by then call pages clean that never reached the disk.
"""

import contextlib
import ctypes
import errno
import fcntl
import functools
import hashlib
import os
import secrets
import stat
import weakref
from collections.abc import Generator
from pathlib import Path
from typing import Self

from storage.errors import DiskReserveReached, IntegrityAlarm, SyncFailed, Unavailable

PIECE_BYTES = 1 << 20
"""Bytes handed to one `write`: large enough to leave the interpreter rarely."""

READ_BACK_BYTES = 1 << 18
"""Bytes read at once when hashing a file: fits the processor's cache, so they are hot."""

FOLDER_MODE = 0o700
FILE_MODE = 0o400
PRIVATE_MODE = 0o600

_SCRATCH = "tmp"
_SCRATCH_PREFIX = "new-"
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_NOT_OURS = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO})
_NO_UNNAMED_FILES = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})
_RANGE_WRITE = 2
_NO_ALLOCATION = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


@contextlib.contextmanager
def disk_errors(doing: str) -> Generator[None]:
    """Turn every `OSError` of the block into the storage error that says whose fault it is.

    Args:
        doing: what was being done, as a noun phrase for the operator.

    Raises:
        DiskReserveReached: no room or no quota.
        IntegrityAlarm: a link, folder or device lies where a file of ours should be.
        Unavailable: anything else.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskReserveReached(f"no room on the disk: {doing}") from error
        if error.errno in _NOT_OURS:
            raise IntegrityAlarm(
                f"a link, folder or device lies where a file should be: {doing}"
            ) from error
        reason = errno.errorcode.get(error.errno or 0, "unknown error")
        raise Unavailable(f"the disk refused ({reason}): {doing}") from error


def open_file(name: str | Path, folder: int | None = None) -> int:
    """A regular file opened for reading, its last component not followed if it is a link.

    Raises:
        IntegrityAlarm: the name belongs to something that is no regular file.
        OSError: as `os.open`.
    """
    fd = os.open(name, _OPEN_FILE | os.O_NONBLOCK, dir_fd=folder)  # a pipe must not hang us
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise IntegrityAlarm("something that is no regular file lies under a name of this store")


def keep_private(database: Path) -> None:
    """See to it that only its owner reads an SQLite database; an empty one is made if needed.

    SQLite gives what it writes beside a database, such as `-wal`, the database's own mode. A
    database that is there is never opened here: closing it would drop SQLite's locks on it.

    Raises:
        Unavailable, DiskReserveReached: the disk refused.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with disk_errors("making a database private"):
        with contextlib.suppress(FileExistsError):
            os.close(os.open(database, flags, PRIVATE_MODE))
        for suffix in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(FileNotFoundError):  # SQLite removes them as it likes
                path = f"{database}{suffix}"
                if stat.S_IMODE(os.stat(path).st_mode) & ~PRIVATE_MODE:
                    os.chmod(path, PRIVATE_MODE)


def write_fully(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of it; `os.write` may take less than it is given."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def allocate(fd: int, size_bytes: int) -> bool:
    """Take disk blocks for a file before its bytes come; False where that is not possible.

    The file then has this length: who writes less truncates. The system call is used and not
    `os.posix_fallocate`, whose C library writes every block where the file system cannot.

    Raises:
        OSError: no room or no quota.
    """
    if size_bytes == 0:
        return False
    if _library().fallocate(fd, 0, ctypes.c_int64(0), ctypes.c_int64(size_bytes)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_ALLOCATION:
        return False
    raise OSError(number, os.strerror(number))


def start_writing(fd: int, start: int, size_bytes: int) -> None:
    """Ask the kernel to begin bringing these bytes to the disk, and do not wait for it.

    No promise of any kind: the sync that follows makes it, and has less left to wait for.

    Source: sync_file_range(2), SYNC_FILE_RANGE_WRITE.
    """
    offset, length = ctypes.c_int64(start), ctypes.c_int64(size_bytes)
    _library().sync_file_range(fd, offset, length, ctypes.c_uint(_RANGE_WRITE))


@functools.cache
def _library() -> ctypes.CDLL:
    """The C library, for the system calls that `os` does not have."""
    return ctypes.CDLL(None, use_errno=True)


def hash_from_disk(fd: int) -> tuple[str, int]:
    """SHA-256 (hex) and length of an open file, read from the device as far as we can ask.

    Clean pages are dropped first: what is hashed is what the disk returns, not what was handed
    to it. Reading leaves the pages in memory for whoever reads next.
    """
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    digest = hashlib.sha256()
    buffer = bytearray(READ_BACK_BYTES)
    view = memoryview(buffer)
    size_bytes = 0
    while count := os.preadv(fd, [buffer], size_bytes):
        digest.update(view[:count])
        size_bytes += count
    return digest.hexdigest(), size_bytes


class NewFile:
    """A file being written that has no name yet; closing it without one leaves nothing.

    Where the file system has no unnamed files it lies in the tree's `tmp` folder under a random
    name and a lock, so that a later start can tell a crash from a writer at work.
    """

    def __init__(self, scratch: int) -> None:
        """Open one on the file system of the folder `scratch`.

        Raises:
            OSError: as `os.open`.
        """
        self._scratch = scratch
        self._name: str | None = None
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            self.fd = os.open(".", flags | os.O_TMPFILE, FILE_MODE, dir_fd=scratch)
        except OSError as error:
            if error.errno not in _NO_UNNAMED_FILES:
                raise
            self._name = _SCRATCH_PREFIX + secrets.token_hex(16)
            exclusive = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            self.fd = os.open(self._name, flags | exclusive, FILE_MODE, dir_fd=scratch)
        fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file, once: it stays under the name it was given, or vanishes."""
        if self._name is not None:
            with contextlib.suppress(OSError):  # the next start drops it
                os.unlink(self._name, dir_fd=self._scratch)
        os.close(self.fd)


class Tree:
    """One folder tree that one store owns, with the state that its safety needs."""

    def __init__(self, root: Path) -> None:
        """Open a tree that `Tree.create` made, and drop what a crash left in its `tmp`.

        Raises:
            Unavailable: there is none.
        """
        with disk_errors("opening a store's folder"):
            self.root = os.open(root, _OPEN_FOLDER & ~os.O_NOFOLLOW)
            weakref.finalize(self, os.close, self.root)
            self._scratch = os.open(_SCRATCH, _OPEN_FOLDER, dir_fd=self.root)
            weakref.finalize(self, os.close, self._scratch)
            self.dropped = _drop_abandoned(self._scratch)
        self._settled: set[tuple[str, ...]] = set()
        self._failed = False

    @classmethod
    def create(cls, root: Path) -> Self:
        """Make the tree's folder and its `tmp`, durable; what is there already stays.

        Raises:
            Unavailable, DiskReserveReached: it cannot be made; the parent must exist.
        """
        with disk_errors("making a store's folder"):
            parent = os.open(root.parent, _OPEN_FOLDER & ~os.O_NOFOLLOW)
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(root.name, FOLDER_MODE, dir_fd=parent)
                with contextlib.suppress(FileExistsError):
                    os.mkdir(root / _SCRATCH, FOLDER_MODE)
                os.fsync(parent)
            finally:
                os.close(parent)
        tree = cls(root)
        tree.sync(tree.root)
        return tree

    def check(self) -> None:
        """Refuse to go on after a failed sync.

        Raises:
            SyncFailed: one failed since the tree was opened.
        """
        if self._failed:
            raise SyncFailed("an earlier sync to disk failed; check the disk, then start again")

    def sync(self, fd: int) -> None:
        """Bring a file or folder to the disk.

        Raises:
            SyncFailed: it failed now or before; final for this tree.
        """
        self.check()
        try:
            os.fsync(fd)
        except OSError as error:
            self._failed = True
            raise SyncFailed(
                "the disk did not confirm a sync; nothing more is taken here"
            ) from error

    def free_bytes(self) -> int:
        """Bytes that this account may still write on the tree's file system."""
        room = os.statvfs(self.root)
        return room.f_bavail * room.f_frsize

    @contextlib.contextmanager
    def folder(self, *parts: str, make: bool = False) -> Generator[int]:
        """Descriptor of a folder below the root, for the length of the block.

        Args:
            parts: names from the root downward, checked by the caller.
            make: create missing folders, and sync each level before its first use by this
                process: another process may have made it and not yet synced it.

        Raises:
            FileNotFoundError: it is missing and `make` is False.
            OSError: a link or a file is in the way.
            SyncFailed: see `sync`.
        """
        current = os.dup(self.root)
        try:
            for depth, part in enumerate(parts, start=1):
                if make and parts[:depth] not in self._settled:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, FOLDER_MODE, dir_fd=current)
                    self.sync(current)
                    self._settled.add(parts[:depth])
                below = os.open(part, _OPEN_FOLDER, dir_fd=current)
                os.close(current)
                current = below
            yield current
        finally:
            os.close(current)

    def new_file(self) -> NewFile:
        """A file without a name on this tree's file system."""
        return NewFile(self._scratch)

    def give_name(self, fd: int, name: str, folder: int) -> None:
        """Link a complete file under a free name; on return it would survive power loss.

        Raises:
            FileExistsError: the name is taken; nothing was changed.
            SyncFailed: see `sync`. If it was the folder's, the name may be there.
            OSError: as `os.link`.
        """
        self.sync(fd)
        self.link_synced(fd, name, folder)

    def link_synced(self, fd: int, name: str, folder: int) -> None:
        """As `give_name`, for a file whose own sync has succeeded already."""
        self.check()
        _link(fd, name, folder)
        self.sync(folder)

    def create_file(self, data: bytes, name: str, folder: int) -> None:
        """Create a whole file at once, durable; raises as `give_name`."""
        self.check()
        with self.new_file() as new:
            write_fully(new.fd, data)
            self.give_name(new.fd, name, folder)

    def replace_file(self, data: bytes, name: str, folder: int) -> None:
        """Put a whole file in the place of another in one step, durable.

        Raises:
            SyncFailed: see `sync`. If it was the folder's, either file may be there.
            OSError: as `os.rename`; the former file is there.
        """
        self.check()
        waiting = _SCRATCH_PREFIX + secrets.token_hex(16)
        with self.new_file() as new:  # open, hence locked, until it has its place
            write_fully(new.fd, data)
            self.sync(new.fd)
            _link(new.fd, waiting, self._scratch)
            os.rename(waiting, name, src_dir_fd=self._scratch, dst_dir_fd=folder)
            self.sync(folder)


def _link(fd: int, name: str, folder: int) -> None:
    """Name an open file through its descriptor, whatever happened to paths meanwhile.

    CPython 3.11 calls `linkat` with AT_SYMLINK_FOLLOW only when it gets a folder descriptor;
    without one it would try to link the entry in /proc itself.
    """
    os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=folder, follow_symlinks=True)


def _drop_abandoned(scratch: int) -> int:
    """Remove the unnamed files of writers that are no more; how many."""
    dropped = 0
    for name in os.listdir(scratch):
        if not name.startswith(_SCRATCH_PREFIX):
            continue
        with contextlib.suppress(FileNotFoundError, BlockingIOError):  # a writer is at work
            fd = open_file(name, scratch)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(name, dir_fd=scratch)
                dropped += 1
            finally:
                os.close(fd)
    return dropped
