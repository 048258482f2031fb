"""What one capture costs: rows and bytes in the database, bytes in the log, processor time.

    python tests/bench/bench_units.py [CAPTURES]

A real server over PostgreSQL (fsync off, as in the tests: bytes are measured here, not syncs) takes
announcements one by one and in batches, then contents; before and after each part the database is
asked for its size and the kernel for the processes' time. docs/scale.py has the results.
"""

import contextlib
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import httpx
import msgspec

from service.deployment_file import Places
from tests.postgres import PostgresServer, embedded_binaries, running
from tests.service.deployment_maker import Made, bearer, make_deployment, wire
from tests.service.server_process import ServerProcess

BATCH = 50
CONTENT_BYTES = 1 << 20
TICKS = os.sysconf("SC_CLK_TCK")


def processor_s(pid: int) -> float:
    """Seconds that a process and its ended children have computed."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:  # it has ended; its parent has its time
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS


def descendants(pid: int) -> list[int]:
    """A process and everybody below it."""
    found = [pid]
    for one in found:
        with contextlib.suppress(FileNotFoundError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += [int(word) for word in (task / "children").read_text().split()]
    return found


class Bench:
    """One server with its database."""

    def __init__(
        self, postgres: PostgresServer, name: str, made: Made, node: ServerProcess
    ) -> None:
        """Measure nothing yet."""
        self.postgres, self.name, self.made, self.node = postgres, name, made, node
        self.organ = made.deployment.organs[0]
        self.party = made.parties[self.organ.id]
        headers = {**bearer(made.tokens[self.organ.id]), "Content-Type": "application/json"}
        self.http = httpx.Client(base_url=node.url, headers=headers, timeout=120)

    def announce(self, count: int, size_bytes: int) -> tuple[list[str], list[bytes], int, int]:
        """Announce captures at once; ids, contents, and bytes sent and received."""
        contents = [os.urandom(size_bytes) for _ in range(count)]
        signed = [self.party.capture(one) for one in contents]
        request = msgspec.json.encode(wire(*signed))
        answer = self.http.post("/v1/captures", content=request)
        answer.raise_for_status()
        return [one.id for one in signed], contents, len(request), len(answer.content)

    def database(self) -> dict[str, tuple[int, int]]:
        """Rows and bytes, indexes and large values included, of each table."""
        query = (
            "SELECT relname, pg_total_relation_size(oid) FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        sizes = self.postgres.execute(query, self.name)
        return {
            table: (self.postgres.execute(f"SELECT count(*) FROM {table}", self.name)[0][0], size)  # noqa: S608
            for table, size in sizes
        }

    def settle(self) -> None:
        """Wait until nothing is left to do."""
        left = "SELECT 1 FROM outbox WHERE state <> 'held' LIMIT 1"
        while self.postgres.execute(left, self.name):
            time.sleep(0.2)

    def tiles_bytes(self) -> int:
        """What the log has published."""
        folder = Places(self.made.settings.folder).tiles(self.organ.log.id)
        return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())

    def computed_s(self) -> tuple[float, float]:
        """Of the node with its children, and of the database server."""
        server = self.postgres._process.pid
        return (
            sum(map(processor_s, descendants(self.node.pid))),
            sum(map(processor_s, descendants(server))),
        )


def grown(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> str:
    """Rows and bytes that were added."""
    parts = [
        f"{table} {rows - before[table][0]} rows {size - before[table][1]} bytes"
        for table, (rows, size) in sorted(after.items())
        if (rows, size) != before[table]
    ]
    total = sum(size for _, size in after.values()) - sum(size for _, size in before.values())
    return f"{total} bytes: " + "; ".join(parts)


def each_way(sent: list[tuple[int, int]], count: int) -> str:
    """Bytes of a capture's announcement and of its receipt."""
    return f"{sum(a for a, _ in sent) / count:.0f} in, {sum(b for _, b in sent) / count:.0f} out"


def report(bench: Bench, what: str, count: int, act: "object") -> None:
    """Do one part and print what it cost."""
    bench.settle()
    rows, tiles, computed = bench.database(), bench.tiles_bytes(), bench.computed_s()
    begun = time.monotonic()
    wire_bytes = act()  # type: ignore[operator]
    bench.settle()
    passed = time.monotonic() - begun
    time.sleep(2)  # the publisher's second
    node, database = (b - a for a, b in zip(computed, bench.computed_s(), strict=True))
    print(f"{what}: {count} in {passed:.1f} s")
    each = f"node {node / count * 1000:.2f} ms, database {database / count * 1000:.2f} ms"
    print(f"  processor for each: {each}")
    print(f"  database: {grown(rows, bench.database())}")
    print(f"  published: {(bench.tiles_bytes() - tiles) / count:.0f} bytes each")
    print(f"  on the wire: {wire_bytes}")


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    load = os.getloadavg()[0]
    print(f"{platform.platform()}, Python {platform.python_version()}, load {load:.1f}, {sys.argv}")
    with (
        running(embedded_binaries()) as postgres,
        postgres.database() as name,
        tempfile.TemporaryDirectory() as place,
    ):
        made = make_deployment(
            Path(place) / "deployment", database_url=postgres.url(name), inspect_workers=1
        )
        with ServerProcess(made.settings.folder, inspect_workers=1) as node:
            node.start()
            bench = Bench(postgres, name, made, node)
            bench.announce(1, 10)

            def singly() -> str:
                """One by one."""
                sent = [bench.announce(1, 10)[2:] for _ in range(count)]
                return each_way(sent, count)

            def at_once() -> str:
                """In batches."""
                sent = [bench.announce(BATCH, 10)[2:] for _ in range(count // BATCH)]
                return each_way(sent, count)

            def contents() -> str:
                """With their contents, which are stored and looked at."""
                for _ in range(count // 8):
                    ids, bodies, _, _ = bench.announce(1, CONTENT_BYTES)
                    path = f"/v1/captures/{ids[0]}/content"
                    bench.http.put(path, content=bodies[0]).raise_for_status()
                return f"{CONTENT_BYTES} bytes of content each"

            report(bench, "announced one by one", count, singly)
            report(bench, f"announced in batches of {BATCH}", count, at_once)
            report(bench, "with content", count // 8, contents)
            node.stop()


if __name__ == "__main__":
    main()
