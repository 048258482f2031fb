"""kill -9 under load, again and again: what was answered is there, once, and nothing is broken."""

import itertools
import multiprocessing
import os
import random
import time
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from sqlalchemy import select

from evidence.leaf import leaf_of
from evidence.merkle import hash_leaf, verify_consistency, verify_inclusion
from evidence.tlog.checkpoint import Checkpoint, open_checkpoint
from storage import records
from storage.db.tables import records as record_rows
from storage.log import Log
from tests.crash import appender
from tests.crash.appender import digest, place_of
from tests.storage.log_material import LOG_ID, Place

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "20"))
LONGEST_LIFE_S = 0.3
FSCK_EVERY = 10

Answer = tuple[str, str, int, int, str]


@pytest.mark.slow
@pytest.mark.timeout(300 + 10 * ROUNDS)
def test_nothing_answered_is_lost(tmp_path: Path) -> None:
    """Round after round answered items keep index and receipt, no leaf is twice, fsck is clean."""
    chance = random.Random()
    seeds = (chance.randbytes(32), chance.randbytes(32))
    place = place_of(tmp_path / "log", seeds).make()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.crash.appender"])
    answered: dict[str, Answer] = {}
    trees: list[Checkpoint] = []
    for number in range(ROUNDS):
        fresh = _live_and_die(context, place.folder, seeds, chance.uniform(0, LONGEST_LIFE_S))
        for answer in fresh:
            assert answered.setdefault(answer[0], answer) == answer
        with place.open() as log:
            _check(place, log, fresh)
            trees.append(open_checkpoint(log.latest().note, place.signer.verifier_keys).checkpoint)
        if number % FSCK_EVERY == FSCK_EVERY - 1:
            assert place.fsck() == []
    assert len(answered) > ROUNDS
    with place.open() as log:
        _check(place, log, list(answered.values()))
        _check_history(log, trees)
        _check_once(place, log)
    assert place.fsck() == []


def _live_and_die(
    context: ForkServerContext,
    folder: Path,
    seeds: tuple[bytes, bytes],
    life_s: float,
) -> list[Answer]:
    """One child's life: killed at any moment from its opening of the log on."""
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=appender.run, args=(folder, seeds, theirs), daemon=True)
    child.start()
    theirs.close()
    answers = _listen(ours, child, life_s)
    child.join(30)
    assert child.exitcode == -9
    ours.close()
    return answers


def _listen(answers: Connection, child: BaseProcess, life_s: float) -> list[Answer]:
    """Everything that was answered until the kill, and what was on its way then."""
    heard: list[Answer] = []
    begun = time.monotonic()
    patience_s = 30.0 if life_s > LONGEST_LIFE_S / 4 else 0.2  # short lives die while opening
    opened = answers.poll(patience_s)
    end = time.monotonic() + life_s
    while opened and time.monotonic() < end:
        if answers.poll(max(0.0, end - time.monotonic())):
            heard += answers.recv()
    child.kill()
    assert time.monotonic() < begun + 60
    while True:
        try:
            heard += answers.recv()
        except (EOFError, ConnectionResetError):
            return heard


def _check(place: Place, log: Log, answers: list[Answer]) -> None:
    """Each answer is still given, byte for byte, and proves what it says."""
    stores = place.stores()
    for statement_id, key_id, index, size, told in answers:
        receipt = log.receipt(statement_id, key_id)
        assert (receipt.index, receipt.size, digest(receipt)) == (index, size, told)
    for statement_id, key_id, *_ in answers[:: max(1, len(answers) // 20)]:
        receipt = log.receipt(statement_id, key_id)
        with stores.db.read() as connection:
            record = records.find_record(connection, LOG_ID, statement_id)
            key = records.public_key_of(connection, LOG_ID, key_id)
        assert record is not None
        assert key is not None
        leaf_hash = hash_leaf(leaf_of(statement_id, record.signature, key))
        tree = open_checkpoint(receipt.checkpoint, place.signer.verifier_keys).checkpoint
        verify_inclusion(leaf_hash, receipt.index, tree.size, receipt.hashes, tree.root)
    stores.db.close()
    stores.texts.close()


def _check_history(log: Log, trees: list[Checkpoint]) -> None:
    """Every tree that was seen between two kills is a beginning of the next one."""
    for old, new in itertools.pairwise(trees):
        proof = log.consistency(old.size, new.size)
        verify_consistency(old.size, old.root, new.size, new.root, proof)


def _check_once(place: Place, log: Log) -> None:
    """No statement has two leaves, and no index is free."""
    stores = place.stores()
    with stores.db.read() as connection:
        rows = connection.execute(select(record_rows.c.statement_id, record_rows.c.idx)).all()
    stores.db.close()
    stores.texts.close()
    size = log.latest().size
    assert len({statement_id for statement_id, _index in rows}) == size
    assert sorted(index for _statement_id, index in rows) == list(range(size))
