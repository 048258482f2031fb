"""Edits behind the service's back on a running cluster: each is found, and named, by its check.

Whoever edits has every right: the database server's master, and the store's administrator. What
can be put back is put back, so that each edit is found alone; the last one cannot be.
"""

import shutil
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from io import BytesIO

import psycopg
import pytest

from service.setup.cluster import LOG, STORE
from service.setup.weed import Account, WeedPlace
from storage.objects.bucket import Bucket
from tests.cluster.cluster_process import ClusterProcess
from tests.tools import require_tool

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

QUIET_S = 90


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Somebody with every right on the cluster's servers.

    Attributes:
        cluster: it, running, with one sealed photo.
        capture: id of that photo's statement.
    """

    cluster: ClusterProcess
    capture: str

    def orders(self, *orders: str) -> list[tuple[object, ...]]:
        """Give the evidence database orders without its triggers; returns the last one's rows.

        They fire for everybody; who owns the tables can only take them off, and put them back.
        """
        port = self.cluster.kept["evidence_port"]
        where = f"host=127.0.0.1 port={port} dbname=fengni user=postgres"
        with psycopg.connect(where) as connection:
            guards = connection.execute(
                "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE NOT tgisinternal"
            ).fetchall()
            changes = [f"ALTER TABLE {table} {{}} TRIGGER {name}" for table, name in guards]
            for change in changes:
                connection.execute(change.format("DISABLE").encode())
            done = [connection.execute(order.encode()) for order in orders][-1]
            rows = done.fetchall() if done.description else []
            for change in changes:
                connection.execute(change.format("ENABLE ALWAYS").encode())
        return rows

    def bucket(self, name: str) -> Bucket:
        """One of the store's buckets, as its administrator."""
        kept = self.cluster.kept
        place = WeedPlace(
            program=require_tool("weed"),
            folder=self.cluster.folder / STORE,
            ports=kept["weed_ports"],
        )
        access, secret = kept["admin"]
        account = Account(name="admin", access_key=access, secret_key=secret)
        return Bucket(place.address(name, account))

    def said(self, *words: str) -> tuple[int, str]:
        """Status and output of a command as the first node's operator gives it."""
        if words[0] == "monitor":
            port = next(iter(self.cluster.kept["web_ports"].values()))
            place = self.cluster.place
            words = (
                *("monitor", f"http://127.0.0.1:{port}/logs/{LOG}", "--once"),
                *("--known-keys", str(self.cluster.server / "known-keys.json")),
                *("--state", str(place / "monitor-state")),
            )
        ran = self.cluster.operate(*words)
        return ran.status, " ".join((ran.out + ran.err).split())


@pytest.fixture(scope="module")
def owner(cluster: ClusterProcess) -> Owner:
    """A photo is sealed and time-stamped, and nothing is left to do."""
    photo = cluster.place / "pavement.jpg"
    shutil.copy(cluster.folder / "photos" / "stall-on-pavement.jpg", photo)
    ran = cluster.run("upload", photo, "--json", "--wait", "time_stamped")
    assert ran.status == 0, ran.err + cluster.logs()
    [capture] = ran.ids()
    made = Owner(cluster=cluster, capture=capture)
    deadline = time.monotonic() + QUIET_S
    while made.orders("SELECT kind FROM outbox WHERE state <> 'held'"):
        assert time.monotonic() < deadline, "work is left"
        time.sleep(0.5)
    return made


@contextmanager
def row(owner: Owner) -> Generator[str]:
    """The signature in the capture's record has another first byte."""
    where = f"WHERE statement_id = '{owner.capture}'"
    flip = "UPDATE records SET signature = set_byte(signature, 0, get_byte(signature, 0) # 1)"
    [(index,)] = owner.orders(f"SELECT idx FROM records {where}")  # noqa: S608  an id, 64 hex digits
    flip = f"{flip} {where}"
    owner.orders(flip)
    try:
        yield str(index)
    finally:
        owner.orders(flip)


@contextmanager
def tile(owner: Owner) -> Generator[str]:
    """The last hash of the growing tile has another last byte."""
    bucket = owner.bucket("evidence-tiles")
    key = f"{LOG}/tile/0/000.p"
    before = bucket.client.get_object(bucket.name, key).data
    after = before[:-1] + bytes([before[-1] ^ 1])
    bucket.client.put_object(bucket.name, key, BytesIO(after), len(after))
    try:
        yield "tile/0/000"
    finally:
        bucket.client.put_object(bucket.name, key, BytesIO(before), len(before))


@contextmanager
def rolled_back(owner: Owner) -> Generator[str]:
    """The newest entries are gone from the database, as from an old copy of it."""
    [(size,)] = owner.orders("SELECT max(size) FROM checkpoints")
    old = f"(SELECT max(size) FROM checkpoints WHERE size <= {size} - 2)"  # noqa: S608  a number
    owner.orders(
        f"DELETE FROM cosignatures WHERE size > {old}",  # noqa: S608  the same
        f"DELETE FROM records WHERE idx >= {old}",  # noqa: S608  the same
        f"DELETE FROM texts WHERE idx >= {old}",  # noqa: S608  the same
        f"DELETE FROM checkpoints WHERE size > {old}",  # noqa: S608  the same
    )
    yield "head"


@contextmanager
def hidden(owner: Owner) -> Generator[str]:
    """A delete marker hides the photo from whoever names no version; nobody can do more to it."""
    bucket = owner.bucket("evidence")
    key = next(one.key for one in bucket.versions("sha256/") if not one.is_marker)
    bucket.client.remove_object(bucket.name, key)
    [marker] = [one for one in bucket.versions(key) if one.is_marker]
    try:
        yield f"{key} (delete marker {marker.version})"
    finally:
        bucket.remove(key, marker.version)


Edit = Callable[[Owner], AbstractContextManager[str]]
TABLE = (
    # edit, command, what it names; `{}` is where the edit was made
    (row, ("log", "fsck"), "record {}"),
    (row, ("db", "verify"), "signature"),
    (tile, ("log", "fsck"), "{}"),
    (tile, ("doctor",), "log.integrity_alarm the published tiles"),
    (tile, ("monitor",), "tile"),
    (hidden, ("doctor",), "{}"),
    (rolled_back, ("log", "fsck"), "{}"),
    (rolled_back, ("doctor",), "log.head"),
    (rolled_back, ("db", "verify"), "missing"),
)


def test_nothing_is_found_where_nobody_edited(owner: Owner) -> None:
    """What the checks name below is the edit's doing."""
    for words in (("log", "fsck"), ("db", "verify"), ("doctor",), ("monitor",)):
        status, said = owner.said(*words)
        assert status == 0, said


@pytest.mark.parametrize(
    ("edit", "words", "named"),
    [pytest.param(*one, id=f"{one[0].__name__}-{'-'.join(one[1])}") for one in TABLE],
)
def test_an_edit_is_named(owner: Owner, edit: Edit, words: tuple[str, ...], named: str) -> None:
    """The command says no, and where."""
    with edit(owner) as place:
        status, said = owner.said(*words)
    print(f"{words}: {status} {said}")  # noqa: T201  for whoever reads a failure
    assert status == 1, said
    assert named.format(place) in said
