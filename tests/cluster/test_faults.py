"""Bad days on the local cluster: under load of phones and drones things break, one after another.

Nothing acknowledged is lost, nothing is logged twice, order is kept, and answers come again.
"""

import os
import random
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from service.deployment_file import Places, database_url, read_deployment
from service.key_files import log_signer
from service.settings import read_settings
from service.work.queue import State
from storage.db.engine import Database
from storage.db.tables import outbox
from tests.cluster.cluster_process import cluster_folder
from tests.cluster.faults import Bench, bench, chosen, happen
from tests.cluster.field import Field, digest_of, party_of
from tests.crash.audit import Audit
from tests.crash.ledger import Ledger
from tests.tools import require_tool

CHOSEN = os.environ.get("FAULTS", "")
ALL = CHOSEN == "all"
NAMES = chosen(CHOSEN)
LONG_S = 30.0 if ALL else 6.0
CALM_S = 3.0
PATIENCE_S = 240.0
READ_S = 15.0
MOST_AGAIN = 4
"""A connection that died in a fault may be noticed when it is used next."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if ALL else 900)]


@pytest.fixture(scope="module")
def whole() -> Iterator[Bench]:
    """A cluster on which everything can go wrong."""
    for tool in ("openssl", "weed", "nginx", "mount"):
        require_tool(tool)
    with cluster_folder() as place, bench(place, LONG_S) as made:
        yield made


class ClusterAudit(Audit):
    """What was promised, looked for in the cluster's database and store."""

    def __init__(self, whole: Bench, field: Field) -> None:
        """Read every row of the log."""
        self.ledger: Ledger = field.ledger
        self.settings = read_settings(whole.cluster.variables())
        self.deployment = read_deployment(self.settings)
        self.organ = self.deployment.organs[0]
        self.party = field.party
        self.places = Places(self.settings.folder)
        self.keys = log_signer(self.settings, self.organ.log).verifier_keys
        self.leaves = self._read_leaves()
        self.by_id = {leaf.id: leaf for leaf in self.leaves}
        self._trees = {}
        self._again = 0

    def check_stored(self, url: str, token: str) -> None:
        """What was taken is stated once as stored, and its bytes are given back."""
        assert self._repeated("stored") == {}
        stored = self._about("stored")
        assert set(self.ledger.taken) <= set(stored)
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as http:
            for capture, (sending, told) in self.ledger.taken.items():
                read = self._read(http, capture)
                assert read.status_code == 200, read.text
                assert digest_of(read.content) == told["sha256"] == digest_of(sending.content)

    def _read(self, http: httpx.Client, capture: str) -> httpx.Response:
        """Read a content; what is told to come again comes again, for a while."""
        end = time.monotonic() + READ_S
        while True:
            read = http.get(f"/v1/captures/{capture}/content")
            if read.status_code != 503 or time.monotonic() > end:
                return read
            self._again += 1
            assert self._again <= MOST_AGAIN, read.text  # a node that answers nobody would hide
            time.sleep(1)


def settle(audit_settings: Any) -> None:  # noqa: ANN401  the settings of a node
    """Return when nothing is left to do."""
    db = Database(database_url(audit_settings, read_deployment(audit_settings)))
    deadline = time.monotonic() + PATIENCE_S
    query = select(outbox.c.kind, outbox.c.state, outbox.c.attempts, outbox.c.problem)
    try:
        while True:
            with db.read() as connection:
                rows = connection.execute(query.where(outbox.c.state != State.HELD.value)).all()
            if not rows:
                return
            assert time.monotonic() < deadline, rows
            time.sleep(0.5)
    finally:
        db.close()


def test_a_bad_day(whole: Bench) -> None:
    """Each fault comes once, in a random order, while everybody works."""
    cluster = whole.cluster
    seed = os.environ.get("FAULT_SEED") or str(random.SystemRandom().randrange(10**9))
    print(f"FAULT_SEED={seed}")  # noqa: T201  so that a failure can be repeated
    party, token = party_of(cluster.folder)
    url = f"http://127.0.0.1:{cluster.kept['proxy_ports'][1]}"
    field = Field(url=url, party=party, token=token, seed=seed)
    names = list(NAMES)
    random.Random(seed).shuffle(names)
    working = field.begin()
    try:
        time.sleep(CALM_S)
        for name in names:
            begun = time.monotonic()
            happen(name, whole)
            wait_for_answers(field)
            time.sleep(CALM_S)
            print(f"{name}: {field.figures(begun)}")  # noqa: T201
    finally:
        working.end()
    print(f"in all: {field.figures()}; {field.ledger.figures()}")  # noqa: T201
    assert field.ledger.faults == [], cluster.logs()
    settings = read_settings(cluster.variables())
    settle(settings)
    audit = ClusterAudit(whole, field)
    audit.check_leaves()
    audit.check_receipts()
    audit.check_stored(url, token)
    for order in field.orders:
        assert order == sorted(order)
    checked = cluster.operate("log", "fsck", "--json")
    assert checked.status == 0, checked.out + checked.err
    examined = cluster.operate("doctor", "--json")
    wrong = [one for one in examined.json()["checks"] if one["answer"] in {"fail", "unknown"}]
    assert wrong == []


def wait_for_answers(field: Field) -> None:
    """Latency recovers: what is sent after the fault is answered at its first sending."""
    begun = time.monotonic()
    while True:
        fresh = [one for one in field.answered if one.at - one.seconds > begun]
        if any(one.sendings == 1 for one in fresh):
            return
        assert time.monotonic() < begun + PATIENCE_S, field.figures(begun)
        time.sleep(0.1)
