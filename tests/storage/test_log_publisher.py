"""Publication: texts, entries, tiles, then the checkpoint; any crash leaves a beginning of it."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from evidence.errors import TileInvalid
from evidence.keys import P256Signer
from evidence.leaf import leaf_of
from evidence.merkle import hash_leaf, tree_root
from evidence.tlog.checkpoint import open_checkpoint
from evidence.tlog.tiles import TileName, TileReader, decode_bundle, tiles_of
from storage.errors import AlreadyExists, NotFound, Unavailable
from storage.log import Log, create_log
from storage.log.texts import open_text, texts_name
from storage.tiles import LocalTiles
from tests.storage.log_material import (
    ORGAN,
    ORIGIN,
    RECEIVED,
    Place,
    append,
    captures,
    close,
    now,
)

SIGNER = P256Signer.generate()
ITEMS = captures(SIGNER, 1400)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a new, empty log."""
    return Place(tmp_path / "log").make()


def published_files(place: Place) -> dict[str, bytes]:
    """Every file of the tile store by its path."""
    root = place.folder / "tiles"
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


class FailingTiles(LocalTiles):
    """A real tile store whose disk stops answering after some writes."""

    writes_left = 10**9
    written: list[str]

    def _count(self, name: str) -> None:
        if self.writes_left == 0:
            raise Unavailable("the disk is gone")
        self.writes_left -= 1
        self.written.append(name)

    def put(self, name: str, data: bytes) -> None:
        """Count, then put."""
        self._count(name)
        super().put(name, data)

    def put_partial(self, name: str, width: int, data: bytes) -> None:
        """Count, then put."""
        self._count(f"{name}.p/{width}")
        super().put_partial(name, width, data)

    def put_checkpoint(self, data: bytes) -> None:
        """Count, then put."""
        self._count("checkpoint")
        super().put_checkpoint(data)


def failing(place: Place, writes_left: int) -> FailingTiles:
    """Open the tile store of a log so that it can fail."""
    tiles = FailingTiles(place.folder / "tiles")
    tiles.writes_left = writes_left
    tiles.written = []
    return tiles


def test_an_empty_log_publishes_its_empty_checkpoint(place: Place) -> None:
    """A new log shows that it has no leaves."""
    with place.open() as log:
        log.publish()
        signed = open_checkpoint(log.checkpoint(), place.signer.verifier_keys)
        assert signed.checkpoint.size == 0
    assert place.fsck() == []


def test_what_is_published_is_the_whole_log(place: Place) -> None:
    """From the files alone: checkpoint, entries, hashes and, with the keys, texts and times."""
    with place.open() as log:
        receipts = append(log, ITEMS[:500]) + append(log, ITEMS[500:600])
        log.publish()
        checkpoint = open_checkpoint(log.checkpoint(), place.signer.verifier_keys).checkpoint
        assert checkpoint.size == 600
        reader = TileReader(lambda name: log.tile(name.path()), 600)
        assert tree_root(600, reader) == checkpoint.root
        entries = [
            entry
            for name in tiles_of(600, entries=True)
            for entry in decode_bundle(log.tile(name.path()))
        ]
    expected = [
        leaf_of(item.statement.id, item.signed.signature, item.public_key) for item in ITEMS[:600]
    ]
    assert entries == expected
    assert [hash_leaf(entry) for entry in entries] == [reader(0, n) for n in range(600)]
    stores = place.stores()
    texts = decode_bundle(stores.tiles.get(texts_name(1)))
    keys = stores.texts.find(ORIGIN, 256, 256)
    opened = [open_text(keys[n], ORIGIN, n, text) for n, text in enumerate(texts, start=256)]
    close(stores)
    assert [text.statement for text in opened] == [i.statement.raw for i in ITEMS[256:512]]
    assert {text.received_at for text in opened} == {RECEIVED}
    assert [text.committed_size for text in opened] == [r.size for r in receipts[256:512]]


