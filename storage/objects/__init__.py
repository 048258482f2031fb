"""The contract of every object store, and the shapes that cross it.

An object is bytes under their own SHA-256. A store creates objects, gives them back and locks them
for longer; it has no update. What is no longer locked or held it can dispose of: who may ask for
that is decided elsewhere, with approvals (`service.retention`). Which kind of store keeps the bytes
changes the assurance, never the meaning of these calls.
"""

import enum
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from storage.durable import disk_errors, open_file
from storage.errors import NotFound


class AssuranceLevel(enum.Enum):
    """Who is kept from altering a stored object, weakest first; shown on every custody report.

    Example: `"directory-mode-bits"` in a `stored` statement.
    """

    S3_UNPROVEN = "s3-unproven"
    """An S3 store that did not pass its self-test, or no running lock: nobody is known kept off."""

    DIRECTORY_MODE_BITS = "directory-mode-bits"
    """Read-only files: stops accidents. The service's own account can still remove them."""

    DIRECTORY_IMMUTABLE = "directory-append-only-immutable"
    """Append-only folders, immutable files: stops everyone but root, who can lift the flags."""

    S3_OBJECT_LOCK_GOVERNANCE = "s3-object-lock-governance"
    """Object Lock that holders of a special permission may bypass."""

    S3_OBJECT_LOCK_COMPLIANCE = "s3-object-lock-compliance"
    """Object Lock that no S3 account lifts before its date; the store's operator still could."""

    @property
    def rank(self) -> int:
        """Its place in the order above, from 0; for comparing, never stored."""
        return list(AssuranceLevel).index(self)


class Staged(Protocol):
    """A complete upload, durable in staging, not yet an object; it may be gone again already."""

    @property
    def key(self) -> str:
        """The name under which the upload began, chosen by the service."""
        ...

    @property
    def sha256(self) -> str:
        """64 lowercase hex digits, over the bytes that came; compared by the caller, or not."""
        ...

    @property
    def size_bytes(self) -> int:
        """How many came."""
        ...

    def open(self) -> BinaryIO:
        """Its bytes from the start, unhashed; the caller closes it.

        Reading raises what opening raises.

        Raises:
            NotFound: it is gone.
            Unavailable: the staging area does not answer.
        """
        ...

    def consume(self) -> None:
        """Let go of it, because an object holds its bytes now; what is gone is no error.

        Raises:
            Unavailable: the staging area does not answer.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile:
    """`Staged` as a file.

    Attributes:
        key: see there.
        path: where the bytes lie.
        sha256: see there.
        size_bytes: see there.
    """

    key: str
    path: Path
    sha256: str
    size_bytes: int

    def open(self) -> BinaryIO:
        """See `Staged.open`."""
        with disk_errors("reading a staged file"):
            try:
                fd = open_file(self.path)
            except FileNotFoundError as error:
                raise NotFound("neither the staged file nor the object is there") from error
            return os.fdopen(fd, "rb", buffering=0)

    def consume(self) -> None:
        """See `Staged.consume`; whether the name went for good, a crash may decide."""
        with disk_errors("letting go of a staged file"):
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object as the store holds it.

    Attributes:
        name: 64 lowercase hex digits, the SHA-256 of the stored bytes.
        size_bytes: its length.
        version: the store's version id where it keeps versions, else None.
        level: what protects this object, as measured on it.
        locked_until: until when the store itself refuses to remove it, UTC, as measured on it;
            None where there is no such date.
    """

    name: str
    size_bytes: int
    version: str | None
    level: AssuranceLevel
    locked_until: datetime | None = None


