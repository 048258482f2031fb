"""The log: one leaf for each statement, one order, and a receipt that stays the same for ever."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select

from evidence.errors import KeyRevoked, ProofInvalid
from evidence.keys import P256Signer
from evidence.merkle import verify_consistency
from evidence.statement import Statement
from evidence.tlog.checkpoint import open_checkpoint
from storage import records
from storage.db.tables import logs, outbox
from storage.errors import IntegrityAlarm, LogRolledBack, NotFound, Unavailable
from storage.log import Appended, Log, Outcome, PendingStatement, Receipt, Submission
from storage.log import sequencer as sequencer_module
from tests.storage.log_material import (
    LOG_ID,
    ORGAN,
    RECEIVED,
    Place,
    append,
    capture,
    captures,
    check_receipts,
    now,
    pending,
)

pytestmark = pytest.mark.usefixtures("both_databases")
SIGNER = P256Signer.generate()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a new, empty log."""
    return Place(tmp_path / "log").make()


def submit(log: Log, submission: Submission) -> list[Outcome]:
    """Return the outcomes of one submission."""
    return log.submit(submission).result(timeout=60)


def refuse(*refused: PendingStatement) -> Callable[[Connection, Statement, int], None]:
    """An `admit` that refuses these statements."""
    ids = {item.statement.id for item in refused}

    def admit(_connection: Connection, statement: Statement, _index: int) -> None:
        if statement.id in ids:
            raise KeyRevoked("the key was revoked")

    return admit


def test_receipts_prove_their_statements(place: Place) -> None:
    """Index, proof and checkpoint of each answer hold under both of the log's keys."""
    items = captures(SIGNER, 30)
    with place.open() as log:
        receipts = append(log, items[:1]) + append(log, items[1:20]) + append(log, items[20:])
        assert [receipt.index for receipt in receipts] == list(range(30))
        assert {receipt.size for receipt in receipts} == {1, 20, 30}
        assert {receipt.received_at for receipt in receipts} == {RECEIVED}
        check_receipts(place, items, receipts)
        assert log.latest().size == 30


def test_rows_are_there_when_the_answer_is(place: Place) -> None:
    """Record, text, key and checkpoint are in the database before anybody is answered."""
    subject = capture(SIGNER)
    item = capture(SIGNER, about=subject.statement.id, previous=subject.statement.id)
    with place.open() as log:
        receipts = append(log, [subject, item])
        stores = place.stores()
        with stores.db.read() as connection:
            found = records.record_at(connection, LOG_ID, 1)
            assert found is not None
            assert (found.statement_id, found.subject) == (item.statement.id, subject.statement.id)
            assert found.signature == item.signed.signature
            assert records.text_at(connection, LOG_ID, 1) == item.statement.raw
            newest = records.newest_checkpoint(connection, LOG_ID)
            assert newest is not None
            assert newest.note == receipts[1].checkpoint
        stores.db.close()
        stores.texts.close()


def test_a_repeat_gets_the_first_receipt(place: Place) -> None:
    """The same statement again, even signed anew, gives the stored answer and no new leaf."""
    items = captures(SIGNER, 5)
    with place.open() as log:
        first = append(log, items)
        later = [replace(item, received_at=now()) for item in items]
        again = [replace(pending(i.statement.raw, SIGNER), received_at=now()) for i in items]
        assert again[0].signed.signature != items[0].signed.signature
        assert append(log, later) == first
        assert append(log, again) == first
        more = append(log, [capture(SIGNER), items[3], capture(SIGNER)])
        assert more[1] == first[3]
        assert [receipt.index for receipt in more] == [5, 3, 6]
        assert log.latest().size == 7


def test_equal_ones_in_one_batch_are_one_leaf(place: Place) -> None:
    """Twice in one submission, the second time signed anew: one leaf, one receipt."""
    item = capture(SIGNER)
    with place.open() as log:
        one, two, three = append(log, [item, item, pending(item.statement.raw, SIGNER)])
        assert one == two == three
        assert log.latest().size == 1
        check_receipts(place, [item], [one])


def test_a_refused_item_does_not_sink_the_others(place: Place) -> None:
    """Outcomes keep their order, refused ones take no index, and a later try may succeed."""
    items = captures(SIGNER, 7)
    with place.open() as log:
        outcomes = submit(log, Submission(items=tuple(items), admit=refuse(items[0], items[3])))
        refused = [number for number, one in enumerate(outcomes) if isinstance(one, KeyRevoked)]
        assert refused == [0, 3]
        receipts = [one for one in outcomes if isinstance(one, Receipt)]
        assert [receipt.index for receipt in receipts] == [0, 1, 2, 3, 4]
        check_receipts(place, [items[n] for n in (1, 2, 4, 5, 6)], receipts)
        [later] = append(log, [items[3]])
        assert later.index == 5


