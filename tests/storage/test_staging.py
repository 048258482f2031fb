"""StagingFolder: room is promised before bytes come, names appear when bytes are safe."""

import ctypes
import errno
import hashlib
import os
from pathlib import Path

import pytest

from storage import durable
from storage.errors import (
    DiskReserveReached,
    IntegrityAlarm,
    NameRefused,
    NotFound,
    SyncFailed,
    TooLong,
    Unavailable,
)
from storage.objects import StagedFile
from storage.staging import QuarantinedFile
from storage.staging.folder import StagingFolder
from tests.storage.steps import fail_at, fail_on, watched

DATA = bytes(range(256)) * 12_289  # a little over 3 MiB, no multiple of a piece
SHA256 = hashlib.sha256(DATA).hexdigest()
MIB = 1 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where staging lies."""
    return tmp_path / "staging"


@pytest.fixture
def staging(root: Path) -> StagingFolder:
    """An empty staging area without reserve."""
    return StagingFolder.create(root, reserve_bytes=0)


def stage(staging: StagingFolder, key: str = "key", data: bytes = DATA) -> StagedFile:
    """Bytes in staging."""
    with staging.begin(key, len(data)) as writer:
        writer.write(data)
        return writer.finish()


def quarantined(staging: StagingFolder, kept: QuarantinedFile) -> bytes:
    """The bytes of a quarantined upload."""
    with staging.open_quarantined(kept) as stream:
        return stream.read()


def no_room(*_: object) -> bool:
    """Answer as a file system that cannot allocate."""
    return False


# ---------------------------------------------------------------------------- writing


@pytest.mark.parametrize("piece", [1000, 65_536, MIB, MIB + 1, len(DATA)])
def test_an_upload_is_hashed_while_it_is_written(staging: StagingFolder, piece: int) -> None:
    """However the bytes arrive, length, digest and content are those of the whole."""
    with staging.begin("key", len(DATA)) as writer:
        for start in range(0, len(DATA), piece):
            writer.write(DATA[start : start + piece])
        staged = writer.finish()
    assert (staged.sha256, staged.size_bytes) == (SHA256, len(DATA))
    assert staged.path.read_bytes() == DATA
    assert oct(staged.path.stat().st_mode) == "0o100400"


def test_any_buffer_of_bytes_is_taken(staging: StagingFolder) -> None:
    """Bytes, a bytearray and a view of either are the same to the writer."""
    with staging.begin("key", 9) as writer:
        writer.write(b"abc")
        writer.write(bytearray(b"def"))
        writer.write(memoryview(b"xghix")[1:4])
        assert writer.finish().path.read_bytes() == b"abcdefghi"


def test_an_upload_of_nothing_is_a_file(staging: StagingFolder) -> None:
    """Zero bytes are bytes: the refusal, if any, is the rules'."""
    staged = stage(staging, data=b"")
    assert (staged.size_bytes, staged.path.read_bytes()) == (0, b"")


def test_the_order_of_system_calls_is_the_durable_one(staging: StagingFolder) -> None:
    """Written, synced, named, folder synced; nothing has a name before it is on disk."""
    with watched() as steps:
        stage(staging)
    ours = ("write", "fsync file", "link", "fsync folder", "unlink", "rename")
    assert [step for step in steps if step in ours] == [
        "write",
        "write",
        "write",
        "write",
        "fsync file",
        "link",
        "fsync folder",
    ]


def test_an_upload_in_progress_has_no_name(staging: StagingFolder, root: Path) -> None:
    """Until it is finished nothing can be found, and discarding leaves nothing."""
    with staging.begin("key", len(DATA)) as writer:
        writer.write(DATA)
        assert list((root / "waiting").iterdir()) == []
    assert list(root.glob("*/*")) == []


def test_a_writer_that_is_done_takes_nothing_more(staging: StagingFolder) -> None:
    """Writing after the end is the caller's mistake; discarding twice is harmless."""
    writer = staging.begin("key", 3)
    writer.write(b"abc")
    writer.finish()
    writer.discard()
    for call in (lambda: writer.write(b"x"), writer.finish):
        with pytest.raises(ValueError, match="finished or discarded"):
            call()


