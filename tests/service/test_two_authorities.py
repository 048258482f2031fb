"""Two time-stamp authorities: one is killed, the other is enough, and what is owed is fetched."""

import hashlib
import io
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import pytest
from litestar.testing import TestClient

from evidence.known_keys import PinnedRoot
from evidence.report import Outcome
from evidence.timestamp import verify_timestamp
from evidence.tlog.checkpoint import timestamped_message
from evidence.verify import verify_package
from service.context import system_clock
from service.deployment_file import AuthoritySettings, Places
from service.doctor import examine
from service.transparency.tsa import create_tsa
from storage import records
from storage.db.engine import Database
from storage.db.tables import outbox
from storage.records import Stamped
from tests.service.attested_maker import Attested, make_attested
from tests.service.server_process import ServerProcess, free_port
from tests.service.test_captures import get, seal
from tests.service.test_exports import ask, fetch, known_keys
from tests.service.witness_process import authority_process, witness_process

Client = TestClient[Any]
LOG = "county-a-2026"
PATIENCE_S = 60.0


class Two:
    """A deployment with two authorities, each of which can be killed alone."""

    def __init__(self, place: Path) -> None:
        """Make all of it; nobody runs yet."""
        self.attested: Attested = make_attested(place)
        made = self.attested.made
        self.port = free_port()
        self.root = create_tsa(place / "tsa-2")
        (made.settings.folder / "keys" / "tsa-2.der").write_bytes(self.root)
        second = AuthoritySettings(
            name="tsa-2",
            url=f"http://127.0.0.1:{self.port}/",
            root_files=("keys/tsa-2.der",),
            development=True,
        )
        organs = tuple(
            msgspec.structs.replace(organ, authorities=(*organ.authorities, second))
            for organ in made.deployment.organs
        )
        deployment = msgspec.structs.replace(made.deployment, organs=organs)
        (made.settings.folder / "deployment.json").write_bytes(msgspec.json.encode(deployment))
        self.made = replace(made, deployment=deployment)
        self.server = ServerProcess(made.settings.folder, inspect_workers=0, export_wait_s=5)
        self._second = ExitStack()

    def start_second(self) -> None:
        """Let the second authority answer."""
        self._second.enter_context(authority_process(self.attested.place / "tsa-2", self.port))

    def kill_second(self) -> None:
        """End it as by a power cut."""
        self._second.close()

    def stamped(self) -> dict[int, dict[str, bytes]]:
        """The tokens over each stamped checkpoint by authority, each verified under its root."""
        roots = {"tsa": self.attested.root, "tsa-2": self.root}
        db = Database(Places(self.made.settings.folder).database_url)
        origin = self.made.deployment.organs[0].log.origin
        found: dict[int, dict[str, bytes]] = {}
        try:
            with db.read() as connection:
                newest = records.newest_checkpoint(connection, LOG)
                assert newest is not None
                for size in range(newest.size + 1):
                    stamps = records.timestamps_of(connection, LOG, Stamped.CHECKPOINT, size)
                    if stamps:
                        note = records.checkpoints_of(connection, LOG, [size])[size].note
                        message = timestamped_message(note, origin)
                        found[size] = {one.tsa: one.response for one in stamps}
                        for one in stamps:
                            verify_timestamp(one.response, message, [roots[one.tsa]])
        finally:
            db.close()
        return found


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    """Everybody runs but the server."""
    made = Two(tmp_path)
    place, ports = made.attested.place, made.attested.ports
    with (
        witness_process(place / "west", ports[0]),
        authority_process(place / "tsa", ports[1]),
        made.server,
    ):
        made.start_second()
        yield made
        made.kill_second()


@pytest.fixture
def client(two: Two) -> Iterator[Client]:
    """Whoever asks the server."""
    with httpx.Client(base_url=two.server.url, timeout=PATIENCE_S) as http:
        yield cast("Client", http)  # the helpers only send requests


def wait_until(true: Callable[[], bool]) -> None:
    """Return when it is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def rung(client: Client, two: Two, capture: str) -> tuple[str, str]:
    """Outcome and detail of the rung `time_stamped`."""
    ladder = get(client, two.made, f"/v1/captures/{capture}").json()["ladder"]
    [found] = [one for one in ladder if one["rung"] == "time_stamped"]
    return found["outcome"], found["detail"]


def metric(client: Client, line: str) -> float:
    """The value of a metric; -1 where it is not told yet."""
    found = re.search(rf"^{re.escape(line)} (.+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else -1.0


def owed(two: Two) -> tuple[str, str]:
    """What the doctor says of the second authority's debts."""
    [found] = [
        one for one in examine(two.made.settings, system_clock()) if one.name == "time.tsa-2.owed"
    ][:1]
    return found.answer.value, found.detail


