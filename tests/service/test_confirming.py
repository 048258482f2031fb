"""Nothing is signed before the witnesses were heard: old copies, kills, and who comes late."""

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import pytest
from litestar.testing import TestClient

from evidence.tlog.note import parse_vkey
from evidence.tlog.policy import Group, Policy
from service.app import create_app
from service.deployment_file import OrganSettings, Places, WitnessSettings
from service.fsck import check_logs
from service.key_files import log_signer
from service.settings import SettingsInvalid
from service.transparency.confirming import ask_witnesses
from service.transparency.witness import create_witness
from storage import records
from storage.db.engine import Database
from storage.log.part import Heard
from storage.staging.folder import StagingFolder
from tests.service.attested_maker import Attested, make_attested
from tests.service.deployment_maker import PHOTO, Made
from tests.service.server_process import ServerProcess, free_port
from tests.service.test_captures import announce, custody, get, seal, send
from tests.service.test_exports import ask
from tests.service.witness_process import witness_process
from tests.tools import ROOT

Client = TestClient[Any]
WAITING = {"witnesses_county-a-2026", "witnesses_county-b-2026"}
UNSENT = b"announced and not sent yet"
PATIENCE_S = 30.0


@pytest.fixture
def attested(tmp_path: Path) -> Attested:
    """A deployment whose logs one witness cosigns; nobody runs yet."""
    return make_attested(tmp_path)


@pytest.fixture
def server(attested: Attested) -> Iterator[ServerProcess]:
    """Its server, not started."""
    with ServerProcess(attested.made.settings.folder, inspect_workers=0) as process:
        yield process


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    """Whoever asks the server."""
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as http:
        yield cast("Client", http)  # the helpers only send requests


def witness_of(attested: Attested) -> AbstractContextManager[None]:
    """The deployment's witness as a process of its own."""
    return witness_process(attested.place / "west", attested.ports[0])


def failed(client: Client) -> set[str]:
    """The checks that say no; none where the service is ready."""
    answer = client.get("/readyz")
    told = set(answer.json()["failed"])
    assert (answer.status_code == 200) is (told == set())
    return told