def test_no_text_is_readable_in_what_is_published(place: Place) -> None:
    """No published file holds a statement's bytes, its salt or its content's digest."""
    with place.open() as log:
        append(log, ITEMS[:300])
    everything = b"".join(published_files(place).values())
    for item in ITEMS[:300]:
        assert item.statement.raw not in everything
        assert item.statement.salt.encode() not in everything
    assert b"image/jpeg" not in everything


def test_the_published_checkpoint_is_the_committed_one(place: Place) -> None:
    """Byte for byte what the newest receipt carries, and only the newest."""
    with place.open() as log:
        append(log, ITEMS[:3])
        [*_, last] = append(log, ITEMS[3:10])
        log.publish()
        assert log.checkpoint() == last.checkpoint
        append(log, ITEMS[10:12])
        assert log.checkpoint() == last.checkpoint
        assert log.status().published_size == 10


def test_every_width_is_answered_as_a_beginning(place: Place) -> None:
    """Partial tiles and bundles of any smaller size are prefixes; wider and later ones are not."""
    with place.open() as log:
        append(log, ITEMS[:100])
        log.publish()
        full = log.tile("tile/0/000.p/100")
        entries = decode_bundle(log.tile("tile/entries/000.p/100"))
        for width in (1, 50, 99):
            assert log.tile(f"tile/0/000.p/{width}") == full[: 32 * width]
            assert decode_bundle(log.tile(f"tile/entries/000.p/{width}")) == entries[:width]
        absent = ("tile/0/000", "tile/0/000.p/101", "tile/0/001.p/1", "tile/1/000.p/1")
        for path in absent:
            with pytest.raises(NotFound):
                log.tile(path)
        append(log, ITEMS[100:300])
        log.publish()
        assert log.tile("tile/0/000.p/100") == full
        assert log.tile("tile/0/000")[:3200] == full
        assert log.tile("tile/1/000.p/1") != b""
        for path in ("tile/0/../../x", "tile/64/000", "tile/0/000.p/256", "texts/000"):
            with pytest.raises(TileInvalid):
                log.tile(path)


def test_order_of_publication(place: Place) -> None:
    """Texts come before their entries, entries before hashes, and the checkpoint is last."""
    stores = place.stores()
    tiles = failing(place, 10**9)
    stores = replace(stores, tiles=tiles)
    with Log.open(stores, signer=place.signer, clock=now, period_s=3600) as log:
        time.sleep(0.05)
        tiles.written.clear()
        append(log, ITEMS[:300])
        log.publish()
    close(stores)
    assert tiles.written == [
        "texts/000",
        "checkpoints/000",
        "tile/entries/000",
        "tile/0/000",
        "texts/001.p/44",
        "checkpoints/001.p/44",
        "tile/entries/001.p/44",
        "tile/0/001.p/44",
        "tile/1/000.p/1",
        "checkpoint",
    ]


@pytest.mark.parametrize("writes", range(9))
def test_a_crash_at_any_write_is_made_good_byte_for_byte(
    place: Place, tmp_path: Path, writes: int
) -> None:
    """Killed after any number of writes, what is out stays, and the rest is what it had to be.

    Only a text that was never out may be encrypted under another key the second time.
    """
    with place.open() as log:
        append(log, ITEMS[:200])
    stores = place.stores()
    tiles = failing(place, 10**9)
    stores = replace(stores, tiles=tiles)
    log = Log.open(stores, signer=place.signer, clock=now, period_s=3600)
    time.sleep(0.05)
    append(log, ITEMS[200:600])
    tiles.writes_left = writes
    with pytest.raises(Unavailable):
        log.publish()
    crashed = place.copy(tmp_path / "crashed", live=log)
    out = published_files(crashed)
    tiles.writes_left = 10**9
    log.publish()
    log.close()
    close(stores)
    with crashed.open() as again:
        again.publish()
        assert again.status().published_size == 600
    files, expected = published_files(crashed), published_files(place)
    assert {name: files[name] for name in out if name in expected and "checkpoint" not in name} == {
        name: out[name] for name in out if name in expected and "checkpoint" not in name
    }
    assert files.keys() == expected.keys()
    for name in files:
        if not name.startswith("texts/") or name in out:
            assert files[name] == expected[name]
    assert crashed.fsck() == []


