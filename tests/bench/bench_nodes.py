"""Announcements at one web node and at two of one deployment: processor time for each of them.

Run: PYTHONPATH=. .venv/bin/python tests/bench/bench_nodes.py
One statement a request, 32 connections in all, every statement new, the proof in the answer. With
two nodes half of the connections go to the node that follows, whose statements reach the other one
through the work table, are verified again there, and return. Processor time is that of the nodes
with their children and that of both PostgreSQL servers (fsync on), told apart. Rounds with one node
and with two take turns, so that the machine's own speed is the same for both.
"""

import json
import os
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from evidence.statement import SignedStatement
from tests.bench.served import print_machine
from tests.postgres import PostgresServer, embedded_binaries, running
from tests.service.deployment_maker import wire
from tests.service.nodes import Nodes, until
from tests.service.server_process import ServerProcess
from tests.tools import ROOT, require_tool

ROUNDS = 3
SECONDS = 6
CONNECTIONS = 32
STATEMENTS = 4000
WANTED = 1.15
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round came to."""

    rate: float
    nodes_ms: float
    servers_ms: float
    p99: tuple[str, ...]

    @property
    def total_ms(self) -> float:
        """Processor time for one announcement, in milliseconds."""
        return self.nodes_ms + self.servers_ms


def main() -> None:
    """Print machine, versions, command and ratios."""
    print_machine()
    print(f"command: bench_nodes.py; wrk -c{CONNECTIONS} in all; fsync; client on the same cores")
    with (
        running(embedded_binaries()) as server,
        running(embedded_binaries()) as heads,
        tempfile.TemporaryDirectory() as folder,
        Nodes(server, heads, Path(folder)) as nodes,
    ):
        for one in (server, heads):
            one.execute("ALTER SYSTEM SET fsync = on")
            one.execute("ALTER SYSTEM SET autovacuum = on")
            one.execute("SELECT pg_reload_conf()")
        first, second = nodes.node(), nodes.node(start=False)
        organ = next(iter(nodes.made.parties))
        ratios: list[float] = []
        for number in range(ROUNDS):
            alone = measure(nodes, [first], (server, heads), Path(folder))
            second.start()
            until(lambda: nodes.state(second, organ).get("leads") is False)
            both = measure(nodes, [first, second], (server, heads), Path(folder))
            second.stop()
            ratios.append(both.total_ms / alone.total_ms)
            for name, one in (("one node", alone), ("two nodes", both)):
                print(
                    f"round {number + 1}, {name}: {one.rate:.0f}/s, {one.total_ms:.2f} ms each"
                    f" ({one.nodes_ms:.2f} nodes, {one.servers_ms:.2f} PostgreSQL),"
                    f" p99 {', '.join(one.p99)}; load {os.getloadavg()[0]:.1f}"
                )
        print(f"ratio {statistics.median(ratios):.2f} (at most {WANTED} wanted): {ratios}")


def measure(
    nodes: Nodes, used: list[ServerProcess], servers: Iterable[PostgresServer], folder: Path
) -> Round:
    """Announce at these nodes at once and count what it costs."""
    organ, party = next(iter(nodes.made.parties.items()))
    bodies = [folder / f"bodies-{number}" for number in range(len(used))]
    for file in bodies:
        signed = [party.capture(os.urandom(8)) for _ in range(STATEMENTS // len(used))]
        file.write_text("".join(_line(one) for one in signed))
    ours, theirs = [one.pid for one in used], [one.pid for one in servers]
    begun = _cpu_s(ours), _cpu_s(theirs)
    started = time.perf_counter()
    clients = [
        _wrk(one.url, file, nodes.made.tokens[organ], CONNECTIONS // len(used))
        for one, file in zip(used, bodies, strict=True)
    ]
    said = [client.communicate()[0] for client in clients]
    seconds = time.perf_counter() - started
    done = sum(int(_found(r"(\d+) requests in", one)) for one in said)
    if any("Non-2xx" in one for one in said):
        raise RuntimeError("\n".join(said))
    return Round(
        rate=done / min(seconds, SECONDS),
        nodes_ms=1000 * (_cpu_s(ours) - begun[0]) / done,
        servers_ms=1000 * (_cpu_s(theirs) - begun[1]) / done,
        p99=tuple(_found(r"99%\s+(\S+)", one) for one in said),
    )


def _line(signed: SignedStatement) -> str:
    return json.dumps(wire(signed)) + "\n"


def _wrk(url: str, bodies: Path, token: str, connections: int) -> "subprocess.Popen[str]":
    script = ROOT / "tests" / "bench" / "announced.lua"
    load = ["-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", "-s", str(script)]
    command = [str(require_tool("wrk")), *load, url, "--", str(bodies), token, "1"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _found(pattern: str, said: str) -> str:
    found = re.search(pattern, said)
    if found is None:
        raise RuntimeError(said)
    return found[1]


def _cpu_s(roots: Iterable[int]) -> float:
    """Processor time of these processes, of their children, and of those that have ended."""
    parents: dict[int, tuple[int, float]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        used = sum(int(fields[place]) for place in (11, 12, 13, 14)) * _TICK_S
        parents[int(entry.parent.name)] = int(fields[1]), used
    wanted = set(roots)
    while more := {pid for pid, (parent, _) in parents.items() if parent in wanted} - wanted:
        wanted |= more
    return sum(parents[pid][1] for pid in wanted if pid in parents)


if __name__ == "__main__":
    main()
