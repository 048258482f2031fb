"""The object store that is a directory: created once, read-only, read back before believed.

    <root>/store                         "fengni-objects 1", then the store's id
    <root>/sha256/ab/cd/abcd…(64 hex)    one object, mode 0400
    <root>/locks/abcd…(64 hex)           until when the object is locked, and whether it is on hold
    <root>/tmp/                          files that have no name yet
    <root>/damaged/abcd….1               what lay under a name and was not what it says

It refuses names that are not SHA-256 digests, follows no link, overwrites no object and removes
none that is locked or on hold. Mode bits stop accidents, not the account that runs the service; the
level says so. With `immutable=True` and the right to set file flags (root, or CAP_LINUX_IMMUTABLE)
folders become append-only and objects immutable, and the level says that.
"""

import contextlib
import os
import re
import stat
from collections.abc import Generator, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Self

from storage.durable import (
    FILE_MODE,
    FOLDER_MODE,
    PIECE_BYTES,
    Tree,
    disk_errors,
    hash_from_disk,
    open_file,
    write_fully,
)
from storage.errors import IntegrityAlarm, NameRefused, NotFound, Unavailable
from storage.objects import AssuranceLevel, Staged, StagedFile, StoredObject
from storage.objects.flags import APPEND_ONLY, IMMUTABLE, flags_of, set_flag
from storage.objects.local_locks import LocalLocks

_NAME = re.compile(r"[0-9a-f]{64}")
_STORE_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_FAMILY = "sha256"
_DAMAGED = "damaged"
_STORE_FILE = "store"
_STORE_HEAD = "fengni-objects 1\n"
_SHARDS = tuple(f"{number:02x}" for number in range(256))
_SHARD_LEVELS = 2
_FACTS_BYTES = 4096