def test_only_refusals_sign_nothing(place: Place) -> None:
    """A batch without anything new makes no checkpoint."""
    items = captures(SIGNER, 3)
    with place.open() as log:
        append(log, items[:1])
        before = log.latest()
        outcomes = submit(log, Submission(items=tuple(items), admit=refuse(*items[1:])))
        assert isinstance(outcomes[0], Receipt)
        assert [type(one) for one in outcomes[1:]] == [KeyRevoked, KeyRevoked]
        assert submit(log, Submission(items=())) == []
        assert log.latest() == before


def test_admit_sees_the_index_and_effects_what_is_new(place: Place) -> None:
    """Callbacks run inside the transaction: their rows are committed with the leaves."""
    items = captures(SIGNER, 4)
    seen: list[tuple[str, int]] = []

    def admit(_connection: Connection, statement: Statement, index: int) -> None:
        seen.append((statement.id, index))
        if statement.id == items[2].statement.id:
            raise KeyRevoked("the key was revoked")

    def effects(connection: Connection, appended: list[Appended]) -> None:
        for new in appended:
            values = {"log": LOG_ID, "organ": ORGAN, "kind": "ingest", "state": "waiting"}
            subject = new.pending.statement.id
            connection.execute(
                insert(outbox).values(
                    **values, subject=subject, attempts=new.index, due_at=now(), created_at=now()
                )
            )

    with place.open() as log:
        append(log, items[:1])
        submit(log, Submission(items=tuple(items), admit=admit, effects=effects))
        submit(log, Submission(items=tuple(items[:2]), effects=effects))  # nothing new
        ids = [item.statement.id for item in items]
        assert seen == [(ids[1], 1), (ids[2], 2), (ids[3], 2)]
    stores = place.stores()
    with stores.db.read() as connection:
        rows = connection.execute(select(outbox.c.subject, outbox.c.attempts)).all()
    stores.db.close()
    stores.texts.close()
    assert [tuple(row) for row in rows] == [(ids[1], 1), (ids[3], 2)]


@pytest.mark.parametrize("where", ["admit", "effects"])
def test_a_fault_fails_the_batch_and_leaves_the_log_as_it_was(place: Place, where: str) -> None:
    """An error that is no refusal rolls everything back; the next batch goes on from before."""
    items = captures(SIGNER, 6)

    def break_down(*_arguments: object) -> None:
        raise ZeroDivisionError

    with place.open() as log:
        first = append(log, items[:2])
        broken = Submission(items=tuple(items[2:4]))
        if where == "admit":
            broken = replace(broken, admit=break_down)
        else:
            broken = replace(broken, effects=break_down)
        with pytest.raises(ZeroDivisionError):
            log.submit(broken).result(timeout=60)
        assert log.latest().size == 2
        rest = append(log, items[2:])
        assert [receipt.index for receipt in rest] == [2, 3, 4, 5]
        check_receipts(place, items, first + rest)
    assert place.fsck() == []


def test_many_threads_one_order(place: Place) -> None:
    """Under load from 32 threads with repeats each statement has one leaf, indices have no gap."""
    items = captures(SIGNER, 320)
    with place.open(period_s=0.05) as log:

        def announce(number: int) -> Receipt:
            [receipt] = append(log, [items[number % 320]])
            return receipt

        with ThreadPoolExecutor(32) as pool:
            receipts = list(pool.map(announce, range(640)))
        assert receipts[:320] == receipts[320:]
        assert sorted(receipt.index for receipt in receipts[:320]) == list(range(320))
        assert len({receipt.size for receipt in receipts}) < 320
        check_receipts(place, items, receipts[:320])
    assert place.fsck() == []


def test_waiting_submissions_become_one_batch(place: Place) -> None:
    """What queues while a batch is committed is signed for once."""
    items = captures(SIGNER, 21)
    entered, go_on = threading.Event(), threading.Event()

    def block(_connection: Connection, _statement: Statement, _index: int) -> None:
        entered.set()
        assert go_on.wait(30)

    with place.open() as log:
        slow = log.submit(Submission(items=(items[0],), admit=block))
        assert entered.wait(30)
        waiting = [log.submit(Submission(items=(item,))) for item in items[1:]]
        go_on.set()
        [first] = slow.result(timeout=60)
        outcomes = [one for future in waiting for one in future.result(timeout=60)]
        receipts = [one for one in outcomes if isinstance(one, Receipt)]
        assert isinstance(first, Receipt)
        assert first.size == 1
        assert [receipt.index for receipt in receipts] == list(range(1, 21))
        assert {receipt.size for receipt in receipts} == {21}
        assert len({receipt.checkpoint for receipt in receipts}) == 1


