"""Metadata: a folder of real captures through the sandbox, beside one run of ExifTool over it.

Run: PYTHONPATH=. .venv/bin/python tests/bench/bench_metadata.py [FOLDER]
The folder is `captures` of `$FENGNI_SHARED` (else `../shared`). The peer is one
`exiftool -json -n -G1 -r` over the same folder, which reads metadata only; ours also hashes
nothing, checks C2PA manifests, decodes the pictures and measures them, each file in a confined
process of its own, two at once. Rounds alternate; the ratio is that of the medians.
"""

import os
import platform
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from service.captures.sandbox import Sandbox
from tests.tools import ROOT, require_tool

ROUNDS = 5
WORKERS = 2


def main() -> None:
    """Print machine, versions, command and the ratio."""
    shared = Path(os.environ.get("FENGNI_SHARED", ROOT.parent / "shared"))
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else shared / "captures"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    exiftool = str(require_tool("exiftool"))
    version = subprocess.run([exiftool, "-ver"], capture_output=True, text=True, check=True).stdout
    print(f"machine: {platform.machine()}, {os.cpu_count()} CPUs, {platform.platform()}")
    print(f"versions: Python {platform.python_version()}, exiftool {version.strip()}")
    print("command: exiftool -json -n -G1 -r FOLDER, and bench_metadata.py FOLDER")
    with Sandbox(workers=WORKERS) as sandbox:
        print(
            f"{len(files)} files; tools:",
            ", ".join(f"{tool.name} {tool.version}" for tool in sandbox.tools()),
        )
        rounds = [
            (through_sandbox(sandbox, files), through_exiftool(exiftool, folder))
            for _ in range(ROUNDS)
        ]
        peak = max(sandbox.inspect(path, path.stat().st_size, "").peak_kib for path in files)
    report(rounds, len(files))
    print(f"largest job {peak / 1024:.0f} MiB resident")


def through_sandbox(sandbox: Sandbox, files: list[Path]) -> float:
    """Seconds to inspect every file."""
    began = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(lambda path: sandbox.inspect(path, path.stat().st_size, ""), files))
    return time.perf_counter() - began


def through_exiftool(exiftool: str, folder: Path) -> float:
    """Seconds for one run over the folder."""
    command = [exiftool, "-json", "-n", "-G1", "-r", str(folder)]
    began = time.perf_counter()
    subprocess.run(command, capture_output=True, check=False)  # it exits 1 over broken files
    return time.perf_counter() - began


def report(rounds: list[tuple[float, float]], count: int) -> None:
    """Print both medians and their ratio."""
    mine, peers = (statistics.median(times) for times in zip(*rounds, strict=True))
    print(f"sandbox {mine:.2f} s ({mine / count * 1000:.1f} ms a file); exiftool {peers:.2f} s")
    print(f"ratio {peers / mine:.2f} × exiftool's speed (at least 1 wanted)")


if __name__ == "__main__":
    main()