def test_fewer_bytes_than_announced_are_kept_as_they_came(staging: StagingFolder) -> None:
    """A truncated upload is finished as what it is; the caller compares."""
    with staging.begin("key", 2 * len(DATA)) as writer:
        writer.write(DATA)
        staged = writer.finish()
    assert (staged.size_bytes, staged.sha256) == (len(DATA), SHA256)
    assert staged.path.stat().st_size == len(DATA)
    assert staged.path.stat().st_blocks * 512 < len(DATA) + MIB


def test_more_bytes_than_announced_are_refused_early_and_kept(staging: StagingFolder) -> None:
    """The first write that is too much is kept for quarantine, later ones are not taken."""
    with staging.begin("key", 10) as writer:
        writer.write(b"0123456789")
        with pytest.raises(TooLong):
            writer.write(b"ab")
        with pytest.raises(TooLong):
            writer.write(b"cd")
        staged = writer.finish()
    assert (staged.path.read_bytes(), staged.size_bytes) == (b"0123456789ab", 12)
    assert staged.sha256 == hashlib.sha256(b"0123456789ab").hexdigest()


@pytest.mark.parametrize("key", ["", "../x", "a/b", "A", ".", "-a", "a" * 97, "a.b", "a\n", "é"])
def test_a_key_of_another_form_is_refused(staging: StagingFolder, key: str) -> None:
    """A key becomes part of a file's name, so it has one narrow form."""
    with pytest.raises(NameRefused):
        staging.begin(key, 1)


def test_the_same_upload_twice_is_one_staged_file(staging: StagingFolder, root: Path) -> None:
    """A sender that repeats a finished upload gets the same answer."""
    assert stage(staging) == stage(staging)
    assert len(list((root / "waiting").iterdir())) == 1


def test_two_versions_under_one_key_are_both_kept(staging: StagingFolder) -> None:
    """A wrong upload does not block the right one of the same capture."""
    wrong, right = stage(staging, data=b"wrong"), stage(staging, data=b"right")
    assert (wrong.path.read_bytes(), right.path.read_bytes()) == (b"wrong", b"right")


def test_damaged_bytes_under_the_same_name_raise_an_alarm(staging: StagingFolder) -> None:
    """A repeat is not answered with bytes that are no longer those of their name."""
    staged = stage(staging)
    staged.path.chmod(0o600)
    staged.path.write_bytes(b"!" + DATA[1:])
    with pytest.raises(IntegrityAlarm):
        stage(staging)
    assert staged.path.read_bytes() == b"!" + DATA[1:]


# ---------------------------------------------------------------------------- failure


@pytest.mark.parametrize("step", ["fsync file", "fsync folder"])
def test_a_failed_sync_drops_the_upload_for_good(
    staging: StagingFolder, root: Path, step: str
) -> None:
    """Nothing is promised, nothing is left to be believed later, nothing more is taken."""
    with watched(fail_on(step, errno.EIO)), pytest.raises(SyncFailed):
        stage(staging)
    assert list(root.glob("*/*")) == []
    with pytest.raises(SyncFailed):
        staging.begin("key", 1)
    assert stage(StagingFolder(root, reserve_bytes=0)).sha256 == SHA256


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.ENOSPC, DiskReserveReached),
        (errno.EDQUOT, DiskReserveReached),
        (errno.EIO, Unavailable),
    ],
)
def test_a_write_that_fails_discards_the_upload(
    staging: StagingFolder, root: Path, code: int, error: type[Exception]
) -> None:
    """A disk that takes only part of the bytes has no upload."""
    writer = staging.begin("key", len(DATA))
    with watched(fail_at(1, code)), pytest.raises(error):
        writer.write(DATA)
    with pytest.raises(ValueError, match="discarded"):
        writer.finish()
    assert list(root.glob("*/*")) == []


