"""The write-once directory: what lies on disk, in which order it came there, and who may not."""

import errno
import fcntl
import hashlib
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from storage.errors import (
    DiskReserveReached,
    IntegrityAlarm,
    NotFound,
    SyncFailed,
    Unavailable,
)
from storage.objects import AssuranceLevel, StagedFile
from storage.objects.flags import APPEND_ONLY, IMMUTABLE, flags_of, set_flag
from storage.objects.local import LocalObjects
from storage.staging.folder import StagingFolder
from tests.storage.steps import fail_on, watched
from tests.tools import ROOT

PHOTO = bytes(range(256)) * 40
SHA256 = hashlib.sha256(PHOTO).hexdigest()
OTHER_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder made there has a name of its own
PUTTER = """
import sys
from pathlib import Path
from storage.objects.local import LocalObjects
from storage.staging.folder import StagingFolder
folder, key = Path(sys.argv[1]), sys.argv[2]
with StagingFolder(folder / "staging", reserve_bytes=0).begin(key, 10240) as writer:
    writer.write(bytes(range(256)) * 40)
    staged = writer.finish()
store = LocalObjects(folder / "objects")
print("ready", flush=True)
sys.stdin.readline()
print(store.put_once(staged).name)
"""


@pytest.fixture
def store(tmp_path: Path) -> LocalObjects:
    """An empty store in `objects`."""
    return LocalObjects.create(tmp_path / "objects", store_id="local")


@pytest.fixture
def staging(tmp_path: Path) -> StagingFolder:
    """An empty staging area beside it."""
    return StagingFolder.create(tmp_path / "staging", reserve_bytes=0)


def stage(staging: StagingFolder, key: str = "a", data: bytes = PHOTO) -> StagedFile:
    """Bytes in staging."""
    with staging.begin(key, len(data)) as writer:
        writer.write(data)
        return writer.finish()


def shard(tmp_path: Path, name: str = SHA256) -> Path:
    """The folder of an object, made if need be."""
    folder = tmp_path / "objects" / "sha256" / name[:2] / name[2:4]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def lift(path: Path) -> None:
    """Take the file flags off again, so that a test's folder can be removed."""
    fd = os.open(path, os.O_RDONLY)
    kept = flags_of(fd) & ~(IMMUTABLE | APPEND_ONLY)
    fcntl.ioctl(fd, 0x40086602, struct.pack("l", kept))
    os.close(fd)


@pytest.fixture
def protected(tmp_path: Path) -> Generator[LocalObjects]:
    """A store with file flags, where this account may set them."""
    probe = tmp_path / "probe"
    probe.touch()
    fd = os.open(probe, os.O_RDONLY)
    allowed = set_flag(fd, IMMUTABLE)
    os.close(fd)
    if not allowed:
        pytest.skip("needs root (CAP_LINUX_IMMUTABLE) on a file system with file flags")
    lift(probe)
    try:
        yield LocalObjects.create(tmp_path / "objects", store_id="local", immutable=True)
    finally:
        for folder, _, names in os.walk(tmp_path / "objects"):
            lift(Path(folder))
            for name in names:
                lift(Path(folder, name))


# ---------------------------------------------------------------------------- order


def test_the_order_of_system_calls_is_the_durable_one(
    store: LocalObjects, staging: StagingFolder
) -> None:
    """File synced, read back, linked, folder synced; only then does the staged name go."""
    staged = stage(staging)
    with watched() as steps:
        store.put_once(staged)
    ours = ("mkdir", "fsync file", "fsync folder", "preadv", "link", "unlink", "write", "rename")
    assert [step for step in steps if step in ours] == [
        "mkdir",  # each level is made, or found, and synced before its first use
        "fsync folder",
        "mkdir",
        "fsync folder",
        "mkdir",
        "fsync folder",
        "fsync file",
        "preadv",
        "preadv",
        "link",
        "fsync folder",
        "unlink",
    ]


