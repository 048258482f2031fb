"""The start of a log: what anybody has seen is what we have, or nothing is signed."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection

from evidence.keys import P256Signer
from evidence.merkle import EMPTY_ROOT
from evidence.tlog.checkpoint import open_checkpoint
from storage.db.engine import WORK, Database
from storage.errors import (
    HeadConflict,
    IntegrityAlarm,
    LogRolledBack,
    LogUnconfirmed,
    NotFound,
    StorageError,
    Unavailable,
)
from storage.log import Log, Submission, WitnessAnswer, recovery
from storage.log.heads import FileHead, Head
from tests.storage.log_material import ORIGIN, Place, append, captures, check_receipts, close, now

pytestmark = pytest.mark.usefixtures("both_databases")
SIGNER = P256Signer.generate()
ITEMS = captures(SIGNER, 900)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a new, empty log."""
    return Place(tmp_path / "log").make()


def put_back(place: Place, older: Place, *parts: str) -> None:
    """Restore some folders of an older copy over the present ones."""
    for part in parts:
        if part == "db":
            place.put_back_database(older)
            continue
        shutil.rmtree(place.folder / part)
        shutil.copytree(older.folder / part, place.folder / part, copy_function=shutil.copy)


def aged(place: Place, tmp_path: Path) -> Place:
    """A log of 40 leaves, and its backup from when it had 20."""
    with place.open() as log:
        append(log, ITEMS[:20])
    backup = place.copy(tmp_path / "backup")
    with place.open() as log:
        append(log, ITEMS[20:40])
    return backup


@pytest.mark.parametrize("sees", ["head store", "tile store", "witness"])
def test_a_database_that_was_put_back_is_refused(place: Place, tmp_path: Path, sees: str) -> None:
    """Whoever saw more than the database has is named, and nothing is signed or changed."""
    backup = aged(place, tmp_path)
    with place.open() as log:
        seen = open_checkpoint(log.latest().note, place.signer.verifier_keys).checkpoint
    restored = ["db"]
    if sees != "head store":
        restored.append("heads")
    if sees == "witness":
        restored.append("tiles")
    put_back(place, backup, *restored)
    witnessed = [WitnessAnswer(witness="east", size=seen.size, root=seen.root)]
    before = {path: path.read_bytes() for path in place.folder.rglob("*") if path.is_file()}
    with pytest.raises(LogRolledBack, match=sees):
        place.open(witnessed=witnessed if sees == "witness" else ())
    after = {path: path.read_bytes() for path in place.folder.rglob("*") if path.is_file()}
    assert {p.name for p in before} == {p.name for p in after} | {
        p.name for p in before if p.suffix in {".db-wal", ".db-shm"} or "-" in p.name
    }
    assert after[place.head] == before[place.head]


def test_a_witness_that_only_tells_a_size_counts(place: Place) -> None:
    """A larger size without a root is enough to refuse; a smaller one is no reason to."""
    with place.open() as log:
        append(log, ITEMS[:20])
    with place.open(witnessed=[WitnessAnswer(witness="east", size=20)]) as log:
        assert log.latest().size == 20
    with pytest.raises(LogRolledBack, match="witness west saw 21 leaves and the database has 20"):
        place.open(
            witnessed=[
                WitnessAnswer(witness="east", size=3),
                WitnessAnswer(witness="west", size=21),
            ]
        )


def test_another_history_of_the_same_length_is_refused(place: Place, tmp_path: Path) -> None:
    """A put-back log that grew anew beside the old one is found by the old one's roots."""
    backup = aged(place, tmp_path)
    with place.open() as log:
        seen = open_checkpoint(log.latest().note, place.signer.verifier_keys).checkpoint
    with backup.open() as log:
        append(log, ITEMS[50:80])
    answer = WitnessAnswer(witness="east", size=40, root=seen.root)
    with pytest.raises(LogRolledBack, match="witness east saw another tree of 40 leaves"):
        backup.open(witnessed=[answer])
    put_back(place, backup, "db")
    with pytest.raises(LogRolledBack):
        place.open()
    put_back(place, backup, "tiles")
    with pytest.raises(LogRolledBack, match="head store saw another tree of 40 leaves"):
        place.open()