def test_a_disk_that_writes_less_than_asked_gets_the_rest(
    staging: StagingFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`write` may take a part; the rest follows."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:70_000])))
    assert stage(staging).path.read_bytes() == DATA


# ---------------------------------------------------------------------------- room


def free_bytes(root: Path) -> int:
    """What this account may still write there."""
    room = os.statvfs(root)
    return room.f_bavail * room.f_frsize


def test_the_reserve_is_kept_before_bytes_are_taken(root: Path) -> None:
    """An upload that would eat into the reserve is refused when it begins."""
    StagingFolder.create(root, reserve_bytes=0)
    staging = StagingFolder(root, reserve_bytes=free_bytes(root) - 200 * MIB)
    with pytest.raises(DiskReserveReached):
        staging.begin("key", 4 << 30)
    assert stage(staging).sha256 == SHA256
    none_left = StagingFolder(root, reserve_bytes=free_bytes(root) + 200 * MIB)
    with pytest.raises(DiskReserveReached):
        none_left.begin("key", 0)


@pytest.mark.parametrize("can_allocate", [True, False])
def test_uploads_at_once_share_the_room(
    root: Path, monkeypatch: pytest.MonkeyPatch, can_allocate: bool
) -> None:
    """What is promised to one upload is not promised to another, and comes back when it ends."""
    if not can_allocate:
        monkeypatch.setattr("storage.staging.folder.allocate", no_room)
    StagingFolder.create(root, reserve_bytes=0)
    staging = StagingFolder(root, reserve_bytes=free_bytes(root) - 600 * MIB)
    first = staging.begin("first", 400 * MIB)
    first.write(DATA)
    with pytest.raises(DiskReserveReached):
        staging.begin("second", 400 * MIB)
    first.discard()
    staging.begin("second", 400 * MIB).discard()
    assert staging._promised_bytes == 0


def test_written_bytes_are_owed_no_longer(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is allocated ahead, what is on disk is not counted twice."""
    monkeypatch.setattr("storage.staging.folder.allocate", no_room)
    staging = StagingFolder.create(root, reserve_bytes=0)
    with staging.begin("key", len(DATA)) as writer:
        assert staging._promised_bytes == len(DATA)
        writer.write(DATA[:1000])
        assert staging._promised_bytes == len(DATA) - 1000
        with pytest.raises(TooLong):
            writer.write(DATA)
        assert staging._promised_bytes == 0
        assert writer.finish().size_bytes == len(DATA) + 1000


def test_an_allocation_that_finds_no_room_refuses_the_upload(
    staging: StagingFolder, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    """The file system has the last word about room."""

    def full(*_: object) -> bool:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr("storage.staging.folder.allocate", full)
    with pytest.raises(DiskReserveReached):
        staging.begin("key", 1)
    assert list(root.glob("*/*")) == []


def test_blocks_are_allocated_where_the_file_system_can(tmp_path: Path) -> None:
    """`allocate` takes real blocks, says so, and names what went wrong."""
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    if durable.allocate(fd, MIB):
        assert os.fstat(fd).st_blocks * 512 >= MIB
    assert durable.allocate(fd, 0) is False
    with pytest.raises(OSError, match=r"File too large|No space"):
        durable.allocate(fd, 1 << 62)
    os.close(fd)
    read_end, write_end = os.pipe()
    with pytest.raises(OSError, match=r"Illegal seek|No such device"):
        durable.allocate(write_end, MIB)
    os.close(read_end)
    os.close(write_end)


def test_a_file_system_that_cannot_allocate_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the call does not exist the bytes simply find their blocks when they come."""

    class NoSuchCall:
        """A C library whose kernel answers that it cannot."""

        def fallocate(self, *_: object) -> int:
            """Fail as `fallocate(2)` does there."""
            ctypes.set_errno(errno.EOPNOTSUPP)
            return -1

    monkeypatch.setattr(durable, "_library", NoSuchCall)
    with (tmp_path / "file").open("wb") as file:
        assert durable.allocate(file.fileno(), MIB) is False


# ---------------------------------------------------------------------------- quarantine


def test_quarantine_keeps_the_bytes_and_the_reason(staging: StagingFolder, root: Path) -> None:
    """What was not as announced leaves the waiting room and is kept."""
    staged = stage(staging)
    kept = staging.quarantine(staged, "digest_mismatch")
    assert (kept.key, kept.sha256, kept.size_bytes) == ("key", SHA256, len(DATA))
    assert (kept.reason, quarantined(staging, kept)) == ("digest_mismatch", DATA)
    assert not staged.path.exists()
    assert list(staging.quarantined()) == [kept]
    assert list(StagingFolder(root, reserve_bytes=0).quarantined()) == [kept]


def test_quarantine_twice_is_harmless(staging: StagingFolder) -> None:
    """A repeat after a crash, or of the same wrong upload, ends in the same place."""
    staged = stage(staging)
    first = staging.quarantine(staged, "digest_mismatch")
    assert staging.quarantine(staged, "digest_mismatch") == first
    stage(staging)
    assert staging.quarantine(staged, "digest_mismatch") == first
    assert staging.sweep().finished == ()


def test_quarantine_of_nothing_is_not_found(staging: StagingFolder, tmp_path: Path) -> None:
    """An upload that is nowhere cannot be set aside."""
    lost = StagedFile(key="key", path=tmp_path / "gone", sha256=SHA256, size_bytes=1)
    with pytest.raises(NotFound):
        staging.quarantine(lost, "digest_mismatch")


@pytest.mark.parametrize("reason", ["", "../x", "Wrong", "a b", "a" * 49, "1"])
def test_a_reason_of_another_form_is_refused(staging: StagingFolder, reason: str) -> None:
    """A reason is a code, and part of a file's name."""
    staged = stage(staging)
    with pytest.raises(NameRefused):
        staging.quarantine(staged, reason)
    assert staged.path.exists()


def test_a_key_or_digest_of_another_form_reaches_no_file(
    staging: StagingFolder, tmp_path: Path
) -> None:
    """A staged file that this area never made cannot lead quarantine out of its folder."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    forged = StagedFile(key="../../secret", path=secret, sha256="x", size_bytes=1)
    with pytest.raises(NameRefused):
        staging.quarantine(forged, "digest_mismatch")
    assert secret.read_bytes() == b"secret"


def test_strangers_in_quarantine_are_not_ours(staging: StagingFolder, root: Path) -> None:
    """What has another name, or is no file, is no quarantined upload."""
    (root / "quarantine" / "note.txt").touch()
    (root / "quarantine" / f"key.{SHA256}.reason").mkdir()
    assert list(staging.quarantined()) == []


# ---------------------------------------------------------------------------- sweep


def test_sweep_finds_what_was_finished_and_nothing_else(staging: StagingFolder, root: Path) -> None:
    """Key, digest and length come from the file itself; strangers are named, not touched."""
    first, second = stage(staging, "a"), stage(staging, "b", b"second")
    (root / "waiting" / "note.txt").touch()
    (root / "waiting" / f"link.{SHA256}").symlink_to(first.path)
    left = StagingFolder(root, reserve_bytes=0).sweep()
    assert left.finished == (first, second)
    assert left.strangers == (f"link.{SHA256}", "note.txt")
    assert left.dropped == 0


def test_an_area_that_was_never_made_is_not_opened(root: Path) -> None:
    """Opening creates nothing."""
    with pytest.raises(Unavailable):
        StagingFolder(root, reserve_bytes=0)
    (root / "tmp").mkdir(parents=True)
    with pytest.raises(Unavailable):
        StagingFolder(root, reserve_bytes=0)


def test_unfinished_uploads_with_names_are_dropped_when_their_writer_is_gone(
    staging: StagingFolder, root: Path
) -> None:
    """Without unnamed files a writer at work is left alone, an abandoned file is removed."""
    with watched(unnamed_files=False):
        writer = staging.begin("key", 3)
        writer.write(b"abc")
    abandoned = root / "tmp" / f"new-{'0' * 32}"
    abandoned.write_bytes(b"half")
    (root / "tmp" / "foreign").touch()
    left = StagingFolder(root, reserve_bytes=0).sweep()
    assert (left.dropped, left.finished) == (1, ())
    assert writer.finish().path.read_bytes() == b"abc"
    assert [path.name for path in (root / "tmp").iterdir()] == ["foreign"]


def test_a_refusal_that_is_not_about_unnamed_files_is_not_hidden(staging: StagingFolder) -> None:
    """Only a file system without unnamed files is worked around."""
    with watched(fail_on("open", errno.EMFILE)), pytest.raises(Unavailable, match="EMFILE"):
        staging.begin("key", 1)