def test_a_staged_file_on_the_same_file_system_is_linked_not_copied(
    store: LocalObjects, staging: StagingFolder, tmp_path: Path
) -> None:
    """The object is the inode that was staged, and no byte is written again."""
    staged = stage(staging)
    inode = staged.path.stat().st_ino
    with watched() as steps:
        store.put_once(staged)
    facts = (shard(tmp_path) / SHA256).stat()
    assert (facts.st_ino, facts.st_nlink, oct(facts.st_mode)) == (inode, 1, "0o100400")
    assert "write" not in steps


def test_a_staged_file_on_another_file_system_is_copied(
    store: LocalObjects, tmp_path: Path
) -> None:
    """Where no link can reach, the bytes are copied and checked the same way."""
    if not OTHER_MEMORY.is_dir() or OTHER_MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system at /dev/shm")
    folder = OTHER_MEMORY / f"fengni-test-{os.getpid()}"
    try:
        staged = stage(StagingFolder.create(folder, reserve_bytes=0))
        assert store.put_once(staged).name == SHA256
        assert not staged.path.exists()
    finally:
        shutil.rmtree(folder)
    assert (shard(tmp_path) / SHA256).read_bytes() == PHOTO


def test_a_staged_file_with_a_second_name_is_copied(
    store: LocalObjects, staging: StagingFolder, tmp_path: Path
) -> None:
    """Nobody keeps another name for the object's inode, through which it could be changed."""
    staged = stage(staging)
    second = tmp_path / "second-name"
    os.link(staged.path, second)
    store.put_once(staged)
    object_file = shard(tmp_path) / SHA256
    assert object_file.stat().st_ino != second.stat().st_ino
    assert object_file.stat().st_nlink == 1


def test_what_was_writable_in_staging_is_read_only_as_an_object(
    store: LocalObjects, tmp_path: Path
) -> None:
    """A staged file that somebody else made gets the object's mode."""
    path = tmp_path / "writable"
    path.write_bytes(PHOTO)
    path.chmod(0o666)
    staged = StagedFile(key="a", path=path, sha256=SHA256, size_bytes=len(PHOTO))
    store.put_once(staged)
    assert oct((shard(tmp_path) / SHA256).stat().st_mode) == "0o100400"


# ---------------------------------------------------------------------------- failure


def test_a_failed_sync_is_final(store: LocalObjects, staging: StagingFolder) -> None:
    """After EIO on a sync the store takes nothing more, even if the disk would answer again."""
    staged, later = stage(staging), stage(staging, "b", b"later")
    with watched(fail_on("fsync file", errno.EIO)), pytest.raises(SyncFailed):
        store.put_once(staged)
    with watched() as steps, pytest.raises(SyncFailed):
        store.put_once(later)
    assert not {"fsync file", "fsync folder", "link"} & set(steps)
    with pytest.raises(SyncFailed):
        store.level()
    assert (staged.path.read_bytes(), later.path.read_bytes()) == (PHOTO, b"later")


def test_a_failed_sync_of_the_folder_promises_nothing(
    store: LocalObjects, staging: StagingFolder, tmp_path: Path
) -> None:
    """The object may be there, but the caller is not told so and the staged file stays."""
    store.put_once(stage(staging, "first", PHOTO))
    LocalObjects(tmp_path / "objects")
    staged = stage(staging, "b", b"other")
    with watched(fail_on("fsync folder", errno.EIO)), pytest.raises(SyncFailed):
        store.put_once(staged)
    assert staged.path.read_bytes() == b"other"
    assert LocalObjects(tmp_path / "objects").put_once(staged).size_bytes == 5


def test_a_full_disk_is_named(store: LocalObjects, staging: StagingFolder) -> None:
    """ENOSPC is the disk reserve, anything else that the disk refuses is `Unavailable`."""
    staged = stage(staging)
    with watched(fail_on("link", errno.ENOSPC)), pytest.raises(DiskReserveReached):
        store.put_once(staged)
    with watched(fail_on("link", errno.EROFS)), pytest.raises(Unavailable) as raised:
        store.put_once(staged)
    assert (raised.value.code, "EROFS" in raised.value.detail) == ("unavailable", True)


