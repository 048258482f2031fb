"""The tile directory: durable in order, atomic for readers, closed to links."""

import errno
import threading
from pathlib import Path

import pytest

from storage.errors import AlreadyExists, IntegrityAlarm, SyncFailed, Unavailable
from storage.tiles import LocalTiles
from tests.storage.steps import fail_on, watched

TILE = "tile/0/x001/234"
FULL = bytes(range(256)) * 32
DURABLE = ("write", "fsync file", "link", "rename", "fsync folder", "unlink", "rmdir")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the tiles lie."""
    return tmp_path / "tiles"


@pytest.fixture
def tiles(root: Path) -> LocalTiles:
    """An empty store whose folders for `TILE` have been used before."""
    store = LocalTiles.create(root)
    store.put("tile/0/x001/000", FULL)
    return store


def test_files_lie_as_the_specification_names_them(tiles: LocalTiles, root: Path) -> None:
    """A static file server could publish the folder as it is."""
    tiles.put_partial(TILE, 12, FULL[:384])
    assert (root / "tile" / "0" / "x001" / "234.p" / "12").read_bytes() == FULL[:384]
    tiles.put(TILE, FULL)
    assert (root / "tile" / "0" / "x001" / "234").read_bytes() == FULL
    assert not (root / "tile" / "0" / "x001" / "234.p").exists()
    tiles.put_checkpoint(b"note\n")
    assert (root / "checkpoint").read_bytes() == b"note\n"


def test_a_tile_is_synced_before_it_has_a_name(tiles: LocalTiles) -> None:
    """File, name, folder, in this order; the last sync is for a twin that came first."""
    with watched() as steps:
        tiles.put(TILE, FULL)
    assert [step for step in steps if step in DURABLE] == [
        "write",
        "fsync file",
        "link",
        "fsync folder",
        "fsync folder",
    ]


def test_a_narrower_form_goes_only_after_the_wider_is_durable(tiles: LocalTiles) -> None:
    """At no moment is there no form on disk."""
    tiles.put_partial(TILE, 1, FULL[:32])
    with watched() as steps:
        tiles.put_partial(TILE, 2, FULL[:64])
    assert [step for step in steps if step in DURABLE] == [
        "write",
        "fsync file",
        "link",
        "fsync folder",
        "fsync folder",
        "unlink",
    ]


def test_the_partial_form_goes_only_after_the_full_tile_is_durable(tiles: LocalTiles) -> None:
    """The full tile is safe before its partial forms are dropped."""
    tiles.put_partial(TILE, 1, FULL[:32])
    with watched() as steps:
        tiles.put(TILE, FULL)
    ours = [step for step in steps if step in DURABLE]
    assert ours[-2:] == ["unlink", "rmdir"]
    assert "fsync folder" in ours[ours.index("link") : ours.index("unlink")]


def test_a_checkpoint_is_synced_before_it_takes_its_place(tiles: LocalTiles) -> None:
    """Written and synced beside, then renamed over the former one, then the folder synced."""
    with watched() as steps:
        tiles.put_checkpoint(b"note\n")
    assert [step for step in steps if step in DURABLE] == [
        "write",
        "fsync file",
        "link",
        "rename",
        "fsync folder",
    ]


def test_a_failed_sync_is_final(tiles: LocalTiles, root: Path) -> None:
    """A store whose disk did not confirm publishes nothing more before it is opened anew."""
    with watched(fail_on("fsync file", errno.EIO)), pytest.raises(SyncFailed):
        tiles.put(TILE, FULL)
    for call in (
        lambda: tiles.put("tile/0/000", FULL),
        lambda: tiles.put_partial("tile/0/000", 1, FULL),
        lambda: tiles.put_checkpoint(b"note\n"),
    ):
        with pytest.raises(SyncFailed):
            call()
    LocalTiles(root).put(TILE, FULL)
    assert tiles.get(TILE) == FULL


def test_a_planted_link_is_not_followed(tiles: LocalTiles, root: Path, tmp_path: Path) -> None:
    """A symbolic link under a tile's name, a width, a folder or the checkpoint is an alarm."""
    outside = tmp_path / "outside"
    outside.write_bytes(FULL)
    (root / "tile" / "0" / "x001" / "234").symlink_to(outside)
    (root / "tile" / "0" / "x002").symlink_to(tmp_path)
    (root / "tile" / "0" / "000.p").mkdir()
    (root / "tile" / "0" / "000.p" / "7").symlink_to(outside)
    (root / "checkpoint").symlink_to(outside)
    for call in (
        lambda: tiles.get(TILE),
        lambda: tiles.put(TILE, FULL),
        lambda: tiles.get("tile/0/x002/000"),
        lambda: tiles.put("tile/0/x002/000", FULL),
        lambda: tiles.get_partial("tile/0/000"),
        tiles.checkpoint,
    ):
        with pytest.raises(IntegrityAlarm):
            call()
    tiles.put_checkpoint(b"note\n")
    assert (tiles.checkpoint(), outside.read_bytes()) == (b"note\n", FULL)


