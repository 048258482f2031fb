"""What only the S3 store does: locks, versions, what insiders put over an object, and faults."""

import hashlib
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage.errors import IntegrityAlarm, NotFound, Retained, StorageError, Unavailable
from storage.objects import AssuranceLevel, StagedFile
from storage.objects.bucket import MIB, PART_BYTES, SINGLE_BYTES, Bucket, BucketAddress, part_bytes
from storage.objects.locks import Lock, LockMode, in_seconds
from storage.objects.s3 import Intake, S3Objects
from storage.staging.folder import StagingFolder
from tests.stores.faulty import Act, Fault, Faulty
from tests.stores.weed import SECRET_KEY, Weed, new_bucket

DATA = b"\xff\xd8 a photo \xff\xd9"
NAME = hashlib.sha256(DATA).hexdigest()
KEY = f"sha256/{NAME[:2]}/{NAME[2:4]}/{NAME}"
DAY = Intake(mode=LockMode.COMPLIANCE, days=1)
WEEK = Intake(mode=LockMode.COMPLIANCE, days=7)
LOOSE = Intake(mode=LockMode.GOVERNANCE, days=1)


def clock() -> datetime:
    """Now, UTC."""
    return datetime.now(UTC)


@pytest.fixture
def address(weed: Weed) -> BucketAddress:
    """A bucket's name that nobody has used."""
    return weed.address(new_bucket())


@pytest.fixture
def store(address: BucketAddress) -> S3Objects:
    """A new store whose self-test was passed."""
    made = S3Objects.create(Bucket(address), DAY, clock, store_id="s3")
    made.prove()
    return made


@pytest.fixture
def faulty(weed: Weed) -> Iterator[Faulty]:
    """A proxy before the server."""
    proxy = Faulty(weed.port)
    yield proxy
    proxy.close()


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., StagedFile]:
    """Puts bytes into a staging area."""
    staging = StagingFolder.create(tmp_path / "staging", reserve_bytes=0)

    def staged(data: bytes = DATA, key: str = "a") -> StagedFile:
        """A finished upload."""
        with staging.begin(key, len(data)) as writer:
            writer.write(data)
            return writer.finish()

    return staged


def plant(address: BucketAddress, data: bytes, lock: Lock | None = None, key: str = KEY) -> str:
    """Put bytes under a key past the store, as an insider would; returns the version."""
    bucket = Bucket(address)
    sha256 = hashlib.sha256(data).hexdigest()
    return bucket.put(key, io.BytesIO(data), len(data), sha256=sha256, lock=lock)


# ---------------------------------------------------------------------------- locks


def test_an_object_is_locked_as_the_intake_says(
    store: S3Objects, address: BucketAddress, stage: Callable[..., StagedFile]
) -> None:
    """Mode and date are what the server says of that very version."""
    before = DAY.lock(clock())
    stored = store.put_once(stage())
    held = Bucket(address).head(KEY, stored.version)
    assert held.lock is not None
    assert held.lock.mode is LockMode.COMPLIANCE
    assert held.lock.until >= before.until > clock() + timedelta(days=1)
    assert (stored.level, stored.locked_until) == (
        AssuranceLevel.S3_OBJECT_LOCK_COMPLIANCE,
        held.lock.until,
    )


def test_governance_is_told_as_such(
    address: BucketAddress, stage: Callable[..., StagedFile]
) -> None:
    """A lock that an account may bypass is never reported as one that nobody may."""
    store = S3Objects.create(Bucket(address), LOOSE, clock, store_id="s3")
    store.prove()
    assert store.level() is AssuranceLevel.S3_OBJECT_LOCK_GOVERNANCE
    assert store.put_once(stage()).level is AssuranceLevel.S3_OBJECT_LOCK_GOVERNANCE


