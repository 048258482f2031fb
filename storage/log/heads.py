"""The head store: how far a log was signed, kept away from the database and its backups.

A restored database looks whole. What tells that it is old is the head, which lies elsewhere:
after each commit the log's new size and root are compared-and-swapped into it, and only then is
anybody answered. On one machine it is a file in a folder of its own:

    70000                                               number of leaves
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=        root
    sha256 9f8a…                                        of the two lines above

Does: reads, and swaps durably while it is held. Refuses: to go back, to be written by a process
that does not hold it, and to make itself where it is missing. `storage.log.shared_heads` keeps the
same promises for many nodes.
"""

import contextlib
import fcntl
import hashlib
import os
import re
from base64 import b64decode, b64encode
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from storage.db.engine import Database
from storage.durable import Tree, disk_errors, open_file
from storage.errors import AlreadyExists, HeadConflict, IntegrityAlarm, NotFound, Unavailable

_FORM = re.compile(rb"(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/]{43}=)\nsha256 ([0-9a-f]{64})\n")
_MAX_BYTES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Size and root of a tree.

    Attributes:
        size: number of leaves.
        root: 32 bytes.
    """

    size: int
    root: bytes

    def encode(self) -> bytes:
        """The file's bytes."""
        lines = f"{self.size}\n{b64encode(self.root).decode()}\n"
        return f"{lines}sha256 {hashlib.sha256(lines.encode()).hexdigest()}\n".encode()


class HeadStore(Protocol):
    """Where one log's head is kept."""

    def make(self, head: Head) -> None:
        """Keep the head of a new log.

        Raises:
            AlreadyExists: there is a head: this log was made before.
            Unavailable, SyncFailed, DiskReserveReached: the store refused.
        """
        ...

    def read(self) -> Head:
        """What was swapped in last.

        Raises:
            NotFound: there is no head: the log was never made, or this is the wrong place.
            IntegrityAlarm: it is damaged.
            Unavailable: the store refused.
        """
        ...

    def hold(self) -> contextlib.AbstractContextManager[None]:
        """Be one of those that may swap, for the length of the block.

        Raises:
            Unavailable: somebody else holds it, where the store can tell.
        """
        ...

    def swap(self, expected: Head, new: Head) -> None:
        """Put `new` in the place of `expected`; durable on return.

        Args:
            expected: what the caller's work builds on.
            new: a larger tree.

        Raises:
            HeadConflict: another head is there; nothing was changed.
            ValueError: not held, or not larger; the caller's mistake.
            Unavailable, SyncFailed, DiskReserveReached: either head may be there.
        """
        ...

    def require_apart(self, db: Database) -> None:
        """Refuse to be backed up, and put back, together with the database.

        Raises:
            Unavailable: the head lies with the database.
        """
        ...


class FileHead:
    """One log's head in one file, the only one in its folder.

    Any number of processes may read; one at a time may hold it. A lock that the kernel drops
    with the process shows who holds it, so a crash leaves nothing to clear.
    """

    def __init__(self, path: Path) -> None:
        """Name the file; nothing is opened before it is needed.

        Args:
            path: in a folder of its own, apart from the database's.
        """
        self.path = path
        self._tree: Tree | None = None

    @classmethod
    def create(cls, path: Path, head: Head) -> "FileHead":
        """As `make`, for a path."""
        made = cls(path)
        made.make(head)
        return made

    def make(self, head: Head) -> None:
        """Make the folder and the file of a new log; see `HeadStore`."""
        with disk_errors("making a log's head"):
            tree = Tree.create(self.path.parent)
            try:
                tree.create_file(head.encode(), self.path.name, tree.root)
            except FileExistsError as error:
                raise AlreadyExists("this log has a head already") from error

    def require_apart(self, db: Database) -> None:
        """Refuse to lie in the database's folder or below; see `HeadStore`."""
        if db.path is None:
            return
        if self.path.resolve().is_relative_to(db.path.resolve().parent):
            raise Unavailable("the head lies in the database's folder: give it a place of its own")

    def read(self) -> Head:
        """What was swapped in last; see `HeadStore`."""
        with disk_errors("reading a log's head"):
            try:
                fd = open_file(self.path)
            except FileNotFoundError as error:
                raise NotFound("this log has no head") from error
            try:
                data = os.read(fd, _MAX_BYTES)
            finally:
                os.close(fd)
        return _decode(data)

    @contextlib.contextmanager
    def hold(self) -> Generator[None, None, None]:
        """Be the one process that may swap, for the length of the block.

        Raises:
            Unavailable: another process, or another `FileHead` of this one, holds it.
        """
        with disk_errors("holding a log's head"):
            tree = Tree(self.path.parent)
        try:
            fcntl.flock(tree.root, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable("another process has this log open") from error
        self._tree = tree
        try:
            yield
        finally:
            self._tree = None
            fcntl.flock(tree.root, fcntl.LOCK_UN)

    def swap(self, expected: Head, new: Head) -> None:
        """Put `new` in the place of `expected`; see `HeadStore`."""
        if self._tree is None or new.size <= expected.size:
            raise ValueError("a head only grows, and only while it is held")
        if self.read() != expected:
            raise HeadConflict("the log's head is not the one that this process left there")
        with disk_errors("swapping a log's head"):
            self._tree.replace_file(new.encode(), self.path.name, self._tree.root)


def _decode(data: bytes) -> Head:
    found = _FORM.fullmatch(data)
    if found:
        head = Head(size=int(found[1]), root=b64decode(found[2]))
        if head.encode() == data:
            return head
    raise IntegrityAlarm("the log's head file is damaged")