def test_a_twin_that_came_first_with_other_bytes_is_found_out(
    tiles: LocalTiles, root: Path
) -> None:
    """A second publisher that should not be there cannot slip other bytes under a name."""
    place = root / "tile" / "0" / "x001" / "234"

    def overtake(_: int, step: str) -> None:
        if step == "link" and not place.exists():
            place.write_bytes(FULL[::-1])

    with watched(overtake), pytest.raises(AlreadyExists):
        tiles.put(TILE, FULL)


def test_the_same_width_made_twice_at_once_is_one_file(tiles: LocalTiles, root: Path) -> None:
    """Two publishers of the same partial form both succeed."""
    place = root / "tile" / "0" / "x001" / "234.p" / "3"

    def overtake(_: int, step: str) -> None:
        if step == "link" and not place.exists():
            place.write_bytes(FULL[:96])

    with watched(overtake):
        tiles.put_partial(TILE, 3, FULL[:96])
    assert tiles.get_partial(TILE) == (3, FULL[:96])


def test_a_partial_folder_that_holds_a_stranger_stays(tiles: LocalTiles, root: Path) -> None:
    """What is not ours is not removed; the full tile is there all the same."""
    tiles.put_partial(TILE, 3, FULL[:96])
    stranger = root / "tile" / "0" / "x001" / "234.p" / "note.txt"
    stranger.touch()
    with pytest.raises(Unavailable):
        tiles.put(TILE, FULL)
    assert stranger.exists()
    assert tiles.get(TILE) == FULL


def test_a_reader_always_finds_a_form(tiles: LocalTiles) -> None:
    """While a tile grows and fills up, a reader sees a partial form or the full tile."""
    tiles.put_partial(TILE, 1, FULL[:32])
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            partial = tiles.get_partial(TILE)
            width, data = partial or (256, tiles.get(TILE))
            seen.append(width if data == FULL[: width * 32] else -1)

    reader = threading.Thread(target=read)
    reader.start()
    for width in range(2, 256):
        tiles.put_partial(TILE, width, FULL[: width * 32])
    tiles.put(TILE, FULL)
    done.set()
    reader.join()
    assert seen == sorted(seen)
    assert min(seen) > 0


def test_a_form_that_goes_while_it_is_read_is_looked_for_again(
    tiles: LocalTiles, root: Path
) -> None:
    """The wider form that took its place is found."""
    tiles.put_partial(TILE, 1, FULL[:32])
    folder = root / "tile" / "0" / "x001" / "234.p"
    opens = iter(range(100))

    def overtake(_: int, step: str) -> None:
        if step == "open" and (folder / "1").exists() and next(opens) == 8:  # the partial form
            (folder / "2").write_bytes(FULL[:64])
            (folder / "1").unlink()

    with watched(overtake):
        assert tiles.get_partial(TILE) == (2, FULL[:64])


def test_a_store_that_was_never_made_is_not_opened(root: Path) -> None:
    """Opening creates nothing: lost tiles must not look like an empty log."""
    with pytest.raises(Unavailable):
        LocalTiles(root)