def test_without_a_self_test_nothing_is_claimed(
    address: BucketAddress, stage: Callable[..., StagedFile]
) -> None:
    """What nobody tried is unproven, whatever the server says of the lock."""
    store = S3Objects.create(Bucket(address), DAY, clock, store_id="s3")
    assert store.level() is AssuranceLevel.S3_UNPROVEN
    assert store.put_once(stage()).level is AssuranceLevel.S3_UNPROVEN


def test_a_lock_that_has_ended_protects_nothing(
    store: S3Objects, address: BucketAddress, stage: Callable[..., StagedFile]
) -> None:
    """The level of an object is what protects it now, not what protected it once."""
    store.put_once(stage())
    later = S3Objects(Bucket(address), DAY, lambda: clock() + timedelta(days=3))
    told = later.stat(NAME)
    assert (told.level, told.locked_until) == (AssuranceLevel.S3_UNPROVEN, None)


def test_the_same_bytes_again_are_locked_for_as_long_as_asked(
    store: S3Objects, address: BucketAddress, stage: Callable[..., StagedFile]
) -> None:
    """A second upload of equal bytes extends the lock of the one object, and never shortens it."""
    first = store.put_once(stage())
    longer = S3Objects(Bucket(address), WEEK, clock).put_once(stage(key="b"))
    again = store.put_once(stage(key="c"))
    assert first.version == longer.version == again.version
    assert first.locked_until is not None
    assert longer.locked_until == again.locked_until == first.locked_until + timedelta(days=6)


def test_a_server_that_does_not_lock_is_not_believed(
    address: BucketAddress, faulty: Faulty, stage: Callable[..., StagedFile]
) -> None:
    """Without the lock in the answer nothing is stored, and the staged file stays."""
    store = S3Objects.create(Bucket(faulty.before(address)), DAY, clock, store_id="s3")
    staged = stage()
    with faulty.doing(Fault(Act.UNLOCK, "GET")), pytest.raises(Unavailable, match="did not lock"):
        store.put_once(staged)
    assert staged.path.exists()


@pytest.mark.parametrize("moment", ["2026-11-26T00:00:00", "2026-11-26T23:59:59.999999"])
def test_a_lock_ends_at_a_midnight_and_never_early(moment: str) -> None:
    """All of one day ends at one time, and nothing before its days are over."""
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    until = DAY.lock(at).until
    assert (until.hour, until.minute, until.second, until.microsecond) == (0, 0, 0, 0)
    assert at + timedelta(days=1) <= until <= at + timedelta(days=2)


# ---------------------------------------------------------------------------- insiders


def test_other_bytes_under_the_name_are_an_alarm(
    store: S3Objects, address: BucketAddress, stage: Callable[..., StagedFile]
) -> None:
    """Who plants other bytes first is found out, and nothing is put over them."""
    plant(address, b"planted")
    staged = stage()
    with pytest.raises(IntegrityAlarm):
        store.put_once(staged)
    assert staged.path.exists()
    assert [one.size_bytes for one in Bucket(address).versions(KEY)] == [7]


def test_other_bytes_over_an_object_hide_nothing(
    store: S3Objects, address: BucketAddress, stage: Callable[..., StagedFile]
) -> None:
    """The version that was stated is read, and so is the first one where none is named."""
    stored = store.put_once(stage())
    plant(address, b"planted")
    assert store.put_once(stage(key="b")) == stored
    for version in (stored.version, None):
        with store.open(NAME, version) as stream:
            assert stream.read() == DATA


def test_a_delete_marker_hides_nothing_and_is_told(
    store: S3Objects, address: BucketAddress, stage: Callable[..., StagedFile]
) -> None:
    """The object is there under its name and its version; the doctor hears of the marker."""
    stored = store.put_once(stage())
    bucket = Bucket(address)
    bucket.client.remove_object(bucket.name, KEY)
    assert list(store.names()) == [NAME]
    assert store.stat(NAME, stored.version) == stored == store.stat(NAME)
    assert store.put_once(stage(key="b")) == stored
    [told] = store.strangers()
    assert told.startswith(f"{KEY} (delete marker ")


