"""What only the staging area in a bucket does: other nodes' uploads, the straight way, faults."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage.errors import IntegrityAlarm, NotFound, StorageError, Unavailable
from storage.objects import Staged
from storage.objects.bucket import SINGLE_BYTES, Bucket, BucketAddress
from storage.objects.local import LocalObjects
from storage.objects.locks import LockMode
from storage.objects.s3 import Intake, S3Objects
from storage.s3 import Files
from storage.staging.bucket import ABANDONED, StagingBucket
from storage.staging.pieces import PIECE_BYTES
from tests.stores.faulty import Act, Fault, Faulty
from tests.stores.weed import Weed, new_bucket

SHORT = b"\xff\xd8 a photo \xff\xd9"
LONG = bytes(range(256)) * 49_153
DAY = Intake(mode=LockMode.COMPLIANCE, days=1)


def clock() -> datetime:
    """Now, UTC."""
    return datetime.now(UTC)


def later() -> datetime:
    """When what was written now is old."""
    return clock() + ABANDONED + timedelta(minutes=2)


def nobody(_key: str) -> bool:
    """Nobody receives anything."""
    return False


def digest(data: bytes) -> str:
    """Its name."""
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def address(weed: Weed) -> BucketAddress:
    """A bucket of its own."""
    return weed.address(new_bucket())


@pytest.fixture
def staging(address: BucketAddress) -> StagingBucket:
    """An empty staging area."""
    return StagingBucket.create(Files(address), clock)


@pytest.fixture
def objects(weed: Weed) -> S3Objects:
    """An object store in a locked bucket."""
    store = S3Objects.create(Bucket(weed.address(new_bucket())), DAY, clock, store_id="s3")
    store.prove()
    return store


@pytest.fixture
def faulty(weed: Weed) -> Iterator[Faulty]:
    """A proxy before the server."""
    proxy = Faulty(weed.port)
    yield proxy
    proxy.close()


def stage(staging: StagingBucket, data: bytes, key: str = "key") -> Staged:
    """Bytes in staging, announced as what they are."""
    with staging.begin(key, len(data), sha256=digest(data)) as writer:
        writer.write(data)
        return writer.finish()


def keys(address: BucketAddress) -> list[str]:
    """Everything that lies in the bucket but its mark."""
    return [one.key for one in Files(address).list("") if one.key != "store"]


# ---------------------------------------------------------------------------- objects of it


@pytest.mark.parametrize("size", [0, 10, PIECE_BYTES, PIECE_BYTES + 1, SINGLE_BYTES + 3])
def test_it_becomes_a_locked_object_and_leaves_nothing(
    staging: StagingBucket, address: BucketAddress, objects: S3Objects, size: int
) -> None:
    """In one request or in parts: read back by its version, and staging is empty."""
    data = (b"0123456789abcde\n" * (size // 16 + 1))[:size]
    stored = objects.put_once(stage(staging, data))
    assert (stored.name, stored.size_bytes) == (digest(data), size)
    assert stored.locked_until is not None
    with objects.open(stored.name, stored.version) as stream:
        assert hashlib.sha256(stream.read()).hexdigest() == stored.name
    assert keys(address) == []


def test_a_directory_takes_it_as_well(staging: StagingBucket, tmp_path: Path) -> None:
    """The contract of objects names no place of what is staged."""
    store = LocalObjects.create(tmp_path / "objects", store_id="local")
    stored = store.put_once(stage(staging, LONG))
    with store.open(stored.name) as stream:
        assert stream.read() == LONG
    assert store.put_once(staging.waiting("key", digest(LONG), len(LONG))) == stored
    with pytest.raises(NotFound):
        store.put_once(staging.waiting("key", digest(b"other"), 5))


@pytest.mark.parametrize("size", [len(LONG), SINGLE_BYTES + 1], ids=["single", "parts"])
def test_damaged_pieces_never_become_an_object(
    staging: StagingBucket, address: BucketAddress, objects: S3Objects, size: int
) -> None:
    """Somebody changed a byte in staging: an alarm, no version, and it stays where it lies."""
    data = (LONG * (size // len(LONG) + 1))[:size]
    staged = stage(staging, data)
    victim = next(one for one in keys(address) if one.startswith("pieces/"))
    files = Files(address)
    files.put(victim, b"!" + files.read(victim)[1:])
    with pytest.raises(IntegrityAlarm):
        objects.put_once(staged)
    assert list(objects.names()) == []
    assert staging.holds("key", staged.sha256)


def test_a_missing_piece_is_told(
    staging: StagingBucket, address: BucketAddress, objects: S3Objects
) -> None:
    """A head without its pieces is no content."""
    staged = stage(staging, LONG)
    Files(address).remove([one for one in keys(address) if one.startswith("pieces/")][:1])
    with pytest.raises(NotFound):
        objects.put_once(staged)


# ---------------------------------------------------------------------------- the straight way


def test_one_piece_goes_straight_to_its_object(address: BucketAddress, objects: S3Objects) -> None:
    """What was announced is written once, locked; `put_once` proves it and finds nothing staged."""
    StagingBucket.create(Files(address), clock)
    staging = StagingBucket(Files(address), clock, straight=objects.place)
    staged = stage(staging, SHORT)
    assert keys(address) == []
    assert list(objects.names()) == [digest(SHORT)]
    stored = objects.put_once(staged)
    assert stored.locked_until is not None
    assert stored == objects.put_once(staged) == objects.stat(stored.name, stored.version)


@pytest.mark.parametrize("data", [b"other bytes", LONG], ids=["wrong", "long"])
def test_wrong_or_long_content_is_staged(
    address: BucketAddress, objects: S3Objects, data: bytes
) -> None:
    """Only what was announced, and is whole in memory, gets into the locked bucket at once."""
    StagingBucket.create(Files(address), clock)
    staging = StagingBucket(Files(address), clock, straight=objects.place)
    announced = LONG if data == LONG else SHORT
    with staging.begin("key", len(announced), sha256=digest(announced)) as writer:
        writer.write(data[: len(announced)])
        staged = writer.finish()
    assert list(objects.names()) == []
    assert staging.holds("key", staged.sha256)


# ---------------------------------------------------------------------------- other nodes


def test_what_a_dead_writer_left_goes_after_an_hour(
    staging: StagingBucket, address: BucketAddress
) -> None:
    """Its pieces are left alone while they are young, or while somebody receives that key."""
    writer = staging.begin("key", len(LONG))
    writer.write(LONG)  # and its process is gone
    other = StagingBucket(Files(address), later)
    assert StagingBucket(Files(address), clock).sweep(nobody).dropped == 0
    assert other.sweep(lambda key: key == "key").dropped == 0
    assert len(keys(address)) == 2
    assert other.sweep(nobody).dropped == 1
    assert keys(address) == []


def test_a_writer_that_was_given_up_does_not_finish(
    staging: StagingBucket, address: BucketAddress
) -> None:
    """It was paused for an hour and swept: what it says is no upload, and nothing stays."""
    writer = staging.begin("key", len(LONG), sha256=digest(LONG))
    writer.write(LONG)
    StagingBucket(Files(address), later).sweep(nobody)
    with pytest.raises(Unavailable, match="given up"):
        writer.finish()
    writer.discard()
    assert keys(address) == []


def test_a_sweep_touches_nothing_that_has_a_head(
    staging: StagingBucket, address: BucketAddress
) -> None:
    """Finished uploads and quarantined ones keep their pieces, however old they are."""
    waiting = stage(staging, LONG)
    with staging.begin("aside", len(LONG) + 1) as writer:
        writer.write(LONG)
        aside = staging.quarantine(writer.finish(), "content_truncated")
    left = StagingBucket(Files(address), later).sweep(nobody)
    assert ([one.key for one in left.finished], left.dropped) == (["key"], 0)
    with waiting.open() as stream, staging.open_quarantined(aside) as other:
        assert stream.read() == other.read() == LONG


def test_a_head_without_its_pieces_is_replaced(
    staging: StagingBucket, address: BucketAddress
) -> None:
    """Nobody takes it for content, and the sender's next attempt is complete."""
    staged = stage(staging, LONG)
    Files(address).remove([one for one in keys(address) if one.startswith("pieces/")])
    left = staging.sweep(nobody)
    assert (left.finished, len(left.strangers)) == ((), 1)
    assert stage(staging, LONG) == staged
    with staged.open() as stream:
        assert stream.read() == LONG