class LocalObjects:
    """`ObjectStore` over one directory on one file system; see the protocol for the promises."""

    def __init__(self, root: Path, *, immutable: bool = False) -> None:
        """Open a store that `LocalObjects.create` made.

        Args:
            root: the store's folder.
            immutable: set file flags where the account may; `level()` tells whether it could.

        Raises:
            Unavailable: no store lies there.
        """
        self._tree = Tree(root)
        self._locks = LocalLocks(self._tree)
        with disk_errors("opening the object store"), self._tree.folder() as folder:
            self._store_id = _read_store_id(folder)
        self._protects = immutable and self._protect_folders()

    @classmethod
    def create(cls, root: Path, *, store_id: str, immutable: bool = False) -> Self:
        """Make a store, or finish and open one that is there already under the same id.

        Args:
            root: its folder; the parent must exist.
            store_id: 1 to 63 of `a-z 0-9 . -`, beginning with a letter or digit.
            immutable: as for opening.

        Raises:
            ValueError: the id has another form, or the store there has another id.
            DiskReserveReached, SyncFailed, Unavailable: it could not be made.
        """
        if not _STORE_ID.fullmatch(store_id):
            raise ValueError("store_id must be 1 to 63 of a-z, 0-9, dot and hyphen")
        tree = Tree.create(root)
        with disk_errors("making the object store"):
            with tree.folder(_FAMILY, make=True) as family:
                for shard in _SHARDS:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(shard, FOLDER_MODE, dir_fd=family)
                tree.sync(family)
            with tree.folder() as folder, contextlib.suppress(FileExistsError):
                tree.create_file(f"{_STORE_HEAD}{store_id}\n".encode(), _STORE_FILE, folder)
        store = cls(root, immutable=immutable)
        if store.store_id != store_id:
            raise ValueError("another store lies in that folder")
        return store

    @property
    def store_id(self) -> str:
        """See `ObjectStore.store_id`."""
        return self._store_id

    def level(self) -> AssuranceLevel:
        """See `ObjectStore.level`: immutable only if the flags could be set on our folders."""
        self._tree.check()
        if self._protects:
            return AssuranceLevel.DIRECTORY_IMMUTABLE
        return AssuranceLevel.DIRECTORY_MODE_BITS

    def put_once(self, staged: Staged, *, until: datetime | None = None) -> StoredObject:
        """See `ObjectStore.put_once`.

        1. What lies under the name already is read back; equal is success.
        2. Else the staged file is opened; from another file system or a bucket it is copied.
        3. It is synced, read back from the disk and compared with the name.
        4. It is linked under its name and the folder synced; whoever came first wins.
        5. The staged name goes: from here on the object is the only one.
        6. Where we may, the object is made immutable.
        """
        name = _checked(staged.sha256)
        self._tree.check()
        with (
            disk_errors("keeping an object"),
            self._tree.folder(_FAMILY, name[:2], name[2:4], make=True) as folder,
            contextlib.ExitStack() as opened,
        ):
            fd = self._existing(name, folder, opened)  # 1
            if fd is None:
                fd = self._create(staged, folder, opened)  # 2, 3, 4
            _consume(staged, durably=self._protects)  # 5
        if self._protects:
            self._protect_object(name)  # 6
        return self.stat(name) if until is None else self.retain(name, None, until)

    def open(self, name: str, version: str | None = None) -> BinaryIO:
        """See `ObjectStore.open`; there is one version of each object, and it has no id."""
        with self._opened(name, version) as (fd, _):
            return os.fdopen(os.dup(fd), "rb")

    def stat(self, name: str, version: str | None = None) -> StoredObject:
        """See `ObjectStore.stat`."""
        with self._opened(name, version) as (fd, folder):
            return _describe(fd, name, folder, self._locks.read(name).until)

    def retain(self, name: str, version: str | None, until: datetime) -> StoredObject:
        """See `ObjectStore.retain`: a note beside the objects, which this code obeys."""
        self.stat(name, version)
        self._locks.extend(name, until)
        return self.stat(name, version)

    def hold(self, name: str, version: str | None, *, on: bool) -> None:
        """See `ObjectStore.hold`: a note beside the objects, which this code obeys."""
        self.stat(name, version)
        self._locks.hold(name, on=on)

    def dispose(self, name: str, version: str | None, at: datetime) -> None:
        """See `ObjectStore.dispose`; of immutable files the flags are lifted first."""
        self._locks.require_free(_checked(name), at)
        with (
            contextlib.suppress(NotFound),
            self._opened(name, version) as (fd, folder),
            disk_errors("disposing of an object"),
        ):
            if flags_of(fd) & IMMUTABLE:
                set_flag(folder, APPEND_ONLY, on=False)
                set_flag(fd, IMMUTABLE, on=False)
            os.unlink(name, dir_fd=folder)
            self._tree.sync(folder)
            if self._protects:
                set_flag(folder, APPEND_ONLY)
        with (
            disk_errors("disposing of what was damaged"),
            contextlib.suppress(FileNotFoundError),
            self._tree.folder(_DAMAGED) as aside,
        ):
            for one in os.listdir(aside):
                if one.partition(".")[0] == name:
                    os.unlink(one, dir_fd=aside)
            self._tree.sync(aside)

    def measure(self, name: str, version: str | None = None) -> tuple[str, int]:
        """See `ObjectStore.measure`: the pages in memory are dropped first."""
        with self._opened(name, version) as (fd, _):
            return hash_from_disk(fd)

    def mend(self, staged: Staged) -> StoredObject:
        """See `ObjectStore.mend`; an immutable file is left to an administrator."""
        name = _checked(staged.sha256)
        self._tree.check()
        with (
            disk_errors("setting a damaged object aside"),
            self._tree.folder(_FAMILY, name[:2], name[2:4], make=True) as folder,
            self._tree.folder(_DAMAGED, make=True) as aside,
        ):
            fd = _open_if_there(name, folder)
            if fd is not None:
                try:
                    right = hash_from_disk(fd)[0] == name
                finally:
                    os.close(fd)
                if not right:
                    _set_aside(name, folder, aside)
                    self._tree.sync(aside)
                    self._tree.sync(folder)
        return self.put_once(staged)

    def names(self) -> Iterator[str]:
        """See `ObjectStore.names`; what does not belong here is in `strangers`."""
        return (name for parts in self._entries() if _belongs(*parts) for name in parts[-1:])

    def strangers(self) -> Iterator[str]:
        """Paths under `sha256/` that no call of this store made, for a doctor to report."""
        return ("/".join(parts) for parts in self._entries() if not _belongs(*parts))

    def free_bytes(self) -> int:
        """See `ObjectStore.free_bytes`."""
        with disk_errors("measuring free space"):
            return self._tree.free_bytes()

    def _existing(self, name: str, folder: int, opened: contextlib.ExitStack) -> int | None:
        """The object that is there, proven to be what its name says and durable; or None."""
        fd = _open_if_there(name, folder)
        if fd is None:
            return None
        opened.callback(os.close, fd)
        facts = os.fstat(fd)
        if facts.st_uid != os.geteuid() or facts.st_mode & 0o222:
            raise IntegrityAlarm(f"another account owns or may write what lies under {name}")
        if hash_from_disk(fd)[0] != name:
            raise IntegrityAlarm(f"the bytes under {name} have another digest")
        self._tree.sync(folder)  # its maker may not have come so far
        return fd

    def _create(self, staged: Staged, folder: int, opened: contextlib.ExitStack) -> int:
        """Steps 2 to 4; the descriptor of the object, ours or that of who was quicker."""
        name = staged.sha256
        try:
            source = opened.enter_context(staged.open())
        except NotFound:
            return self._present(name, folder, opened)
        linked = isinstance(staged, StagedFile) and _may_be_linked(source.fileno(), folder)
        fd = source.fileno() if linked else self._copy(source, opened)
        if stat.S_IMODE(os.fstat(fd).st_mode) != FILE_MODE:
            os.fchmod(fd, FILE_MODE)
        self._tree.sync(fd)
        if hash_from_disk(fd) != (name, staged.size_bytes):
            raise IntegrityAlarm(f"what was staged as {name} has another digest or length")
        try:
            self._tree.link_synced(fd, name, folder)
        except FileExistsError:
            return self._present(name, folder, opened)
        return fd

    def _present(self, name: str, folder: int, opened: contextlib.ExitStack) -> int:
        """The object that another worker made just now."""
        fd = self._existing(name, folder, opened)
        if fd is None:
            raise NotFound(f"neither the staged file nor the object {name} is there")
        return fd

    def _copy(self, source: BinaryIO, opened: contextlib.ExitStack) -> int:
        """The same bytes in a file of our own, which vanishes unless it gets a name."""
        new = opened.enter_context(self._tree.new_file())
        while piece := source.read(PIECE_BYTES):
            write_fully(new.fd, piece)
        return new.fd

    @contextlib.contextmanager
    def _opened(self, name: str, version: str | None) -> Generator[tuple[int, int]]:
        """Descriptors of an object and of its folder, for the length of the block."""
        _checked(name)
        with disk_errors("opening an object"), contextlib.ExitStack() as opened:
            try:
                folder = opened.enter_context(self._tree.folder(_FAMILY, name[:2], name[2:4]))
                fd = open_file(name, folder)
            except FileNotFoundError as error:
                raise NotFound(f"no object {name} is held") from error
            opened.callback(os.close, fd)
            if version is not None:
                raise NotFound(f"the object {name} has no version with such an id")
            yield fd, folder

    def _entries(self, *parts: str) -> Iterator[tuple[str, ...]]:
        """Every path under `sha256/`, ascending, folders of ours opened up."""
        with (
            disk_errors("listing objects"),
            self._tree.folder(_FAMILY, *parts) as folder,
            os.scandir(folder) as found,
        ):
            entries = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in found)
        for name, is_folder in entries:
            if is_folder and name in _SHARDS and len(parts) < _SHARD_LEVELS:
                yield from self._entries(*parts, name)
            else:
                yield (*parts, name)

    def _protect_object(self, name: str) -> None:
        """Set the flags as far as permitted; what was reached is measured, not assumed."""
        with self._opened(name, None) as (fd, folder):
            if set_flag(folder, APPEND_ONLY) and set_flag(fd, IMMUTABLE):
                self._tree.sync(fd)

    def _protect_folders(self) -> bool:
        """Make the folders above the objects append-only; False where that is not permitted."""
        with disk_errors("protecting the object folders"):
            for shard in _SHARDS:
                with self._tree.folder(_FAMILY, shard) as folder:
                    if not set_flag(folder, APPEND_ONLY):
                        return False
            with self._tree.folder(_FAMILY) as folder:
                return set_flag(folder, APPEND_ONLY)


