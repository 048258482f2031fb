"""Two nodes and one log: one leads, the other takes over, and nothing is sequenced twice."""

import multiprocessing
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import select, text

from evidence.keys import P256Signer
from storage.db.engine import Database
from storage.db.tables import leaders
from storage.db.tables import records as record_rows
from storage.errors import (
    AlreadyExists,
    HeadConflict,
    LeadershipLost,
    NotFound,
    Unavailable,
)
from storage.log import Candidate, Log, LogStores, create_log
from storage.log.fsck import fsck
from storage.log.heads import Head
from storage.log.leading import LEASE_S
from storage.log.shared_heads import SharedHead, prepare_heads
from tests.crash.appender import place_of
from tests.postgres import OWNER, SERVICE, PostgresServer
from tests.storage import leader_process
from tests.storage.leader_process import Told, node_stores
from tests.storage.log_material import (
    LOG_ID,
    ORGAN,
    ORIGIN,
    Place,
    append,
    captures,
    now,
    on_server,
)

SIGNER = P256Signer.generate()
FIRST, SECOND = Head(size=0, root=b"\0" * 32), Head(size=5, root=b"\1" * 32)
PATIENCE_S = 60.0


@dataclass
class Cluster:
    """One log on two servers: its database on the first, its head on the second."""

    place: Place
    seeds: tuple[bytes, bytes]
    urls: tuple[str, str]
    opened: list[LogStores] = field(default_factory=list[LogStores])

    def stores(self) -> LogStores:
        """The stores of one more node in this process."""
        self.opened.append(node_stores(self.place, *self.urls))
        return self.opened[-1]

    def open(self, node: str = "here", wait_s: float = 0.0) -> Log:
        """Lead the log in this process."""
        return Log.open(
            self.stores(),
            signer=self.place.signer,
            clock=now,
            period_s=3600.0,
            candidate=Candidate(node=node, wait_s=wait_s),
        )

    def close(self) -> None:
        """Let go of every connection."""
        for stores in self.opened:
            stores.db.close()
            stores.texts.close()
            assert isinstance(stores.heads, SharedHead)
            stores.heads._db.close()


@pytest.fixture
def heads_url(other_postgres: PostgresServer) -> Iterator[str]:
    """A database for heads on a server of its own."""
    name = other_postgres.empty()
    owner = Database(other_postgres.url(name, OWNER))
    for _ in range(2):
        prepare_heads(owner, service_role=SERVICE)
    owner.close()
    yield other_postgres.url(name)
    other_postgres.drop(name)


@pytest.fixture
def cluster(postgres: PostgresServer, heads_url: str, tmp_path: Path) -> Iterator[Cluster]:
    """An empty log that any node may lead."""
    seeds = secrets.token_bytes(32), secrets.token_bytes(32)
    with on_server(postgres):
        place = place_of(tmp_path / "log", seeds).make()
        cluster = Cluster(place, seeds, (place.url, heads_url))
        create_log(cluster.stores(), organ=ORGAN, signer=place.signer, clock=now)
        yield cluster
        cluster.close()