def test_strangers_are_named_and_left(staging: StagingBucket, address: BucketAddress) -> None:
    """What has another name was put there by somebody else."""
    Files(address).put("waiting/note.txt", b"note")
    assert staging.sweep(nobody).strangers == ("note.txt",)
    Files(address).put(f"waiting/key.{digest(SHORT)}", b"no head")
    with pytest.raises(IntegrityAlarm):
        staging.waiting("key", digest(SHORT), 7).open()


# ---------------------------------------------------------------------------- faults


@pytest.mark.parametrize("act", [Act.FAIL, Act.SILENCE, Act.LOSE])
@pytest.mark.parametrize("part", ["pieces", "waiting"])
def test_a_fault_promises_nothing(
    staging: StagingBucket, faulty: Faulty, address: BucketAddress, act: Act, part: str
) -> None:
    """Done or not, nothing was promised; the sender begins again and is answered."""
    broken = StagingBucket(Files(faulty.before(address, timeout_s=0.5)), clock)
    with faulty.doing(Fault(act, "PUT", part=part)), pytest.raises(Unavailable):
        stage(broken, LONG)
    staged = stage(staging, LONG)
    with staging.waiting("key", staged.sha256, staged.size_bytes).open() as stream:
        assert stream.read() == LONG


@pytest.mark.parametrize("act", [Act.FAIL, Act.CUT, Act.FLIP, Act.DELAY])
def test_a_fault_while_it_is_read_never_makes_a_wrong_object(
    staging: StagingBucket,
    faulty: Faulty,
    address: BucketAddress,
    objects: S3Objects,
    act: Act,
) -> None:
    """Cut, failed or changed on the way: an error, and the next attempt has the right bytes."""
    stage(staging, LONG)
    broken = StagingBucket(Files(faulty.before(address)), clock)
    staged = broken.waiting("key", digest(LONG), len(LONG))
    with faulty.doing(Fault(act, "GET", part="pieces")):
        try:
            objects.put_once(staged)
        except StorageError:
            assert act is not Act.DELAY
            assert list(objects.names()) == []
            assert staging.holds("key", digest(LONG))
    stored = objects.put_once(staged)
    with objects.open(stored.name, stored.version) as stream:
        assert stream.read() == LONG


READERS: list[tuple[str, Callable[[StagingBucket], object]]] = [
    ("GET", lambda staging: staging.sweep(nobody)),
    ("GET", lambda staging: list(staging.quarantined())),
    ("HEAD", lambda staging: staging.holds("key", "0" * 64)),
    ("GET", lambda staging: staging.waiting("key", "0" * 64, 1).open()),
    ("GET", lambda staging: staging.waiting("key", "0" * 64, 1 << 30).consume()),
    ("DELETE", lambda staging: staging.waiting("key", "0" * 64, 1).consume()),
]


@pytest.mark.parametrize(
    ("method", "call"),
    READERS,
    ids=["sweep", "list", "holds", "open", "consume", "consume one piece"],
)
@pytest.mark.usefixtures("staging")
def test_a_server_that_fails_is_unavailable(
    faulty: Faulty, address: BucketAddress, method: str, call: Callable[[StagingBucket], object]
) -> None:
    """No foreign error leaves, and nothing is taken for absent that could not be asked for."""
    broken = StagingBucket(Files(faulty.before(address, timeout_s=0.5)), clock)
    with faulty.doing(Fault(Act.FAIL, method)), pytest.raises(Unavailable):
        call(broken)
