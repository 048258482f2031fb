"""What goes into the log and what comes out of it.

Shapes only: what they mean is written at `storage.log.Log`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from evidence.errors import EvidenceError
from evidence.statement import SignedStatement, Statement
from storage.db.engine import Database
from storage.keys import KeyStore
from storage.log.heads import HeadStore
from storage.tiles import TileStore


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingStatement:
    """A verified statement on its way into the log.

    Attributes:
        signed: the bytes and the signature as they came.
        statement: the same, opened by the caller: the log does not verify it again.
        public_key: DER SubjectPublicKeyInfo with which it was opened.
        received_at: when the server received it, UTC.
    """

    signed: SignedStatement
    statement: Statement
    public_key: bytes
    received_at: datetime

    @property
    def identity(self) -> tuple[str, str]:
        """(statement id, key id): what is logged once."""
        return self.statement.id, self.signed.key_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """A statement that this transaction logs; not promised before the transaction commits.

    Attributes:
        pending: what was submitted.
        index: zero-based index in the log.
    """

    pending: PendingStatement
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The proof that a statement is logged; the same for ever, byte for byte.

    Attributes:
        statement_id: 64 hex digits.
        key_id: of the signer, 64 hex digits.
        index: zero-based index in the log.
        received_at: when the server received it first, UTC, whole milliseconds.
        size: number of leaves of the checkpoint that was signed with it.
        hashes: inclusion proof into that checkpoint, 32 bytes each, the leaf's sibling first.
        checkpoint: the signed note, as it was committed.
    """

    statement_id: str
    key_id: str
    index: int
    received_at: datetime
    size: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes


Outcome = Receipt | Exception
"""Of one item: its receipt, or the exception with which `admit` refused it."""

Admit = Callable[[Connection, Statement, int], None]
Effects = Callable[[Connection, list[Appended]], None]


def _admit_all(_connection: Connection, _statement: Statement, _index: int) -> None:
    """Refuse nothing."""


def _no_effects(_connection: Connection, _appended: list[Appended]) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """Statements that one request wants logged, in their order.

    Attributes:
        items: verified statements; the same one twice gives one leaf.
        admit: called with the connection, the statement and the index that it would get, in
            the order of the log, inside the transaction; raises to refuse this one item. It
            sees the rows of earlier batches, not those of this one. It must not open a write of
            its own: the database has one writer, and this is its turn.
        effects: called once with what was logged, if anything was, after the rows are in;
            writes to work tables and nothing else. Submissions of one batch that share the
            same effects (equal callables) are served by one call with the new items of all, in
            the order of the log. Raising sinks the batch.
        refusals: what `admit` may raise to refuse; anything else that it raises is a fault and
            sinks the batch.
    """

    items: tuple[PendingStatement, ...]
    admit: Admit = _admit_all
    effects: Effects = _no_effects
    refusals: tuple[type[Exception], ...] = field(default=(EvidenceError,))


class Courier(Protocol):
    """How submissions and their answers are written for another node; the log does not read them.

    What a node wrote may have been changed on its way by whoever administers the database.
    """

    def pack(self, submission: Submission) -> bytes:
        """Write a submission.

        Raises:
            TypeError: its `admit` or `effects` is none that can be written: a mistake.
        """
        ...

    def unpack(self, request: bytes) -> Submission:
        """Read a submission and verify every signature in it again.

        Raises:
            EvidenceError, ValueError: it is not what a node would have written.
        """
        ...

    def pack_answer(self, answer: Sequence[Outcome] | Exception) -> bytes:
        """Write what the log answered: one outcome for each item, or the fault of all."""
        ...

    def unpack_answer(self, answer: bytes) -> list[Outcome] | Exception:
        """Read it; refusals are the same as those that were raised.

        Raises:
            ValueError: it is not what a leader would have written.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedHead:
    """The newest tree that was answered for.

    Attributes:
        size: number of leaves.
        root: 32 bytes.
        note: the signed checkpoint.
        committed_at: UTC.
    """

    size: int
    root: bytes
    note: bytes
    committed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessAnswer:
    """What a witness says about the newest checkpoint of ours that it knows.

    Attributes:
        witness: its name.
        size: number of leaves.
        root: 32 bytes, where it told more than the size.
    """

    witness: str
    size: int
    root: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStores:
    """Everything that one log is kept in.

    Attributes:
        db: the database.
        log_id: the log's id there, in routes and on every row.
        origin: the log's name in checkpoints.
        tiles: where it is published.
        heads: its head, apart from the database and its backups.
        texts: the keys of its texts.
    """

    db: Database
    log_id: str
    origin: str
    tiles: TileStore
    heads: HeadStore
    texts: KeyStore

    @property
    def turn(self) -> str:
        """The turn in which this log's leaves are written."""
        return f"log {self.log_id}"
