"""Admission: the only door to the log.

Does: opens what is handed in, asks the rules, and submits it; makes and submits what the server
states itself. The key ring is kept in step inside the sealer's thread, so a key is judged at the
very index that its statement gets. Refuses statements whose signature was not verified here, and
to decide anything by itself: which key may sign is the key chain's answer, what is taken is
`service.law`'s.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from evidence.canonical import JSONValue
from evidence.errors import EvidenceError, KeyUnknown
from evidence.keyring import ChainHead, EnrolledKey, Keyring, Registrar
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
from storage import records
from storage.db.engine import Database
from storage.log import Appended, Log, Outcome, PendingStatement, Submission

Effects = Callable[[Connection, list[Appended]], None]
Guard = Callable[[Connection, Statement], None]
_PAGE = 1000


class KeysInStep:
    """The key ring of one log, folded as far as the log has grown.

    The sealer's thread feeds it inside a transaction that may still be rolled back. An index that
    comes again tells that it was: what was folded from there on is then dropped. Other threads
    only look keys up.
    """

    def __init__(
        self, db: Database, log: str, audience: str, registrars: Sequence[Registrar]
    ) -> None:
        """Fold every `key` statement of the log.

        Args:
            db: the database.
            log: id of the log.
            audience: the deployment's stable id.
            registrars: pinned in the deployment file.

        Raises:
            EvidenceError: the database holds a key statement that was never admitted.
        """
        self._audience = audience
        self._registrars = tuple(registrars)
        self._turn = threading.Lock()
        self._applied: list[tuple[int, Statement]] = []
        self._ring = Keyring(audience, self._registrars)
        for index, statement in _logged_keys(db, log):
            self._apply(index, statement)

    def admit(self, statement: Statement, index: int) -> None:
        """Judge the signer at this index, and take the statement in if it is a `key`.

        Raises:
            EvidenceError: the key may not sign it there, or the chain does not continue.
        """
        with self._turn:
            self._rewind(index)
            if statement.kind == "key":
                self._apply(index, statement)
            else:
                self._ring.require(statement, index)

    def public_key(self, key_id: str) -> bytes:
        """See `Keyring.public_key`."""
        with self._turn:
            return self._ring.public_key(key_id)

    def require(self, statement: Statement, index: int) -> EnrolledKey:
        """See `Keyring.require`; for statements that are logged already."""
        with self._turn:
            return self._ring.require(statement, index)

    def head(self, organ: str) -> ChainHead:
        """See `Keyring.head`."""
        with self._turn:
            return self._ring.head(organ)

    def _apply(self, index: int, statement: Statement) -> None:
        self._ring.apply(statement, index)
        self._applied.append((index, statement))

    def _rewind(self, index: int) -> None:
        if not self._applied or self._applied[-1][0] < index:
            return
        kept = [(at, statement) for at, statement in self._applied if at < index]
        self._applied = []
        self._ring = Keyring(self._audience, self._registrars)
        for at, statement in kept:
            self._apply(at, statement)


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

    log: Log
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
            guard: called in the transaction before each is logged; raises a `Refusal` where the
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

        def admit(connection: Connection, statement: Statement, index: int) -> None:
            """Judge one statement at the index that it would get."""
            consider_index(statement, index)
            self._require_subject(connection, statement)
            if guard is not None:
                guard(connection, statement)
            self.keys.admit(statement, index)

        submission = Submission(
            items=items,
            admit=admit,
            effects=effects or _no_effects,
            refusals=(EvidenceError, Refusal),
        )
        return _merged(prepared, self.log.submit(submission))

    def _require_subject(self, connection: Connection, statement: Statement) -> None:
        """A subject that is named by its place must stand there."""
        about = statement.about
        if about is None or about.index is None:
            return
        record = records.record_at(connection, self.house.log_id, about.index)
        if record is None or record.statement_id != about.statement:
            raise SubjectMismatch("Another statement stands at that index.", pointer="/about/index")


def _pending(
    signed: SignedStatement, statement: Statement, public_key: bytes, at: datetime
) -> PendingStatement:
    return PendingStatement(
        signed=signed, statement=statement, public_key=public_key, received_at=at
    )


def _no_effects(_connection: Connection, _appended: list[Appended]) -> None:
    """Write nothing else."""


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


def _logged_keys(db: Database, log: str) -> list[tuple[int, Statement]]:
    """Every `key` statement of a log with its index, in the order of the log."""
    found: list[tuple[int, Statement]] = []
    start = 0
    with db.read() as connection:
        while page := records.records_of_kind(connection, log, "key", start=start, limit=_PAGE):
            for record in page:
                text = records.text_at(connection, log, record.index)
                if text is None:
                    raise KeyUnknown("A key statement's text is missing.")
                found.append((record.index, parse_statement(text)))
            start = page[-1].index + 1
    return found
