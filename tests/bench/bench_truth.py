"""What it costs to verify a database and to make it anew: time and memory for many captures.

    python tests/bench/bench_truth.py [COUNT]

Makes a deployment, logs COUNT captures (default 100,000) in batches of 500, and runs `fengni db
verify` and `fengni db rebuild` as processes of their own, whose peak memory the kernel tells.
Signatures of the captures are one and the same: neither command verifies them, the log did.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from evidence.statement import parse_statement
from service.captures.arrivals import STORE
from service.captures.queries import add_uploads
from service.context import open_context
from service.work.queue import State, add_pieces
from storage.log import Appended, PendingStatement, Submission
from tests.service.deployment_maker import make_deployment
from tests.tools import ROOT

BATCH = 500
MIB = 1024 * 1024


def fill(folder: Path, count: int) -> None:
    """A deployment of two organs with so many captures in the first one's log."""
    made = make_deployment(folder)
    party = made.parties["county-a"]
    context = open_context(made.settings)
    organ = context.organs["county-a"]

    def effects(connection: object, appended: list[Appended]) -> None:
        """The rows that an announcement leaves."""
        said = [one.pending.statement for one in appended]
        at = context.clock()
        add_uploads(connection, organ.log_id, said, at)  # type: ignore[arg-type]
        add_pieces(
            connection,  # type: ignore[arg-type]
            log=organ.log_id,
            organ=organ.id,
            kind=STORE,
            subjects=[one.id for one in said],
            at=at,
            state=State.HELD,
        )

    waiting = []
    for first in range(0, count, BATCH):
        items = []
        for number in range(first, min(first + BATCH, count)):
            signed = party.capture(number.to_bytes(8))
            items.append(
                PendingStatement(
                    signed=signed,
                    statement=parse_statement(signed.raw),
                    public_key=party.device.public_key,
                    received_at=context.clock(),
                )
            )
        waiting.append(organ.log.submit(Submission(items=tuple(items), effects=effects)))
        if len(waiting) > 2:
            waiting.pop(0).result()
    for one in waiting:
        one.result()
    context.close()


def measured(*words: str) -> tuple[float, int]:
    """Seconds and peak bytes of a command that must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    begun = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FENGNI_DISK_RESERVE_BYTES": "0"}
    subprocess.run(
        [sys.executable, "-m", "service.cli", *words],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return time.monotonic() - begun, max(before, peak) * 1024


def main() -> None:
    """Fill, measure, print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as name:
        folder, new = Path(name) / "deployment", f"sqlite:///{name}/new.db"
        begun = time.monotonic()
        fill(folder, count)
        print(f"{count} captures logged in {time.monotonic() - begun:.0f} s")
        for words in (
            ("db", "verify", str(folder)),
            ("db", "rebuild", str(folder), "--database-url", new),
        ):
            seconds, peak = measured(*words)
            rate = count / seconds
            print(f"{' '.join(words[:2])}: {seconds:.1f} s, {rate:.0f}/s, peak {peak // MIB} MiB")


if __name__ == "__main__":
    main()
