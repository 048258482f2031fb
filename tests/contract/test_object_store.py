"""The contract of `ObjectStore`, the same sentences for every store that claims to be one.

An adapter joins by adding its place to `PLACES`: something that stages bytes, opens the store
and opens it again as a new process would.
"""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest

from storage.errors import IntegrityAlarm, NameRefused, NotFound, Retained
from storage.objects import AssuranceLevel, ObjectStore, StagedFile
from storage.objects.bucket import Bucket, BucketAddress
from storage.objects.local import LocalObjects
from storage.objects.locks import LockMode
from storage.objects.s3 import Intake, S3Objects
from storage.staging.folder import StagingFolder
from tests.stores.ceph import Ceph
from tests.stores.weed import Weed, new_bucket

PHOTO = b"\xff\xd8" + bytes(range(256)) * 40
LARGE = bytes(range(251)) * 20_000  # 5 MB, no multiple of any buffer
OTHER_SHA256 = hashlib.sha256(b"another").hexdigest()
NO_NAMES = [
    "",
    "../../etc/passwd",
    OTHER_SHA256.upper(),
    OTHER_SHA256[:-1],
    OTHER_SHA256 + "0",
    OTHER_SHA256 + "\n",
    "sha256/" + OTHER_SHA256,
    "\x00" * 64,
    "０" * 64,
]


class Place(Protocol):
    """Where one kind of store can be made for a test."""

    store: ObjectStore

    def stage(self, key: str, data: bytes) -> StagedFile:
        """Put bytes into staging."""
        ...

    def reopen(self) -> ObjectStore:
        """Open the same store as a new process would."""
        ...


class Directory:
    """A write-once directory with its staging area beside it."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / "objects"
        self._staging = StagingFolder.create(folder / "staging", reserve_bytes=0)
        self.store: ObjectStore = LocalObjects.create(self._root, store_id="contract")

    def stage(self, key: str, data: bytes) -> StagedFile:
        """See `Place.stage`."""
        with self._staging.begin(key, len(data)) as writer:
            writer.write(data)
            return writer.finish()

    def reopen(self) -> ObjectStore:
        """See `Place.reopen`."""
        return LocalObjects(self._root)


class LockedBucket:
    """A bucket of a real S3 server, with a staging area on disk."""

    def __init__(self, folder: Path, address: BucketAddress) -> None:
        self._address = address
        self._staging = StagingFolder.create(folder / "staging", reserve_bytes=0)
        store = S3Objects.create(Bucket(address), INTAKE, clock, store_id="contract")
        store.prove()
        self.store: ObjectStore = store

    def stage(self, key: str, data: bytes) -> StagedFile:
        """See `Place.stage`."""
        with self._staging.begin(key, len(data)) as writer:
            writer.write(data)
            return writer.finish()

    def reopen(self) -> ObjectStore:
        """See `Place.reopen`."""
        return S3Objects(Bucket(self._address), INTAKE, clock)


INTAKE = Intake(mode=LockMode.COMPLIANCE, days=1)
PLACES = [
    "directory",
    "weed",
    pytest.param("ceph", marks=pytest.mark.ceph),
]


def clock() -> datetime:
    """Now, UTC."""
    return datetime.now(UTC)


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Each kind of store in turn, new and empty."""
    if request.param == "directory":
        return Directory(tmp_path)
    server: Weed | Ceph = request.getfixturevalue(request.param)
    return LockedBucket(tmp_path, server.address(new_bucket()))


def read(store: ObjectStore, name: str, version: str | None = None) -> bytes:
    """All bytes of an object."""
    with store.open(name, version) as stream:
        return stream.read()


@pytest.mark.parametrize("data", [b"", b"x", PHOTO, LARGE], ids=["empty", "byte", "photo", "large"])
def test_an_object_is_named_by_its_bytes_and_gives_them_back(place: Place, data: bytes) -> None:
    """What is put comes back, under the SHA-256 of its bytes, with its length."""
    stored = place.store.put_once(place.stage("a", data))
    expected = (hashlib.sha256(data).hexdigest(), len(data))
    assert (stored.name, stored.size_bytes) == expected
    assert read(place.store, stored.name, stored.version) == data


