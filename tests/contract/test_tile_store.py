"""The contract of `TileStore`, the same sentences for every store that claims to be one."""

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from evidence.tlog.tiles import TileName
from storage.errors import AlreadyExists, NameRefused, NotFound
from storage.s3 import Files
from storage.tiles import LocalTiles, TileStore
from storage.tiles.s3 import S3Tiles
from tests.stores.ceph import Ceph
from tests.stores.weed import Weed

TILE = "tile/0/x001/234"
BUNDLE = "tile/entries/000"
TEXTS = "texts/x001/x234/567"
FULL = bytes(range(256)) * 32
NO_NAMES = [
    "",
    "checkpoint",
    "../../x",
    "tile/0/../../checkpoint",
    "/tile/0/000",
    "tile/0",
    "tile/0/00",
    "tile/0/0000",
    "tile/0/000/",
    "tile/0/000\n",
    "tile/00/000",
    "tile/64/000",
    "tile/-1/000",
    "tile/0/x000/000",
    "tile/0/000.p/5",
    "tile/0/x001",
    "tile/texts/000",
    "texts/0/000",
    "tmp/000",
    "tile/0/００0",
    "TILE/0/000",
    "tile/0/000\x00",
]

STORES = ["directory", "weed", pytest.param("ceph", marks=pytest.mark.ceph)]


@pytest.fixture(params=STORES)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], TileStore]:
    """Each kind of store in turn, new and empty; the answer opens it as a new process would."""
    if request.param == "directory":
        LocalTiles.create(tmp_path / "tiles")
        return lambda: LocalTiles(tmp_path / "tiles")
    server: Weed | Ceph = request.getfixturevalue(request.param)
    log, address = f"log-{secrets.token_hex(6)}", server.address("tiles")
    S3Tiles.create(Files(address), log)
    return lambda: S3Tiles(Files(address), log)


@pytest.fixture
def store(reopen: Callable[[], TileStore]) -> TileStore:
    """The store, opened."""
    return reopen()


@pytest.mark.parametrize("name", [TILE, BUNDLE, TEXTS, "tile/63/000"])
def test_a_full_tile_comes_back(
    store: TileStore, reopen: Callable[[], TileStore], name: str
) -> None:
    """What is put under a name is there, also for the next process."""
    store.put(name, FULL)
    assert store.get(name) == FULL
    assert reopen().get(name) == FULL


@pytest.mark.parametrize("level", [None, 0, 1, 63])
@pytest.mark.parametrize("index", [0, 999, 1000, 1_234_067, 2**54])
def test_every_name_of_the_specification_is_taken(
    store: TileStore, level: int | None, index: int
) -> None:
    """The names that `evidence.tlog.tiles` makes are names here."""
    name = TileName(level=level, index=index).path()
    store.put(name, FULL)
    assert store.get(name) == FULL


def test_the_same_tile_again_is_success(store: TileStore) -> None:
    """A publisher that repeats itself after a crash is not refused."""
    store.put(TILE, FULL)
    store.put(TILE, FULL)
    assert store.get(TILE) == FULL


@pytest.mark.parametrize("other", [FULL[:-1] + b"!", FULL + b"!", FULL[:-1]])
def test_other_bytes_for_a_full_tile_are_refused(store: TileStore, other: bytes) -> None:
    """A full tile is written once; what it holds stays."""
    store.put(TILE, FULL)
    with pytest.raises(AlreadyExists):
        store.put(TILE, other)
    assert store.get(TILE) == FULL


def test_a_tile_that_was_never_put_is_not_found(store: TileStore) -> None:
    """Neither full nor partial: `NotFound` and None."""
    store.put(TILE, FULL)
    with pytest.raises(NotFound):
        store.get(BUNDLE)
    assert store.get_partial(BUNDLE) is None


def test_a_partial_tile_is_no_full_one(store: TileStore, reopen: Callable[[], TileStore]) -> None:
    """Before it is full it is found as partial only."""
    store.put_partial(TILE, 3, FULL[:96])
    with pytest.raises(NotFound):
        store.get(TILE)
    assert store.get_partial(TILE) == (3, FULL[:96])
    assert reopen().get_partial(TILE) == (3, FULL[:96])