def test_a_staged_file_that_vanishes_to_another_worker_is_success(
    store: LocalObjects, staging: StagingFolder, tmp_path: Path
) -> None:
    """Two workers on one staged file: the slower one finds the object that the quicker made."""
    staged = stage(staging)
    copy = tmp_path / "copy"
    copy.write_bytes(PHOTO)
    same = StagedFile(key="a", path=copy, sha256=SHA256, size_bytes=len(PHOTO))
    quicker = LocalObjects(tmp_path / "objects")
    opens = 0

    def before_staged_is_opened(_: int, step: str) -> None:
        nonlocal opens
        opens += step == "open"
        if opens == 5 and step == "open":  # sha256, ab, cd, the object, the staged file
            staged.path.rename(tmp_path / "elsewhere")
            quicker.put_once(same)

    with watched(before_staged_is_opened):
        stored = store.put_once(staged)
    assert (stored.name, stored.size_bytes) == (SHA256, len(PHOTO))


def test_an_object_made_while_ours_was_read_back_is_success(
    store: LocalObjects, staging: StagingFolder, tmp_path: Path
) -> None:
    """Who loses the race for the name verifies the winner's bytes and is answered with them."""
    staged = stage(staging)
    place = shard(tmp_path) / SHA256

    def overtake(_: int, step: str) -> None:
        if step == "link" and not place.exists():
            place.write_bytes(PHOTO)
            place.chmod(0o400)

    with watched(overtake):
        stored = store.put_once(staged)
    assert stored.size_bytes == len(PHOTO)
    assert not staged.path.exists()


# ---------------------------------------------------------------------------- tampering


@pytest.mark.parametrize("planted", [b"", PHOTO[:-1], PHOTO + b"!", b"!" + PHOTO[1:]])
def test_other_bytes_under_the_name_raise_an_alarm(
    store: LocalObjects, staging: StagingFolder, tmp_path: Path, planted: bytes
) -> None:
    """Planted or damaged bytes are never overwritten and never believed; the upload stays."""
    place = shard(tmp_path) / SHA256
    place.write_bytes(planted)
    place.chmod(0o400)
    staged = stage(staging)
    with pytest.raises(IntegrityAlarm):
        store.put_once(staged)
    assert (place.read_bytes(), staged.path.read_bytes()) == (planted, PHOTO)


def test_the_right_bytes_that_someone_may_write_raise_an_alarm(
    store: LocalObjects, staging: StagingFolder, tmp_path: Path
) -> None:
    """A file that is still writable is not one that this store made."""
    (shard(tmp_path) / SHA256).write_bytes(PHOTO)
    with pytest.raises(IntegrityAlarm):
        store.put_once(stage(staging))


def test_a_hard_link_to_other_bytes_raises_an_alarm(
    store: LocalObjects, staging: StagingFolder, tmp_path: Path
) -> None:
    """A planted second name of some other file is found out by its bytes."""
    mine = tmp_path / "mine"
    mine.write_bytes(b"not the photo")
    mine.chmod(0o400)
    os.link(mine, shard(tmp_path) / SHA256)
    with pytest.raises(IntegrityAlarm):
        store.put_once(stage(staging))


@pytest.mark.parametrize("planted", ["symlink", "folder", "pipe"])
def test_what_is_no_file_raises_an_alarm(
    store: LocalObjects, staging: StagingFolder, tmp_path: Path, planted: str
) -> None:
    """A link, folder or pipe under an object's name is neither followed nor waited for."""
    place = shard(tmp_path) / SHA256
    good = tmp_path / "good"
    good.write_bytes(PHOTO)
    good.chmod(0o400)
    make = {"symlink": lambda: place.symlink_to(good), "folder": place.mkdir}
    make.get(planted, lambda: os.mkfifo(place))()
    staged = stage(staging)
    for call in (
        lambda: store.put_once(staged),
        lambda: store.open(SHA256),
        lambda: store.stat(SHA256),
    ):
        with pytest.raises(IntegrityAlarm):
            call()


