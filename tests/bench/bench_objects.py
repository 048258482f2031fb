"""What durable, hashed, write-once storage costs beside a plain write and fsync.

Run: .venv/bin/python tests/bench/bench_objects.py [FOLDER]
The peer writes the same bytes to a named file, syncs it and does nothing else. All ways take
turns in every round; the ratio is that of the medians. FOLDER decides which disk is measured (a
memory file system would make every sync free).
"""

import hashlib
import os
import platform
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from storage.durable import hash_from_disk
from storage.objects.local import LocalObjects
from storage.staging.folder import StagingFolder

MIB = 1 << 20
ROUNDS = 5
CASES = ((4 * MIB, 1, 48), (4 * MIB, 16, 96), (1024, 1, 200), (1024, 16, 600))

Way = Callable[[bytearray, int], None]


class Ways:
    """The ways to keep the same bytes, in one folder."""

    def __init__(self, folder: Path) -> None:
        """Make the stores."""
        self._folder = folder
        self._objects = LocalObjects.create(folder / "objects", store_id="bench")
        self._staging = StagingFolder.create(folder / "staging", reserve_bytes=0)

    def write(self, data: bytearray, number: int, *, hashed: bool = False) -> Path:
        """Write 1 MiB at a time to a named file."""
        path = self._folder / f"plain-{number}"
        digest = hashlib.sha256()
        with path.open("wb", buffering=0) as file:
            for start in range(0, len(data), MIB):
                piece = memoryview(data)[start : start + MIB]
                if hashed:
                    digest.update(piece)
                file.write(piece)
            os.fsync(file.fileno())
        return path

    def plain(self, data: bytearray, number: int) -> None:
        """Plain write and fsync."""
        self.write(data, number).unlink()

    def hashed(self, data: bytearray, number: int) -> None:
        """The same with a hash in the same pass."""
        self.write(data, number, hashed=True).unlink()

    def stage(self, data: bytearray, number: int) -> None:
        """Receive an upload: hashed, synced, named, folder synced."""
        with self._staging.begin(f"stage-{number}", len(data)) as writer:
            writer.write(data)
            writer.finish().path.unlink()

    def keep(self, data: bytearray, number: int) -> None:
        """The same, then made an object: read back from the disk, linked, folder synced."""
        with self._staging.begin(f"keep-{number}", len(data)) as writer:
            writer.write(data)
            staged = writer.finish()
        self._objects.put_once(staged)


def rate(way: Way, size: int, threads: int, repeats: int, numbers: "count[int]") -> float:
    """How many a second; every one has other bytes."""

    def work(_: int) -> None:
        data = bytearray(os.urandom(min(size, MIB)) * max(1, size // MIB))
        for _ in range(repeats // threads):
            number = next(numbers)
            data[:8] = number.to_bytes(8)
            way(data, number)

    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        list(pool.map(work, range(threads)))
        return repeats // threads * threads / (time.perf_counter() - start)


def compare(folder: Path, size: int, threads: int, repeats: int) -> None:
    """Print the rates of all ways and their ratios to the plain one."""
    ways = Ways(folder)
    numbers = count(1)
    measured: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name in ("plain", "hashed", "stage", "keep"):
            each = rate(getattr(ways, name), size, threads, repeats, numbers)
            measured.setdefault(name, []).append(each)
    plain = statistics.median(measured["plain"])
    print(f"\n{size} bytes, {threads} at once, {repeats} each, {ROUNDS} rounds")
    for name, label in (
        ("plain", "write + fsync (peer)"),
        ("hashed", "write + SHA-256 + fsync"),
        ("stage", "staged, durable"),
        ("keep", "staged and made an object"),
    ):
        each = statistics.median(measured[name])
        print(f"  {label:28} {each:8.1f}/s {each * size / 1e6:8.1f} MB/s  {each / plain:5.2f} ×")


def read_back(folder: Path) -> None:
    """Print what reading back costs beside hashing in memory."""
    path = folder / "read-back"
    data = os.urandom(64 * MIB)
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    memory: list[float] = []
    disk: list[float] = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        hashlib.sha256(data).digest()
        middle = time.perf_counter()
        hash_from_disk(fd)
        memory.append(middle - start)
        disk.append(time.perf_counter() - middle)
    os.close(fd)
    ratio = statistics.median(disk) / statistics.median(memory)
    print(f"\nread back from disk and hashed: {ratio:.2f} × the time of hashing in memory")


def main() -> None:
    """Print machine, versions, command and ratios."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        kind = subprocess.run(
            ["stat", "-f", "-c", "%T", name], check=True, capture_output=True, text=True
        ).stdout.strip()
        print(
            f"machine: {platform.machine()}, {os.cpu_count()} CPUs, {platform.platform()}, {kind}"
        )
        print(f"versions: Python {platform.python_version()}, {ssl.OPENSSL_VERSION}")
        print("command: tests/bench/bench_objects.py")
        for number, (size, threads, repeats) in enumerate(CASES):
            folder = Path(name, str(number))
            folder.mkdir()
            compare(folder, size, threads, repeats)
        read_back(Path(name))


if __name__ == "__main__":
    main()
