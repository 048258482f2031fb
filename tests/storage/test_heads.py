"""The head store: compare-and-swap in one file that one process holds."""

import subprocess
import sys
from pathlib import Path

import pytest

from storage.errors import AlreadyExists, HeadConflict, IntegrityAlarm, NotFound, Unavailable
from storage.log.heads import FileHead, Head

FIRST = Head(size=0, root=b"\x00" * 32)
SECOND = Head(size=7, root=b"\x07" * 32)
HOLDER = """
import sys
from pathlib import Path
from storage.log.heads import FileHead
with FileHead(Path(sys.argv[1])).hold():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def head(tmp_path: Path) -> FileHead:
    """Return the head of a new log."""
    return FileHead.create(tmp_path / "heads" / "demo.head", FIRST)


def test_swap_is_read_by_everybody(head: FileHead) -> None:
    """What was swapped in is what a second reader sees, in the literal form of the module."""
    with head.hold():
        head.swap(FIRST, SECOND)
    assert FileHead(head.path).read() == SECOND
    assert head.path.read_bytes().startswith(
        b"7\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\nsha256 "
    )


def test_swap_refuses_another_head(head: FileHead) -> None:
    """A writer that started from something else changes nothing."""
    with head.hold():
        with pytest.raises(HeadConflict):
            head.swap(Head(size=0, root=b"\x01" * 32), SECOND)
        head.swap(FIRST, SECOND)
        with pytest.raises(HeadConflict):
            head.swap(FIRST, Head(size=9, root=b"\x09" * 32))
    assert head.read() == SECOND


def test_a_head_never_goes_back(head: FileHead) -> None:
    """A smaller or equal size is a mistake of the caller."""
    with head.hold():
        head.swap(FIRST, SECOND)
        with pytest.raises(ValueError, match="grows"):
            head.swap(SECOND, FIRST)


def test_only_the_holder_swaps(head: FileHead) -> None:
    """Without holding the head nothing is swapped, and nobody else can hold it meanwhile."""
    with pytest.raises(ValueError, match="held"):
        head.swap(FIRST, SECOND)
    with head.hold(), pytest.raises(Unavailable), FileHead(head.path).hold():
        pass
    with head.hold():
        head.swap(FIRST, SECOND)


def test_another_process_cannot_hold_it_until_the_first_dies(head: FileHead) -> None:
    """The lock is the kernel's: kill -9 lets go of it, and nothing has to be cleared."""
    command = [sys.executable, "-c", HOLDER, str(head.path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(Unavailable, match="another process"), head.hold():
            pass
        child.kill()
        child.wait()
    with head.hold():
        head.swap(FIRST, SECOND)


def test_a_missing_head_is_not_made(tmp_path: Path) -> None:
    """Reading or holding a head that is not there makes none; making one twice is refused."""
    head = FileHead(tmp_path / "heads" / "demo.head")
    with pytest.raises(NotFound):
        head.read()
    with pytest.raises(Unavailable), head.hold():
        pass
    FileHead.create(head.path, FIRST)
    with pytest.raises(AlreadyExists):
        FileHead.create(head.path, SECOND)
    assert head.read() == FIRST


@pytest.mark.parametrize("place", range(0, 119, 3))
def test_a_flipped_byte_is_an_alarm(head: FileHead, place: int) -> None:
    """Any changed byte of the file is noticed."""
    data = bytearray(head.path.read_bytes())
    place = min(place, len(data) - 1)
    data[place] ^= 0x01
    head.path.unlink()
    head.path.write_bytes(data)
    with pytest.raises(IntegrityAlarm):
        head.read()