def test_a_put_back_tile_store_is_published_anew(place: Place, tmp_path: Path) -> None:
    """Tiles that are merely older are brought up to date from the database."""
    backup = aged(place, tmp_path)
    files = {p.name: p.read_bytes() for p in (place.folder / "tiles").rglob("*") if p.is_file()}
    put_back(place, backup, "tiles")
    with place.open() as log:
        log.publish()
    again = {p.name: p.read_bytes() for p in (place.folder / "tiles").rglob("*") if p.is_file()}
    assert again == files
    assert place.fsck() == []


def test_killed_between_commit_and_swap(place: Place, tmp_path: Path) -> None:
    """The database is one batch ahead of the head: the head moves up, receipts come from there."""
    with place.open() as log:
        first = append(log, ITEMS[:20])
        head = place.head.read_bytes()
        second = append(log, ITEMS[20:30])
        crashed = place.copy(tmp_path / "crashed", live=log)
    crashed.head.unlink()
    crashed.head.write_bytes(head)
    assert crashed.fsck() == []
    with crashed.open() as log:
        assert log.latest().size == 30
        assert append(log, ITEMS[:30]) == first + second
        assert append(log, ITEMS[30:31])[0].index == 30
    assert FileHead(crashed.head).read().size == 31
    assert crashed.fsck() == []


def test_killed_between_commit_and_publication(place: Place, tmp_path: Path) -> None:
    """What was answered and not published is published by the next start, byte for byte."""
    with place.open() as log:
        append(log, ITEMS[:20])
        log.publish()
        append(log, ITEMS[20:600])
        note = log.latest().note
        crashed = place.copy(tmp_path / "crashed", live=log)
    with crashed.open() as log:
        log.publish()
        assert log.checkpoint() == note
    assert crashed.fsck() == []


