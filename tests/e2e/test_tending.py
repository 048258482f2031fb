"""The demo outlives its authority and witnesses, and ends with its server."""

import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.setup.children import ChildFailed, Children
from service.setup.tending import MOST_FALLS, SOUND_S, Tending
from service.transparency.tsa import create_tsa
from tests.e2e.demo_process import DemoProcess
from tests.service.server_process import free_port
from tests.tools import require_tool

MODULE = "service.transparency.tsa"
PATIENCE_S = 30


def until(done: Callable[[], bool]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def process_of(parent: int, folder: Path) -> int:
    """The child that runs over this folder."""
    for word in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        command = Path(f"/proc/{word}/cmdline").read_bytes().split(b"\0")
        if os.fsencode(folder) in command:
            return int(word)
    raise AssertionError(f"no child runs over {folder}")


def test_what_ends_is_started_again_where_it_listened(tmp_path: Path) -> None:
    """It is said at once, done a second later, and the address stays the same."""
    require_tool("openssl")
    create_tsa(tmp_path / "tsa")
    said: list[str] = []
    with Children(tmp_path) as children:
        children.start("tsa", MODULE, [tmp_path / "tsa"])
        address = children.address("tsa")
        tending = Tending(children, ["tsa"], said.append, now=0)
        os.kill(process_of(os.getpid(), tmp_path / "tsa"), signal.SIGKILL)
        until(lambda: children.end_of("tsa") is not None)
        tending.look(1)
        tending.look(1.5)
        assert children.end_of("tsa") is not None
        tending.look(2)
        assert children.address("tsa") == address
        tending.look(3)
    words = f"its last words are in {tmp_path / 'tsa.log'}."
    assert said == [
        f"tsa was killed by SIGKILL; {words} It is started again in 1 s; the server goes on.",
        "tsa runs again.",
    ]


def test_what_never_stays_is_left_alone(tmp_path: Path) -> None:
    """Each pause is twice the one before, and after the last one nothing is started any more."""
    said: list[str] = []
    with Children(tmp_path) as children:
        children.start("tsa", MODULE, [tmp_path / "nothing"])
        tending = Tending(children, ["tsa"], said.append, now=0)
        now = 0.0
        for fall in range(MOST_FALLS):
            until(lambda: children.end_of("tsa") is not None)
            tending.look(now)
            now += 2.0**fall
            tending.look(now)  # starts it again
        until(lambda: children.end_of("tsa") is not None)
        for later in (0, SOUND_S, 10 * SOUND_S):
            tending.look(now + later)
    pauses = [one.partition("again in ")[2].partition(" s")[0] for one in said[:-1]]
    assert pauses == ["1", "2", "4", "8", "16"]
    assert "ended with status 1" in said[-1]
    assert said[-1].endswith("It does not stay and is left alone; what needs it waits.")


def test_a_child_that_refuses_is_quoted(tmp_path: Path) -> None:
    """The console says why, and not only in which file it stands."""
    with Children(tmp_path) as children:
        children.start("server", "service.cli", ["serve", tmp_path / "nothing"], port=free_port())
        until(lambda: children.end_of("server") is not None)
        with pytest.raises(ChildFailed) as refused:
            children.address("server")
    missing = tmp_path / "nothing" / "deployment.json"
    assert str(refused.value) == (
        f"server ended with status 64: {missing} is missing; make it with `fengni init`;"
        f" its last words are in {tmp_path / 'server.log'}."
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_console_says_that_the_server_was_put_back(fresh_demo: DemoProcess) -> None:
    """An old copy of the server's folder: the demo ends, and its console names who knows better."""
    demo = fresh_demo
    demo.start()
    assert demo.stop() == 0
    shutil.copytree(demo.server, demo.place / "backup")
    demo.start()
    photo = demo.place / "after.jpg"
    shutil.copy(demo.folder / "photos" / "stall-on-pavement.jpg", photo)
    assert demo.run("upload", photo, "--wait", "witnessed", "--task", "after").status == 0
    assert demo.stop() == 0
    shutil.rmtree(demo.server)
    shutil.copytree(demo.place / "backup", demo.server)
    demo.launch()
    assert demo.process.wait(PATIENCE_S) == 1
    words = " ".join(demo.output().split())
    assert "server ended with status 1: witness witness-" in words
    assert "saw" in words


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_goes_on_without_its_authority_and_not_without_its_server(
    fresh_demo: DemoProcess,
) -> None:
    """A killed authority comes back and stamps; a killed server ends the demo with its reason."""
    demo = fresh_demo
    demo.start()
    for name in ("tsa", "witness-2"):
        os.kill(process_of(demo.process.pid, demo.folder / name), signal.SIGKILL)
    until(lambda: all(f"{name} runs again" in demo.output() for name in ("tsa", "witness-2")))
    assert "tsa was killed by SIGKILL" in demo.output()
    photo = demo.place / "after.jpg"
    shutil.copy(demo.folder / "photos" / "stall-on-pavement.jpg", photo)
    uploaded = demo.run("upload", photo, "--json", "--wait", "time_stamped", "--task", "after")
    assert (uploaded.status, uploaded.json()["captures"][0]["stage"]) == (0, "time_stamped")
    os.kill(process_of(demo.process.pid, demo.server), signal.SIGKILL)
    assert demo.process.wait(PATIENCE_S) == 1
    assert "server was killed by SIGKILL" in " ".join(demo.output().split())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", demo.port)).close()