def wait_until(true: Callable[[], bool]) -> None:
    """Return when it is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def cosigned(client: Client, made: Made, capture: str) -> bool:
    """Whether the witness has seen a tree with this capture."""
    return get(client, made, f"/v1/captures/{capture}/proof?min=witnessed").status_code == 200


def announced(client: Client, made: Made) -> str:
    """The id of a capture whose content is not sent yet."""
    signed = made.parties["county-a"].capture(UNSENT)
    assert announce(client, made, signed).status_code == 200
    return signed.id


def signed_state(made: Made) -> Mapping[str, object]:
    """What would differ if anything had been signed: newest checkpoints and heads."""
    places = Places(made.settings.folder)
    logs = [organ.log.id for organ in made.deployment.organs]
    db = Database(places.database_url)
    with db.read() as connection:
        newest = {log: records.newest_checkpoint(connection, log) for log in logs}
    db.close()
    return {**newest, **{f"head {log}": places.head(log).read_bytes() for log in logs}}


def check_nothing_is_taken(
    client: Client, made: Made, capture: str, unsent: str, code: str
) -> None:
    """Everything that would make the log grow is one problem; what only reads is answered."""
    fresh = made.parties["county-a"].capture(b"never seen")
    for answer in (
        announce(client, made, fresh),
        send(client, made, unsent, UNSENT),
        get(client, made, f"/v1/captures/{capture}/content"),
        ask(client, made, capture),
    ):
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.status_code, answer.json()["code"]) == (503, code)
        assert int(answer.headers["retry-after"]) > 0
    for path in (
        "/logs/county-a-2026/checkpoint",
        "/logs/county-a-2026/tile/0/000.p/3",
        f"/v1/captures/{capture}",
        f"/v1/captures/{capture}/proof",
    ):
        assert get(client, made, path).status_code == 200


def test_an_old_copy_signs_nothing_while_nobody_answers_and_then_says_so(
    attested: Attested, server: ServerProcess, client: Client, tmp_path: Path
) -> None:
    """Put back as a whole: not ready, also after a kill; the witness comes, and it is the alarm."""
    made = attested.made
    folder = made.settings.folder
    with witness_of(attested):
        server.start()
        old = seal(client, made)
        unsent = announced(client, made)
        server.stop()
        shutil.copytree(folder, tmp_path / "backup")
        server.start()
        later = seal(client, made, b"later")
        wait_until(lambda: cosigned(client, made, later))
        server.stop()
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)
    before = signed_state(made)
    server.start()
    assert failed(client) == WAITING
    check_nothing_is_taken(client, made, old, unsent, "log_unconfirmed")
    server.kill()
    server.start()
    assert failed(client) == WAITING
    with witness_of(attested):
        wait_until(lambda: "log_county-a-2026" in failed(client))
        check_nothing_is_taken(client, made, old, unsent, "log_rolled_back")
        assert "log_rolled_back" in server.said()
        assert "witness west saw" in server.said()
        server.stop()
        assert signed_state(made) == before
        command = [sys.executable, "-m", "service.cli", "serve", str(folder), "--port"]
        ended = subprocess.run(
            [*command, str(free_port())], cwd=ROOT, capture_output=True, check=False, text=True
        )
    assert ended.returncode == 1
    assert "witness west saw" in ended.stderr
    assert signed_state(made) == before


def test_a_sound_state_begins_once_its_witness_answers(
    attested: Attested, server: ServerProcess, client: Client
) -> None:
    """Not ready, killed, not ready again; then ready, and the log goes on where it was."""
    made = attested.made
    with witness_of(attested):
        server.start()
        assert failed(client) == set()
        capture, unsent = seal(client, made), announced(client, made)
        wait_until(lambda: cosigned(client, made, unsent))
        server.stop()
    before = signed_state(made)
    server.start()
    assert failed(client) == WAITING
    check_nothing_is_taken(client, made, capture, unsent, "log_unconfirmed")
    server.kill()
    assert signed_state(made) == before
    server.start()
    assert failed(client) == WAITING
    with witness_of(attested):
        wait_until(lambda: failed(client) == set())
        assert get(client, made, f"/v1/captures/{capture}/content").content == PHOTO
        assert send(client, made, unsent, UNSENT).status_code == 201
        next_one = seal(client, made, b"the next one")
        wait_until(lambda: cosigned(client, made, next_one))
        server.stop()
    assert "log_confirmed" in server.said()
    assert [finding for log in check_logs(made.settings) for finding in log.findings] == []


def test_the_first_start_waits_for_a_witness_too(attested: Attested) -> None:
    """A log that nobody has seen may be one that was put back to its beginning."""
    with TestClient(create_app(attested.made.settings)) as client:
        assert failed(client) == WAITING
        with witness_of(attested):
            wait_until(lambda: failed(client) == set())
            seal(client, attested.made)


def test_what_is_left_waits_for_the_witness(attested: Attested) -> None:
    """Uploads of an earlier run stay where they are; then one is taken up and stated."""
    made = attested.made
    with witness_of(attested), TestClient(create_app(made.settings)) as client:
        signed = made.parties["county-a"].capture()
        assert announce(client, made, signed).status_code == 200
    staging = StagingFolder(Places(made.settings.folder).staging, reserve_bytes=0)
    for key in (signed.id, hashlib.sha256(b"unknown").hexdigest()):
        with staging.begin(key, len(PHOTO)) as writer:
            writer.write(PHOTO)
            writer.finish()
    left = {one.key for one in staging.sweep().finished}
    with TestClient(create_app(made.settings)) as client:
        assert failed(client) == WAITING
        assert {one.key for one in staging.sweep().finished} == left
        with witness_of(attested):
            wait_until(lambda: failed(client) == set())
            assert custody(client, made, signed.id) == ["recovered"]
            assert send(client, made, signed.id).status_code == 200
    assert list(staging.quarantined()) == []
    with witness_of(attested), TestClient(create_app(made.settings)):
        assert {one.reason for one in staging.quarantined()} == {"unknown_capture"}


def test_an_organ_waits_for_its_own_witnesses_only(attested: Attested) -> None:
    """The other one announces, sends and stores; the work of the one that waits is not tried."""
    made = attested.made
    with witness_of(attested), TestClient(create_app(made.settings)) as client:
        seal(client, made)  # its time-stamp is work that waits: no authority runs
    first, second = made.deployment.organs
    free = msgspec.structs.replace(first, witnesses=(), witness_policy_file=None)
    tied = msgspec.structs.replace(made.deployment, organs=(free, second))
    (made.settings.folder / "deployment.json").write_bytes(msgspec.json.encode(tied))
    with TestClient(create_app(made.settings)) as client:
        assert failed(client) == {"witnesses_county-b-2026"}
        seal(client, made, b"of the one without witnesses")
        refused = announce(client, made, made.parties["county-b"].capture(), organ="county-b")
        assert (refused.status_code, refused.json()["code"]) == (503, "log_unconfirmed")


def heard(made: Made, organ: OrganSettings, policy: Policy | None) -> Heard:
    """What an organ's witnesses say now."""
    db = Database(Places(made.settings.folder).database_url)
    keys = log_signer(made.settings, organ.log).verifier_keys
    try:
        return ask_witnesses(organ, keys, policy, db)
    finally:
        db.close()


