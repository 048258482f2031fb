"""Admission: the only door to the log.

Does: opens what is handed in, asks the rules, and submits it; makes and submits what the server
states itself. The key ring is kept in step inside the sequencer's thread, so a key is judged at the
very index that its statement gets. Refuses statements whose signature was not verified here, and
to decide anything by itself: which key may sign is the key chain's answer, what is taken is
`service.law`'s.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import msgspec
from sqlalchemy import Connection

from evidence.canonical import JSONValue
from evidence.errors import EvidenceError
from evidence.keys import Signer
from evidence.schema import decode_base64
from evidence.statement import (
    About,
    SignedStatement,
    Statement,
    make_statement,
    open_statement,
    parse_statement,
    sign_statement,
)
from service.law.refusals import Refusal, SubjectMismatch
from service.law.signing import (
    House,
    consider_beginning,
    consider_index,
    consider_outside,
    consider_own,
)
from service.ring import KeysInStep
from storage import records
from storage.log import Appended, OpenLog, Outcome, PendingStatement, Submission


class Effects(Protocol):
    """Work rows to write in the transaction of what is newly logged: data that can be called.

    A frozen `msgspec.Struct` with a tag, named in `service.relaying`: the node that leads the log
    may be another one than the node that asks. Equal ones are called once for a batch.
    """

    def __call__(self, connection: Connection, appended: list[Appended], /) -> None:
        """Write them."""
        ...

    def __hash__(self) -> int:
        """Equal ones are called together."""
        ...


class Guard(Protocol):
    """What must still hold when a statement is logged: data, as `Effects`."""

    def check(self, connection: Connection, at: datetime, /) -> "Callable[[Statement], None]":
        """Look once, in the transaction; what comes back is called for each statement.

        It raises a `Refusal` where the facts have changed meanwhile.

        Args:
            connection: of the transaction.
            at: now, UTC, by the clock of the node that leads the log.
        """
        ...


class Nothing(msgspec.Struct, frozen=True, tag="nothing"):
    """The effects of a statement that leaves no work behind."""

    def __call__(self, _connection: Connection, _appended: list[Appended], /) -> None:
        """Write nothing."""


NOTHING = Nothing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The door to one organ's log.

    Attributes:
        log: the open log.
        house: what this deployment is.
        keys: the key ring in step with the log.
        signer: the server's key for this organ.
        clock: now, UTC.
        fresh_salt: 32 hex digits from the operating system's randomness.
    """

    log: OpenLog
    house: House
    keys: KeysInStep
    signer: Signer
    clock: Callable[[], datetime]
    fresh_salt: Callable[[], str]

    def submit_signed(
        self, handed_in: Sequence[SignedStatement | Exception], effects: Effects | None = None
    ) -> Future[list[Outcome]]:
        """Verify statements from outside and hand them to the log.

        Args:
            handed_in: at most 200, in their order; an exception stands for an item that could not
                even be read and comes back as its outcome.
            effects: work rows to write in the transaction of what is newly logged.

        Returns:
            A future of one outcome for each: its receipt, or why it was refused.

        Raises:
            StorageError: the log takes nothing now.
        """
        self.log.require_taking()
        received_at = self.clock()
        announced: dict[str, bytes] = {}
        prepared: list[PendingStatement | Exception] = []
        for item in handed_in:
            try:
                prepared.append(self._prepare(item, announced, received_at))
            except (EvidenceError, Refusal) as refusal:
                prepared.append(refusal)
        return self._submit(prepared, effects, None)

    def begin(self, signed: SignedStatement) -> Future[list[Outcome]]:
        """Hand in the registrar's statement that this new log continues another one.

        Raises:
            EvidenceError: its signature or form is wrong.
            Refusal: it begins no log, or another one.
            StorageError: the log takes nothing now.
        """
        self.log.require_taking()
        public_key = self.keys.public_key(signed.key_id)
        statement = open_statement(signed.raw, signed.signature, public_key)
        consider_beginning(statement, self.house)
        return self._submit([_pending(signed, statement, public_key, self.clock())], None, None)

    def make(
        self,
        kind: str,
        body: Mapping[str, JSONValue],
        about: About | None = None,
        previous: str | None = None,
    ) -> SignedStatement:
        """Make and sign a statement in the server's name; nothing is logged yet.

        Args:
            kind: a kind that the server may state.
            body: what it says.
            about: the subject, where there is one.
            previous: the last earlier statement about the subject that the server knows.

        Raises:
            StorageError: the log takes nothing now; the server signs nothing then.
        """
        self.log.require_taking()
        raw = make_statement(
            kind,
            audience=self.house.audience,
            organ=self.house.organ,
            signer=self.signer.key_id,
            salt=self.fresh_salt(),
            made_at=self.clock(),
            body=body,
            about=about,
            previous=previous,
        )
        return sign_statement(raw, self.signer)

    def submit_own(
        self,
        made: Sequence[SignedStatement],
        *,
        guard: Guard | None = None,
        effects: Effects | None = None,
    ) -> Future[list[Outcome]]:
        """Hand statements that `make` made to the log.

        Args:
            made: in their order.
            guard: asked in the transaction before each is logged; raises a `Refusal` where the
                facts have changed meanwhile.
            effects: work rows to write in the transaction.

        Returns:
            A future of one outcome for each: its receipt, or why it was refused.

        Raises:
            StorageError: the log takes nothing now.
            Refusal: the server may not state that.
        """
        at = self.clock()
        prepared: list[PendingStatement | Exception] = []
        for signed in made:
            statement = parse_statement(signed.raw)
            consider_own(statement, self.house)
            prepared.append(_pending(signed, statement, self.signer.public_key, at))
        return self._submit(prepared, effects, guard)

    def _prepare(
        self, item: SignedStatement | Exception, announced: dict[str, bytes], at: datetime
    ) -> PendingStatement:
        """1. resolve the key, 2. verify the signature, 3. read strictly, 4. ask the rules."""
        if isinstance(item, Exception):
            raise item
        public_key = announced.get(item.key_id) or self.keys.public_key(item.key_id)
        statement = open_statement(item.raw, item.signature, public_key)
        consider_outside(statement, self.house)
        if statement.kind == "key" and "public_key" in statement.body:
            # The next item of the same request may be signed by this very key; whether it was
            # enrolled below that item's index is judged in the sealer's thread.
            spki = decode_base64(str(statement.body["public_key"]))
            announced[str(statement.body["key_id"])] = spki
        return _pending(item, statement, public_key, at)

    def _submit(
        self,
        prepared: Sequence[PendingStatement | Exception],
        effects: Effects | None,
        guard: Guard | None,
    ) -> Future[list[Outcome]]:
        items = tuple(item for item in prepared if isinstance(item, PendingStatement))
        if not items:
            refused: Future[list[Outcome]] = Future()
            refused.set_result([item for item in prepared if isinstance(item, Exception)])
            return refused

        return _merged(prepared, self.log.submit(self.submission(items, effects, guard)))

    def submission(
        self,
        items: tuple[PendingStatement, ...],
        effects: Effects | None = None,
        guard: Guard | None = None,
    ) -> Submission:
        """Verified statements with everything that is asked before they are logged.

        Args:
            items: in their order.
            effects: see `submit_own`.
            guard: see `submit_own`.
        """
        return Submission(
            items=items,
            admit=Judge(self, guard),
            effects=effects or NOTHING,
            refusals=(EvidenceError, Refusal),
        )

    def open_again(
        self, signed: SignedStatement, public_key: bytes, received_at: datetime
    ) -> PendingStatement:
        """Verify a statement that another node of this deployment has verified.

        Whoever administers the database could have changed it on its way here.

        Args:
            signed: as that node wrote it.
            public_key: DER SubjectPublicKeyInfo that it resolved; the key chain judges it later.
            received_at: when that node received it, UTC.

        Raises:
            EvidenceError: the signature does not hold, or it is no statement.
            Refusal: it may not be stated here.
        """
        statement = open_statement(signed.raw, signed.signature, public_key)
        if signed.key_id == self.signer.key_id:
            consider_own(statement, self.house)
        else:
            consider_outside(statement, self.house)
        return _pending(signed, statement, public_key, received_at)

    def require_subject(self, connection: Connection, statement: Statement) -> None:
        """A subject that is named by its place must stand there."""
        about = statement.about
        if about is None or about.index is None:
            return
        record = records.record_at(connection, self.house.log_id, about.index)
        if record is None or record.statement_id != about.statement:
            raise SubjectMismatch("Another statement stands at that index.", pointer="/about/index")