def test_the_thread_publishes_and_tells(place: Place) -> None:
    """Without anybody asking: at most once in a period, each time with the newest checkpoint."""
    told: list[int] = []
    with place.open(period_s=0.2, published=lambda head: told.append(head.size)) as log:
        begun = time.monotonic()
        while time.monotonic() < begun + 1.5:
            append(log, ITEMS[len(ITEMS) - 1 :])
            first = log.latest().size
            append(log, ITEMS[first - 1 : first])
            time.sleep(0.01)
    assert told == sorted(set(told))
    assert 3 <= len(told) <= 10
    assert told[-1] == log.latest().size


def test_a_store_that_does_not_answer_is_tried_again(place: Place) -> None:
    """While the tile store is away receipts go on; publication says so, and catches up."""
    stores = place.stores()
    tiles = failing(place, 10**9)
    stores = replace(stores, tiles=tiles)
    told = threading.Event()
    with Log.open(
        stores,
        signer=place.signer,
        clock=now,
        period_s=0.02,
        published=lambda head: told.set() if head.size == 20 else None,
    ) as log:
        time.sleep(0.1)
        tiles.writes_left = 0
        append(log, ITEMS[:20])
        deadline = time.monotonic() + 10
        while log.status().publication is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert isinstance(log.status().publication, Unavailable)
        assert log.status().published_size == 0
        assert log.status().halted is None
        tiles.writes_left = 10**9
        assert told.wait(10)
        assert log.status().publication is None
    close(stores)
    assert place.fsck() == []


def test_a_store_with_other_bytes_stops_publication(place: Place) -> None:
    """A planted file under a name of ours is never taken for ours."""
    with place.open() as log:
        append(log, ITEMS[:300])
        stores = place.stores()
        stores.tiles.put(TileName(level=None, index=0).path(), b"planted")
        with pytest.raises(AlreadyExists):
            log.publish()
        assert log.status().published_size == 0
        close(stores)
        (place.folder / "tiles" / "tile/entries/000").unlink()
    assert place.fsck() == []


def test_a_mistake_in_the_callback_halts_the_log(place: Place) -> None:
    """A callback that raises is a fault of ours: nothing is signed behind its back."""

    def broken(_head: object) -> None:
        raise ZeroDivisionError

    stores = place.stores()
    log = Log.open(stores, signer=place.signer, clock=now, period_s=0.01, published=broken)
    deadline = time.monotonic() + 10
    while log.status().halted is None and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(ZeroDivisionError):
        append(log, ITEMS[:1])
    log.close()
    close(stores)


def test_too_much_unpublished_is_sent_away(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """While publication fails the log stops before its memory has no bound."""
    monkeypatch.setattr("storage.log.MAX_UNPUBLISHED_LEAVES", 100)
    with place.open() as log:
        append(log, ITEMS[:101])
        with pytest.raises(Unavailable, match="published"):
            append(log, ITEMS[101:102])
        log.publish()
        append(log, ITEMS[101:102])


def test_a_log_is_made_once(place: Place) -> None:
    """A second making is refused; one that a crash cut off before the head is completed."""
    stores = place.stores()
    with pytest.raises(AlreadyExists):
        create_log(stores, organ=ORGAN, signer=place.signer, clock=now)
    place.head.unlink()
    create_log(stores, organ=ORGAN, signer=place.signer, clock=now)
    close(stores)
    with place.open() as log:
        append(log, ITEMS[:1])
    place.head.unlink()
    stores = place.stores()
    with pytest.raises(AlreadyExists, match="leaves"):
        create_log(stores, organ=ORGAN, signer=place.signer, clock=now)
    close(stores)