def test_equal_bytes_that_were_not_locked_are_locked(
    store: S3Objects, address: BucketAddress, stage: Callable[..., StagedFile]
) -> None:
    """Planted bytes of the right digest become the object once they are locked."""
    version = plant(address, DATA)
    stored = store.put_once(stage())
    assert stored.version == version
    assert stored.level is AssuranceLevel.S3_OBJECT_LOCK_COMPLIANCE


def test_keys_of_others_are_strangers(store: S3Objects, address: BucketAddress) -> None:
    """What is no object of ours is told, and is no name."""
    for key in ("readme.txt", "sha256/ab/notes", f"sha256/00/00/{NAME}"):
        plant(address, b"x", key=key)
    assert list(store.names()) == []
    assert sorted(store.strangers()) == ["readme.txt", f"sha256/00/00/{NAME}", "sha256/ab/notes"]


def test_a_locked_version_cannot_be_removed(
    store: S3Objects, address: BucketAddress, stage: Callable[..., StagedFile]
) -> None:
    """The account that put it, an administrator, is refused."""
    stored = store.put_once(stage())
    bucket = Bucket(address)
    with pytest.raises(Exception, match="AccessDenied"):
        bucket.client.remove_object(bucket.name, KEY, version_id=stored.version)
    assert store.stat(NAME, stored.version) == stored


# ---------------------------------------------------------------------------- the store itself


def test_a_disposal_reaches_every_version(
    store: S3Objects, address: BucketAddress, stage: Callable[..., StagedFile]
) -> None:
    """A transfer that was repeated, and damaged bytes, lie there too; one hold keeps all."""
    soon = clock() + timedelta(seconds=2)
    stored = store.put_once(stage(), until=soon)
    plant(address, DATA, Lock(mode=LockMode.COMPLIANCE, until=in_seconds(soon)))
    held = plant(address, b"other bytes", Lock(mode=LockMode.COMPLIANCE, until=in_seconds(soon)))
    Bucket(address).hold(KEY, held, on=True)
    time.sleep(4)
    with pytest.raises(Retained):
        store.dispose(NAME, stored.version, clock())
    assert len(list(Bucket(address).versions(KEY))) == 3
    Bucket(address).hold(KEY, held, on=False)
    store.dispose(NAME, stored.version, clock())
    assert list(Bucket(address).versions(KEY)) == []


def test_the_first_store_id_counts(store: S3Objects, address: BucketAddress) -> None:
    """Whoever writes another id over it changes nothing, and it cannot be removed."""
    plant(address, b"fengni-objects 1\nother\n", key="fengni/store")
    assert S3Objects(Bucket(address), DAY, clock).store_id == store.store_id
    held = list(Bucket(address).versions("fengni/store"))[-1]
    told = Bucket(address).head("fengni/store", held.version)
    assert (told.lock is not None, told.on_hold) == (True, True)


def test_making_a_store_again_opens_it(store: S3Objects, address: BucketAddress) -> None:
    """Under the same id; another id is a mistake."""
    again = S3Objects.create(Bucket(address), DAY, clock, store_id="s3")
    assert again.store_id == store.store_id
    with pytest.raises(ValueError, match="another store"):
        S3Objects.create(Bucket(address), DAY, clock, store_id="other")
    with pytest.raises(ValueError, match="store_id must be"):
        S3Objects.create(Bucket(address), DAY, clock, store_id="Not An Id")


def test_a_bucket_that_cannot_lock_is_refused(address: BucketAddress) -> None:
    """A bucket that was made without Object Lock becomes no store."""
    bucket = Bucket(address)
    bucket.client.make_bucket(bucket.name)
    with pytest.raises(Unavailable, match="without Object Lock"):
        S3Objects.create(bucket, DAY, clock, store_id="s3")


