"""Verify a package with 2 GB of originals against `openssl dgst -sha256` over the same files.

Run: .venv/bin/python tests/bench/bench_verify.py [MEGABYTES]
Both read from a warm page cache, in turn, five times; the ratio is that of the medians.
"""

import hashlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import cryptography

from evidence.digest import Measured
from evidence.packing import Original, write_package
from tests.evidence.package_maker import AT, World, stamped
from tests.evidence.timestamp_maker import Authority

PIECE = os.urandom(1 << 20)
ROUNDS = 5
RUN = """
import io, sys, resource
from datetime import datetime
from pathlib import Path
from evidence.known_keys import parse_known_keys
from evidence.verify import verify_package
known = parse_known_keys(Path(sys.argv[2]).read_bytes())
with open(sys.argv[1], "rb") as stream:
    report = verify_package(stream, known, datetime.fromisoformat(sys.argv[3]))
print(report.outcome, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def pieces(number: int, megabytes: int) -> Iterator[bytes]:
    """The bytes of one original: its number, then the same random piece again and again."""
    yield number.to_bytes(8) + PIECE[8:]
    for _ in range(megabytes - 1):
        yield PIECE


def main() -> None:
    """Print machine, versions, command and the ratio."""
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    each = 100
    with tempfile.TemporaryDirectory() as folder:
        package, files, known, at = prepare(Path(folder), total // each, each)
        ours, said = timed(
            lambda: [sys.executable, "-c", RUN, str(package), str(known), at], ROUNDS
        )
        theirs, _ = timed(lambda: ["openssl", "dgst", "-sha256", *map(str, files)], ROUNDS)
    outcome, memory_mb = said.split()[-2:]
    print(f"machine: {platform.machine()}, {os.cpu_count()} CPUs, {platform.platform()}")
    print(f"versions: Python {platform.python_version()}, cryptography {cryptography.__version__}")
    print(f"command: bench_verify.py {total}; package of {total} MiB in {total // each} originals")
    print(f"verify {ours:.2f} s ({outcome}), openssl dgst {theirs:.2f} s")
    print(f"ratio {ours / theirs:.2f} (at most 1.3 wanted), memory {memory_mb} MB (150 wanted)")


def prepare(folder: Path, count: int, each: int) -> tuple[Path, list[Path], Path, str]:
    """Write the package, the same originals as files, and the known keys."""
    world = World()
    world.key("enrol", world.server, "server")
    world.key("enrol", world.device, "device")
    measured: list[Measured] = []
    files: list[Path] = []
    for number in range(count):
        path = folder / f"{number}.bin"
        digest = hashlib.sha256()
        with path.open("wb") as out:
            for piece in pieces(number, each):
                digest.update(piece)
                out.write(piece)
        files.append(path)
        measured.append(Measured(sha256=digest.hexdigest(), size_bytes=each << 20))
    captures = [world.photo(measured=item) for item in measured]
    world.status()
    authority = Authority.new()
    contents = stamped(world, captures[0], authority, captures)
    originals = [
        Original(
            capture=capture.id,
            media_type="video/mp4",
            content=item,
            pieces=lambda number=number: pieces(number, each),
        )
        for number, (capture, item) in enumerate(zip(captures, measured, strict=True))
    ]
    package = folder / "package.zip"
    with package.open("wb") as out:
        write_package(replace(contents, originals=originals), out)
    known = folder / "known-keys.json"
    known.write_bytes(world.known_raw(authority))
    return package, files, known, (AT + timedelta(days=1)).isoformat()


def timed(command: Callable[[], list[str]], rounds: int) -> tuple[float, str]:
    """Median wall seconds of a process over several rounds after a warm-up, and its output."""
    seconds: list[float] = []
    said = ""
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        done = subprocess.run(command(), capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - begun)
        said = done.stdout
    return statistics.median(seconds[1:]), said


if __name__ == "__main__":
    main()
