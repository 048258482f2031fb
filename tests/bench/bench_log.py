"""How fast the log is: building a tree, proving in it, and committing batches.

Prints machine, versions, command and ratios; a figure in the docs comes from here.

    .venv/bin/python tests/bench/bench_log.py
"""

import hashlib
import os
import platform
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import cryptography  # noqa: E402
import sqlalchemy  # noqa: E402

from evidence.keys import P256Signer  # noqa: E402
from evidence.leaf import leaf_of  # noqa: E402
from evidence.merkle import Frontier, hash_leaf, inclusion_proof  # noqa: E402
from evidence.statement import open_statement  # noqa: E402
from evidence.tlog.tiles import TILE_WIDTH, tiles_of  # noqa: E402
from storage.log import Log, PendingStatement, Submission  # noqa: E402
from storage.log.tree import LogTree  # noqa: E402
from storage.tiles import LocalTiles  # noqa: E402
from tests.storage.log_material import Place, captures  # noqa: E402

SMALL, LARGE = 10_000, 1_000_000
PROOFS = 400
STATEMENTS, BATCH = 12_000, 100
CONNECTIONS, SINGLES = 32, 6_000


def machine() -> None:
    """Print what the figures belong to."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(": ")[2]
            break
    print(f"machine   {os.cpu_count()} × {model}, {platform.system()} {platform.release()}")
    print(
        f"versions  Python {platform.python_version()}, cryptography {cryptography.__version__},"
        f" SQLAlchemy {sqlalchemy.__version__}"
    )
    print("command   .venv/bin/python tests/bench/bench_log.py\n")


def grow(tree: LogTree, tiles: LocalTiles, frontier: Frontier, size: int) -> None:
    """Append up to a size, writing full tiles every 65,536 leaves as the publisher would."""
    key = b"\x30" * 91
    while frontier.size < size:
        for index in range(frontier.size, min(size, frontier.size + 65_536)):
            statement_id = hashlib.sha256(index.to_bytes(8)).hexdigest()
            tree.add(frontier.append(hash_leaf(leaf_of(statement_id, key[:71], key))))
        put_full_tiles(tree, tiles, frontier.size)


def put_full_tiles(tree: LogTree, tiles: LocalTiles, size: int) -> None:
    """Write the full tiles that are still in memory."""
    for name in tiles_of(size):
        if name.width == TILE_WIDTH and (name.level, name.index) in tree._growing:
            tiles.put(name.path(), tree.tile(name.level or 0, name.index, TILE_WIDTH))
    tree.settle(size)


def proof_us(tree: LogTree, index: int, size: int, *, cold: bool) -> float:
    """Microseconds of one proof; cold means that every tile is read and checked anew."""
    if cold:
        tree._blocks.clear()
    begun = time.perf_counter()
    inclusion_proof(index, size, tree.node)
    return (time.perf_counter() - begun) * 1e6


def bench_tree(folder: Path) -> None:
    """Build 1,000,000 leaves; proofs there against proofs in a log of 10,000, in turns."""
    trees: dict[int, LogTree] = {}
    for size in (SMALL, LARGE):
        tiles = LocalTiles.create(folder / f"tiles-{size}")
        tree, frontier = LogTree(tiles), Frontier.empty()
        took = timed(lambda tree=tree, f=frontier, t=tiles, size=size: grow(tree, t, f, size))
        trees[size] = tree
        print(f"build     {size:,} leaves, tiles on disk: {took:.1f} s, {size / took:,.0f}/s")
    chance = random.Random(1)
    anywhere = {size: [chance.randrange(size) for _ in range(PROOFS)] for size in trees}
    recent = {size: [size - 1 - chance.randrange(2000) for _ in range(PROOFS)] for size in trees}
    for what, indices, cold in (
        ("leaves anywhere, each for the first time", anywhere, False),
        ("the same leaves again", anywhere, False),
        ("among the last 2,000 leaves", recent, False),
        ("nothing in memory: tiles read, hashed, checked", anywhere, True),
    ):
        spent: dict[int, list[float]] = {size: [] for size in trees}
        for place in range(PROOFS):
            for size, tree in trees.items():
                spent[size].append(proof_us(tree, indices[size][place], size, cold=cold))
        small, large = statistics.median(spent[SMALL]), statistics.median(spent[LARGE])
        print(
            f"proof     {what}: {small:.0f} µs at {SMALL:,}, {large:.0f} µs at {LARGE:,},"
            f" ratio {large / small:.2f}"
        )


def timed(work: Callable[[], object]) -> float:
    """Seconds that a piece of work takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def bare_loop(items: Sequence[PendingStatement]) -> None:
    """Verify, parse and re-canonicalise, hash the leaf: the peer of the sequencer's figures."""
    for item in items:
        statement = open_statement(item.signed.raw, item.signed.signature, item.public_key)
        hash_leaf(leaf_of(statement.id, item.signed.signature, item.public_key))


def in_batches(log: Log, items: Sequence[PendingStatement]) -> None:
    """One submission after the other, as one client would send them."""
    for first in range(0, len(items), BATCH):
        log.submit(Submission(items=tuple(items[first : first + BATCH]))).result()


def bench_batches(folder: Path) -> None:
    """Batches of 100 through admission-free sequencer and publisher, against the bare loop."""
    place = Place(folder / "batches").make()
    items = captures(P256Signer.generate(), STATEMENTS)
    with place.open(period_s=1.0) as log:
        loops, logs = [], []
        for first in range(0, STATEMENTS, STATEMENTS // 4):
            part = items[first : first + STATEMENTS // 4]
            loops.append(timed(lambda part=part: bare_loop(part)) / len(part) * 1e6)
            logs.append(timed(lambda part=part: in_batches(log, part)) / len(part) * 1e6)
    loop, share = sorted(loops)[1], sorted(logs)[1]
    print(f"batch     bare loop {loop:.0f} µs an item; log in batches of {BATCH}: {share:.0f} µs")
    print(f"batch     loop / (loop + log) = {loop / (loop + share):.2f}")


def bench_singles(folder: Path) -> None:
    """One statement at a time from 32 threads: how they group."""
    place = Place(folder / "singles").make()
    items = captures(P256Signer.generate(), SINGLES)
    waits: list[float] = []
    sizes: set[int] = set()
    turn = threading.Lock()
    with place.open(period_s=1.0) as log:

        def announce(item: PendingStatement) -> None:
            begun = time.perf_counter()
            [receipt] = log.submit(Submission(items=(item,))).result()
            waited = time.perf_counter() - begun
            assert not isinstance(receipt, Exception)
            with turn:
                waits.append(waited)
                sizes.add(receipt.size)

        with ThreadPoolExecutor(CONNECTIONS) as pool:
            took = timed(lambda: list(pool.map(announce, items)))
    waits.sort()
    print(
        f"single    {CONNECTIONS} threads: {SINGLES / took:,.0f}/s, {SINGLES / len(sizes):.1f} to a"
        f" batch, p50 {waits[len(waits) // 2] * 1e3:.0f} ms,"
        f" p99 {waits[int(len(waits) * 0.99)] * 1e3:.0f} ms"
    )


def main() -> None:
    """Run all of it in a folder that is removed afterwards."""
    machine()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR", ROOT)) as folder:
        bench_tree(Path(folder))
        bench_batches(Path(folder))
        bench_singles(Path(folder))


if __name__ == "__main__":
    main()