def test_a_stored_object_can_be_read_without_naming_its_version(place: Place) -> None:
    """The name alone gives the bytes."""
    stored = place.store.put_once(place.stage("a", PHOTO))
    assert read(place.store, stored.name) == PHOTO


def test_success_consumes_the_staged_file(place: Place) -> None:
    """Once it is an object it is staged no more."""
    staged = place.stage("a", PHOTO)
    place.store.put_once(staged)
    assert not staged.path.exists()


def test_a_repeat_is_answered_with_the_first_object(place: Place) -> None:
    """A worker that crashed after the put repeats it and gets the same answer."""
    staged = place.stage("a", PHOTO)
    first = place.store.put_once(staged)
    assert place.store.put_once(staged) == first


def test_equal_bytes_of_two_uploads_are_one_object(place: Place) -> None:
    """The second of two equal uploads becomes the object that is there, and is consumed."""
    first = place.store.put_once(place.stage("a", PHOTO))
    second = place.stage("b", PHOTO)
    assert place.store.put_once(second) == first
    assert list(place.store.names()) == [first.name]
    assert not second.path.exists()


def test_an_object_outlives_the_process_that_made_it(place: Place) -> None:
    """A store that is opened again has the same id, objects and bytes."""
    stored = place.store.put_once(place.stage("a", PHOTO))
    again = place.reopen()
    assert again.store_id == place.store.store_id
    assert list(again.names()) == [stored.name]
    assert read(again, stored.name) == PHOTO


def test_stat_says_what_put_once_said(place: Place) -> None:
    """Name, size, version and level are the same when asked for later."""
    stored = place.store.put_once(place.stage("a", PHOTO))
    assert place.store.stat(stored.name) == stored
    assert place.store.stat(stored.name, stored.version) == stored


def test_an_object_is_protected_as_well_as_the_store_says(place: Place) -> None:
    """The level of a new object is the level that the store promises for it."""
    stored = place.store.put_once(place.stage("a", PHOTO))
    assert stored.level is place.store.level()


def test_a_lock_is_told_where_the_level_rests_on_one(place: Place) -> None:
    """A date stands exactly where the store itself refuses removal until then, and lies ahead."""
    stored = place.store.put_once(place.stage("a", PHOTO))
    locked = stored.level.value.startswith("s3-object-lock")
    assert (stored.locked_until is not None) is locked
    assert stored.locked_until is None or stored.locked_until > clock()


def test_bytes_that_are_not_what_the_digest_names_are_refused(place: Place) -> None:
    """Staged bytes under another digest raise an alarm, stay staged and make no object."""
    staged = place.stage("a", PHOTO)
    wrong = StagedFile(key="a", path=staged.path, sha256=OTHER_SHA256, size_bytes=staged.size_bytes)
    with pytest.raises(IntegrityAlarm):
        place.store.put_once(wrong)
    assert staged.path.read_bytes() == PHOTO
    assert list(place.store.names()) == []


def test_bytes_of_another_length_than_stated_are_refused(place: Place) -> None:
    """A staged file whose length is not what its record says makes no object."""
    staged = place.stage("a", PHOTO)
    wrong = StagedFile(key="a", path=staged.path, sha256=staged.sha256, size_bytes=1)
    with pytest.raises(IntegrityAlarm):
        place.store.put_once(wrong)
    assert list(place.store.names()) == []


def test_nothing_staged_and_nothing_stored_is_not_found(place: Place, tmp_path: Path) -> None:
    """A staged file that is gone without having become an object is an error."""
    lost = StagedFile(key="a", path=tmp_path / "gone", sha256=OTHER_SHA256, size_bytes=7)
    with pytest.raises(NotFound):
        place.store.put_once(lost)


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_that_is_no_digest_is_refused_everywhere(place: Place, name: str) -> None:
    """No other text than 64 lowercase hex digits is taken for a name."""
    staged = place.stage("a", PHOTO)
    wrong = StagedFile(key="a", path=staged.path, sha256=name, size_bytes=len(PHOTO))
    for refused in (
        lambda: place.store.open(name),
        lambda: place.store.stat(name),
        lambda: place.store.put_once(wrong),
    ):
        with pytest.raises(NameRefused):
            refused()


