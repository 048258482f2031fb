"""Announcements: one statement a request over 32 connections, and batches of 100.

Run: PYTHONPATH=. .venv/bin/python tests/bench/bench_announce.py [sqlite|postgres|system]
The peer of the batches is a bare loop of verify + canonicalise + leaf hash in one process. The
client (wrk) runs on the same cores; every statement is new; strict fsync; the proof is in the
answer. The PostgreSQL server is that of the test requirements (`postgres`) or the system's
(`system`), with fsync, on the same cores as everything else.
"""

import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import rfc8785

from evidence.keys import verify_signature
from evidence.leaf import leaf_of
from evidence.merkle import hash_leaf
from evidence.statement import SignedStatement
from tests.bench.served import Served, print_machine, served
from tests.postgres import embedded_binaries, running, system_binaries
from tests.service.deployment_maker import bearer, wire
from tests.tools import ROOT, require_tool

SINGLE = 8000
BATCHES = 60
EACH = 100
ROUNDS = 3
WANTED = {"sqlite": (600, 0.4), "postgres": (400, 0.3), "system": (400, 0.3)}
THREADS = 2
CONNECTIONS = 4


def main() -> None:
    """Print machine, versions, command and ratios."""
    print_machine()
    sort = sys.argv[1] if len(sys.argv) > 1 else "sqlite"
    single, share = WANTED[sort]
    print(
        f"command: bench_announce.py {sort}; wrk -t2 -c32; strict fsync; client on the same cores"
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        database(sort) as url,
        served(Path(folder), url) as server,
    ):
        party = server.made.parties[server.organ]
        for round_ in range(ROUNDS):
            singles = [party.capture(os.urandom(8)) for _ in range(SINGLE)]
            rate, p99 = announce_singly(server, singles, Path(folder) / f"bodies-{round_}")
            print(f"single: {rate:.0f}/s ({single} wanted), p99 {p99} (250 ms wanted)")
        shares: list[float] = []
        for _ in range(ROUNDS):
            batch = [party.capture(os.urandom(8)) for _ in range(BATCHES * EACH)]
            ours, bare = announce_batched(server, batch), bare_loop(batch, party.device.public_key)
            shares.append(ours / bare)
            print(f"batches of 100: {ours:.0f}/s; bare loop {bare:.0f}/s")
        print(f"ratio {statistics.median(shares):.2f} (at least {share} wanted)")


@contextlib.contextmanager
def database(sort: str) -> Generator[str | None]:
    """A database of the sort, with fsync; None for a SQLite file in the deployment's folder."""
    if sort == "sqlite":
        yield None
        return
    with running(embedded_binaries() if sort == "postgres" else system_binaries()) as server:
        server.execute("ALTER SYSTEM SET fsync = on")
        server.execute("ALTER SYSTEM SET autovacuum = on")
        server.execute("SELECT pg_reload_conf()")
        print(f"database: PostgreSQL {server.execute('SHOW server_version')[0][0]}")
        yield server.url(server.copy())


def announce_singly(
    server: Served, statements: list[SignedStatement], bodies: Path
) -> tuple[float, str]:
    """Statements a second and the 99th percentile, as wrk reports them."""
    bodies.write_text("".join(json.dumps(wire(one)) + "\n" for one in statements))
    script = ROOT / "tests" / "bench" / "announced.lua"
    command = [
        str(require_tool("wrk")),
        f"-t{THREADS}",
        "-c32",
        "-d6s",
        "--latency",
        "-s",
        str(script),
        server.url,
        "--",
        str(bodies),
        server.token,
        str(THREADS),
    ]
    begun = time.perf_counter()
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seconds = time.perf_counter() - begun
    done = re.search(r"(\d+) requests in ([\d.]+)s", said)
    p99 = re.search(r"99%\s+(\S+)", said)
    if not done or not p99 or "Non-2xx" in said:
        raise RuntimeError(said)
    return int(done[1]) / min(seconds, float(done[2])), p99[1]


def announce_batched(server: Served, statements: list[SignedStatement]) -> float:
    """Statements a second in batches of 100 over four connections."""
    bodies = [
        json.dumps(wire(*statements[start : start + EACH])).encode()
        for start in range(0, len(statements), EACH)
    ]
    headers = {**bearer(server.token), "Content-Type": "application/json"}

    def announce(mine: list[bytes]) -> None:
        with httpx.Client(headers=headers, timeout=30) as client:
            for body in mine:
                answer = client.post(f"{server.url}/v1/captures", content=body)
                if answer.raise_for_status().content.count(b'"inclusion_proof"') != EACH:
                    raise RuntimeError("a statement was refused")

    begun = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(announce, (bodies[start::CONNECTIONS] for start in range(CONNECTIONS))))
    return len(statements) / (time.perf_counter() - begun)


def bare_loop(statements: list[SignedStatement], public_key: bytes) -> float:
    """Statements a second through verify + canonicalise + leaf hash and nothing else."""
    begun = time.perf_counter()
    for one in statements:
        verify_signature(public_key, one.signature, one.raw)
        rfc8785.dumps(json.loads(one.raw))
        hash_leaf(leaf_of(one.id, one.signature, public_key))
    return len(statements) / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