class ObjectStore(Protocol):
    """Bytes that are created once and stay."""

    @property
    def store_id(self) -> str:
        """The store's own name, kept inside it and the same for ever.

        It goes into `stored` statements, so it holds no host, path or account.
        """
        ...

    def level(self) -> AssuranceLevel:
        """What a new object here would be protected by, as measured, never as configured.

        Raises:
            Unavailable: the store does not answer.
        """
        ...

    def put_once(self, staged: Staged, *, until: datetime | None = None) -> StoredObject:
        """Make an object of a staged file and return only when that would survive power loss.

        The object's name is `staged.sha256`. Before success the stored bytes have been read
        back and hashed, whatever the store says about its own checksums. If the name is taken,
        the bytes under it are hashed: equal is success, so a repeat after a crash is harmless,
        and it is success too when the staged file is gone because an earlier call took it;
        different is an alarm and the staged file is left where it lies. On success the staged
        file is consumed; on any error it is still there.

        Any number of processes may put the same digest at once: one object results and each of
        them is answered with it. Where the store keeps versions, two processes may be answered
        with two versions of it, each of them right, locked and readable.

        Args:
            staged: what is to become an object.
            until: until when it is locked at least, UTC; None for what the store is set to do.

        Raises:
            IntegrityAlarm: the name holds other bytes, or what lies there is no file of this
                store, or the staged bytes are not those that `sha256` names.
            NotFound: neither the staged file nor the object is there.
            NameRefused: `sha256` is not 64 lowercase hex digits.
            DiskReserveReached: no room.
            SyncFailed: the disk did not confirm. Final: this store object takes nothing more.
            Unavailable: the store does not answer or refused the write.
        """
        ...

    def open(self, name: str, version: str | None = None) -> BinaryIO:
        """The stored bytes as a seekable stream, from the start; the caller closes it.

        The bytes are not hashed here: whoever relies on them compares while reading.

        Raises:
            NotFound: no such object, or no such version of it.
            NameRefused: not 64 lowercase hex digits.
            IntegrityAlarm: something other than a file of this store lies under the name.
            Unavailable: the store does not answer.
        """
        ...

    def stat(self, name: str, version: str | None = None) -> StoredObject:
        """Size, version and level of one object, as measured now; its bytes are not read.

        Raises:
            NotFound, NameRefused, IntegrityAlarm, Unavailable: as `open`.
        """
        ...

    def measure(self, name: str, version: str | None = None) -> tuple[str, int]:
        """SHA-256 (hex) and length of what lies there now, past every cache that can be asked.

        Raises:
            NotFound, NameRefused, IntegrityAlarm, Unavailable: as `open`.
        """
        ...

    def mend(self, staged: Staged) -> StoredObject:
        """Put the right bytes where wrong ones or none are; what lay there is kept aside.

        A directory moves the damaged file to `damaged/`; a bucket gets a new version, and the
        damaged one stays as it is. Otherwise as `put_once`.

        Raises:
            Unavailable: what lies there cannot be moved, or the store does not answer.
            NotFound, NameRefused, DiskReserveReached, SyncFailed, IntegrityAlarm: as `put_once`.
        """
        ...

    def retain(self, name: str, version: str | None, until: datetime) -> StoredObject:
        """Lock an object for longer; an earlier date than it has changes nothing.

        Raises:
            NotFound, NameRefused, IntegrityAlarm: as `open`.
            Unavailable: the store does not answer, or did not lock it as asked.
        """
        ...

    def hold(self, name: str, version: str | None, *, on: bool) -> None:
        """Put a legal hold on an object, or lift it; repeating changes nothing.

        Raises:
            NotFound, NameRefused, IntegrityAlarm, Unavailable: as `retain`.
        """
        ...

    def dispose(self, name: str, version: str | None, at: datetime) -> None:
        """Remove an object for ever; one that is gone already is success.

        What the store keeps beside it under the same name goes too: further versions, and what
        was damaged and set aside.

        Args:
            name: of the object.
            version: the one that was stated, where the store keeps versions.
            at: now, UTC.

        Raises:
            Retained: it is locked or on hold; nothing was changed.
            NameRefused: not 64 lowercase hex digits.
            Unavailable: the store does not answer, or this account may not remove it.
        """
        ...

    def names(self) -> Iterator[str]:
        """Every object's name, ascending; objects put meanwhile may or may not appear.

        Raises:
            Unavailable: the store does not answer.
        """
        ...

    def free_bytes(self) -> int | None:
        """Bytes that can still be taken, or None where the store knows no limit."""
        ...
