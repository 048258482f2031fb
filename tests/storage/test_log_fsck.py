"""fsck: a clean log is clean, and each sort of flipped byte is found where it is."""

import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from evidence.keys import P256Signer
from storage.log import Log, findings
from tests.storage.log_material import Place, append, captures

pytestmark = pytest.mark.usefixtures("both_databases")
SIGNER = P256Signer.generate()
OTHER = P256Signer.generate()
COUNT = 600
ZEROS = "0" * 64


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, both_databases: None) -> Place:
    """A published log of 600 leaves in four batches, and 20 more that are not published."""
    del both_databases
    place = Place(tmp_path_factory.mktemp("original") / "log").make()
    items = captures(SIGNER, 590) + captures(OTHER, 30)
    with place.open() as log:
        for first, end in ((0, 1), (1, 300), (300, 310), (310, COUNT)):
            append(log, items[first:end])
        log.publish()
        append(log, items[COUNT:])
        return place.copy(place.folder.parent / "frozen", live=log)


@pytest.fixture
def place(original: Place, tmp_path: Path) -> Place:
    """Return a copy of the log that the test may spoil."""
    return original.copy(tmp_path / "log")


def found(place: Place) -> set[tuple[str, str]]:
    """Return (code, place) of everything that fsck finds."""
    return {(finding.code, finding.place) for finding in place.fsck()}


def flip(path: Path, at: int) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.unlink()
    path.write_bytes(data)


def test_a_sound_log_is_clean(place: Place) -> None:
    """Nothing is found, whether the newest second is published or not."""
    assert place.fsck() == []
    with place.open():
        pass
    assert place.fsck() == []


def test_a_log_in_use_can_be_checked(tmp_path: Path) -> None:
    """While statements are appended and published, fsck sees one sound moment after the other."""
    place = Place(tmp_path / "log").make()
    items = captures(SIGNER, 900)
    done = threading.Event()

    def load(log: Log) -> None:
        for first in range(0, 900, 15):
            append(log, items[first : first + 15])
        done.set()

    with place.open(period_s=0.01) as log:
        thread = threading.Thread(target=load, args=(log,))
        thread.start()
        looks = 0
        while not done.is_set():
            assert place.fsck() == []
            looks += 1
        thread.join()
    assert looks > 0
    assert place.fsck() == []


ROWS = [
    ("signature = x'3006020101020101'", "records", 17, {("leaf_differs", "record 17")}),
    ("signature = x'3006020101020101'", "records", 610, {("leaf_differs", "record 610")}),
    ("leaf_hash = zeroblob(32)", "records", 17, {("leaf_differs", "record 17")}),
    ("kind = 'policy'", "records", 17, {("record_differs", "record 17")}),
    ("organ = 'other'", "records", 17, {("record_differs", "record 17")}),
    (f"subject = '{ZEROS}'", "records", 17, {("record_differs", "record 17")}),
    (f"previous = '{ZEROS}'", "records", 17, {("record_differs", "record 17")}),
    ("committed_size = 301", "records", 17, {("record_differs", "record 17")}),
    ("received_at = received_at + 1", "records", 17, {("text_bundle_differs", "texts/000")}),
    (
        "statement = CAST(replace(statement, 'jpeg', 'jpfg') AS BLOB)",
        "texts",
        17,
        {("text_differs", "record 17")},
    ),
    ("organ = 'other'", "texts", 17, {("text_differs", "record 17")}),
    (
        f"statement_id = '{ZEROS}'",
        "records",
        17,
        {("text_differs", "record 17"), ("leaf_differs", "record 17")},
    ),
    (
        "statement_id = 'no id'",
        "records",
        17,
        {("text_differs", "record 17")},
    ),
    (
        f"key_id = '{OTHER.key_id}'",
        "records",
        17,
        {("record_differs", "record 17"), ("leaf_differs", "record 17")},
    ),
    (f"key_id = '{ZEROS}'", "records", 17, {("key_missing", "record 17")}),
]


@pytest.mark.parametrize(
    ("change", "table", "index", "expected"), ROWS, ids=[f"row{one}" for one in range(len(ROWS))]
)
def test_a_changed_row_is_found(
    place: Place, change: str, table: str, index: int, expected: set[tuple[str, str]]
) -> None:
    """Each column of a record and of a text is checked against what was signed."""
    place.edit(f"UPDATE {table} SET {change} WHERE idx = ?", index)  # noqa: S608
    codes = found(place)
    assert expected <= codes
    allowed = {
        *expected,
        ("text_bundle_differs", "texts/000"),
        ("bundle_differs", "tile/entries/000"),
    }
    allowed |= {("record_differs", f"record {index}"), ("key_differs", f"record {index}")}
    assert codes <= allowed


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("root = zeroblob(32)", "checkpoint_differs"),
        ("committed_at = committed_at + 1000", "checkpoint_differs"),
        ("note = CAST(replace(note, '310', '311') AS BLOB)", "checkpoint_invalid"),
        ("note = CAST(substr(note, 1, length(note) - 9) AS BLOB)", "checkpoint_invalid"),
    ],
)
def test_a_changed_checkpoint_is_found(place: Place, change: str, code: str) -> None:
    """Any checkpoint that was ever signed is what its note says, and its note verifies."""
    place.edit(f"UPDATE checkpoints SET {change} WHERE size = 310")  # noqa: S608
    assert (code, "checkpoint 310") in found(place)


