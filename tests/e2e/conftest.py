"""One demo for the walk through everything, and fresh ones for what breaks them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.demo_process import DemoProcess
from tests.tools import require_tool


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoProcess]:
    """A demo that runs for all tests of a module."""
    require_tool("openssl")
    running = DemoProcess(tmp_path_factory.mktemp("demo"))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def fresh_demo(tmp_path: Path) -> Iterator[DemoProcess]:
    """A demo of this test alone, which it starts itself."""
    require_tool("openssl")
    fresh = DemoProcess(tmp_path)
    yield fresh
    if fresh._process is not None:
        fresh.stop()