class Judge:
    """What is asked of each statement of a submission inside the log's transaction."""

    __slots__ = ("_admission", "_check", "guard")

    def __init__(self, admission: Admission, guard: Guard | None) -> None:
        """Prepare for one submission.

        Args:
            admission: the door.
            guard: what must still hold, or None.
        """
        self.guard = guard
        self._admission = admission
        self._check: Callable[[Statement], None] | None = None

    def __call__(self, connection: Connection, statement: Statement, index: int) -> None:
        """Judge one statement at the index that it would get."""
        consider_index(statement, index)
        self._admission.require_subject(connection, statement)
        if self.guard is not None:
            if self._check is None:
                self._check = self.guard.check(connection, self._admission.clock())
            self._check(statement)
        keys, term = self._admission.keys, self._admission.log.term
        keys.admit(statement, index, term=term, connection=connection)


def _pending(
    signed: SignedStatement, statement: Statement, public_key: bytes, at: datetime
) -> PendingStatement:
    return PendingStatement(
        signed=signed, statement=statement, public_key=public_key, received_at=at
    )


def _merged(
    prepared: Sequence[PendingStatement | Exception], logged: Future[list[Outcome]]
) -> Future[list[Outcome]]:
    """The outcomes of all items in their order, once the log has answered for its own."""
    if not any(isinstance(item, Exception) for item in prepared):
        return logged
    merged: Future[list[Outcome]] = Future()
    merged.set_running_or_notify_cancel()

    def settle(done: Future[list[Outcome]]) -> None:
        """Put the log's answers between the refusals; runs in the sealer's thread."""
        fault = done.exception()
        if fault is not None:
            merged.set_exception(fault)
            return
        answers = iter(done.result())
        merged.set_result(
            [item if isinstance(item, Exception) else next(answers) for item in prepared]
        )

    logged.add_done_callback(settle)
    return merged