def _checked(name: str) -> str:
    """The name itself; this is why no text from outside ever reaches the file system."""
    if not _NAME.fullmatch(name):
        raise NameRefused("an object's name is 64 lowercase hex digits")
    return name


def _belongs(*parts: str) -> bool:
    """True for the path of an object, False for anything else that lies in the tree."""
    name = parts[-1]
    return _NAME.fullmatch(name) is not None and parts == (name[:2], name[2:4], name)


def _read_store_id(folder: int) -> str:
    fd = _open_if_there(_STORE_FILE, folder)
    if fd is None:
        raise Unavailable("no object store lies there")
    with os.fdopen(fd, encoding="utf-8", errors="replace") as file:
        head, store_id = file.readline(), file.readline().rstrip("\n")
    if head != _STORE_HEAD or not _STORE_ID.fullmatch(store_id):
        raise Unavailable("the object store's own file is damaged or of a later format")
    return store_id


def _set_aside(name: str, folder: int, aside: int) -> None:
    """Move what lies under a name to the first free number; it stays for whoever asks why."""
    taken = set(os.listdir(aside))
    number = next(n for n in range(1, len(taken) + 2) if f"{name}.{n}" not in taken)
    os.rename(name, f"{name}.{number}", src_dir_fd=folder, dst_dir_fd=aside)


