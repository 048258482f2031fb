"""The key ring of one log, kept in step with it, whichever node makes the log grow.

Where this process leads, the sequencer's thread feeds the ring with each `key` statement before it
is committed, so a key is judged at the very index that its statement gets. What other nodes logged
is read from the rows: at the first statement of each of this process's terms, and by a node that
follows when it meets a key that it does not know. Refuses to decide anything: which key may sign
is the key chain's answer.
"""

import threading
from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from evidence.errors import KeyUnknown
from evidence.keyring import ChainHead, EnrolledKey, Keyring, Registrar
from evidence.statement import Statement, parse_statement
from storage import records
from storage.db.engine import Database

_PAGE = 1000
_Applied = list[tuple[int, Statement]]


class KeysInStep:
    """The key ring of one log, folded as far as the log has grown.

    The sequencer's thread feeds it inside a transaction that may still be rolled back. An index
    that comes again tells that it was: what was folded from there on is then dropped. Other threads
    only look keys up.
    """

    def __init__(
        self,
        db: Database,
        log: str,
        audience: str,
        registrars: Sequence[Registrar],
        *,
        leads: Callable[[], bool],
    ) -> None:
        """Fold every `key` statement of the log.

        Args:
            db: the database.
            log: id of the log.
            audience: the deployment's stable id.
            registrars: pinned in the deployment file.
            leads: whether this process leads the log, and so knows every key already.

        Raises:
            EvidenceError: the database holds a key statement that was never admitted.
        """
        self._db = db
        self._leads = leads
        self._log = log
        self._audience = audience
        self._registrars = tuple(registrars)
        self._turn = threading.Lock()
        self._applied: _Applied = []
        self._ring = Keyring(audience, self._registrars)
        self._term = 0
        self._sure = 0  # what was folded below this index is in the log for good
        self.catch_up()

    def admit(self, statement: Statement, index: int, *, term: int, connection: Connection) -> None:
        """Judge the signer at this index, and take the statement in if it is a `key`.

        Args:
            statement: the next one of the log.
            index: the index that it would get.
            term: of this process's leadership; in a new one, what others logged is read first.
            connection: in the transaction that would log it.

        Raises:
            EvidenceError: the key may not sign it there, or the chain does not continue.
        """
        with self._turn:
            if term != self._term:
                self._take_over(_logged_keys(connection, self._log, self._sure), index)
                self._term = term
            self._rewind(index)
            if statement.kind == "key":
                self._apply(index, statement)
            else:
                self._ring.require(statement, index)

    def catch_up(self) -> None:
        """Fold what other nodes have logged since.

        Raises:
            EvidenceError: the database holds a key statement that was never admitted.
            StorageError: the database does not answer.
        """
        with self._turn:
            with self._db.read() as connection:
                logged = _logged_keys(connection, self._log, self._sure)
            ahead = _names(self._since(self._sure))
            if _names(logged) != ahead[: len(logged)]:
                self._take_over(logged, logged[-1][0] + 1)

    def public_key(self, key_id: str) -> bytes:
        """See `Keyring.public_key`."""
        try:
            with self._turn:
                return self._ring.public_key(key_id)
        except KeyUnknown:
            if self._leads():
                raise
        self.catch_up()  # another node may have logged it
        with self._turn:
            return self._ring.public_key(key_id)

    def require(self, statement: Statement, index: int) -> EnrolledKey:
        """See `Keyring.require`; for statements that are logged already."""
        try:
            with self._turn:
                return self._ring.require(statement, index)
        except KeyUnknown:
            if self._leads():
                raise
        self.catch_up()  # another node may have logged it
        with self._turn:
            return self._ring.require(statement, index)

    def head(self, organ: str) -> ChainHead:
        """See `Keyring.head`."""
        if not self._leads():
            self.catch_up()
        with self._turn:
            return self._ring.head(organ)

    def _apply(self, index: int, statement: Statement) -> None:
        self._ring.apply(statement, index)
        self._applied.append((index, statement))

    def _take_over(self, logged: _Applied, size: int) -> None:
        """Fold exactly these key statements beyond what is sure; below `size` it is sure then."""
        ahead = _names(self._since(self._sure))
        if ahead != _names(logged)[: len(ahead)]:
            self._rewind(self._sure)
            ahead = []
        for index, statement in logged[len(ahead) :]:
            self._apply(index, statement)
        self._sure = max(size, self._sure)

    def _since(self, index: int) -> _Applied:
        return [one for one in self._applied if one[0] >= index] if self._ends_at(index) else []

    def _ends_at(self, index: int) -> bool:
        return bool(self._applied) and self._applied[-1][0] >= index

    def _rewind(self, index: int) -> None:
        if not self._ends_at(index):
            return
        kept = [(at, statement) for at, statement in self._applied if at < index]
        self._applied = []
        self._ring = Keyring(self._audience, self._registrars)
        for at, statement in kept:
            self._apply(at, statement)


def _names(applied: _Applied) -> list[tuple[int, str]]:
    return [(index, statement.id) for index, statement in applied]


def _logged_keys(connection: Connection, log: str, start: int) -> _Applied:
    """Every `key` statement of a log from an index on, in the order of the log."""
    found: _Applied = []
    while page := records.records_of_kind(connection, log, "key", start=start, limit=_PAGE):
        for record in page:
            text = records.text_at(connection, log, record.index)
            if text is None:
                raise KeyUnknown("A key statement's text is missing.")
            found.append((record.index, parse_statement(text)))
        start = page[-1].index + 1
    return found
