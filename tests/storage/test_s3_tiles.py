"""What only the tile store in a bucket does: two writers, servers that compare, and faults."""

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from storage.errors import AlreadyExists, HeadConflict, Unavailable
from storage.s3 import BucketAddress, Files
from storage.tiles.s3 import Conditions, S3Tiles
from tests.stores.ceph import Ceph
from tests.stores.faulty import Act, Fault, Faulty
from tests.stores.weed import Weed, new_bucket

TILE = "tile/0/000"
FULL = bytes(range(256)) * 32


def note(size: int, text: str = "") -> bytes:
    """What a checkpoint of this size begins with."""
    return f"example.org/log\n{size}\nroot{text}\n\n— example.org/log AAAA\n".encode()


@pytest.fixture
def address(weed: Weed) -> BucketAddress:
    """A bucket for public files."""
    return weed.address("tiles")


@pytest.fixture
def open_one(address: BucketAddress) -> Callable[[], S3Tiles]:
    """Opens the store of one log, as each node would."""
    log = f"log-{secrets.token_hex(6)}"
    S3Tiles.create(Files(address), log)
    return lambda: S3Tiles(Files(address), log)


@pytest.fixture
def faulty(weed: Weed) -> Iterator[Faulty]:
    """A proxy before the server."""
    proxy = Faulty(weed.port)
    yield proxy
    proxy.close()


def test_a_deposed_leader_replaces_no_newer_checkpoint(open_one: Callable[[], S3Tiles]) -> None:
    """It was paused with its checkpoint in hand; the newer one stays."""
    deposed, leader = open_one(), open_one()
    deposed.put_checkpoint(note(5))
    leader.put_checkpoint(note(9))
    with pytest.raises(HeadConflict):
        deposed.put_checkpoint(note(7))
    assert leader.checkpoint() == note(9)
    leader.put_checkpoint(note(10))
    assert deposed.checkpoint() == note(10)


def test_the_former_checkpoint_is_taken_over(open_one: Callable[[], S3Tiles]) -> None:
    """A new leader knows nothing of what was put before, looks, and goes on."""
    first, second = open_one(), open_one()
    first.put_checkpoint(note(5))
    second.put_checkpoint(note(5))
    second.put_checkpoint(note(6))
    first.put_checkpoint(note(8))
    assert second.checkpoint() == note(8)


def test_of_many_at_once_the_largest_tree_stays(open_one: Callable[[], S3Tiles]) -> None:
    """The server compares and replaces in one step, so no order of arrival matters."""

    def publish(size: int) -> None:
        try:
            open_one().put_checkpoint(note(size))
        except (HeadConflict, Unavailable):
            return

    open_one().put_checkpoint(note(1))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(publish, range(2, 10)))
    open_one().put_checkpoint(note(9))
    assert open_one().checkpoint() == note(9)


def test_a_narrower_form_of_a_deposed_leader_changes_nothing(
    open_one: Callable[[], S3Tiles],
) -> None:
    """What it remembers is old: it looks again and finds a wider form, or the full tile."""
    deposed, leader = open_one(), open_one()
    deposed.put_partial(TILE, 3, FULL[:96])
    leader.put_partial(TILE, 9, FULL[:288])
    deposed.put_partial(TILE, 5, FULL[:160])
    assert leader.get_partial(TILE) == (9, FULL[:288])
    leader.put(TILE, FULL)
    deposed.put_partial(TILE, 7, FULL[:224])
    assert (leader.get_partial(TILE), leader.get(TILE)) == (None, FULL)


def test_a_log_sees_no_other_one_s_files(address: BucketAddress) -> None:
    """Several logs share a bucket; each has its own names."""
    logs = [f"log-{secrets.token_hex(6)}" for _ in range(2)]
    first, second = (S3Tiles.create(Files(address), log) for log in logs)
    first.put(TILE, FULL)
    first.put_checkpoint(note(1))
    assert second.checkpoint() is None
    second.put(TILE, FULL[::-1])
    assert first.get(TILE) == FULL


def test_another_bucket_is_not_taken_for_the_store(weed: Weed) -> None:
    """Nothing is made by opening, and a locked bucket is refused."""
    files = Files(weed.address(new_bucket()))
    with pytest.raises(Unavailable):
        S3Tiles(files, "log")
    files.make(object_lock=True)
    with pytest.raises(Unavailable, match="versions"):
        S3Tiles.create(files, "log")
    for name in ("", "A", "a/b", "../a"):
        with pytest.raises(ValueError, match="id"):
            S3Tiles(files, name)


def test_seaweedfs_compares(open_one: Callable[[], S3Tiles]) -> None:
    """What is said of the server is measured on it."""
    assert open_one().conditions() == Conditions(creates_once=True, replaces_known=True)


@pytest.mark.ceph
def test_ceph_compares_where_nothing_is_versioned(ceph: Ceph) -> None:
    """In a bucket without versions it does, though not in one with them."""
    store = S3Tiles.create(Files(ceph.address("tiles")), f"log-{secrets.token_hex(6)}")
    assert store.conditions() == Conditions(creates_once=True, replaces_known=True)


CALLS: list[tuple[str, Callable[[S3Tiles], object]]] = [
    ("PUT", lambda store: store.put(TILE, FULL)),
    ("GET", lambda store: store.put(TILE, FULL)),
    ("PUT", lambda store: store.put_partial(TILE, 9, FULL[:288])),
    ("PUT", lambda store: store.put_checkpoint(note(9))),
]


@pytest.mark.parametrize("act", [Act.FAIL, Act.SILENCE, Act.LOSE, Act.CUT])
@pytest.mark.parametrize(
    ("method", "call"), CALLS, ids=["put", "read_back", "partial", "checkpoint"]
)
def test_a_fault_promises_nothing_and_can_be_repeated(
    weed: Weed, faulty: Faulty, act: Act, method: str, call: Callable[[S3Tiles], object]
) -> None:
    """Done or not, what is there is whole, and the same call then succeeds."""
    address, log = weed.address("tiles"), f"log-{secrets.token_hex(6)}"
    S3Tiles.create(Files(address), log).put_partial(TILE, 3, FULL[:96])
    store = S3Tiles(Files(faulty.before(address, timeout_s=3.0)), log)
    store.put_checkpoint(note(2))
    with faulty.doing(Fault(act, method)), suppress(Unavailable):
        call(store)
    call(store)
    other = S3Tiles(Files(address), log)
    held = other.get_partial(TILE)
    assert held in {(3, FULL[:96]), (9, FULL[:288])} if held else other.get(TILE) == FULL
    assert other.checkpoint() in {note(2), note(9)}


def test_a_flipped_bit_is_not_taken_for_the_tile(weed: Weed, faulty: Faulty) -> None:
    """The tile is read back: what comes back otherwise is refused, and right the next time."""
    address, log = weed.address("tiles"), f"log-{secrets.token_hex(6)}"
    S3Tiles.create(Files(address), log)
    store = S3Tiles(Files(faulty.before(address)), log)
    with faulty.doing(Fault(Act.FLIP, "GET", part=TILE)), pytest.raises(AlreadyExists):
        store.put(TILE, FULL)
    store.put(TILE, FULL)
    assert store.get(TILE) == FULL