def test_a_cancelled_submission_is_not_logged(place: Place) -> None:
    """Who went away before his turn leaves no leaf, and the others get theirs."""
    items = captures(SIGNER, 3)
    entered, go_on = threading.Event(), threading.Event()

    def block(_connection: Connection, _statement: Statement, _index: int) -> None:
        entered.set()
        assert go_on.wait(30)

    with place.open() as log:
        slow = log.submit(Submission(items=(items[0],), admit=block))
        assert entered.wait(30)
        gone = log.submit(Submission(items=(items[1],)))
        stays = log.submit(Submission(items=(items[2],)))
        assert gone.cancel()
        go_on.set()
        slow.result(timeout=60)
        [receipt] = stays.result(timeout=60)
        assert isinstance(receipt, Receipt)
        assert (receipt.index, log.latest().size) == (1, 2)


def test_equal_ones_of_two_senders_in_one_batch(place: Place) -> None:
    """Two requests with the same statement share a leaf; only the first has effects."""
    first, shared = captures(SIGNER, 2)
    entered, go_on = threading.Event(), threading.Event()
    called: list[str] = []

    def block(_connection: Connection, _statement: Statement, _index: int) -> None:
        entered.set()
        assert go_on.wait(30)

    def effects(name: str) -> Callable[[Connection, list[Appended]], None]:
        return lambda _connection, appended: called.extend(name for _ in appended)

    with place.open() as log:
        log.submit(Submission(items=(first,), admit=block))
        assert entered.wait(30)
        futures = [log.submit(Submission(items=(shared,), effects=effects(name))) for name in "abc"]
        go_on.set()
        outcomes = [future.result(timeout=60)[0] for future in futures]
        assert outcomes[0] == outcomes[1] == outcomes[2]
        assert called == ["a"]
        assert log.latest().size == 2


