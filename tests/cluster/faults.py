"""What goes wrong on a cluster, each as a function that does it and takes it back.

Every fault is real: processes are killed or stopped, a server restarts, a proxy before the store
answers 500 or late, a file system is full, and the clock of one node's process jumps back.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from service.setup.cluster import EVIDENCE_DB, FIRST, HEADS_DB, PROXY, STORE, fresh_ports
from service.work.nodes import DEAD_AFTER_S
from storage.log.leading import LEASE_S
from tests.cluster.cluster_process import ClusterProcess
from tests.stores.faulty import Act, Fault, Faulty
from tests.tools import missing

FAKETIME = ("/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime")
DRAFT_BYTES = 48 * 1024 * 1024
BACK_S = 300
_FILLER = "filler"
WORKER = "worker-1"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A cluster on which everything can go wrong.

    Attributes:
        cluster: it, running.
        faulty: stands between the first node, the first worker and the store.
        clock: file that says by how much the first node's clock is off.
        long_s: how long a store is away.
    """

    cluster: ClusterProcess
    faulty: Faulty
    clock: Path
    long_s: float

    @property
    def drafts(self) -> Path:
        """Where the first worker copies contents and makes packages: a file system of its own."""
        return self.cluster.folder / WORKER / "exports"


@contextmanager
def bench(place: Path, long_s: float) -> Generator[Bench]:
    """Start a cluster whose first node has a clock of its own; it and a worker a faulty store."""
    clock = place / "clock"
    clock.write_text("+0\n")
    kept = fresh_ports()
    faulty = Faulty(kept.weed_ports["s3"])
    port = faulty._listener.getsockname()[1]
    beside = {
        "FENGNI_S3_ENDPOINT": f"http://127.0.0.1:{port}",
        "FENGNI_S3_TIMEOUT_S": "5",
        "FENGNI_DISK_RESERVE_BYTES": "0",
        "FENGNI_WORK_ATTEMPTS": "10000",
        "FENGNI_INSPECT_WORKERS": "1",
    }
    own = {FIRST: {**beside, **_own_clock(clock)}, WORKER: beside}
    cluster = ClusterProcess(place)
    cluster.folder.mkdir(mode=0o711)
    kept = msgspec.structs.replace(kept, environment=own)
    (cluster.folder / "cluster.json").write_bytes(msgspec.json.encode(kept))
    cluster.start()
    assert cluster.stop() == 0
    whole = Bench(cluster=cluster, faulty=faulty, clock=clock, long_s=long_s)
    with _small_file_system(whole.drafts):
        cluster.start()
        try:
            yield whole
        finally:
            cluster.stop()
            faulty.close()


def _own_clock(clock: Path) -> Mapping[str, str]:
    """Variables by which one process reads its time through a file; waiting is not touched."""
    found = [Path(one) / "libfaketimeMT.so.1" for one in FAKETIME]
    library = next((one for one in found if one.exists()), None) or missing("faketime")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@contextmanager
def _small_file_system(folder: Path) -> Generator[None]:
    """Give a folder a small file system of its own, with what lies in it."""
    kept = folder.with_name(f"{folder.name}.before")
    folder.rename(kept)
    folder.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DRAFT_BYTES},mode=0700", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False, timeout=30)
    try:
        if mounted.returncode:
            missing("the right to mount a file system (a full disk is tried with one)")
        subprocess.run(["cp", "-a", f"{kept}/.", str(folder)], check=True, timeout=30)
        yield
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=False, timeout=30)


def _killed(name: str) -> "Act_":
    def act(whole: Bench) -> Generator[None]:
        """Kill -9; the launcher starts it again."""
        gone = whole.cluster.kill_part(name)
        whole.cluster.wait_back(name, gone)
        yield

    return act


