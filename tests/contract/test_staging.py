"""The contract of `Staging`, the same sentences for every staging area that claims to be one."""

import hashlib
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from storage.errors import NameRefused, NotFound, TooLong, Unavailable
from storage.objects import Staged
from storage.s3 import Files
from storage.staging import QuarantinedFile, Staging
from storage.staging.bucket import StagingBucket
from storage.staging.folder import StagingFolder
from storage.staging.pieces import PIECE_BYTES
from tests.stores.ceph import Ceph
from tests.stores.weed import Weed, new_bucket

SHORT = b"\xff\xd8 a photo \xff\xd9"
LONG = bytes(range(256)) * 49_153  # a little over 12 MiB: two pieces and a rest
EXACT = b"x" * (2 * PIECE_BYTES)
MIB = 1 << 20
PLACES = ["folder", "weed", pytest.param("ceph", marks=pytest.mark.ceph)]
Reopen = Callable[[], Staging]


def clock() -> datetime:
    """Now, UTC."""
    return datetime.now(UTC)


def nobody(_key: str) -> bool:
    """Nobody receives anything."""
    return False


@pytest.fixture(params=PLACES)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    """Each kind of staging area in turn, new and empty; opened as a new process would."""
    if request.param == "folder":
        StagingFolder.create(tmp_path / "staging", reserve_bytes=0)
        return lambda: StagingFolder(tmp_path / "staging", reserve_bytes=0)
    server: Weed | Ceph = request.getfixturevalue(request.param)
    address = server.address(new_bucket())
    StagingBucket.create(Files(address), clock)
    return lambda: StagingBucket(Files(address), clock)


@pytest.fixture
def staging(reopen: Reopen) -> Staging:
    """The staging area, opened."""
    return reopen()


def stage(staging: Staging, data: bytes = SHORT, key: str = "key", piece: int = MIB) -> Staged:
    """Bytes in staging, written in pieces."""
    with staging.begin(key, len(data)) as writer:
        for start in range(0, len(data), piece):
            writer.write(data[start : start + piece])
        return writer.finish()


def read(staged: Staged) -> bytes:
    """All of a staged upload."""
    with staged.open() as stream:
        return stream.read()


def read_aside(staging: Staging, kept: QuarantinedFile) -> bytes:
    """All of a quarantined upload."""
    with staging.open_quarantined(kept) as stream:
        return stream.read()


@pytest.mark.parametrize("data", [b"", b"x", SHORT, EXACT, LONG], ids=len)
def test_what_was_finished_is_read_by_another_process(reopen: Reopen, data: bytes) -> None:
    """Digest, length and bytes are those that came, whoever opens it."""
    staged = stage(reopen(), data)
    sha256 = hashlib.sha256(data).hexdigest()
    assert (staged.key, staged.sha256, staged.size_bytes) == ("key", sha256, len(data))
    other = reopen()
    assert other.holds("key", sha256)
    assert read(other.waiting("key", sha256, len(data))) == data


@pytest.mark.parametrize("piece", [1000, 700_001, 8 * MIB])
def test_pieces_of_any_length_are_the_same_upload(staging: Staging, piece: int) -> None:
    """However the bytes arrive, what is finished is the whole."""
    data = LONG if piece > 1000 else LONG[: PIECE_BYTES + 1]
    staged = stage(staging, data, piece=piece)
    assert staged.sha256 == hashlib.sha256(data).hexdigest()
    assert read(staged) == data


def test_an_upload_in_progress_has_no_name(reopen: Reopen) -> None:
    """Until it is finished nobody takes it for content, and discarding leaves nothing."""
    staging = reopen()
    with staging.begin("key", len(LONG)) as writer:
        writer.write(LONG)
        assert reopen().sweep(nobody).finished == ()
        assert not staging.holds("key", hashlib.sha256(LONG).hexdigest())
    assert reopen().sweep(nobody).finished == ()


def test_a_writer_that_is_done_takes_nothing_more(staging: Staging) -> None:
    """Writing after the end is the caller's mistake; discarding twice is harmless."""
    writer = staging.begin("key", 3)
    writer.write(b"abc")
    writer.finish()
    writer.discard()
    for call in (lambda: writer.write(b"x"), writer.finish):
        with pytest.raises(ValueError, match="finished or discarded"):
            call()


@pytest.mark.parametrize("data", [SHORT, LONG], ids=["short", "long"])
def test_fewer_and_more_bytes_than_announced_are_kept(staging: Staging, data: bytes) -> None:
    """A truncated upload is what came; the first write that is too much is kept, later ones not."""
    with staging.begin("short", 2 * len(data)) as writer:
        writer.write(data)
        assert read(writer.finish()) == data
    with staging.begin("long", len(data) - 1) as writer:
        with pytest.raises(TooLong):
            writer.write(data)
        with pytest.raises(TooLong):
            writer.write(b"more")
        assert read(writer.finish()) == data


@pytest.mark.parametrize("key", ["", "../x", "a/b", "A", "-a", "a" * 97, "a.b", "a\n", "é"])
def test_a_key_of_another_form_is_refused(staging: Staging, key: str) -> None:
    """A key becomes part of a name, so it has one narrow form."""
    for call in (
        lambda: staging.begin(key, 1),
        lambda: staging.waiting(key, "0" * 64, 1),
        lambda: staging.holds(key, "0" * 64),
    ):
        with pytest.raises(NameRefused):
            call()