def test_a_long_unpublished_log_catches_up_in_pieces(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the whole tile store lost, full bundles are published while the tree is read."""
    monkeypatch.setattr(recovery, "CATCH_UP_LEAVES", 300)
    with place.open() as log:
        receipts = append(log, ITEMS[:400]) + append(log, ITEMS[400:900])
    empty = Place(tmp_path / "empty").make()
    shutil.rmtree(place.folder / "tiles")
    shutil.copytree(empty.folder / "tiles", place.folder / "tiles")
    with place.open() as log:
        stores = place.stores()
        assert stores.tiles.get("tile/0/001") != b""
        with pytest.raises(NotFound):
            stores.tiles.get("tile/0/003")
        close(stores)
        assert log.latest().size == 900
        key = SIGNER.key_id
        assert [log.receipt(i.statement.id, key) for i in ITEMS[::90]] == receipts[::90]
    assert place.fsck() == []


@pytest.mark.parametrize("lost", ["heads", "keys", "db"])
def test_what_is_lost_is_not_made_anew(place: Place, lost: str) -> None:
    """A log without its head, its texts' keys or its database does not start."""
    with place.open() as log:
        append(log, ITEMS[:5])
    for path in (place.folder / lost).iterdir():
        if path.is_file():
            path.unlink()
    if lost == "db" and place.server is not None:
        place.server.drop(place.name)
    with pytest.raises(StorageError) as caught:
        place.open()
    assert isinstance(caught.value, (NotFound, Unavailable))


def test_an_unknown_log_is_not_made(place: Place) -> None:
    """Opening under another id or origin finds no log, and makes none."""
    stores = place.stores()
    for change, error in (({"log_id": "other"}, NotFound), ({"origin": "o.example"}, Exception)):
        with pytest.raises(error):
            recovery.recover(replace(stores, **change), place.signer.verifier_keys, ())
    close(stores)


def test_another_logs_keys_are_refused(place: Place, tmp_path: Path) -> None:
    """A signer whose keys did not sign what is there does not go on."""
    stranger = Place(tmp_path / "stranger")
    with pytest.raises(IntegrityAlarm, match="not signed by this log"):
        replace(place, signer=stranger.signer).open()


def test_one_process_has_the_log_open(place: Place) -> None:
    """A second opening is refused while the first lasts."""
    with place.open() as log:
        with pytest.raises(Unavailable, match="open"):
            place.open()
        append(log, ITEMS[:1])
    with place.open() as log:
        assert log.latest().size == 1


def test_a_head_beside_the_database_is_refused(place: Place) -> None:
    """A head that would be backed up with the database cannot tell that it was put back."""
    stores = place.stores()
    if stores.db.path is None:
        pytest.skip("on a server there is no folder to lie in")
    beside = replace(stores, heads=FileHead(place.folder / "db" / "heads" / "demo.head"))
    with pytest.raises(Unavailable, match="place of its own"):
        Log.open(beside, signer=place.signer, clock=now)
    close(stores)


def test_a_damaged_row_that_is_not_published_is_refused(place: Place, tmp_path: Path) -> None:
    """A leaf hash that changed before publication never becomes a tile."""
    with place.open() as log:
        append(log, ITEMS[:20])
        log.publish()
        append(log, ITEMS[20:30])
        crashed = place.copy(tmp_path / "crashed", live=log)
    crashed.edit("UPDATE records SET leaf_hash = zeroblob(32) WHERE idx = 25")
    with pytest.raises(LogRolledBack):
        crashed.open()
    crashed.edit("DELETE FROM records WHERE idx = 25")
    with pytest.raises(IntegrityAlarm, match="index 25"):
        crashed.open()


def test_a_damaged_checkpoint_is_refused(place: Place) -> None:
    """The newest checkpoint's row and note must agree, and the note must verify."""
    with place.open() as log:
        append(log, ITEMS[:20])
        log.publish()
    place.edit("UPDATE checkpoints SET root = zeroblob(32) WHERE size = 20")
    with pytest.raises(IntegrityAlarm, match="row"):
        place.open()
    place.edit(
        "UPDATE checkpoints SET note = CAST(replace(note, '20', '21') AS BLOB) WHERE size = 20"
    )
    with pytest.raises(IntegrityAlarm, match="not signed"):
        place.open()


def test_a_running_log_notices_another_writer(place: Place) -> None:
    """A row that somebody else slipped in stops the log before it signs over it."""
    with place.open() as log:
        append(log, ITEMS[:5])
        place.edit(
            "INSERT INTO checkpoints (log, organ, size, root, note, committed_at)"
            " SELECT log, organ, 6, root, note, committed_at FROM checkpoints WHERE size = 5"
        )
        with pytest.raises(LogRolledBack):
            append(log, ITEMS[5:6])
        with pytest.raises(LogRolledBack):
            log.submit(Submission(items=(ITEMS[5],)))
        assert isinstance(log.status().halted, LogRolledBack)
        assert log.latest().size == 5


def test_a_running_log_notices_another_head(place: Place) -> None:
    """A head that changed under the log means another signer: nobody is answered."""
    with place.open() as log:
        append(log, ITEMS[:5])
        held = place.head.read_bytes()
        place.head.unlink()
        place.head.write_bytes(Head(size=9, root=EMPTY_ROOT).encode())
        with pytest.raises(HeadConflict):
            append(log, ITEMS[5:8])
        assert log.latest().size == 5
        assert isinstance(log.status().halted, HeadConflict)
        with pytest.raises(NotFound, match="not complete"):
            log.receipt(ITEMS[5].statement.id, SIGNER.key_id)
    with pytest.raises(LogRolledBack):
        place.open()
    place.head.unlink()
    place.head.write_bytes(held)
    with place.open() as log:
        assert log.latest().size == 8
        check_receipts(place, ITEMS[:8], append(log, ITEMS[:8]))


class LosingDatabase(Database):
    """A real database whose answer to a commit may get lost."""

    losing = False

    @contextmanager
    def write(self, turn: str = WORK) -> Generator[Connection, None, None]:
        """Commit, and perhaps not say so."""
        with super().write(turn) as connection:
            yield connection
        if self.losing:
            raise Unavailable("the connection was lost")


def test_a_commit_with_an_unknown_end_halts(place: Place) -> None:
    """If the commit itself raises, nothing more is signed until a start has looked."""
    stores = place.stores()
    database = LosingDatabase(place.url)
    log = Log.open(replace(stores, db=database), signer=place.signer, clock=now, period_s=3600)
    append(log, ITEMS[:5])
    database.losing = True
    with pytest.raises(Unavailable, match="lost"):
        append(log, ITEMS[5:8])
    database.losing = False
    with pytest.raises(Unavailable, match="lost"):
        append(log, ITEMS[8:9])
    assert log.latest().size == 5
    log.close()
    database.close()
    close(stores)
    with place.open() as again:
        assert again.latest().size == 8
        assert append(again, ITEMS[5:8])[0].index == 5
    assert place.fsck() == []


def test_the_origin_is_part_of_everything(place: Place) -> None:
    """The checkpoint names the log that the stores belong to."""
    with place.open() as log:
        signed = open_checkpoint(log.latest().note, place.signer.verifier_keys)
    assert signed.checkpoint.origin == ORIGIN


def test_an_unconfirmed_log_is_read_and_takes_nothing(place: Place) -> None:
    """Receipts, proofs and the checkpoint are given; what would be signed is refused by name."""
    with place.open() as log:
        receipts = append(log, ITEMS[:20])
    head = place.head.read_bytes()
    with place.open(confirmed=False) as log:
        for refused in (log.require_taking, lambda: log.submit(Submission(items=(ITEMS[20],)))):
            with pytest.raises(LogUnconfirmed):
                refused()
        check_receipts(place, ITEMS[:20], receipts)
        assert log.receipt(receipts[3].statement_id, receipts[3].key_id) == receipts[3]
        assert len(log.consistency(7, 20)) > 0
        assert log.checkpoint().startswith(f"{ORIGIN}\n20\n".encode())
        status = log.status()
        assert (status.size, status.confirmed, status.halted) == (20, False, None)
    assert place.head.read_bytes() == head
    assert place.fsck() == []


def test_a_log_is_confirmed_by_enough_answers(place: Place) -> None:
    """Answers that are too few change nothing; then it signs on from where it was."""
    with place.open() as log:
        append(log, ITEMS[:20])
    with place.open(confirmed=False) as log:
        log.confirm([WitnessAnswer(witness="east", size=20, root=log.latest().root)], enough=False)
        with pytest.raises(LogUnconfirmed):
            log.require_taking()
        log.confirm([WitnessAnswer(witness="west", size=3)], enough=True)
        assert [one.index for one in append(log, ITEMS[20:22])] == [20, 21]


@pytest.mark.parametrize("enough", [True, False])
@pytest.mark.parametrize("size", [19, 20, 40])
def test_a_late_answer_of_another_tree_halts(place: Place, size: int, *, enough: bool) -> None:
    """More leaves, or another root, are the alarm, also where too few answered to begin."""
    with place.open() as log:
        append(log, ITEMS[:20])
    with place.open(confirmed=False) as log:
        answer = WitnessAnswer(witness="east", size=size, root=EMPTY_ROOT)
        with pytest.raises(LogRolledBack, match="witness east saw"):
            log.confirm([answer], enough=enough)
        with pytest.raises(LogRolledBack):
            log.submit(Submission(items=(ITEMS[20],)))
        log.confirm([WitnessAnswer(witness="west", size=3)], enough=True)
        with pytest.raises(LogRolledBack):
            log.require_taking()