def _paused(name: str, at_least_s: float = 0.0) -> "Act_":
    def act(whole: Bench) -> Generator[None]:
        """Answers nothing for a while, as what is cut off does."""
        pid = whole.cluster.pid_of(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(max(whole.long_s, at_least_s))
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    return act


def _store_does(act_: Act, method: str) -> "Act_":
    def act(whole: Bench) -> Generator[None]:
        """The store answers wrongly, or late, for a while."""
        with whole.faulty.doing(Fault(act_, method)):
            time.sleep(whole.long_s)
            yield

    return act


def _database_restarts(whole: Bench) -> Generator[None]:
    """Ended in order, with everybody's connections; the launcher starts it again."""
    pid = whole.cluster.pid_of(EVIDENCE_DB)
    os.kill(pid, signal.SIGINT)
    whole.cluster.wait_back(EVIDENCE_DB, pid)
    yield


def _disk_is_full(whole: Bench) -> Generator[None]:
    """The first worker can copy nothing more; what it was to inspect another one does."""
    filler = whole.drafts / _FILLER
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(1 << 16)):
                pass
        except OSError:
            pass
    try:
        time.sleep(whole.long_s / 2)
        yield
    finally:
        filler.unlink()


def _clock_jumps_back(whole: Bench) -> Generator[None]:
    """The first node's clock is five minutes late at once, and right again later."""
    whole.clock.write_text(f"-{BACK_S}\n")
    try:
        time.sleep(whole.long_s / 2)
        yield
    finally:
        whole.clock.write_text("+0\n")


def _leader_killed(whole: Bench) -> Generator[None]:
    """Kill -9 of whoever leads the log; another one leads before it is back."""
    yield from _killed(whole.cluster.leader())(whole)


def _two_leaders(whole: Bench) -> Generator[None]:
    """The leader stops for longer than its lease and wakes up as one: only the other one is."""
    name = whole.cluster.leader()
    pid = whole.cluster.pid_of(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(2 * LEASE_S)
        assert whole.cluster.leader() != name
        os.kill(pid, signal.SIGCONT)
        whole.cluster.wait_for_one_leader()
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


Act_ = Callable[[Bench], Generator[None]]
FAULTS: Mapping[str, Act_] = {
    "node killed": _killed(FIRST),
    "leader killed": _leader_killed,
    "two leaders attempted": _two_leaders,
    "worker killed": _killed(WORKER),
    "worker paused": _paused(WORKER, 2 * DEAD_AFTER_S),
    "evidence database killed": _killed(EVIDENCE_DB),
    "evidence database restarted": _database_restarts,
    "evidence database away": _paused(EVIDENCE_DB),
    "heads database killed": _killed(HEADS_DB),
    "store killed": _killed(STORE),
    "store away": _paused(STORE),
    "store answers 500": _store_does(Act.FAIL, "PUT"),
    "store slow": _store_does(Act.DELAY, "PUT"),
    "witness killed": _killed("witness-1"),
    "authority killed": _killed("tsa"),
    "proxy killed": _killed(PROXY),
    "disk full": _disk_is_full,
    "clock jumps back": _clock_jumps_back,
}
"""Each on a cluster of two web nodes and two workers."""

SAMPLE = (
    *("leader killed", "two leaders attempted", "worker killed"),
    *("evidence database restarted", "store answers 500", "disk full"),
)
"""What `make test` tries; `make test-long` tries all."""


def chosen(names: str) -> tuple[str, ...]:
    """The faults that a list `name,name` names; `all` for all, nothing for the sample."""
    if names in {"", "all"}:
        return tuple(FAULTS) if names else SAMPLE
    wanted = tuple(name.strip() for name in names.split(","))
    if unknown := set(wanted) - set(FAULTS):
        raise KeyError(f"no such fault: {', '.join(sorted(unknown))}")
    return wanted


def happen(name: str, whole: Bench) -> None:
    """Let a fault happen and be taken back."""
    with contextmanager(FAULTS[name])(whole):
        pass
