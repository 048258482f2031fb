"""kill -9 of a whole server under load, again and again: what it promised is there, once."""

import hashlib
import os
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from service.deployment_file import Places
from service.fsck import check_logs
from service.work.queue import State
from storage.db.engine import Database
from storage.db.tables import outbox
from tests.crash.audit import Audit
from tests.crash.ledger import Announced, Ledger, Sending
from tests.crash.load import Connection, Load
from tests.service.attested_maker import Attested, make_attested
from tests.service.server_process import ServerProcess
from tests.tools import require_tool

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "12"))
LONGEST_LOAD_S = 1.5
LONGEST_START_S = 1.5
DIE_EARLY = 0.15
"""Share of the rounds in which the server dies while it starts."""

ALONE = range(ROUNDS * 2 // 5, ROUNDS * 2 // 5 + max(1, ROUNDS * 2 // 25))
"""Rounds in which witness and authority go before the load; a life without them follows each."""

MOST_UNHEARD = 20

FSCK_EVERY = 5
PATIENCE_S = 90.0
SETTINGS: dict[str, Any] = {
    "work_attempts": 10_000,  # so many kills are not the work's fault
    "export_wait_s": 3,
    "inspect_workers": 1,
    "request_timeout_s": 120,  # on a machine that does other things as well
}


@pytest.mark.slow
@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_nothing_promised_is_lost(tmp_path: Path) -> None:
    """Receipts, contents, readings and exports survive every kill, and nothing is there twice."""
    require_tool("openssl")
    seed = os.environ.get("CRASH_SEED") or str(random.SystemRandom().randrange(10**9))
    print(f"CRASH_SEED={seed}")  # noqa: T201  so that a failure can be repeated
    attested = make_attested(tmp_path)
    rounds = Rounds(attested, seed)
    begun = time.monotonic()
    with ExitStack() as outside, rounds.server:
        outside.enter_context(attested.outside())
        try:
            for number in range(ROUNDS):
                rounds.live_and_die(number, outside.close if number in ALONE else do_nothing)
                if number in ALONE:
                    outside.close()  # also where it died before it was ready
                    rounds.wait_and_die()
                    outside.enter_context(attested.outside())
            rounds.finish()
        except httpx.TransportError:
            rounds.server.require_alive()  # says why, if it ended by itself
            raise
        passed_s = time.monotonic() - begun
        print(f"{ROUNDS} rounds in {passed_s:.0f} s: {rounds.ledger.figures()}")  # noqa: T201
        audit = Audit(attested, rounds.ledger)
        audit.check_leaves()
        audit.check_receipts()
        audit.check_history()
        audit.check_contents()
        audit.check_staging()
        audit.check_custody()
        audit.check_packages()
        audit.check_commands()


class Rounds:
    """One deployment, its server, and what was promised over all its lives."""

    def __init__(self, attested: Attested, seed: str) -> None:
        """Start nothing yet."""
        made = attested.made
        organ = made.deployment.organs[0].id
        self.seed = seed
        self.chance = random.Random(seed)
        self.ledger = Ledger()
        self.settings = made.settings
        self.server = ServerProcess(made.settings.folder, **SETTINGS)
        self.load = Load(
            url=self.server.url,
            token=made.tokens[organ],
            party=made.parties[organ],
            ledger=self.ledger,
        )
        self._checked = (0, 0)

    def live_and_die(self, number: int, ready: Callable[[], None]) -> None:
        """One life of the server: killed while it starts, or at some moment under load.

        Args:
            number: of the round.
            ready: called once the server is ready and before the load begins.
        """
        self.server.launch()
        if self.chance.random() < DIE_EARLY:
            time.sleep(self.chance.uniform(0, LONGEST_START_S))
            self.server.kill()
        else:
            self.server.wait()
            self.wait_for_witnesses()
            self.check_new()
            ready()
            clients = self.load.begin(f"{self.seed} {number}")
            time.sleep(self.chance.uniform(0, LONGEST_LOAD_S))
            self.server.kill()
            clients.end()
        assert self.ledger.faults == []
        if number % FSCK_EVERY == FSCK_EVERY - 1:
            assert [finding for log in check_logs(self.settings) for finding in log.findings] == []

    def wait_and_die(self) -> None:
        """One life in which no witness answers: what is known is shown, nothing is taken."""
        self.server.start()
        with self._connect() as http:
            assert unheard(http) != set()
            for one in self.ledger.announced[-MOST_UNHEARD:]:
                answer = http.request("POST", "/v1/captures", content=one.request)
                assert (answer.status_code, answer.json()["code"]) == (503, "log_unconfirmed")
            check_taken(http, list(self.ledger.taken.values())[-MOST_UNHEARD:])
        self.server.kill()

    def wait_for_witnesses(self) -> None:
        """Return when the witness was heard, which on a busy machine may be after the start."""
        deadline = time.monotonic() + PATIENCE_S
        with self._connect() as http:
            while unheard(http):
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def check_new(self) -> None:
        """What was promised since the last look is found again by whoever asks."""
        announced, taken = self._checked
        with self._connect() as http:
            check_announced(http, self.ledger.announced[announced:])
            check_taken(http, list(self.ledger.taken.values())[taken:])
        self._checked = len(self.ledger.announced), len(self.ledger.taken)

    def finish(self) -> None:
        """Let every sender and the server come to an end in peace, and read everything once."""
        self.server.start()
        self.wait_for_witnesses()
        self.check_new()
        self.load.finish()
        self.check_new()
        deadline = time.monotonic() + PATIENCE_S
        while waiting := self._work():
            assert time.monotonic() < deadline, waiting
            time.sleep(0.2)
        with self._connect() as http:
            for capture, (_, told) in self.ledger.taken.items():
                read = http.request("GET", f"/v1/captures/{capture}/content")
                assert hashlib.sha256(read.content).hexdigest() == told["sha256"]
                self.ledger.viewed.add(capture)
        assert self.ledger.faults == []
        self.server.stop()

    def _work(self) -> list[tuple[str, str, int, str | None]]:
        """What the server still has to do, or gave up."""
        columns = (outbox.c.kind, outbox.c.state, outbox.c.attempts, outbox.c.problem)
        db = Database(Places(self.settings.folder).database_url)
        with db.read() as connection:
            rows = connection.execute(select(*columns).where(outbox.c.state != State.HELD.value))
            found = [(row.kind, row.state, row.attempts, row.problem) for row in rows]
        db.close()
        return found

    def _connect(self) -> Connection:
        return Connection(self.load.url, self.load.token)


def do_nothing() -> None:
    """Let everything be as it is."""


def unheard(http: Connection) -> set[str]:
    """The logs that wait for their witnesses, as the readiness check names them."""
    failed = http.request("GET", "/readyz").json()["failed"]
    return {name for name in failed if name.startswith("witnesses_")}


def check_announced(http: Connection, announced: list[Announced]) -> None:
    """Announcing the same again gives the same bytes."""
    for one in announced:
        answer = http.request("POST", "/v1/captures", content=one.request)
        assert (answer.status_code, answer.content) == (200, one.answer)


def check_taken(http: Connection, taken: list[tuple[Sending, dict[str, Any]]]) -> None:
    """What was answered for is here, since the same moment."""
    for sending, told in taken:
        view = http.request("GET", f"/v1/captures/{sending.signed.id}").json()["content"]
        assert view["state"] in {"received", "stored"}
        assert {name: view[name] for name in told if name in view} == {
            name: value for name, value in told.items() if name in view
        } | {"state": view["state"]}