def test_an_unknown_name_is_not_found(place: Place) -> None:
    """Asking for what was never put is `NotFound`, also beside other objects."""
    place.store.put_once(place.stage("a", PHOTO))
    with pytest.raises(NotFound):
        place.store.open(OTHER_SHA256)
    with pytest.raises(NotFound):
        place.store.stat(OTHER_SHA256)


def test_an_unknown_version_is_not_found(place: Place) -> None:
    """A version id that the store never gave out leads to no other version."""
    stored = place.store.put_once(place.stage("a", PHOTO))
    with pytest.raises(NotFound):
        place.store.open(stored.name, "no-such-version")
    with pytest.raises(NotFound):
        place.store.stat(stored.name, "no-such-version")


def test_a_stream_can_be_read_from_any_place(place: Place) -> None:
    """A range of a large object is read by seeking."""
    stored = place.store.put_once(place.stage("a", LARGE))
    with place.store.open(stored.name) as stream:
        stream.seek(4_000_001)
        assert stream.read(1000) == LARGE[4_000_001:4_001_001]
        stream.seek(0)
        assert stream.read(3) == LARGE[:3]


def test_names_are_all_objects_in_ascending_order(place: Place) -> None:
    """Every object is named once, in order."""
    put = [place.store.put_once(place.stage("a", bytes([n]))).name for n in range(20)]
    assert list(place.store.names()) == sorted(put)


def test_equal_uploads_at_once_are_one_object(place: Place) -> None:
    """Sixteen threads that put equal bytes are all answered with the one object."""
    staged = [place.stage(f"upload-{n}", PHOTO) for n in range(16)]
    with ThreadPoolExecutor(16) as pool:
        answers = set(pool.map(place.store.put_once, staged))
    assert answers == {place.store.stat(staged[0].sha256)}
    assert list(place.store.names()) == [staged[0].sha256]


def test_free_space_is_a_number_or_unknown(place: Place) -> None:
    """A store says how much it can take, or that it knows no limit."""
    free_bytes = place.store.free_bytes()
    assert free_bytes is None or free_bytes > 0


def test_levels_are_ordered_from_weakest_to_strongest() -> None:
    """A report may compare levels by rank and shows them by name."""
    assert [level.value for level in sorted(AssuranceLevel, key=lambda level: level.rank)] == [
        "s3-unproven",
        "directory-mode-bits",
        "directory-append-only-immutable",
        "s3-object-lock-governance",
        "s3-object-lock-compliance",
    ]


def test_a_lock_is_put_on_at_once_and_only_grows(place: Place) -> None:
    """An object is locked until the moment that was asked for, and never for less."""
    until = clock().replace(microsecond=0) + timedelta(days=3)
    stored = place.store.put_once(place.stage("a", PHOTO), until=until)
    assert stored.locked_until == until
    longer = until + timedelta(days=2)
    assert place.store.retain(stored.name, stored.version, longer).locked_until == longer
    assert place.store.retain(stored.name, stored.version, until).locked_until == longer
    again = place.store.put_once(place.stage("b", PHOTO), until=until)
    assert again.locked_until == longer
    assert place.reopen().stat(stored.name, stored.version).locked_until == longer


def test_what_is_locked_is_not_disposed_of(place: Place) -> None:
    """Nor what is on hold; the bytes stay as they were."""
    stored = place.store.put_once(place.stage("a", PHOTO), until=clock() + timedelta(seconds=2))
    with pytest.raises(Retained):
        place.store.dispose(stored.name, stored.version, clock())
    for _ in range(2):
        place.store.hold(stored.name, stored.version, on=True)
    time.sleep(3)
    with pytest.raises(Retained):
        place.reopen().dispose(stored.name, stored.version, clock())
    assert read(place.store, stored.name, stored.version) == PHOTO
    for _ in range(2):
        place.store.hold(stored.name, stored.version, on=False)
    for _ in range(2):
        place.store.dispose(stored.name, stored.version, clock())
    assert list(place.store.names()) == []
    with pytest.raises(NotFound):
        place.store.open(stored.name, stored.version)


def test_a_lock_needs_an_object(place: Place) -> None:
    """What was never put can be neither locked nor held; to dispose of it is done."""
    with pytest.raises(NotFound):
        place.store.retain(OTHER_SHA256, None, clock())
    with pytest.raises(NotFound):
        place.store.hold(OTHER_SHA256, None, on=True)
    place.store.dispose(OTHER_SHA256, None, clock())
