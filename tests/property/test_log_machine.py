"""A log under any sequence of appends, publications, restarts, crashes and put-back databases."""

import itertools
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from sqlalchemy import Connection

from evidence.errors import KeyRevoked
from evidence.keys import P256Signer
from evidence.merkle import verify_consistency
from evidence.statement import Statement
from evidence.tlog.checkpoint import Checkpoint, open_checkpoint
from storage.errors import LogRolledBack
from storage.log import Receipt, Submission
from tests.storage.log_material import OpenLog, Place, captures, check_receipts

POOL = captures(P256Signer.generate(), 700)


class LogMachine(RuleBasedStateMachine):
    """The model is a dictionary from statement to the receipt that was answered."""

    def __init__(self) -> None:
        """Make folders; the log comes with the first rule."""
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="fengni-log-"))
        self.copies = itertools.count()
        self.place = Place(self.root / "log")
        self.open: OpenLog | None = None
        self.receipts: dict[int, Receipt] = {}
        self.unused = iter(range(len(POOL)))
        self.trees: list[Checkpoint] = []
        self.head_before: bytes | None = None
        self.backup: tuple[int, Path] | None = None

    @initialize()
    def make(self) -> None:
        """Begin with an empty log."""
        self.place.make()
        self.open = self.place.open()

    @property
    def log(self):  # noqa: ANN201 - the open log
        """Return the open log."""
        assert self.open is not None
        return self.open.log

    @rule(
        fresh=st.integers(0, 60),
        repeats=st.lists(st.integers(0, 10**6), max_size=4),
        refuse=st.integers(0, 7),
    )
    def append(self, fresh: int, repeats: list[int], refuse: int) -> None:
        """New statements, repeats among them, and some that are refused, in one submission."""
        before = self.place.head.read_bytes()
        chosen = list(itertools.islice(self.unused, fresh))
        known = sorted(self.receipts)
        again = [known[number % len(known)] for number in repeats if known]
        order = [*again[::2], *chosen, *again[1::2], *chosen[:1]]
        refused = {POOL[number].statement.id for number in chosen[:: refuse + 1][:refuse]}

        def admit(_connection: Connection, statement: Statement, _index: int) -> None:
            if statement.id in refused:
                raise KeyRevoked("the key was revoked")

        items = tuple(POOL[number] for number in order)
        outcomes = self.log.submit(Submission(items=items, admit=admit)).result(timeout=60)
        for number, outcome in zip(order, outcomes, strict=True):
            if POOL[number].statement.id in refused:
                assert isinstance(outcome, KeyRevoked)
            else:
                assert isinstance(outcome, Receipt)
                assert self.receipts.setdefault(number, outcome) == outcome
        if self.place.head.read_bytes() != before:
            self.head_before = before

    @rule()
    def publish(self) -> None:
        """What is committed becomes files."""
        self.log.publish()
        self.head_before = None
        assert self.log.status().published_size == self.log.latest().size

    @rule()
    def restart(self) -> None:
        """Close, which publishes, and open again."""
        assert self.open is not None
        self.open.__exit__()
        self.head_before = None
        self.open = self.place.open()

    @rule(before_swap=st.booleans())
    def crash(self, before_swap: bool) -> None:
        """Go on with what a kill would have left, perhaps before the last swap of the head."""
        crashed = self.place.copy(self.root / f"copy-{next(self.copies)}", live=self.log)
        if before_swap and self.head_before is not None:
            crashed.head.unlink()
            crashed.head.write_bytes(self.head_before)
        assert self.open is not None
        self.open.__exit__()
        self.place, self.backup, self.head_before = crashed, None, None
        self.open = self.place.open()

    @rule()
    def back_up(self) -> None:
        """Keep a copy of the database alone."""
        folder = self.root / f"backup-{next(self.copies)}"
        shutil.copytree(self.place.folder / "db", folder)
        self.backup = self.log.latest().size, folder

    @precondition(lambda self: self.backup is not None)
    @rule()
    def put_back(self) -> None:
        """A restored database is refused if it lacks anything, and then the log goes on."""
        assert self.open is not None
        assert self.backup is not None
        size, folder = self.backup
        grown = self.log.latest().size
        self.open.__exit__()
        live, aside = self.place.folder / "db", self.root / f"aside-{next(self.copies)}"
        live.rename(aside)
        shutil.copytree(folder, live)
        if size < grown:
            with pytest.raises(LogRolledBack):
                self.place.open()
            shutil.rmtree(live)
            aside.rename(live)
        self.head_before = None
        self.open = self.place.open()

    @invariant()
    def sizes_agree(self) -> None:
        """There is one leaf for each statement that was answered, at an index of its own."""
        if self.open is not None:
            indices = sorted(receipt.index for receipt in self.receipts.values())
            assert indices == list(range(self.log.latest().size))

    @invariant()
    def the_tree_only_grows(self) -> None:
        """Every tree that was seen is a beginning of the one that is there."""
        if self.open is None:
            return
        keys = self.place.signer.verifier_keys
        new = open_checkpoint(self.log.latest().note, keys).checkpoint
        for old in self.trees[-3:]:
            proof = self.log.consistency(old.size, new.size)
            verify_consistency(old.size, old.root, new.size, new.root, proof)
        self.trees.append(new)

    def teardown(self) -> None:
        """At the end every receipt is given as at first and proves, and fsck is clean."""
        try:
            if self.open is not None:
                for number, receipt in self.receipts.items():
                    item = POOL[number]
                    assert self.log.receipt(item.statement.id, item.signed.key_id) == receipt
                items = [POOL[number] for number in list(self.receipts)[::10]]
                check_receipts(self.place, items, list(self.receipts.values())[::10])
                self.open.__exit__()
                assert self.place.fsck() == []
        finally:
            shutil.rmtree(self.root)


LogMachine.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.slow
class TestLogMachine(LogMachine.TestCase):
    """Run by pytest as a test case."""