def test_a_batch_has_a_size(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit goes into the next batch; one submission is never cut."""
    monkeypatch.setattr(sequencer_module, "MAX_BATCH_ITEMS", 4)
    items = captures(SIGNER, 12)
    entered, go_on = threading.Event(), threading.Event()

    def block(_connection: Connection, _statement: Statement, _index: int) -> None:
        entered.set()
        assert go_on.wait(30)

    with place.open() as log:
        slow = log.submit(Submission(items=(items[0],), admit=block))
        assert entered.wait(30)
        parts = [items[1:4], items[4:5], items[5:6], items[6:]]
        waiting = [log.submit(Submission(items=tuple(part))) for part in parts]
        go_on.set()
        slow.result(timeout=60)
        outcomes = [one for future in waiting for one in future.result(timeout=60)]
        sizes = [one.size for one in outcomes if isinstance(one, Receipt)]
        assert sizes == [5, 5, 5, 5, 6, 12, 12, 12, 12, 12, 12]


def test_who_waits_when_the_log_halts_is_told(place: Place) -> None:
    """A halt fails what waits with its reason, and nothing of it is logged."""
    items = captures(SIGNER, 3)
    entered, go_on = threading.Event(), threading.Event()

    def block(_connection: Connection, _statement: Statement, _index: int) -> None:
        entered.set()
        assert go_on.wait(30)

    with place.open() as log:
        slow = log.submit(Submission(items=(items[0],), admit=block))
        assert entered.wait(30)
        waiting = log.submit(Submission(items=(items[1],)))
        log.halt("a witness saw more than we have")
        go_on.set()
        slow.result(timeout=60)
        with pytest.raises(LogRolledBack, match="witness"):
            waiting.result(timeout=60)
        with pytest.raises(LogRolledBack, match="witness"):
            append(log, items[2:])
        assert log.latest().size == 1
    with place.open() as log:
        assert log.latest().size == 1


def test_a_repeat_whose_tile_is_damaged_sinks_nobody(place: Place) -> None:
    """The repeat's outcome is the alarm; what is new beside it gets its receipt."""
    items = captures(SIGNER, 301)
    with place.open() as log:
        append(log, items[:300])
    tile = place.folder / "tiles" / "tile/0/000"
    data = bytearray(tile.read_bytes())
    data[0] ^= 1
    tile.unlink()
    tile.write_bytes(data)
    with place.open() as log:
        outcomes = submit(log, Submission(items=(items[5], items[300])))
        assert isinstance(outcomes[0], IntegrityAlarm)
        assert isinstance(outcomes[1], Receipt)
        check_receipts(place, items[300:], [outcomes[1]])


def test_the_databases_own_errors_get_a_name(place: Place) -> None:
    """A constraint that a callback breaks comes back as ours, without the row in its text."""
    [item] = captures(SIGNER, 1)

    def clash(connection: Connection, _appended: list[Appended]) -> None:
        row = {"id": LOG_ID, "organ": "secret-organ", "origin": "o", "created_at": now()}
        connection.execute(insert(logs).values(**row))

    with place.open() as log:
        with pytest.raises(Unavailable) as caught:
            submit(log, Submission(items=(item,), effects=clash))
        assert "secret-organ" not in str(caught.value.__cause__)
        assert append(log, [item])[0].index == 0


def test_too_much_waiting_is_sent_away(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full queue refuses new work at once and takes it again when it has drained."""
    monkeypatch.setattr(sequencer_module, "MAX_WAITING_ITEMS", 2)
    items = captures(SIGNER, 5)
    entered, go_on = threading.Event(), threading.Event()

    def block(_connection: Connection, _statement: Statement, _index: int) -> None:
        entered.set()
        assert go_on.wait(30)

    with place.open() as log:
        slow = log.submit(Submission(items=(items[0],), admit=block))
        assert entered.wait(30)
        waiting = log.submit(Submission(items=tuple(items[1:3])))
        with pytest.raises(Unavailable, match="wait"):
            log.submit(Submission(items=(items[3],)))
        go_on.set()
        slow.result(timeout=60)
        waiting.result(timeout=60)
        assert append(log, items[3:])[0].index == 3


def test_closing_finishes_what_waits(place: Place) -> None:
    """Everything taken before the close is answered and published; later nothing is taken."""
    items = captures(SIGNER, 50)
    with place.open() as log:
        futures = [log.submit(Submission(items=(item,))) for item in items]
    outcomes = [one for future in futures for one in future.result(timeout=0)]
    receipts = [one for one in outcomes if isinstance(one, Receipt)]
    assert [receipt.index for receipt in receipts] == list(range(50))
    with pytest.raises(Unavailable, match="closed"):
        log.submit(Submission(items=(items[0],)))
    with place.open() as log:
        assert log.status().published_size == 50


def test_receipts_are_the_same_after_a_new_start(place: Place) -> None:
    """Looked up or repeated, now or after a restart and much growth: the same bytes."""
    items = captures(SIGNER, 700)
    receipts: list[Receipt] = []
    with place.open() as log:
        for first in range(0, 600, 150):
            receipts += append(log, items[first : first + 150])
        key_id = SIGNER.key_id
        found = [log.receipt(item.statement.id, key_id) for item in items[:600:37]]
        assert found == receipts[::37]
    with place.open() as log:
        append(log, items[600:])
        found = [log.receipt(item.statement.id, key_id) for item in items[:600]]
        assert found == receipts
        assert append(log, items[:600]) == receipts
    check_receipts(place, items[:600], receipts)


def test_what_is_not_logged_has_no_receipt(place: Place) -> None:
    """An unknown statement, and a known one under another key, are not found."""
    item = capture(SIGNER)
    with place.open() as log:
        with pytest.raises(NotFound):
            log.receipt(item.statement.id, SIGNER.key_id)
        append(log, [item])
        with pytest.raises(NotFound):
            log.receipt(item.statement.id, "0" * 64)


def test_any_two_trees_are_consistent(place: Place) -> None:
    """Consistency proofs hold between all checkpoints, and proofs lead to newer ones as well."""
    items = captures(SIGNER, 40)
    with place.open() as log:
        receipts = [append(log, items[n : n + 8])[0] for n in range(0, 40, 8)]
        keys = place.signer.verifier_keys
        trees = [open_checkpoint(receipt.checkpoint, keys).checkpoint for receipt in receipts]
        for number, old in enumerate(trees):
            for new in trees[number:]:
                proof = log.consistency(old.size, new.size)
                verify_consistency(old.size, old.root, new.size, new.root, proof)
        with pytest.raises(ProofInvalid):
            verify_consistency(8, trees[1].root, 40, trees[4].root, log.consistency(8, 40))
        later = replace(
            receipts[0],
            size=40,
            checkpoint=log.latest().note,
            hashes=tuple(log.proof(0, 40)),
        )
        check_receipts(place, items[:1], [later])
        with pytest.raises(ValueError, match="grown"):
            log.proof(0, 41)
        with pytest.raises(ValueError, match="grown"):
            log.consistency(1, 41)


def test_a_clock_that_goes_back_is_held(place: Place) -> None:
    """Checkpoints never say an earlier time than the one before."""
    stores = place.stores()
    times = [now().replace(year=2030), now()]
    with Log.open(stores, signer=place.signer, clock=lambda: times.pop(0)) as log:
        append(log, [capture(SIGNER)])
        first = log.latest().committed_at
        append(log, [capture(SIGNER)])
        assert log.latest().committed_at == first
    stores.db.close()
    stores.texts.close()
    assert place.fsck() == []
