"""What the store does for a living, one function each, to be cut off anywhere and looked at after.

    python -m tests.storage.scenarios SCENARIO FOLDER unnamed|named

forks a child for every step of one scenario, which kills itself before that step, looks at what
it left, does the work again and prints how many children were killed. With `named` the file
system has no unnamed files.
"""

import hashlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from storage.objects import StagedFile
from storage.objects.local import LocalObjects
from storage.staging.folder import StagingFolder
from storage.tiles import LocalTiles
from tests.storage.steps import die_at, watched

CONTENT = bytes(range(256)) * 16
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KEY = "upload"
MOST_STEPS = 200
TILE = "tile/0/x001/234"
PARTIAL, WIDER, FULL = b"a" * 32, b"a" * 64, b"a" * 8192
OLD, NEW = b"old checkpoint\n", b"new checkpoint\n"


def prepare(scenario: str, folder: Path) -> None:
    """Bring a new folder into the state in which the scenario begins."""
    folder.mkdir()
    if scenario in ("widen", "fill", "publish"):
        tiles = LocalTiles.create(folder / "tiles")
        tiles.put_partial(TILE, 1, PARTIAL)
        tiles.put_checkpoint(OLD)
        return
    StagingFolder.create(folder / "staging", reserve_bytes=0)
    if scenario == "keep":
        LocalObjects.create(folder / "objects", store_id="local")
    if scenario != "stage":
        stage(folder)


def stage(folder: Path) -> StagedFile:
    """Receive an upload in two pieces, one announced byte missing."""
    staging = StagingFolder(folder / "staging", reserve_bytes=0)
    with staging.begin(KEY, len(CONTENT) + 1) as writer:
        writer.write(CONTENT[:1000])
        writer.write(CONTENT[1000:])
        return writer.finish()


def staged(folder: Path) -> StagedFile:
    """The upload as a record elsewhere would describe it, there or not."""
    path = folder / "staging" / "waiting" / f"{KEY}.{SHA256}"
    return StagedFile(key=KEY, path=path, sha256=SHA256, size_bytes=len(CONTENT))


def keep(folder: Path) -> None:
    """Make an object of the staged upload."""
    LocalObjects(folder / "objects").put_once(staged(folder))


def set_aside(folder: Path) -> None:
    """Quarantine the staged upload."""
    StagingFolder(folder / "staging", reserve_bytes=0).quarantine(staged(folder), "digest_mismatch")


def widen(folder: Path) -> None:
    """Let a partial tile grow."""
    LocalTiles(folder / "tiles").put_partial(TILE, 2, WIDER)


def fill(folder: Path) -> None:
    """Complete a tile."""
    LocalTiles(folder / "tiles").put(TILE, FULL)


def publish(folder: Path) -> None:
    """Replace the checkpoint."""
    LocalTiles(folder / "tiles").put_checkpoint(NEW)


SCENARIOS: dict[str, Callable[[Path], object]] = {
    "stage": stage,
    "keep": keep,
    "set_aside": set_aside,
    "widen": widen,
    "fill": fill,
    "publish": publish,
}


def check(scenario: str, folder: Path) -> None:
    """Whatever happened: nothing is half there, and nothing kept before is gone."""
    if (folder / "tiles").exists():
        check_tiles(LocalTiles(folder / "tiles"))
    else:
        kept = contents(folder)
        assert set(kept) <= {CONTENT}
        assert scenario == "stage" or kept
    for store in folder.iterdir():
        assert list((store / "tmp").iterdir()) == []


def check_tiles(tiles: LocalTiles) -> None:
    """Each file is the former or the new one, whole."""
    assert tiles.checkpoint() in (OLD, NEW)
    partial = tiles.get_partial(TILE)
    if partial is None:
        assert tiles.get(TILE) == FULL
    else:
        assert partial in ((1, PARTIAL), (2, WIDER))


def contents(folder: Path) -> list[bytes]:
    """The bytes of everything that is waiting, in quarantine or an object."""
    staging = StagingFolder(folder / "staging", reserve_bytes=0)
    left = staging.sweep()
    assert left.strangers == ()
    held: list[bytes] = []
    for found in left.finished:
        with found.open() as stream:
            held.append(stream.read())
    for kept in staging.quarantined():
        with staging.open_quarantined(kept) as stream:
            held.append(stream.read())
    if (folder / "objects").exists():
        objects = LocalObjects(folder / "objects")
        assert list(objects.strangers()) == []
        for name in objects.names():
            with objects.open(name) as stream:
                held.append(stream.read())
    return held


def check_done(scenario: str, folder: Path) -> None:
    """After success, or a repeat of what was cut off, the promise of the scenario is kept."""
    check(scenario, folder)
    if (folder / "tiles").exists():
        tiles = LocalTiles(folder / "tiles")
        found = (tiles.get_partial(TILE), tiles.checkpoint())
        promised = {
            "widen": ((2, WIDER), OLD),
            "fill": (None, OLD),
            "publish": ((1, PARTIAL), NEW),
        }
        assert found == promised[scenario]
        return
    staging = StagingFolder(folder / "staging", reserve_bytes=0)
    waiting, aside = staging.sweep().finished, list(staging.quarantined())
    if scenario == "stage":
        assert waiting == (staged(folder),)
    else:
        assert waiting == ()
    assert len(aside) == (scenario == "set_aside")
    if scenario == "keep":
        assert list(LocalObjects(folder / "objects").names()) == [SHA256]


def cut_off(scenario: str, folder: Path, step: int, *, unnamed_files: bool) -> bool:
    """Run a scenario in a child that dies before a step; False if it came to its end."""
    child = os.fork()
    if child == 0:
        with watched(die_at(step), unnamed_files=unnamed_files):
            SCENARIOS[scenario](folder)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


def main(scenario: str, root: str, files: str) -> None:
    """Cut a scenario off before each of its steps in turn."""
    for step in range(MOST_STEPS):
        folder = Path(root, str(step))
        prepare(scenario, folder)
        killed = cut_off(scenario, folder, step, unnamed_files=files == "unnamed")
        check(scenario, folder)
        SCENARIOS[scenario](folder)
        check_done(scenario, folder)
        if not killed:
            print(step)  # noqa: T201 - the answer of this program
            return
    raise AssertionError(scenario)


if __name__ == "__main__":
    main(*sys.argv[1:])