def test_what_one_authority_missed_is_shown_and_made_up_for(two: Two, client: Client) -> None:
    """Killed, missed over a server's kill as well, and back: every token is there in the end."""
    two.server.start()
    first = seal(client, two.made)
    wait_until(lambda: rung(client, two, first)[0] == "pass")
    wait_until(lambda: "Not stamped yet" not in rung(client, two, first)[1])

    two.kill_second()
    second = seal(client, two.made, b"while one is away")
    wait_until(lambda: rung(client, two, second)[0] == "pass")
    assert rung(client, two, second)[1].endswith("Not stamped yet by tsa-2.")
    wait_until(lambda: metric(client, 'fengni_silent{party="authority tsa-2"}') > 0)
    wait_until(lambda: metric(client, 'fengni_timestamps_owed{authority="tsa-2"}') > 0)
    assert metric(client, 'fengni_silent{party="authority tsa"}') == 0
    assert owed(two)[0] == "note"

    two.server.kill()  # what is owed is in the database, not in a process
    two.server.start()
    third = seal(client, two.made, b"after a kill")
    wait_until(lambda: rung(client, two, third)[0] == "pass")
    lone = [size for size, tokens in two.stamped().items() if set(tokens) == {"tsa"}]
    assert lone
    package = fetch(client, two.made, ask(client, two.made, third).headers["location"])
    assert tokens_in(package) == 1  # the export waited, then went on with what there is

    two.start_second()
    for capture in (second, third):
        wait_until(lambda one=capture: "Not stamped yet" not in rung(client, two, one)[1])
    wait_until(lambda: metric(client, 'fengni_timestamps_owed{authority="tsa-2"}') == 0)
    assert metric(client, 'fengni_silent{party="authority tsa-2"}') == 0
    stamped = two.stamped()
    assert {size: set(stamped[size]) for size in lone} == {size: {"tsa", "tsa-2"} for size in lone}
    assert owed(two)[0] == "pass"
    package = fetch(client, two.made, ask(client, two.made, third).headers["location"])
    assert tokens_in(package) == 2
    known = two.attested.pinned(known_keys(two.made))
    roots = (*known.tsa_roots, PinnedRoot(name="tsa-2", certificate=two.root))
    pinned = replace(known, tsa_roots=roots)
    report = verify_package(io.BytesIO(package), pinned, datetime.now(UTC))
    assert report.outcome is Outcome.PASS


def tokens_in(package: bytes) -> int:
    """How many tokens a package holds over its checkpoint: the largest number over anything."""
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        proofs = [name for name in archive.namelist() if name.endswith(".tlog-proof")]
        checkpoint = archive.read(proofs[0]).partition(b"\n\n")[2]
        message = timestamped_message(checkpoint, checkpoint.partition(b"\n")[0].decode())
        folder = f"/timestamps/{hashlib.sha256(message).hexdigest()}/"
        return len([name for name in archive.namelist() if folder in name])


@pytest.mark.parametrize("given_up", [False, True])
def test_a_capture_s_own_time_stamp_waits_for_nobody_else(
    two: Two, client: Client, *, given_up: bool
) -> None:
    """One's token over the signature is kept while the other is away, however long it stays so."""
    two.server.start()
    two.kill_second()
    capture = seal(client, two.made)

    def held() -> set[str]:
        """Whose tokens over the capture's signature are kept."""
        db = Database(Places(two.made.settings.folder).database_url)
        try:
            with db.read() as connection:
                record = records.find_record(connection, LOG, capture)
                assert record is not None
                stamps = records.timestamps_of(connection, LOG, Stamped.SIGNATURE, record.index)
        finally:
            db.close()
        return {one.tsa for one in stamps}

    wait_until(lambda: held() == {"tsa"})
    if given_up:
        db = Database(Places(two.made.settings.folder).database_url)
        with db.write() as connection:
            failed = outbox.update().where(outbox.c.kind == "stamp")
            connection.execute(failed.values(state="failed", problem="unavailable"))
        db.close()
        wait_until(lambda: metric(client, 'fengni_silent{party="authority tsa-2"}') > 0)
    two.start_second()
    wait_until(lambda: held() == {"tsa", "tsa-2"})
