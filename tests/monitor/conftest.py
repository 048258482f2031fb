"""Fixtures: an operator with a log of 600 entries, and a monitor that has looked once."""

from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.monitor.following import Demands, Look, Monitor
from service.monitor.memory import open_memory
from service.monitor.source import Source
from tests.monitor.operator_at_large import NOW_S, History, Operator, history
from tests.transparency.small_log import Clock

Watch = Callable[..., Look]


@pytest.fixture(scope="session")
def entries() -> History:
    """What honestly happened."""
    return history(1000)


@pytest.fixture
def operator(entries: History) -> Operator:
    """Shows 600 of it."""
    return Operator(history=entries, size=600)


@pytest.fixture
def clock() -> Clock:
    """A minute after everything was signed."""
    clock = Clock()
    clock.now = NOW_S + 60
    return clock


@pytest.fixture
def watch(operator: Operator, tmp_path: Path, clock: Clock) -> Generator[Watch]:
    """Looks at the operator's log with a state of its own; each call is a new start."""
    with ExitStack() as stack:
        url = stack.enter_context(operator.serving())

        def look(*, whole: bool = True, receipts: Path | None = None, **options: bool) -> Look:
            demands = Demands(unwitnessed_s=3600, stale_s=86_400, receipts=receipts)
            log = operator.known_log(**options)
            with open_memory(tmp_path / "state") as memory, Source(url) as source:
                return Monitor(source, memory, lambda: log, demands, clock).look(whole=whole)

        yield look
