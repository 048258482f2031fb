"""Witnesses and time: cosigned, stamped, exported, and stopped when somebody outside knows more."""

import io
import json
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient

from evidence.report import Outcome
from evidence.statement import About
from evidence.tlog.checkpoint import open_checkpoint
from evidence.tlog.proof import parse_tlog_proof
from evidence.verify import verify_package
from service.app import create_app, start
from service.client.upload import held_members
from service.key_files import log_signer
from service.metrics import Metrics
from storage.errors import LogRolledBack
from tests.service.attested_maker import Attested, make_attested
from tests.service.test_captures import announce, get, seal, send, wait_until_stored
from tests.service.test_exports import ask, fetch, known_keys

Client = TestClient[Any]


@pytest.fixture
def attested(tmp_path: Path) -> Iterator[Attested]:
    """A deployment whose logs are cosigned and stamped."""
    made = make_attested(tmp_path)
    with made.outside():
        yield made


def wait_for(answered: Callable[[], httpx.Response]) -> httpx.Response:
    """Ask until the answer is no longer 409."""
    for _ in range(300):
        answer = answered()
        if answer.status_code != 409:
            return answer
        assert int(answer.headers["retry-after"]) > 0
        time.sleep(0.05)
    raise AssertionError("still pending after fifteen seconds")


def test_every_rung_is_climbed_and_a_stranger_confirms_it(attested: Attested) -> None:
    """Witnessed proof, Sigstore bundle, ladder and package: all of it holds."""
    made = attested.made
    with TestClient(create_app(made.settings)) as client:
        capture = seal(client, made)
        path = f"/v1/captures/{capture}"
        proof = parse_tlog_proof(
            wait_for(lambda: get(client, made, f"{path}/proof?min=witnessed")).content
        )
        keys = log_signer(made.settings, made.deployment.organs[0].log).verifier_keys
        assert attested.policy.judge(open_checkpoint(proof.checkpoint, keys)).satisfied is True
        bundle = wait_for(lambda: get(client, made, f"{path}/bundle"))
        assert bundle.headers["content-type"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
        package = fetch(client, made, ask(client, made, capture).headers["location"])
        rungs = get(client, made, path).json()["ladder"]
    assert {one["rung"]: one["outcome"] for one in rungs} == {
        "claimed": "pass",
        "signed": "pass",
        "received": "pass",
        "logged": "pass",
        "witnessed": "pass",
        "time_stamped": "pass",
        "stored": "pass",
        "reviewed": "not_checked",
    }
    pinned = attested.pinned(known_keys(made))
    report = verify_package(io.BytesIO(package), pinned, datetime.now(UTC))
    assert report.outcome == Outcome.PASS


def test_a_capture_of_a_session_lies_between_two_independent_times(attested: Attested) -> None:
    """The device opens with the cosigned checkpoint that it holds; API and package both show it."""
    made = attested.made
    party = made.parties["county-a"]
    known = attested.pinned(known_keys(made))
    [log] = known.logs.values()
    with TestClient(create_app(made.settings)) as client:
        earlier = seal(client, made)
        path = f"/v1/captures/{earlier}/proof?min=witnessed"
        held = parse_tlog_proof(wait_for(lambda: get(client, made, path)).content).checkpoint
        members = held_members(held, log)
        opening = party.sign(
            "session", {"phase": "open", "session": "visit", "checkpoint": members}
        )
        shot = party.capture(b"a second photo", about=About(statement=opening.id))
        assert announce(client, made, opening, shot).status_code == 200
        assert send(client, made, shot.id, b"a second photo").status_code == 201
        wait_until_stored(client, made, shot.id)
        wait_for(lambda: get(client, made, f"/v1/captures/{shot.id}/bundle"))
        package = fetch(client, made, ask(client, made, shot.id).headers["location"])
        view = get(client, made, f"/v1/captures/{shot.id}").json()
        alone = get(client, made, f"/v1/captures/{earlier}").json()
    report = verify_package(io.BytesIO(package), known, datetime.now(UTC))
    [capture] = report.captures
    assert len(members["cosignatures"]) == 1  # type: ignore[arg-type]  # the Ed25519 line
    assert report.outcome is Outcome.PASS
    assert capture.not_before is not None
    assert capture.not_after is not None
    assert capture.not_before <= capture.not_after
    assert datetime.fromisoformat(view["not_before"]) == capture.not_before
    assert alone["not_before"] is None


def test_a_state_that_was_put_back_never_signs_again(attested: Attested, tmp_path: Path) -> None:
    """Database, tiles, head and keys restored together: only the witness knows, and it is asked."""
    made = attested.made
    folder = made.settings.folder
    shutil.copytree(folder, tmp_path / "backup")
    with TestClient(create_app(made.settings)) as client:
        capture = seal(client, made)
        wait_for(lambda: get(client, made, f"/v1/captures/{capture}/proof?min=witnessed"))
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)
    with pytest.raises(LogRolledBack, match="witness west saw"):
        start(made.settings, Metrics())


def test_a_published_log_is_served_with_its_cosignatures(attested: Attested) -> None:
    """Checkpoint and tiles need no token; full and partial tiles are cached for ever."""
    made = attested.made
    with TestClient(create_app(made.settings)) as client:
        capture = seal(client, made)
        wait_for(lambda: get(client, made, f"/v1/captures/{capture}/proof?min=witnessed"))
        checkpoint = client.get("/logs/county-a-2026/checkpoint")
        size = int(checkpoint.text.split("\n")[1])
        tile = client.get(f"/logs/county-a-2026/tile/0/000.p/{size}")
        entries = client.get(f"/logs/county-a-2026/tile/entries/000.p/{size}")
        missing = client.get("/logs/county-a-2026/tile/0/001")
        strange = client.get("/logs/elsewhere/checkpoint")
    assert "fengni.example/county-a-2026" in checkpoint.text
    assert len(tile.content) == 32 * size
    assert json.loads(entries.content[2 : 2 + int.from_bytes(entries.content[:2])])["kind"] == (
        "hashedrekord"
    )
    assert "immutable" in tile.headers["cache-control"]
    assert checkpoint.headers["cache-control"] == "no-cache"
    assert (missing.status_code, strange.json()["code"]) == (404, "log_unknown")
