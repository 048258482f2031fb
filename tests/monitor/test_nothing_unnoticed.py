"""A monitor that has looked once notices any edit of a file, any rollback and any fork."""

import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evidence.tlog.tiles import TileName, tiles_of
from service.monitor.following import Demands, Look, Monitor
from service.monitor.memory import open_memory
from service.monitor.source import Source
from tests.monitor.operator_at_large import NOW_S, Operator, history
from tests.tools import ROOT

HONEST = history(600)
DEMANDS = Demands(unwitnessed_s=3600, stale_s=3600)
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Watched:
    """An operator's log and a state that has seen it at one size."""

    def __init__(self, url: str, operator: Operator, folder: Path) -> None:
        """Prepare; nothing is seen yet."""
        self.url, self.operator, self.state = url, operator, folder / "state"

    def look(self, *, whole: bool) -> Look:
        """Look from a fresh start."""
        log = self.operator.known_log()
        with open_memory(self.state) as memory, Source(self.url) as source:
            monitor = Monitor(source, memory, lambda: log, DEMANDS, lambda: NOW_S + 1.0)
            return monitor.look(whole=whole)


@contextmanager
def watched(size: int) -> Generator[Watched]:
    """A log of a size that a monitor has found to be sound."""
    operator = Operator(history=HONEST, size=size)
    with TemporaryDirectory() as folder, operator.serving() as url:
        seen = Watched(url, operator, Path(folder))
        assert seen.look(whole=True).findings == ()
        yield seen


SIZES = st.integers(1, 600)


@FEW
@given(size=SIZES, data=st.data())
def test_any_edit_of_any_file_is_noticed(size: int, data: st.DataObject) -> None:
    """Whichever byte of whichever tile or bundle becomes whatever else."""
    with watched(size) as seen:
        files: list[TileName] = [*tiles_of(size), *tiles_of(size, entries=True)]
        path = data.draw(st.sampled_from(files)).path()
        raw = bytearray(HONEST.file(path) or b"")
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
        seen.operator.edited[path] = bytes(raw)
        assert seen.look(whole=True).findings != ()
        seen.operator.edited.clear()
        assert seen.look(whole=True).findings == ()


@FEW
@given(size=SIZES, back=SIZES, whole=st.booleans())
def test_any_rollback_is_noticed(size: int, back: int, *, whole: bool) -> None:
    """Fewer entries than were signed before, by one or by many."""
    with watched(size) as seen:
        seen.operator.size = back = min(back, size) - 1
        assert [one.code.value for one in seen.look(whole=whole).findings] == ["rolled_back"]


@FEW
@given(size=SIZES, since=SIZES, grown=SIZES, whole=st.booleans())
def test_any_fork_is_noticed(size: int, since: int, grown: int, *, whole: bool) -> None:
    """From whichever entry on it differs, however far it has grown, signed and tiled."""
    since, grown = min(since, size) - 1, max(grown, size)
    with watched(size) as seen:
        seen.operator.show(history(grown, flavour="b", since=since), grown)
        look = seen.look(whole=whole)
        assert [one.code.value for one in look.findings] == ["two_histories"]
        assert len(look.findings[0].notes) == 2


KILLED = """
import os, signal, sys
from pathlib import Path
from service.monitor import memory
from service.monitor.following import Demands, Monitor
from service.monitor.memory import Memory, open_memory
from service.monitor.source import Source
from evidence.known_keys import parse_known_keys

name, url, state, known, now = sys.argv[1:]
setattr(Memory, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
[log] = parse_known_keys(Path(known).read_bytes()).logs.values()
with open_memory(Path(state)) as opened, Source(url) as source:
    demands = Demands(unwitnessed_s=3600, stale_s=3600)
    Monitor(source, opened, lambda: log, demands, lambda: float(now)).look(whole=False)
"""


def test_a_killed_look_is_done_again(tmp_path: Path) -> None:
    """Killed before the edge or before the proof is kept: the next look finds the same."""
    with watched(300) as seen:
        known = seen.operator.known_keys_file(tmp_path / "known-keys.json")
        for name, grown, expected in (
            ("keep_edge", HONEST, []),
            ("keep_proofs", history(500, flavour="b", since=299), ["two_histories"]),
        ):
            seen.operator.show(grown, 400)
            words = [name, seen.url, str(seen.state), str(known), str(NOW_S + 1)]
            ended = subprocess.run([sys.executable, "-c", KILLED, *words], cwd=ROOT, check=False)
            assert ended.returncode == -signal.SIGKILL
            look = seen.look(whole=False)
            assert [one.code.value for one in look.findings] == expected