@pytest.fixture
def start(cluster: Cluster) -> Iterator[Callable[[str], "Node"]]:
    """Start nodes; what still runs in the end is killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.storage.leader_process"])
    started: list[Node] = []

    def launch(name: str) -> Node:
        ours, theirs = context.Pipe(duplex=False)
        arguments = (name, cluster.place.folder, cluster.seeds, cluster.urls, theirs)
        process = context.Process(target=leader_process.run, args=arguments, daemon=True)
        process.start()
        theirs.close()
        started.append(Node(process, ours))
        return started[-1]

    yield launch
    for node in started:
        node.signal(signal.SIGKILL)
        node.process.join(PATIENCE_S)
        node.told.close()


@dataclass
class Node:
    """A process that wants to lead, and what it said."""

    process: BaseProcess
    told: Connection
    heard: list[Told] = field(default_factory=list[Told])

    def signal(self, number: signal.Signals) -> None:
        """Stop, continue or kill it."""
        if self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, number)

    def hear(self, wanted: str, count: int = 1) -> list[Told]:
        """Listen until it has said a word so often from now on."""
        end = time.monotonic() + PATIENCE_S
        found: list[Told] = []
        while len(found) < count:
            assert self.told.poll(max(0.0, end - time.monotonic())), f"it never said {wanted}"
            self.heard.append(self.told.recv())
            found += [one for one in self.heard[-1:] if one[1] == wanted]
        return found

    def drain(self) -> list[Told]:
        """What it had said before it was killed or stopped."""
        try:
            while self.told.poll(0.2):
                self.heard.append(self.told.recv())
        except EOFError:
            pass
        return self.heard


def check(cluster: Cluster, *nodes: Node) -> None:
    """Every answer is in the log once, no index is free or taken twice, and fsck is clean."""
    answered: dict[str, object] = {}
    for node in nodes:
        for _node, word, said in node.drain():
            if word == "logged":
                assert isinstance(said, list)
                answered.update((statement, index) for statement, index, _size in said)
    stores = cluster.stores()
    with stores.db.read() as connection:
        rows = connection.execute(select(record_rows.c.statement_id, record_rows.c.idx)).all()
    held = {row.statement_id: row.idx for row in rows}
    assert answered
    assert {statement: held[statement] for statement in answered} == answered
    assert sorted(held.values()) == list(range(len(rows)))
    assert fsck(stores, cluster.place.signer.verifier_keys) == []


def test_the_next_node_leads_when_the_first_is_killed(
    cluster: Cluster, start: Callable[[str], Node]
) -> None:
    """After kill -9 of the leader the other one sequences within seconds, and no answer is lost."""
    first = start("first")
    first.hear("logged", 5)
    second = start("second")
    first.signal(signal.SIGKILL)
    killed = time.monotonic()
    [(_node, _word, leads)] = second.hear("leads")
    assert isinstance(leads, float)
    second.hear("logged", 5)
    second.signal(signal.SIGKILL)
    check(cluster, first, second)
    assert leads - killed < LEASE_S + 10


def test_a_paused_leader_cannot_come_back(cluster: Cluster, start: Callable[[str], Node]) -> None:
    """SIGSTOP of the leader, take-over, SIGCONT: it halts, and nothing is sequenced twice."""
    first = start("first")
    first.hear("logged", 5)
    second = start("second")
    first.signal(signal.SIGSTOP)
    second.hear("leads")
    second.hear("logged", 5)
    first.signal(signal.SIGCONT)
    [(_node, _word, code)] = first.hear("halted")
    assert code in {"leadership_lost", "head_conflict", "unavailable"}
    second.hear("logged", 5)
    second.signal(signal.SIGSTOP)  # and the other way round: the first has waited for its turn
    first.hear("leads")
    first.hear("logged", 5)
    second.signal(signal.SIGCONT)
    second.hear("halted")
    first.signal(signal.SIGKILL)
    second.signal(signal.SIGKILL)
    check(cluster, first, second)


def test_one_leads_and_gives_it_back(cluster: Cluster) -> None:
    """A second node is refused while the first lives, however long, and led at once after it."""
    log = cluster.open("one")
    time.sleep(LEASE_S * 1.3)
    with pytest.raises(Unavailable, match="another process"):
        cluster.open("two")
    append(log, captures(SIGNER, 2))
    log.close()
    with cluster.open("two") as again:
        assert again.latest().size == 2
        with cluster.stores().db.read() as connection:
            row = connection.execute(select(leaders)).one()
        assert (row.log, row.epoch, row.node) == (LOG_ID, 2, "two")


def test_a_deposed_leader_commits_nothing(cluster: Cluster) -> None:
    """Once the epoch has moved on, its next transaction is refused and it halts."""
    log = cluster.open("one")
    append(log, captures(SIGNER, 2))
    with cluster.stores().db.write() as connection:
        connection.execute(text("UPDATE leaders SET until = 0"))
    other = cluster.open("two")
    with pytest.raises(LeadershipLost):
        append(log, captures(SIGNER, 1))
    with pytest.raises(LeadershipLost):
        append(log, captures(SIGNER, 1))
    assert isinstance(log.status().halted, LeadershipLost)
    append(other, captures(SIGNER, 3))
    other.publish()
    with pytest.raises(LeadershipLost):
        log.publish()
    assert log.latest().size == 2
    other.close()
    with pytest.raises(LeadershipLost):
        log.close()
    assert fsck(cluster.stores(), cluster.place.signer.verifier_keys) == []


def test_a_deposed_leader_is_told_without_writing(cluster: Cluster) -> None:
    """A leader with nothing to do learns at its next renewal that another took over."""
    log = cluster.open("one")
    with cluster.stores().db.write() as connection:
        connection.execute(text("UPDATE leaders SET epoch = epoch + 1"))
    end = time.monotonic() + PATIENCE_S
    while log.status().halted is None and time.monotonic() < end:
        time.sleep(0.05)
    assert isinstance(log.status().halted, LeadershipLost)
    log.close()


def test_a_head_on_the_database_s_server_is_refused(
    postgres: PostgresServer, cluster: Cluster
) -> None:
    """What is restored with the database cannot tell that it was put back."""
    name = postgres.empty()
    owner = Database(postgres.url(name, OWNER))
    prepare_heads(owner)
    head = SharedHead(owner, ORIGIN)
    with pytest.raises(Unavailable, match="one of their own"):
        head.require_apart(cluster.stores().db)
    owner.close()
    postgres.drop(name)


def test_shared_heads_keep_the_promises_of_a_file(heads_url: str) -> None:
    """Made once, swapped by comparison, never back."""
    db = Database(heads_url)
    head = SharedHead(db, ORIGIN)
    with pytest.raises(NotFound):
        head.read()
    head.make(FIRST)
    with pytest.raises(AlreadyExists):
        head.make(SECOND)
    with head.hold():
        head.swap(FIRST, SECOND)
        assert SharedHead(db, ORIGIN).read() == SECOND
        with pytest.raises(HeadConflict):
            head.swap(FIRST, Head(size=9, root=b"\2" * 32))
        with pytest.raises(ValueError, match="grows"):
            head.swap(SECOND, FIRST)
    with pytest.raises(NotFound):
        SharedHead(db, "log.example/other").read()
    db.close()


@pytest.mark.parametrize(
    "order",
    ["UPDATE log_heads SET size = 1", "DELETE FROM log_heads", "TRUNCATE log_heads"],
)
def test_the_servers_master_cannot_put_a_head_back(
    other_postgres: PostgresServer, heads_url: str, order: str
) -> None:
    """Triggers refuse a smaller size and a deletion to everybody."""
    db = Database(heads_url)
    SharedHead(db, ORIGIN).make(SECOND)
    db.close()
    name = heads_url.rpartition("/")[2]
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="only grows"):
        other_postgres.execute(order, name)


def test_heads_need_a_server(tmp_path: Path) -> None:
    """A file is for one machine and has a store of its own."""
    db = Database(f"sqlite:///{tmp_path / 'heads.db'}")
    with pytest.raises(ValueError, match="server"):
        prepare_heads(db)
    db.close()