@pytest.mark.parametrize("data", [SHORT, LONG], ids=["short", "long"])
def test_the_same_upload_twice_is_one(reopen: Reopen, data: bytes) -> None:
    """A sender that repeats a finished upload, through another node, gets the same answer."""
    first, second = stage(reopen(), data), stage(reopen(), data)
    assert (first.sha256, first.size_bytes) == (second.sha256, second.size_bytes)
    assert len(reopen().sweep(nobody).finished) == 1
    assert read(second) == data


def test_two_contents_under_one_key_are_both_kept(staging: Staging) -> None:
    """A wrong upload does not block the right one of the same capture."""
    wrong, right = stage(staging, LONG), stage(staging, SHORT)
    assert (read(wrong), read(right)) == (LONG, SHORT)


@pytest.mark.parametrize("data", [SHORT, LONG], ids=["short", "long"])
def test_what_was_consumed_is_gone(reopen: Reopen, data: bytes) -> None:
    """Once an object has its bytes nothing of it is left, and letting go twice is harmless."""
    staging = reopen()
    staged = stage(staging, data)
    staged.consume()
    staged.consume()
    assert not staging.holds(staged.key, staged.sha256)
    with pytest.raises(NotFound):
        staged.open()
    assert reopen().sweep(nobody).finished == ()


@pytest.mark.parametrize("data", [SHORT, LONG], ids=["short", "long"])
def test_quarantine_keeps_the_bytes_and_the_reason(reopen: Reopen, data: bytes) -> None:
    """What was not as announced leaves the waiting room and is kept, for every node to see."""
    staging = reopen()
    staged = stage(staging, data)
    kept = staging.quarantine(staged, "digest_mismatch")
    assert (kept.key, kept.sha256, kept.size_bytes) == ("key", staged.sha256, len(data))
    assert not staging.holds("key", staged.sha256)
    other = reopen()
    assert other.sweep(nobody).finished == ()
    assert list(other.quarantined()) == [kept]
    assert read_aside(other, kept) == data


def test_quarantine_twice_is_harmless(reopen: Reopen) -> None:
    """A repeat after a crash, or by another node, ends in the same place."""
    staged = stage(reopen())
    first = reopen().quarantine(staged, "digest_mismatch")
    assert reopen().quarantine(staged, "digest_mismatch") == first
    stage(reopen())
    assert reopen().quarantine(staged, "digest_mismatch") == first
    assert reopen().sweep(nobody).finished == ()
    assert read_aside(reopen(), first) == SHORT


def test_quarantine_of_nothing_is_not_found(staging: Staging) -> None:
    """An upload that is nowhere cannot be set aside, nor read there."""
    lost = staging.waiting("key", hashlib.sha256(b"lost").hexdigest(), 4)
    with pytest.raises(NotFound):
        staging.quarantine(lost, "digest_mismatch")
    with pytest.raises(NotFound):
        staging.open_quarantined(
            QuarantinedFile(key="key", sha256=lost.sha256, size_bytes=4, reason="lost")
        )


@pytest.mark.parametrize("reason", ["", "../x", "Wrong", "a b", "a" * 49, "1"])
def test_a_reason_of_another_form_is_refused(staging: Staging, reason: str) -> None:
    """A reason is a code, and part of a name."""
    staged = stage(staging)
    with pytest.raises(NameRefused):
        staging.quarantine(staged, reason)
    assert read(staged) == SHORT


def test_sweep_finds_what_was_finished_and_nobody_receives(reopen: Reopen) -> None:
    """Key, digest and length come from what lies there; a live upload is not told."""
    for key, data in (("a", SHORT), ("b", LONG), ("live", SHORT)):
        stage(reopen(), data, key)
    left = reopen().sweep(lambda key: key == "live")
    found = [(one.key, one.sha256, one.size_bytes) for one in left.finished]
    expected = [("a", SHORT), ("b", LONG)]
    assert found == [(key, hashlib.sha256(d).hexdigest(), len(d)) for key, d in expected]
    assert [read(one) for one in left.finished] == [SHORT, LONG]
    assert (left.dropped, left.strangers) == (0, ())


def test_an_upload_is_bounded_in_memory(staging: Staging) -> None:
    """However long it is, less than 8 MB are held while it comes, and 16 MB when it is read."""
    piece = b"\x5a" * MIB
    tracemalloc.start()
    try:
        with staging.begin("key", 48 * MIB) as writer:
            for _ in range(48):
                writer.write(piece)
            staged = writer.finish()
        writing = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        with staged.open() as stream:
            while stream.read(MIB):
                pass
        reading = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert writing < 8_000_000
    assert reading < 16_000_000


def test_what_was_never_made_is_not_opened(tmp_path: Path, weed: Weed) -> None:
    """Opening creates nothing, and takes no other store for a staging area."""
    with pytest.raises(Unavailable):
        StagingFolder(tmp_path, reserve_bytes=0)
    files = Files(weed.address(new_bucket()))
    with pytest.raises(Unavailable):
        StagingBucket(files, clock)
    files.make(object_lock=False)
    with pytest.raises(Unavailable):
        StagingBucket(files, clock)