def test_a_link_in_place_of_a_shard_raises_an_alarm(
    store: LocalObjects, staging: StagingFolder, tmp_path: Path
) -> None:
    """The folders of the tree are not followed out of it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "objects" / "sha256" / SHA256[:2] / SHA256[2:4]).symlink_to(outside)
    with pytest.raises(IntegrityAlarm):
        store.put_once(stage(staging))
    assert list(outside.iterdir()) == []


def test_a_link_in_place_of_the_staged_file_raises_an_alarm(
    store: LocalObjects, tmp_path: Path
) -> None:
    """A staged path that is a symbolic link is not followed."""
    good = tmp_path / "good"
    good.write_bytes(PHOTO)
    link = tmp_path / "link"
    link.symlink_to(good)
    staged = StagedFile(key="a", path=link, sha256=SHA256, size_bytes=len(PHOTO))
    with pytest.raises(IntegrityAlarm):
        store.put_once(staged)


def test_what_does_not_belong_is_a_stranger_not_a_name(
    store: LocalObjects, staging: StagingFolder, tmp_path: Path
) -> None:
    """Foreign files, folders and links in the tree are listed apart from the objects."""
    store.put_once(stage(staging))
    family = tmp_path / "objects" / "sha256"
    (family / "note.txt").touch()
    (family / "zz").mkdir()
    (family / "00" / "11").symlink_to(tmp_path)
    (shard(tmp_path) / "x.tmp").touch()
    (shard(tmp_path) / ("0" * 64)).touch()  # an object's name in another object's shard
    path = f"{SHA256[:2]}/{SHA256[2:4]}"
    assert list(store.names()) == [SHA256]
    assert set(store.strangers()) == {
        "00/11",
        f"{path}/x.tmp",
        f"{path}/{'0' * 64}",
        "note.txt",
        "zz",
    }


# ---------------------------------------------------------------------------- processes


def test_sixteen_processes_make_one_object_of_one_photo(tmp_path: Path) -> None:
    """Processes that put the same bytes at once are all answered, and one inode results."""
    LocalObjects.create(tmp_path / "objects", store_id="local")
    StagingFolder.create(tmp_path / "staging", reserve_bytes=0)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PUTTER, str(tmp_path), f"upload-{number}"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(16)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate()[0] for process in running]
    assert answers == [f"{SHA256}\n"] * 16
    assert [path.name for path in shard(tmp_path).iterdir()] == [SHA256]
    assert (shard(tmp_path) / SHA256).stat().st_nlink == 1
    assert list((tmp_path / "staging" / "waiting").iterdir()) == []


# ---------------------------------------------------------------------------- level


def test_a_directory_promises_no_more_than_mode_bits(
    store: LocalObjects, staging: StagingFolder
) -> None:
    """Without file flags the level is the lowest, for the store and for each object."""
    stored = store.put_once(stage(staging))
    assert store.level() is AssuranceLevel.DIRECTORY_MODE_BITS
    assert stored.level is AssuranceLevel.DIRECTORY_MODE_BITS


def test_file_flags_make_an_object_immutable(
    protected: LocalObjects, staging: StagingFolder, tmp_path: Path
) -> None:
    """With the right to set flags nobody can write, remove, rename or link the object."""
    staged = stage(staging)
    stored = protected.put_once(staged)
    assert protected.level() is AssuranceLevel.DIRECTORY_IMMUTABLE
    assert stored.level is AssuranceLevel.DIRECTORY_IMMUTABLE
    assert not staged.path.exists()
    place = shard(tmp_path) / SHA256
    for attempt in (
        lambda: place.write_bytes(b""),
        place.unlink,
        lambda: place.chmod(0o600),
        lambda: place.rename(place.with_name("x")),
        lambda: os.link(place, tmp_path / "x"),
        lambda: place.parent.rename(tmp_path / "shard"),
        lambda: place.parent.parent.rename(tmp_path / "shard"),
    ):
        with pytest.raises(PermissionError):
            attempt()
    assert protected.put_once(stage(staging, "again")) == stored


def test_an_object_from_before_the_flags_gets_them_when_it_is_put_again(
    tmp_path: Path, staging: StagingFolder, protected: LocalObjects
) -> None:
    """The level of each object is measured: older ones stay lower until they are put again."""
    plain = LocalObjects(tmp_path / "objects")
    stored = plain.put_once(stage(staging))
    assert stored.level is AssuranceLevel.DIRECTORY_MODE_BITS
    assert protected.put_once(stage(staging)).level is AssuranceLevel.DIRECTORY_IMMUTABLE


def test_an_account_that_may_set_no_flags_is_told_so(
    tmp_path: Path, staging: StagingFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel refuses the flags the store works and reports the lower level."""

    def refuse(*_: object) -> bytes:
        raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    store = LocalObjects.create(tmp_path / "objects", store_id="local", immutable=True)
    assert store.level() is AssuranceLevel.DIRECTORY_MODE_BITS
    assert store.put_once(stage(staging)).level is AssuranceLevel.DIRECTORY_MODE_BITS