@pytest.mark.parametrize("text", [b"", b"fengni-objects 2\nx\n", b"fengni-objects 1\nNo Id\n"])
def test_a_damaged_store_object_is_refused(address: BucketAddress, text: bytes) -> None:
    """A later format, or no id, is not guessed at."""
    bucket = Bucket(address)
    bucket.make()
    with pytest.raises(Unavailable, match="no object store"):
        S3Objects(bucket, DAY, clock)
    plant(address, text, key="fengni/store")
    with pytest.raises(Unavailable, match="damaged or of a later format"):
        S3Objects(bucket, DAY, clock)


# ---------------------------------------------------------------------------- large objects


def test_a_large_object_goes_in_parts_of_a_stated_length(
    store: S3Objects, stage: Callable[..., StagedFile], address: BucketAddress
) -> None:
    """Beyond 64 MiB it is sent in parts, locked, read back, and readable from any place."""
    data = bytes(range(251)) * (SINGLE_BYTES // 251 + 1000)
    assert len(data) > SINGLE_BYTES
    stored = store.put_once(stage(data))
    assert (stored.size_bytes, stored.level) == (
        len(data),
        AssuranceLevel.S3_OBJECT_LOCK_COMPLIANCE,
    )
    key = f"sha256/{stored.name[:2]}/{stored.name[2:4]}/{stored.name}"
    told = Bucket(address).client.stat_object(address.bucket, key, version_id=stored.version)
    assert (told.etag or "").endswith(f"-{-(-len(data) // PART_BYTES)}")
    with store.open(stored.name, stored.version) as stream:
        stream.seek(-1000, io.SEEK_END)
        assert stream.read() == data[-1000:]


def test_parts_are_never_more_than_the_server_takes() -> None:
    """A TiB goes in at most 10,000 parts of whole MiB; what is small in the smallest."""
    assert part_bytes(SINGLE_BYTES + 1) == PART_BYTES
    assert part_bytes(1 << 40) % MIB == 0
    assert -(-(1 << 40) // part_bytes(1 << 40)) <= 10_000


# ---------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("fault", "tries"),
    [
        (Fault(Act.FAIL, "GET", 2), 1),
        (Fault(Act.CUT, "GET", 1), 2),
        (Fault(Act.CUT, "GET", 3), 4),
        (Fault(Act.FAIL, "PUT", 1), 2),
        (Fault(Act.LOSE, "PUT", 1), 2),
        (Fault(Act.FAIL, "HEAD", 1), 1),
        (Fault(Act.LOSE, "HEAD", 1), 1),
        (Fault(Act.SILENCE, "PUT", 1), 2),
        (Fault(Act.DELAY, "PUT"), 1),
    ],
)
def test_a_fault_loses_nothing_and_a_repeat_succeeds(
    address: BucketAddress,
    faulty: Faulty,
    stage: Callable[..., StagedFile],
    fault: Fault,
    tries: int,
) -> None:
    """Reads are tried again within one call; a write is not, and its repeat finds what it left."""
    store = S3Objects.create(Bucket(faulty.before(address, 1.0)), DAY, clock, store_id="s3")
    staged = stage()
    with faulty.doing(fault):
        for _ in range(tries - 1):
            with pytest.raises(Unavailable):
                store.put_once(staged)
            assert staged.path.exists()
        stored = store.put_once(staged)
    assert not staged.path.exists()
    assert [one.version for one in Bucket(address).versions(KEY)] == [stored.version]


def test_bytes_that_come_back_otherwise_are_an_alarm(
    address: BucketAddress, faulty: Faulty, stage: Callable[..., StagedFile]
) -> None:
    """One bit is enough, at the first put and at a repeat; the staged file stays."""
    store = S3Objects.create(Bucket(faulty.before(address)), DAY, clock, store_id="s3")
    staged = stage()
    for said in ("gave other bytes back", "have another digest"):
        with (
            faulty.doing(Fault(Act.FLIP, "GET", part="/sha256/")),
            pytest.raises(IntegrityAlarm, match=said),
        ):
            store.put_once(staged)
    assert staged.path.exists()


def test_a_silent_server_is_given_up_in_time(
    address: BucketAddress, faulty: Faulty, stage: Callable[..., StagedFile]
) -> None:
    """Each wait is bounded, and there are three of them at most."""
    store = S3Objects.create(Bucket(faulty.before(address, 0.5)), DAY, clock, store_id="s3")
    began = time.monotonic()
    for method in ("GET", "PUT"):
        with faulty.doing(Fault(Act.SILENCE, method)), pytest.raises(Unavailable):
            store.put_once(stage())
    assert time.monotonic() - began < 30
    assert faulty.requests.count("PUT") <= 4


def test_an_error_tells_nothing_of_host_or_account(address: BucketAddress, faulty: Faulty) -> None:
    """What may be stated or logged holds no address, bucket, key or secret."""
    behind = faulty.before(address, 0.5)
    wrong = replace(address, secret_key="wrong-secret")  # noqa: S106  that is the point
    told: list[str] = [repr(wrong), repr(address)]
    S3Objects.create(Bucket(address), DAY, clock, store_id="s3")
    for asked, fault in ((wrong, None), (behind, Act.SILENCE), (behind, Act.FAIL)):
        try:
            with faulty.doing(Fault(fault or Act.DELAY, "GET")):
                S3Objects(Bucket(asked), DAY, clock)
        except StorageError as error:
            told += [error.detail, str(error)]
    assert len(told) == 8
    hidden = (SECRET_KEY, "wrong-secret", address.access_key)
    assert [text for text in told for one in hidden if one in text] == []
    assert [text for text in told[2:] if address.bucket in text or "127.0.0.1" in text] == []


@pytest.mark.parametrize("endpoint", ["", "ftp://store", "https://", "http://store/path", "store"])
def test_an_endpoint_of_another_form_is_refused(address: BucketAddress, endpoint: str) -> None:
    """Only http and https, without a path."""
    with pytest.raises(ValueError, match="endpoint"):
        Bucket(replace(address, endpoint=endpoint))


# ---------------------------------------------------------------------------- streams


def test_a_stream_knows_its_positions(store: S3Objects, stage: Callable[..., StagedFile]) -> None:
    """Seeking from start, place and end; nothing before the start, nothing beyond the end."""
    store.put_once(stage())
    with store.open(NAME) as stream:
        assert (stream.readable(), stream.seekable(), stream.writable()) == (True, True, False)
        assert stream.seek(-2, io.SEEK_END) == len(DATA) - 2
        assert stream.read() == DATA[-2:]
        assert stream.seek(2) == 2
        assert stream.seek(1, io.SEEK_CUR) == 3
        assert stream.seek(1000) == 1000
        assert stream.read(1) == b""
        with pytest.raises(ValueError, match="position"):
            stream.seek(-1)


def test_a_stream_whose_server_goes_away_says_so(
    address: BucketAddress, faulty: Faulty, stage: Callable[..., StagedFile]
) -> None:
    """Reading fails as the store does, and never gives fewer bytes as if that were all."""
    store = S3Objects.create(Bucket(faulty.before(address, 0.5)), DAY, clock, store_id="s3")
    store.put_once(stage())
    with (
        store.open(NAME) as stream,
        faulty.doing(Fault(Act.CUT, "GET")),
        pytest.raises(Unavailable),
    ):
        stream.read()


def test_a_version_that_was_never_given_is_not_found(
    store: S3Objects, stage: Callable[..., StagedFile]
) -> None:
    """Not even an empty one."""
    store.put_once(stage())
    for version in ("", "x", "0" * 32):
        with pytest.raises(NotFound):
            store.open(NAME, version)


def test_whole_seconds_are_never_earlier() -> None:
    """S3 keeps whole seconds: a lock must not lose the rest."""
    at = datetime(2026, 11, 26, 12, 0, 0, 1, tzinfo=UTC)
    assert in_seconds(at) == datetime(2026, 11, 26, 12, 0, 1, tzinfo=UTC)
    assert in_seconds(at.replace(microsecond=0)) == datetime(2026, 11, 26, 12, tzinfo=UTC)