def test_removed_rows_are_found(place: Place) -> None:
    """Records, texts, keys and checkpoints that are gone are named."""
    place.edit("DELETE FROM texts WHERE idx = 5")
    place.edit("DELETE FROM records WHERE idx = 400")
    place.edit("DELETE FROM public_keys WHERE key_id = ?", OTHER.key_id)
    place.edit("DELETE FROM checkpoints WHERE size = 0")
    codes = found(place)
    assert ("text_missing", "record 5") in codes
    assert ("record_missing", "record 400") in codes
    assert ("key_missing", "record 590") in codes
    assert ("checkpoint_missing", "checkpoint 0") in codes


def test_a_removed_newest_checkpoint_leaves_rows_beyond(place: Place) -> None:
    """Cutting off the end of the log shows in the head and in what lies beyond."""
    place.edit("DELETE FROM checkpoints WHERE size = 620")
    codes = found(place)
    assert {("head_differs", "head"), ("record_extra", "record 600")} <= codes
    assert ("text_extra", "record 600") in codes


def test_a_removed_checkpoint_in_the_middle_is_found(place: Place) -> None:
    """Records that name a checkpoint which is gone are found."""
    place.edit("DELETE FROM checkpoints WHERE size = 310")
    assert ("record_differs", "record 305") in found(place)


@pytest.mark.parametrize(
    ("change", "code"),
    [("spki = zeroblob(91)", "key_differs"), ("organ = 'other'", "key_differs")],
)
def test_a_changed_key_is_found(place: Place, change: str, code: str) -> None:
    """A key that does not hash to its id, or is of another organ, is found at its records."""
    change = f"UPDATE public_keys SET {change} WHERE key_id = ?"  # noqa: S608
    place.edit(change, OTHER.key_id)
    assert (code, "record 590") in found(place)


FILES = [
    ("tile/0/000", 40, "tile_differs"),
    ("tile/0/002.p/88", 40, "tile_differs"),
    ("tile/1/000.p/2", 40, "tile_differs"),
    ("tile/entries/000", 300, "bundle_differs"),
    ("tile/entries/002.p/88", 300, "bundle_differs"),
    ("tile/entries/000", 0, "bundle_differs"),
    ("texts/000", 300, "text_unreadable"),
    ("texts/002.p/88", 300, "text_unreadable"),
    ("texts/000", 0, "text_bundle_differs"),
]


@pytest.mark.parametrize(("name", "at", "code"), FILES)
def test_a_flipped_byte_of_a_published_file_is_found(
    place: Place, name: str, at: int, code: str
) -> None:
    """Tiles, entry bundles and text bundles, full and partial."""
    flip(place.folder / "tiles" / name, at)
    assert found(place) == {(code, name.partition(".p")[0])}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("tile/0/000", "tile_missing"),
        ("tile/1/000.p/2", "tile_missing"),
        ("tile/entries/001", "bundle_missing"),
        ("texts/001", "text_bundle_missing"),
    ],
)
def test_a_removed_file_is_found(place: Place, name: str, code: str) -> None:
    """A file that the published checkpoint needs is missed."""
    (place.folder / "tiles" / name).unlink()
    assert found(place) == {(code, name.partition(".p")[0])}


def test_a_changed_published_checkpoint_is_found(place: Place, original: Place) -> None:
    """Flipped, it does not verify; another one of this signer is not one of ours."""
    flip(place.folder / "tiles" / "checkpoint", 30)
    assert found(place) == {("published_invalid", "checkpoint")}
    stranger = Place(place.folder.parent / "stranger", signer=original.signer).make()
    with stranger.open() as log:
        append(log, captures(SIGNER, 310))
    shutil.copy(stranger.folder / "tiles" / "checkpoint", place.folder / "tiles" / "checkpoint")
    assert ("published_differs", "checkpoint") in found(place)


def test_a_changed_head_is_found(place: Place) -> None:
    """Damaged, of another tree, or gone."""
    good = place.head.read_bytes()
    flip(place.head, 10)
    assert found(place) == {("head_damaged", "head")}
    other = Place(place.folder.parent / "other").make()
    with other.open() as log:
        append(log, captures(SIGNER, 3))
    place.head.unlink()
    place.head.write_bytes(other.head.read_bytes())
    assert found(place) == {("head_differs", "head")}
    place.head.unlink()
    assert found(place) == {("head_missing", "head")}
    place.head.write_bytes(good)
    assert found(place) == set()


def test_a_changed_or_lost_text_key_is_found(place: Place) -> None:
    """A key of a text that changed opens nothing; one that is gone is missed."""
    path = place.folder / "keys" / "texts.db"
    with closing(sqlite3.connect(path)) as keys, keys:
        keys.execute("UPDATE text_keys SET key = zeroblob(32) WHERE idx = 5")
        keys.execute("DELETE FROM text_keys WHERE idx = 6")
    assert {finding.code for finding in place.fsck()} == {"text_unreadable", "text_key_missing"}


def test_a_log_that_is_not_there_is_found(place: Place) -> None:
    """The row of the log itself is checked."""
    place.edit("UPDATE logs SET origin = 'other.example'")
    assert found(place) == {("log_differs", "log")}
    place.edit("DELETE FROM logs")
    assert found(place) == {("log_missing", "log")}


def test_damage_everywhere_is_a_finite_list(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list ends and says that there is more."""
    monkeypatch.setattr(findings, "MAX_FINDINGS", 10)
    place.edit("UPDATE records SET kind = 'policy'")
    listed = place.fsck()
    assert [finding.code for finding in listed] == ["record_differs"] * 10 + ["too_many"]
