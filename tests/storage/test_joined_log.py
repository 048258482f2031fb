"""One log that several processes have open, each with its own connections: here within one."""

import pickle
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import text

from evidence.errors import SignatureInvalid
from evidence.keys import P256Signer
from evidence.statement import SignedStatement, open_statement
from storage.db.engine import Database
from storage.db.notices import Notices
from storage.errors import LogRolledBack, LogUnanswered, StorageError, Unavailable
from storage.log import LogStores, Outcome, PendingStatement, Receipt, Submission, create_log
from storage.log.joined import JoinedLog
from storage.log.mail import Letter, Mail
from storage.log.part import Part
from storage.log.shared_heads import SharedHead, prepare_heads
from tests.crash.appender import place_of
from tests.postgres import OWNER, SERVICE, PostgresServer
from tests.storage.leader_process import node_stores
from tests.storage.log_material import (
    LOG_ID,
    ORGAN,
    Place,
    append,
    captures,
    check_receipts,
    now,
    on_server,
)

SIGNER = P256Signer.generate()
PATIENCE_S = 60.0


class Plain:
    """A courier of statements without guards and effects; both ends are this process."""

    def pack(self, submission: Submission) -> bytes:
        """Write the items."""
        return pickle.dumps([(one.signed, one.received_at) for one in submission.items])

    def unpack(self, request: bytes) -> Submission:
        """Read and verify them."""
        return Submission(
            items=tuple(
                PendingStatement(
                    signed=signed,
                    statement=open_statement(signed.raw, signed.signature, SIGNER.public_key),
                    public_key=SIGNER.public_key,
                    received_at=at,
                )
                for signed, at in pickle.loads(request)  # noqa: S301 - what this test wrote
            )
        )

    def pack_answer(self, answer: Sequence[Outcome] | Exception) -> bytes:
        """Write it."""
        return pickle.dumps(answer if isinstance(answer, Exception) else list(answer))

    def unpack_answer(self, answer: bytes) -> list[Outcome] | Exception:
        """Read it."""
        return pickle.loads(answer)  # noqa: S301 - what this test wrote


@dataclass
class Node:
    """One node's log with what belongs to it."""

    log: JoinedLog
    stores: LogStores
    channel: str


@pytest.fixture
def join(
    postgres: PostgresServer, other_postgres: PostgresServer, tmp_path: Path
) -> Iterator[Callable[[str], Node]]:
    """Open one new log at as many nodes as are wanted."""
    name = other_postgres.empty()
    owner = Database(other_postgres.url(name, OWNER))
    prepare_heads(owner, service_role=SERVICE)
    owner.close()
    seeds = secrets.token_bytes(32), secrets.token_bytes(32)
    with on_server(postgres), ExitStack() as opened:
        place = place_of(tmp_path / "log", seeds).make()
        urls = place.url, other_postgres.url(name)

        def stores_of_a_node() -> LogStores:
            stores = node_stores(place, *urls)
            assert isinstance(stores.heads, SharedHead)
            opened.callback(stores.heads._db.close)
            opened.callback(stores.texts.close)
            opened.callback(stores.db.close)
            return stores

        create_log(stores_of_a_node(), organ=ORGAN, signer=place.signer, clock=now)

        def start(node: str) -> Node:
            stores = stores_of_a_node()
            notices = Notices(stores.db)
            notices.start()
            opened.callback(notices.close)
            log = JoinedLog(
                Part(
                    stores=stores,
                    signer=place.signer,
                    clock=now,
                    node=node,
                    notices=notices,
                    period_s=0.05,
                )
            )
            opened.callback(_close, log)
            log.join(Plain())
            return Node(log, stores, notices.channel)

        start.place = place  # type: ignore[attr-defined]
        yield start
    other_postgres.drop(name)


def _close(log: JoinedLog) -> None:
    try:
        log.close()
    except StorageError:
        return


def place_at(join: Callable[[str], Node]) -> Place:
    """Where the log of these nodes lies."""
    place = join.place  # type: ignore[attr-defined]
    assert isinstance(place, Place)
    return place


def until(look: Callable[[], bool]) -> None:
    """Return once it is so."""
    end = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < end
        time.sleep(0.02)


def take_over(node: Node) -> None:
    """Let somebody else's epoch begin, as if this node had been paused beyond its lease."""
    with node.stores.db.write() as connection:
        connection.execute(
            text("UPDATE leaders SET epoch = epoch + 1, node = 'a ghost', until = 0")
        )


def test_a_follower_answers_like_the_leader(join: Callable[[str], Node]) -> None:
    """Proofs hold, a repeat gets the first receipt at either node, and both show one tree."""
    first, second = join("first"), join("second")
    assert (first.log.leads, second.log.leads) == (True, False)
    mine, theirs = captures(SIGNER, 3), captures(SIGNER, 40)
    receipts = append(second.log, theirs)
    check_receipts(place_at(join), theirs, receipts)
    second.log.reach(max(one.size for one in receipts))  # it reads on when somebody asks
    assert second.log.latest().size == max(one.size for one in receipts)
    check_receipts(place_at(join), mine, append(first.log, mine))
    assert append(second.log, mine) == append(first.log, mine)
    size = first.log.latest().size
    second.log.reach(size)
    assert second.log.latest() == first.log.latest()
    assert second.log.proof(5, size) == first.log.proof(5, size)
    assert second.log.consistency(20, size) == first.log.consistency(20, size)
    assert second.log.receipt(mine[0].statement.id, SIGNER.key_id) == append(first.log, mine)[0]
    until(lambda: first.log.status().published_size == size)
    assert second.log.checkpoint() == first.log.checkpoint()
    assert second.log.tile(f"tile/0/000.p/{size}") == first.log.tile(f"tile/0/000.p/{size}")