def test_flags_that_go_away_lower_the_level_of_new_objects(
    protected: LocalObjects, staging: StagingFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object whose own flag could not be set is not reported as immutable."""
    real = fcntl.ioctl

    def refuse_to_set(fd: int, request: int, data: bytes) -> bytes:
        if request == 0x40086602:
            raise PermissionError(errno.EPERM, "not permitted")
        return real(fd, request, data)

    monkeypatch.setattr(fcntl, "ioctl", refuse_to_set)
    assert protected.put_once(stage(staging)).level is AssuranceLevel.DIRECTORY_MODE_BITS


# ---------------------------------------------------------------------------- opening


@pytest.mark.parametrize("store_id", ["", "Local", "-local", "a b", "a/b", "a" * 64, "é"])
def test_a_store_id_has_one_form(tmp_path: Path, store_id: str) -> None:
    """An id that would not fit everywhere is the caller's mistake."""
    with pytest.raises(ValueError, match="store_id"):
        LocalObjects.create(tmp_path / "objects", store_id=store_id)


def test_making_a_store_again_opens_it(store: LocalObjects, tmp_path: Path) -> None:
    """`create` finishes what a crash interrupted, and gives no second id."""
    again = LocalObjects.create(tmp_path / "objects", store_id="local")
    assert again.store_id == store.store_id == "local"
    with pytest.raises(ValueError, match="another store"):
        LocalObjects.create(tmp_path / "objects", store_id="other")


def test_a_folder_without_a_store_is_not_made_into_one(tmp_path: Path) -> None:
    """Opening creates nothing: a lost disk must not look like an empty store."""
    with pytest.raises(Unavailable):
        LocalObjects(tmp_path / "objects")
    (tmp_path / "objects" / "tmp").mkdir(parents=True)
    with pytest.raises(Unavailable, match="no object store"):
        LocalObjects(tmp_path / "objects")


def test_a_store_needs_the_folder_above_it(tmp_path: Path) -> None:
    """A path that leads nowhere is an error, not a new tree of folders."""
    with pytest.raises(Unavailable):
        LocalObjects.create(tmp_path / "no" / "objects", store_id="local")


@pytest.mark.parametrize(
    "text", ["", "fengni-objects 2\nlocal\n", "fengni-objects 1\n", "fengni-objects 1\nA B\n"]
)
def test_a_damaged_or_later_store_is_not_opened(
    store: LocalObjects, tmp_path: Path, text: str
) -> None:
    """The store's own file says which format the folder has; another one is refused."""
    assert store.store_id == "local"
    path = tmp_path / "objects" / "store"
    path.unlink()
    path.write_text(text)
    with pytest.raises(Unavailable, match="damaged or of a later format"):
        LocalObjects(tmp_path / "objects")


def test_an_object_whose_shard_was_never_made_is_not_found(store: LocalObjects) -> None:
    """Asking does not make folders."""
    with pytest.raises(NotFound):
        store.stat(SHA256)
    assert list(store.strangers()) == []
