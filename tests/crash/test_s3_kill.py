"""Killed while an object goes to S3: the one who puts it, and the server that takes it."""

import hashlib
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from storage.errors import StorageError
from storage.objects import AssuranceLevel, StagedFile, StoredObject
from storage.objects.bucket import Bucket, BucketAddress
from storage.objects.locks import LockMode
from storage.objects.s3 import Intake, S3Objects
from storage.staging.folder import StagingFolder
from tests.stores.faulty import Faulty
from tests.stores.weed import Weed, new_bucket
from tests.tools import ROOT

INTAKE = Intake(mode=LockMode.COMPLIANCE, days=1)
PUTTER = Path(__file__).with_name("putter.py")
STEPS = ["GET", "LIST", "PUT", "GET VERSION"]
"""The requests of one put, in their order."""
KILLED = -9
WRITERS = 4
ENOUGH = 60


def clock() -> datetime:
    """Now, UTC."""
    return datetime.now(UTC)


def stage(staging: StagingFolder, key: str, data: bytes) -> StagedFile:
    """A finished upload."""
    with staging.begin(key, len(data)) as writer:
        writer.write(data)
        return writer.finish()


def launch(address: BucketAddress, staged: StagedFile) -> subprocess.Popen[bytes]:
    """Start the process that puts it."""
    arguments = (
        *(address.endpoint, address.bucket, address.access_key, address.secret_key),
        *(str(staged.path), staged.key, staged.sha256, str(staged.size_bytes)),
    )
    return subprocess.Popen(
        [sys.executable, str(PUTTER), *arguments], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_client_killed_at_any_step_leaves_nothing_half(
    weed: Weed, tmp_path: Path, step: str, done: bool
) -> None:
    """The staged file is still there, what the store shows is whole, and a repeat succeeds."""
    address = weed.address(new_bucket())
    store = S3Objects.create(Bucket(address), INTAKE, clock, store_id="s3")
    staging = StagingFolder.create(tmp_path / "staging", reserve_bytes=0)
    staged = stage(staging, "a", os.urandom(100_000))
    faulty = Faulty(weed.port)
    started: list[subprocess.Popen[bytes]] = []
    ready = threading.Event()

    def kill(line: str, now_done: bool) -> None:
        """Kill the client at its step; the listing asks by a prefix, and reading back a version."""
        method, _, target = line.partition(" ")
        now = "LIST" if "prefix=" in target else method
        now += " VERSION" if "versionId=" in target else ""
        if staged.sha256 in target and now == step and now_done is done:
            assert ready.wait(30)
            started[0].kill()
            started[0].wait(30)

    with faulty.watched(kill):
        started.append(launch(faulty.before(address), staged))
        ready.set()
        assert started[0].wait(60) == KILLED
    faulty.close()
    assert staged.path.exists()
    assert list(store.names()) in ([], [staged.sha256])
    store.prove()
    stored = store.put_once(staged)
    versions = [one for one in Bucket(address).versions("sha256/") if not one.is_marker]
    assert [one.version for one in versions] == [stored.version]
    assert stored.level is AssuranceLevel.S3_OBJECT_LOCK_COMPLIANCE
    assert not staged.path.exists()


def test_a_killed_server_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    """SeaweedFS is killed under load and started again: every stored version reads back, locked."""
    weed = Weed(tmp_path / "weed")
    address = weed.address(new_bucket())
    staging = StagingFolder.create(tmp_path / "staging", reserve_bytes=0)
    kept: list[StoredObject] = []
    enough = threading.Event()
    try:
        weed.start()
        store = S3Objects.create(Bucket(address), INTAKE, clock, store_id="s3")
        store.prove()

        def write(number: int) -> int:
            """Put until the server is gone; how many were acknowledged."""
            for count in range(10_000):
                data = os.urandom(50_000)
                try:
                    kept.append(store.put_once(stage(staging, f"w{number}-{count}", data)))
                except StorageError:
                    return count
                if len(kept) >= ENOUGH:
                    enough.set()
            raise AssertionError("the server was never killed")

        with ThreadPoolExecutor(WRITERS) as pool:
            writing = pool.map(write, range(WRITERS))
            assert enough.wait(120)
            weed.kill()
            assert sum(writing) == len(kept)
        weed.start()
        again = S3Objects(Bucket(address), INTAKE, clock)
        again.prove()
        for one in kept:
            assert again.stat(one.name, one.version) == one
            with again.open(one.name, one.version) as stream:
                assert hashlib.sha256(stream.read()).hexdigest() == one.name
        for waiting in staging.sweep().finished:  # what was on its way is put now
            again.put_once(waiting)
        assert staging.sweep().finished == ()
    finally:
        weed.kill()
