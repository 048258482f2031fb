"""The object store that is an S3 bucket with versions and Object Lock.

    fengni/store                         "fengni-objects 1", then the store's id; locked and held
    fengni/selftest/…                    canaries of the self-test
    sha256/ab/cd/abcd…(64 hex)           one object; the version that came first counts

Does: locks every object from its first moment, demands size and lock from the server by version
id, reads the version back and hashes it before it calls it stored. Refuses to believe the bucket's
settings: an object's level is what its own lock says, and no more than the self-test proved.

Names are digests, so a name that is used twice harms nobody: both versions hold the same bytes,
and whoever relies on an object names its version. What an insider puts over it (other bytes,
delete markers) hides it from those who name no version, and `strangers` tells of it.
"""

import hashlib
import io
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, Self

from storage.errors import IntegrityAlarm, NameRefused, NotFound, Retained, Unavailable
from storage.objects import AssuranceLevel, Staged, StoredObject
from storage.objects.bucket import SINGLE_BYTES, Bucket
from storage.objects.locks import Held, Listed, Lock, LockMode, in_seconds
from storage.objects.ranges import ProvingReader, Ranges
from storage.objects.selftest import CANARIES, Verdict, examine_bucket

_NAME = re.compile(r"[0-9a-f]{64}")
_STORE_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_FAMILY = "sha256/"
_STORE_KEY = "fengni/store"
_STORE_HEAD = "fengni-objects 1\n"
_STORE_BYTES = 1024
_PIECE_BYTES = 1 << 18
_BUFFER_BYTES = 1 << 18
_LEVELS = {
    LockMode.GOVERNANCE: AssuranceLevel.S3_OBJECT_LOCK_GOVERNANCE,
    LockMode.COMPLIANCE: AssuranceLevel.S3_OBJECT_LOCK_COMPLIANCE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """How a new object is locked; a later decision may lock it for longer.

    Attributes:
        mode: how firmly.
        days: for at least so many days, ≥ 1; the date is the midnight (UTC) after them, so that
            what is put twice on one day is locked once.
    """

    mode: LockMode
    days: int

    def lock(self, at: datetime) -> Lock:
        """The lock of an object that is put now."""
        last = at.astimezone(UTC) + timedelta(days=self.days)
        midnight = last.replace(hour=0, minute=0, second=0, microsecond=0)
        return Lock(mode=self.mode, until=midnight + timedelta(days=1))


class S3Objects:
    """`ObjectStore` over one bucket; see the protocol for the promises. Threads may share it."""

    def __init__(self, bucket: Bucket, intake: Intake, clock: Callable[[], datetime]) -> None:
        """Open a store that `S3Objects.create` made; its self-test has not been done yet.

        Args:
            bucket: where.
            intake: how new objects are locked.
            clock: now, UTC.

        Raises:
            Unavailable: no store lies there, the bucket locks nothing, or nobody answers.
        """
        self._bucket = bucket
        self._intake = intake
        self._clock = clock
        self._turns = tuple(threading.Lock() for _ in range(256))
        self._verdict: Verdict | None = None
        bucket.require_locking()
        store_id = _read_store_id(bucket)
        if store_id is None:
            raise Unavailable("no object store lies in the bucket")
        self._store_id = store_id

    @classmethod
    def create(
        cls, bucket: Bucket, intake: Intake, clock: Callable[[], datetime], *, store_id: str
    ) -> Self:
        """Make a store, and its bucket, or open one that is there under the same id.

        Args:
            bucket: where; made with Object Lock if there is none.
            intake: how new objects are locked.
            clock: now, UTC.
            store_id: 1 to 63 of `a-z 0-9 . -`, beginning with a letter or digit.

        Raises:
            ValueError: the id has another form, or the store there has another id.
            Unavailable: the bucket locks nothing, or the store could not be made.
        """
        if not _STORE_ID.fullmatch(store_id):
            raise ValueError("store_id must be 1 to 63 of a-z, 0-9, dot and hyphen")
        bucket.make()
        bucket.require_locking()
        if _read_store_id(bucket) is None:
            text = f"{_STORE_HEAD}{store_id}\n".encode()
            bucket.put(
                _STORE_KEY,
                io.BytesIO(text),
                len(text),
                sha256=hashlib.sha256(text).hexdigest(),
                lock=intake.lock(clock()),
                on_hold=True,
            )
        store = cls(bucket, intake, clock)
        if store.store_id != store_id:
            raise ValueError("another store lies in that bucket")
        return store

    @property
    def store_id(self) -> str:
        """See `ObjectStore.store_id`."""
        return self._store_id

    def prove(self) -> Verdict:
        """Try on canaries whether the bucket keeps what it promises; `level` follows from it.

        Raises:
            Unavailable: the server does not answer at all.
        """
        verdict = examine_bucket(self._bucket, self._intake.mode, self._clock)
        self._verdict = verdict
        return verdict

    def level(self) -> AssuranceLevel:
        """See `ObjectStore.level`: what the self-test proved, and nothing before it was done."""
        if self._verdict is None or not self._verdict.passed:
            return AssuranceLevel.S3_UNPROVEN
        return _LEVELS[self._intake.mode]

    def put_once(self, staged: Staged, *, until: datetime | None = None) -> StoredObject:
        """See `ObjectStore.put_once`.

        1. The newest version under the name is read; one with the right bytes is the object, and
           is locked for longer if it must be. Else every version is, the first one first. Only
           other bytes: an alarm.
        2. Else the staged bytes are sent, locked from their first moment. They are hashed before,
           or where they are sent in parts on their way: wrong ones are never completed.
        3. That version is read back and hashed.
        4. What the server says of it there, of its size and of a lock as firm and long as asked,
           must be so.
        5. The staged file goes.
        """
        name, asked = _checked(staged.sha256), self._asked(until)
        with self._turns[int(name[:2], 16)]:
            held = self._existing(name, asked)  # 1
            if held is None:
                held = self._create(staged, asked)  # 2, 3, 4
        staged.consume()  # 5
        return self._describe(name, held)

    def place(self, name: str, data: bytes) -> None:
        """Send an object, locked, and return when it is durable; nothing is proven by that.

        `put_once` of the same name finds it, reads it back, and only that makes it stored. So
        bytes that were hashed on their way here need not lie in staging first.

        Args:
            name: SHA-256 of the data, as the caller has hashed it: it cannot be taken back.
            data: at most `SINGLE_BYTES`.

        Raises:
            NameRefused: `name` is not 64 lowercase hex digits.
            DiskReserveReached, Unavailable: nothing was promised; a version may have been made.
        """
        lock = self._intake.lock(self._clock())
        key = _key(_checked(name))
        self._bucket.put(key, io.BytesIO(data), len(data), sha256=name, lock=lock)

    def open(self, name: str, version: str | None = None) -> BinaryIO:
        """See `ObjectStore.open`; bytes come by range requests, and may fail to come later on.

        Reading raises what `ObjectStore.open` raises.
        """
        return io.BufferedReader(Ranges(self._bucket, self._find(name, version)), _BUFFER_BYTES)

    def stat(self, name: str, version: str | None = None) -> StoredObject:
        """See `ObjectStore.stat`."""
        return self._describe(name, self._find(name, version))

    def measure(self, name: str, version: str | None = None) -> tuple[str, int]:
        """See `ObjectStore.measure`: the server gives the bytes of that version."""
        held = self._find(name, version)
        return self._bucket.measure(held.key, held.version)

    def mend(self, staged: Staged) -> StoredObject:
        """See `ObjectStore.mend`: a new version, unless an older one holds the right bytes."""
        name, asked = _checked(staged.sha256), self._asked(None)
        with self._turns[int(name[:2], 16)]:
            try:
                held = self._existing(name, asked)
            except IntegrityAlarm:
                held = None
            held = held or self._create(staged, asked)
        staged.consume()
        return self._describe(name, held)

    def retain(self, name: str, version: str | None, until: datetime) -> StoredObject:
        """See `ObjectStore.retain`."""
        asked = Lock(mode=self._intake.mode, until=in_seconds(until))
        return self._describe(name, self._locked(self._find(name, version), asked))

    def hold(self, name: str, version: str | None, *, on: bool) -> None:
        """See `ObjectStore.hold`: S3's own legal hold."""
        found = self._find(name, version)
        if found.on_hold is not on:
            self._bucket.hold(found.key, found.version, on=on)
            if self._bucket.head(found.key, found.version).on_hold is not on:
                raise Unavailable("the object store did not change a legal hold as it was asked to")

    def dispose(self, name: str, version: str | None, at: datetime) -> None:
        """See `ObjectStore.dispose`: every version goes, and no delete marker hides one.

        Beside the one that was stated there may be the same bytes again, from a transfer that was
        repeated, or damaged ones.
        """
        del version
        held = [self._bucket.head(one.key, one.version) for one in self._versions(_checked(name))]
        if any(one.on_hold or (one.lock is not None and one.lock.until > at) for one in held):
            raise Retained("the object is locked or on hold")
        for one in held:
            self._bucket.remove(one.key, one.version)

    def names(self) -> Iterator[str]:
        """See `ObjectStore.names`; delete markers hide nothing here."""
        last = ""
        for one in self._bucket.versions(_FAMILY):
            if not one.is_marker and _belongs(one.key) and one.key != last:
                last = one.key
                yield _name(last)

    def strangers(self) -> Iterator[str]:
        """What no call of this store made, for a doctor to report: keys, and delete markers."""
        for one in self._bucket.versions(""):
            if one.is_marker and not one.key.startswith(CANARIES):
                yield f"{one.key} (delete marker {one.version})"
            elif not (one.key == _STORE_KEY or one.key.startswith(CANARIES) or _belongs(one.key)):
                yield one.key

    def free_bytes(self) -> None:
        """See `ObjectStore.free_bytes`: S3 tells no limit."""
        return

    def _existing(self, name: str, asked: Lock) -> Held | None:
        """The version that is there, proven to hold what its name says and locked; or None.

        One request where the bytes were sent straight to their place a moment ago.
        """
        with suppress(NotFound):  # there is none, or a delete marker hides it
            sha256, held = self._bucket.read_back(_key(name))
            if sha256 == name:
                return self._locked(held, asked)
        listed = self._versions(name)
        for one in listed:
            sha256, held = self._bucket.read_back(one.key, one.version)
            if sha256 == name:
                return self._locked(held, asked)
        if listed:
            raise IntegrityAlarm(f"the bytes under {name} have another digest")
        return None

    def _asked(self, until: datetime | None) -> Lock:
        """The lock of an object that is put now."""
        if until is None:
            return self._intake.lock(self._clock())
        return Lock(mode=self._intake.mode, until=in_seconds(until))

    def _locked(self, held: Held, asked: Lock) -> Held:
        """A version that is ours already, its lock extended to what is asked; never shortened."""
        if held.lock is None or not held.lock.holds(asked):
            self._bucket.lock(held.key, held.version, asked)
            held = self._bucket.head(held.key, held.version)
        return _require_lock(held, asked)

    def _create(self, staged: Staged, asked: Lock) -> Held:
        key = _key(staged.sha256)
        with ExitStack() as opened:
            data = _staged_bytes(staged, opened)
            version = self._bucket.put(
                key, data, staged.size_bytes, sha256=staged.sha256, lock=asked
            )
        sha256, held = self._bucket.read_back(key, version)
        if held.size_bytes != staged.size_bytes:
            raise IntegrityAlarm(f"the store holds another length under {staged.sha256}")
        if sha256 != staged.sha256:
            raise IntegrityAlarm(f"the store gave other bytes back for {staged.sha256}")
        return _require_lock(held, asked)

    def _find(self, name: str, version: str | None) -> Held:
        """A version, or the first one where none is named."""
        _checked(name)
        if version is None:
            listed = self._versions(name)
            if not listed:
                raise NotFound(f"no object {name} is held")
            version = listed[0].version
        if not version:
            raise NotFound(f"the object {name} has no version with such an id")
        return self._bucket.head(_key(name), version)

    def _versions(self, name: str) -> list[Listed]:
        """Every version under a name, the first one first; markers left out."""
        key = _key(name)
        found = [one for one in self._bucket.versions(key) if one.key == key]
        return [one for one in reversed(found) if not one.is_marker]

    def _describe(self, name: str, held: Held) -> StoredObject:
        runs = held.lock is not None and held.lock.until > self._clock()
        lock = held.lock if runs else None
        proven = self._verdict is not None and self._verdict.passed
        level = _LEVELS[lock.mode] if lock is not None and proven else AssuranceLevel.S3_UNPROVEN
        return StoredObject(
            name=name,
            size_bytes=held.size_bytes,
            version=held.version,
            level=level,
            locked_until=None if lock is None else lock.until,
        )


def _require_lock(held: Held, asked: Lock) -> Held:
    if held.lock is None or not held.lock.holds(asked):
        raise Unavailable("the object store did not lock an object as it was asked to")
    return held


def _staged_bytes(staged: Staged, opened: ExitStack) -> BinaryIO:
    """The staged bytes at their start, proven: a locked object of wrong bytes could not go.

    What is sent in one request is hashed before; what is sent in parts, while it is read: the
    part that would complete it is held back until the digest is right.

    Raises:
        NotFound: the staged file is gone.
        IntegrityAlarm: its bytes are not those that its record names; reading raises it too.
    """
    stream = opened.enter_context(staged.open())
    proving = ProvingReader(stream, staged.sha256, staged.size_bytes)
    if staged.size_bytes > SINGLE_BYTES:
        return io.BufferedReader(proving, _BUFFER_BYTES)
    return io.BytesIO(proving.readall())


def _read_store_id(bucket: Bucket) -> str | None:
    """The id that was written first, or None where there is none."""
    found = [one for one in bucket.versions(_STORE_KEY) if one.key == _STORE_KEY]
    versions = [one for one in found if not one.is_marker]
    if not versions:
        return None
    first = versions[-1]
    text = bucket.read(first.key, first.version, 0, min(first.size_bytes, _STORE_BYTES))
    head, store_id = text[: len(_STORE_HEAD)], text[len(_STORE_HEAD) :].decode("ascii", "replace")
    if head != _STORE_HEAD.encode() or not _STORE_ID.fullmatch(store_id.removesuffix("\n")):
        raise Unavailable("the object store's own object is damaged or of a later format")
    return store_id.removesuffix("\n")


def _checked(name: str) -> str:
    """The name itself; this is why no text from outside ever becomes a key."""
    if not _NAME.fullmatch(name):
        raise NameRefused("an object's name is 64 lowercase hex digits")
    return name


def _key(name: str) -> str:
    return f"{_FAMILY}{name[:2]}/{name[2:4]}/{name}"


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def _belongs(key: str) -> bool:
    """Whether a key is that of an object."""
    name = _name(key)
    return _NAME.fullmatch(name) is not None and key == _key(name)