def test_a_partial_tile_grows(store: TileStore) -> None:
    """The wider form is what is found, whatever the order of the digits."""
    for width in (1, 2, 9, 10, 99, 100, 255):
        store.put_partial(TILE, width, FULL[: width * 32])
        assert store.get_partial(TILE) == (width, FULL[: width * 32])


@pytest.mark.parametrize("width", [3, 5])
def test_a_form_that_is_no_wider_changes_nothing(store: TileStore, width: int) -> None:
    """The same or an older form is success, and the widest stays."""
    store.put_partial(TILE, 5, FULL[:160])
    store.put_partial(TILE, width, FULL[: width * 32])
    assert store.get_partial(TILE) == (5, FULL[:160])


@pytest.mark.parametrize("width", [3, 5, 7])
def test_a_partial_form_of_another_tile_is_refused(store: TileStore, width: int) -> None:
    """Two forms of which neither begins with the other are not one growing tile."""
    store.put_partial(TILE, 5, FULL[:160])
    with pytest.raises(AlreadyExists):
        store.put_partial(TILE, width, b"!" * width * 32)
    assert store.get_partial(TILE) == (5, FULL[:160])


def test_one_width_has_one_form(store: TileStore) -> None:
    """Bytes that only begin the same are not the same width."""
    store.put_partial(BUNDLE, 2, b"two entries")
    for other in (b"two entries and more", b"two"):
        with pytest.raises(AlreadyExists):
            store.put_partial(BUNDLE, 2, other)


def test_a_full_tile_ends_its_partial_forms(store: TileStore) -> None:
    """Once it is full there is no partial form, and an older one changes nothing."""
    store.put_partial(TILE, 5, FULL[:160])
    store.put(TILE, FULL)
    assert store.get_partial(TILE) is None
    store.put_partial(TILE, 4, FULL[:128])
    assert store.get_partial(TILE) is None
    assert store.get(TILE) == FULL


def test_a_full_tile_must_begin_with_its_partial_form(store: TileStore) -> None:
    """What was published as partial cannot be contradicted by the full tile."""
    store.put_partial(TILE, 5, b"!" * 160)
    with pytest.raises(AlreadyExists):
        store.put(TILE, FULL)
    with pytest.raises(NotFound):
        store.get(TILE)


def test_a_partial_form_must_begin_the_full_tile(store: TileStore) -> None:
    """A partial form that contradicts the full tile is refused."""
    store.put(TILE, FULL)
    with pytest.raises(AlreadyExists):
        store.put_partial(TILE, 4, b"!" * 128)


@pytest.mark.parametrize("width", [-1, 0, 256])
def test_a_width_that_no_partial_tile_has_is_a_mistake_of_the_caller(
    store: TileStore, width: int
) -> None:
    """Widths are 1 to 255."""
    with pytest.raises(ValueError, match="width"):
        store.put_partial(TILE, width, FULL)


def test_nothing_empty_is_published(store: TileStore) -> None:
    """Empty tiles and checkpoints are mistakes of the caller."""
    for call in (
        lambda: store.put(TILE, b""),
        lambda: store.put_partial(TILE, 1, b""),
        lambda: store.put_checkpoint(b""),
    ):
        with pytest.raises(ValueError, match="empty"):
            call()


@pytest.mark.parametrize("name", NO_NAMES)
def test_any_other_name_is_refused_everywhere(store: TileStore, name: str) -> None:
    """Only names of full tiles and bundles in their one form are names."""
    for call in (
        lambda: store.put(name, FULL),
        lambda: store.get(name),
        lambda: store.put_partial(name, 1, FULL),
        lambda: store.get_partial(name),
    ):
        with pytest.raises(NameRefused):
            call()


def test_the_checkpoint_is_replaced(store: TileStore, reopen: Callable[[], TileStore]) -> None:
    """There is none at first, then always the newest."""
    assert store.checkpoint() is None
    for note in (b"first\n", b"second, longer\n", b"third\n"):
        store.put_checkpoint(note)
        assert store.checkpoint() == note
    assert reopen().checkpoint() == b"third\n"