def test_an_unsigned_row_is_not_believed(join: Callable[[str], Node]) -> None:
    """Whoever administers the database writes a row: its signature does not hold, nothing is."""
    first, second = join("first"), join("second")
    [good] = captures(SIGNER, 1)
    forged = SignedStatement(
        raw=good.signed.raw.replace(b'"attended"', b'"automatic"'),
        signature=good.signed.signature,
        key_id=good.signed.key_id,
    )
    answer = second.log._asker.ask(Submission(items=(replace(good, signed=forged),)))
    with pytest.raises(SignatureInvalid):
        answer.result(PATIENCE_S)
    assert first.log.latest().size == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_thread_that_is_gone(
    join: Callable[[str], Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake that ends the asking thread is told to whoever waits, and to who comes later."""
    _, second = join("first"), join("second")

    def mistaken(_mail: Mail) -> list[Letter]:
        raise TypeError("a mistake")

    assert second.log.alive
    monkeypatch.setattr(Mail, "collect", mistaken)
    with pytest.raises(LogUnanswered):
        append(second.log, captures(SIGNER, 1))
    until(lambda: not second.log.alive)  # which makes the node not ready
    with pytest.raises(Unavailable):
        append(second.log, captures(SIGNER, 1))


def test_who_lost_the_lead_follows_and_leads_again(join: Callable[[str], Node]) -> None:
    """What is handed in meanwhile is answered; no process ends, and nothing is twice."""
    first, second = join("first"), join("second")
    items = captures(SIGNER, 2)
    append(first.log, items)
    answers: list[Future[list[Outcome]]] = []
    for _ in range(2):
        take_over(first)
        answers += [
            node.log.submit(Submission(items=(one,)))
            for node in (first, second)
            for one in captures(SIGNER, 3)
        ]
    outcomes = [one for answer in answers for one in answer.result(PATIENCE_S)]
    assert len({one.index for one in outcomes if isinstance(one, Receipt)}) == len(outcomes) == 12
    until(lambda: first.log.leads != second.log.leads)
    assert first.log.status().halted is None
    assert append(first.log, items) == append(second.log, items)


def test_who_lost_the_lead_was_not_put_back(join: Callable[[str], Node]) -> None:
    """A witness saw more because another node leads meanwhile: that is no alarm here."""
    first, second = join("first"), join("second")
    append(first.log, captures(SIGNER, 2))
    assert first.log.leads
    take_over(first)
    first.log.halt("a witness has seen more of this log than we have")
    append(second.log, captures(SIGNER, 2))
    append(first.log, captures(SIGNER, 2))
    assert first.log.status().halted is None
    second.log.close()
    until(lambda: first.log.leads)
    append(first.log, captures(SIGNER, 2))


def test_damage_is_for_good(join: Callable[[str], Node]) -> None:
    """A log that was halted by an alarm takes nothing and never leads again; another node does."""
    first, second = join("first"), join("second")
    first.log.halt("a witness has seen more of this log than we have")
    until(lambda: second.log.leads)
    items = captures(SIGNER, 2)
    append(second.log, items)
    second.log.close()
    time.sleep(1.0)
    assert not first.log.leads
    assert isinstance(first.log.status().halted, LogRolledBack)
    with pytest.raises(LogRolledBack):
        first.log.require_taking()


def test_a_row_whose_leader_died_is_taken_by_the_next(join: Callable[[str], Node]) -> None:
    """It lies there until somebody leads; what a dead node left is answered and swept, not kept."""
    first, second = join("first"), join("second")
    with Mail(second.stores.db, LOG_ID, "fengni_of_a_dead_node") as mail:
        take_over(first)
        [good] = captures(SIGNER, 1)
        mail.ask([Plain().pack(Submission(items=(good,)))], "")
        until(lambda: len(mail.collect()) == 1)
    [again] = append(second.log, [good])
    assert again.index == 0


def test_a_head_that_went_back_is_an_alarm(
    join: Callable[[str], Node], other_postgres: PostgresServer
) -> None:
    """A follower serves no head that the head store does not confirm, and says so."""
    first, second = join("first"), join("second")
    append(first.log, captures(SIGNER, 3))
    until(lambda: second.log.latest().size == 3)
    heads = second.stores.heads
    assert isinstance(heads, SharedHead)
    name = str(heads._db._backend.engine.url.database)
    other_postgres.execute("ALTER TABLE log_heads DISABLE TRIGGER ALL", name)
    other_postgres.execute("UPDATE log_heads SET size = 2", name)
    until(lambda: isinstance(second.log.status().halted, LogRolledBack))
    assert second.log.latest().size == 3


def test_a_log_in_a_file_is_not_joined(tmp_path: Path) -> None:
    """One machine has one process: there is nobody to talk to."""
    place = place_of(tmp_path / "log", (secrets.token_bytes(32), secrets.token_bytes(32))).make()
    stores = place.stores()
    with pytest.raises(Unavailable):
        Mail(stores.db, LOG_ID, "fengni").sweep()
    stores.db.close()
    stores.texts.close()
