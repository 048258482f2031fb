"""A witness under races and power cuts: what it has signed once never shrinks."""

import random
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import httpx
import pytest

from evidence.tlog.checkpoint import open_checkpoint
from service.transparency.cosigning import Witness
from service.transparency.witness import create_witness, open_witness
from tests.tools import ROOT
from tests.transparency.small_log import HASH, LOG, NAME, Clock, SmallLog, forked


def size_of(witness: Witness, log: SmallLog = LOG) -> int:
    """Return the size that a witness serves, 0 where it serves none."""
    answer = witness.checkpoint(HASH)
    if answer.status == 404:
        return 0
    return open_checkpoint(answer.body, log.signer.verifier_keys).checkpoint.size


def test_two_concurrent_updates_never_roll_back(folder: Path, clock: Clock) -> None:
    """Of many requests from one size exactly one is cosigned, by whichever process."""
    two = (open_witness(folder, clock), open_witness(folder, clock))
    old = 0
    for _ in range(6):
        gate = threading.Barrier(8)

        def race(number: int, old: int = old, gate: threading.Barrier = gate) -> tuple[int, int]:
            body = LOG.body(old, old + 1 + number)
            gate.wait()
            return two[number % 2].add_checkpoint(body).status, old + 1 + number

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(race, range(8)))
        cosigned = [size for status, size in answers if status == 200]
        assert len(cosigned) == 1
        assert sorted({status for status, _ in answers}) == [200, 409]
        assert [size_of(witness) for witness in two] == cosigned * 2
        old = cosigned[0]


def test_two_histories_cannot_both_be_cosigned(folder: Path, clock: Clock) -> None:
    """Two views of one size that arrive at once: one gets in, the other never does."""
    other = forked(9)
    for attempt in range(5):
        place = folder.parent / str(attempt)
        create_witness(place, NAME, LOG.vkeys)
        witness = open_witness(place, clock)
        gate = threading.Barrier(2)

        def race(body: bytes, witness: Witness = witness, gate: threading.Barrier = gate) -> int:
            gate.wait()
            return witness.add_checkpoint(body).status

        with ThreadPoolExecutor(2) as pool:
            statuses = list(pool.map(race, (LOG.body(0, 9), other.body(0, 9))))
        assert sorted(statuses) == [200, 409]
        assert [witness.add_checkpoint(log.body(9, 9)).status for log in (LOG, other)].count(
            422
        ) == 1


@pytest.mark.parametrize(("step", "size"), [("before", 0), ("after", 5)])
def test_kill_9_around_the_commit(folder: Path, clock: Clock, step: str, size: int) -> None:
    """Killed before the commit it knows nothing; killed after it, unanswered, it knows it all."""
    program = dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from evidence.tlog.cosignature import Cosigner
        from service.transparency.cosigning import Witness
        from service.transparency.witness import open_witness

        def end(*_):
            os.kill(os.getpid(), signal.SIGKILL)

        witness = open_witness(Path(sys.argv[1]), lambda: 1_800_000_000.0)
        if sys.argv[2] == "before":
            Cosigner.cosign = end
        else:
            whole = Witness._cosign
            Witness._cosign = lambda *a: (whole(*a), end())
        witness.add_checkpoint(sys.stdin.buffer.read())
        """
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(folder), step],
        input=LOG.body(0, 5),
        cwd=ROOT,
        check=False,
        timeout=60,
    )
    assert ended.returncode == -signal.SIGKILL
    witness = open_witness(folder, clock)
    assert size_of(witness) == size
    conflict = witness.add_checkpoint(LOG.body(0, 7))
    assert conflict.status == (200 if size == 0 else 409)
    if size:
        assert conflict.body == b"5\n"
        assert witness.add_checkpoint(LOG.body(5, 7)).status == 200


@contextmanager
def served(folder: Path) -> Generator[tuple[str, "subprocess.Popen[bytes]"], None, None]:
    """Run a witness as its own process; yield its address and the process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "service.transparency.witness", str(folder), "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        yield line.rsplit("ready on ", 1)[1].strip(), process
    finally:
        process.kill()
        process.communicate()


def test_kill_9_at_random_moments_loses_no_answer(tmp_path: Path, clock: Clock) -> None:
    """Whatever was answered before a kill is remembered after it, and nothing smaller."""
    log = SmallLog(1500)
    create_witness(tmp_path / "west", NAME, log.vkeys)
    chance = random.Random(7)
    acknowledged = 0
    for _ in range(10):
        with served(tmp_path / "west") as (url, process):
            killer = threading.Timer(chance.uniform(0.005, 0.15), process.kill)
            acknowledged = submit_until_dead(url, log, acknowledged, killer)
            killer.join()
        known = size_of(open_witness(tmp_path / "west", clock), log)
        assert known in {acknowledged, acknowledged + 1}
        acknowledged = known
    assert 0 < acknowledged < 1499


def submit_until_dead(url: str, log: SmallLog, size: int, killer: threading.Timer) -> int:
    """Submit one leaf more each time until the process is gone; return the last size answered.

    The killer starts with the first answer: a slow machine must not kill before anything is said.
    """
    with httpx.Client(base_url=url, trust_env=False, timeout=10) as http:
        while True:
            try:
                answer = http.post("add-checkpoint", content=log.body(size, size + 1))
            except httpx.HTTPError:
                return size
            assert answer.status_code == 200
            size += 1
            if killer.ident is None:
                killer.start()
