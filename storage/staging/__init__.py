"""The contract of staging: where uploads wait, durable when finished, kept when wrong.

An upload in progress has no name: whoever dies leaves nothing that could be taken for content, and
the sender begins again. A finished one carries key and digest in its name, so it can be adopted
without a record elsewhere. Nothing that finished is removed but by its consumer: it becomes an
object (`ObjectStore.put_once` takes it) or goes to quarantine.

Staging knows keys and bytes and no transfer protocol: one that resumes writes into a writer piece
by piece, as one that does not.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol, Self

from storage.errors import NameRefused
from storage.objects import Staged

_KEY = re.compile(r"[0-9a-z][0-9a-z_-]{0,95}")
WAITING_NAME = re.compile(rf"({_KEY.pattern})\.([0-9a-f]{{64}})")
QUARANTINE_NAME = re.compile(WAITING_NAME.pattern + r"\.([a-z][a-z_]{0,47})")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedFile:
    """An upload that is kept although it is not what was announced.

    Attributes:
        key: under which it was staged.
        sha256: of the bytes that came, 64 hex digits.
        size_bytes: how many came.
        reason: a code such as `digest_mismatch`.
    """

    key: str
    sha256: str
    size_bytes: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What was left behind.

    Attributes:
        finished: complete uploads that never became objects: to be adopted.
        dropped: how many unfinished uploads were removed;
            0 where the file system lets them vanish by themselves.
        strangers: names in the waiting room that no call here made; untouched.
    """

    finished: tuple[Staged, ...]
    dropped: int
    strangers: tuple[str, ...]


class StagedWriter(Protocol):
    """One upload being written; its calls block and belong in a thread, one at a time.

    Leaving the `with` block without `finish` discards it.
    """

    @property
    def size_bytes(self) -> int:
        """How many bytes came so far."""
        ...

    @property
    def sha256(self) -> str:
        """Digest of what was written so far, 64 hex digits."""
        ...

    def __enter__(self) -> Self:
        """Itself."""
        ...

    def __exit__(self, *_: object) -> None:
        """Discard what was not finished."""
        ...

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Hash and keep the next bytes; they are not durable before `finish`.

        Raises:
            TooLong: more came than announced. What this call brought is kept, further calls
                keep nothing, and `finish` hands over what came, for quarantine.
            DiskReserveReached, Unavailable: they were not taken; the upload is discarded.
        """
        ...

    def finish(self) -> Staged:
        """Make what came durable under a name, where whoever makes objects can read it.

        Fewer bytes than announced, or another digest, is no error here: the caller compares
        and decides between object and quarantine. The same upload finished twice gives the
        same staged file.

        Raises:
            IntegrityAlarm: damaged bytes lie under this very key and digest; they stay.
            SyncFailed: final; nothing was promised and the bytes are dropped.
            DiskReserveReached, Unavailable: nothing was promised.
        """
        ...

    def discard(self) -> None:
        """Let go of the upload: nothing of it stays unless it was finished. Repeatable.

        Where another thread is still writing, its write is waited for.
        """
        ...


class Staging(Protocol):
    """One staging area."""

    @property
    def shared(self) -> bool:
        """Whether other nodes stage here too."""
        ...

    def begin(self, key: str, announced_bytes: int, *, sha256: str | None = None) -> StagedWriter:
        """Open an upload.

        Args:
            key: 1 to 96 of `0-9 a-z _ -`, beginning with a letter or digit; need not be free.
            announced_bytes: what the sender announced, ≥ 0.
            sha256: what its bytes should hash to, 64 hex digits. If they do they may be brought
                to their object's place at once, and what is staged is empty. None where they
                must wait here: what is sealed first, or locked otherwise, is never told.

        Raises:
            DiskReserveReached: there is no room for so many bytes.
            NameRefused: the key has another form.
            SyncFailed, Unavailable: the staging area takes nothing.
        """
        ...

    def waiting(self, key: str, sha256: str, size_bytes: int) -> Staged:
        """The finished upload of that name, there or gone; nothing is asked.

        Raises:
            NameRefused: the key has another form.
        """
        ...

    def holds(self, key: str, sha256: str) -> bool:
        """Whether a finished upload of that name waits.

        Raises:
            NameRefused, Unavailable: as elsewhere.
        """
        ...

    def quarantine(self, staged: Staged, reason: str) -> QuarantinedFile:
        """Take a finished upload aside for good; a repeat after a crash is harmless.

        Args:
            staged: as `finish`, `waiting` or `sweep` gave it.
            reason: 1 to 48 of `a-z _`, beginning with a letter.

        Raises:
            NameRefused: the reason, the key or the digest has another form.
            NotFound: the bytes lie neither in waiting nor in quarantine.
            SyncFailed, Unavailable: they are still where they were.
        """
        ...

    def quarantined(self) -> Iterator[QuarantinedFile]:
        """Everything in quarantine, by name.

        Raises:
            Unavailable: the staging area does not answer.
        """
        ...

    def open_quarantined(self, kept: QuarantinedFile) -> BinaryIO:
        """The bytes of a quarantined upload from the start; the caller closes it.

        Raises:
            NotFound: they are gone.
            Unavailable: the staging area does not answer.
        """
        ...

    def drop_quarantined(self, kept: QuarantinedFile) -> None:
        """Remove a quarantined upload for ever; one that is gone is success.

        Whoever asks has the authority for it: nothing else leaves quarantine.

        Raises:
            NameRefused: a part of its name has another form.
            SyncFailed, Unavailable: it may still be there; do it again.
        """
        ...

    def sweep(self, is_live: Callable[[str], bool]) -> Leftovers:
        """What others left; what abandoned uploads wrote is removed once it is old enough.

        The bytes are not hashed here: `put_once` reads them before it believes them.

        Args:
            is_live: whether somebody is receiving an upload of this key now, on whatever node;
                what he has written is neither told nor touched.

        Raises:
            SyncFailed, Unavailable: the staging area cannot be read.
        """
        ...


def checked_key(key: str) -> str:
    """The key itself; it becomes part of a name, so it has one narrow form.

    Raises:
        NameRefused: it has another.
    """
    if not _KEY.fullmatch(key):
        raise NameRefused("a staging key is 1 to 96 of a-z, 0-9, underscore and hyphen")
    return key


def quarantine_name(key: str, sha256: str, reason: str) -> str:
    """Under which name an upload is kept aside.

    Raises:
        NameRefused: a part of it has another form.
    """
    name = f"{key}.{sha256}.{reason}"
    if not QUARANTINE_NAME.fullmatch(name):
        raise NameRefused("a quarantine reason is 1 to 48 of a-z and underscore")
    return name