def _open_if_there(name: str | Path, folder: int | None = None) -> int | None:
    try:
        return open_file(name, folder)
    except FileNotFoundError:
        return None


def _may_be_linked(fd: int, folder: int) -> bool:
    """True if a link instead of a copy is possible and leaves no second name for the file."""
    file, target = os.fstat(fd), os.fstat(folder)
    same_place = file.st_dev == target.st_dev and _mount(fd) == _mount(folder)
    return same_place and file.st_nlink == 1


def _mount(fd: int) -> bytes:
    """The mount that a descriptor was opened through: links do not cross mounts."""
    with open(f"/proc/self/fdinfo/{fd}", "rb", buffering=0) as facts:
        lines = facts.read(_FACTS_BYTES).splitlines()
    return next(line for line in lines if line.startswith(b"mnt_id:"))


def _consume(staged: Staged, *, durably: bool) -> None:
    """Remove the staged name. An immutable file could not lose it later, so then it is synced."""
    staged.consume()
    if durably and isinstance(staged, StagedFile):
        parent = os.open(staged.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)


def _describe(fd: int, name: str, folder: int, until: datetime | None) -> StoredObject:
    """What is true of an object now, its level read from the disk."""
    immutable = flags_of(fd) & IMMUTABLE and flags_of(folder) & APPEND_ONLY
    return StoredObject(
        name=name,
        size_bytes=os.fstat(fd).st_size,
        version=None,
        locked_until=until,
        level=(
            AssuranceLevel.DIRECTORY_IMMUTABLE if immutable else AssuranceLevel.DIRECTORY_MODE_BITS
        ),
    )