def test_a_witness_that_forgot_confirms_nothing(attested: Attested) -> None:
    """What it cosigned stands in our database; an answer below that is nobody's word."""
    made = attested.made
    west = attested.place / "west"
    shutil.copytree(west, attested.place / "forgetful")
    with witness_of(attested), TestClient(create_app(made.settings)) as client:
        capture = seal(client, made)
        wait_until(lambda: cosigned(client, made, capture))
    organ = made.deployment.organs[0]
    with witness_of(attested):
        assert heard(made, organ, attested.policy).enough is True
    with witness_process(attested.place / "forgetful", attested.ports[0]):
        told = heard(made, organ, attested.policy)
    assert (told.enough, [answer.size for answer in told.answers]) == (False, [0])


def test_as_many_must_answer_as_the_policy_wants(attested: Attested) -> None:
    """A quorum where it names one, one where it wants none; never fewer, and never nobody."""
    made = attested.made
    organ = made.deployment.organs[0]
    keys = log_signer(made.settings, organ.log).verifier_keys
    port = free_port()
    vkeys = create_witness(attested.place / "east", "witness.example/east", [str(keys[0].encode())])
    known = {**attested.policy.witnesses, "east": parse_vkey(vkeys[0])}
    both = Group(name="both", threshold=2, members=("west", "east"))
    policy = replace(
        attested.policy,
        witnesses=known,
        groups=(*attested.policy.groups, both),
        quorum="both",
    )
    east = WitnessSettings(name="east", url=f"http://127.0.0.1:{port}/", development=True)
    organ = msgspec.structs.replace(organ, witnesses=(*organ.witnesses, east))
    none = replace(policy, quorum="none")
    assert heard(made, organ, none).enough is False
    with ExitStack() as outside:
        outside.enter_context(witness_of(attested))
        assert heard(made, organ, policy).enough is False
        assert heard(made, organ, none).enough is True
        outside.enter_context(witness_process(attested.place / "east", port))
        assert heard(made, organ, policy).enough is True
    alone = msgspec.structs.replace(organ, witnesses=(east,))
    for never in (None, policy):
        with pytest.raises(SettingsInvalid, match="can never make up"):
            heard(made, alone, never)
    assert heard(made, msgspec.structs.replace(organ, witnesses=()), None).enough is True
