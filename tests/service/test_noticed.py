"""What somebody with full rights changes or removes is noticed, and named."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from evidence.tlog.checkpoint import open_checkpoint
from evidence.tlog.proof import parse_tlog_proof
from service.app import create_app
from service.context import log_signer
from service.tamper import Target, tamper
from tests.service.attested_maker import Attested, make_attested
from tests.service.deployment_maker import bearer
from tests.service.kept_deployment import LOG, Kept, use


@pytest.fixture(scope="module")
def attested(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attested]:
    """A deployment whose witness and authority answer during all tests."""
    made = make_attested(tmp_path_factory.mktemp("attested"))
    with made.outside():
        yield made


@pytest.fixture(scope="module")
def original(attested: Attested) -> Kept:
    """The deployment, used and stopped."""
    return use(attested)


@pytest.fixture
def kept(original: Kept, tmp_path: Path) -> Kept:
    """A copy that the test may spoil."""
    return original.copy(tmp_path / "deployment")


def test_a_sound_deployment_is_clean(original: Kept) -> None:
    """Neither fsck nor doctor finds anything, and doctor knows everything it asks for."""
    assert original.fsck() == []
    assert [one for one in original.doctor() if one.answer not in {"pass", "note"}] == []


def test_one_wrong_character_in_a_cosignature_is_named(kept: Kept) -> None:
    """Row and line agree, the signature does not hold: both commands say so."""
    tamper(kept.settings, Target.COSIGNATURE, kept.captures[0])
    assert [line.split()[0] for line in kept.fsck()] == ["cosignature_differs"]


def test_proofs_go_on_over_a_damaged_cosignature(kept: Kept, attested: Attested) -> None:
    """The newest checkpoint lost its quorum: an older sound one proves, and exports go on."""
    [(size,)] = kept.rows("SELECT max(size) FROM cosignatures WHERE log = ?", LOG)
    changed = kept.edit(
        "UPDATE cosignatures SET line = replace(line, substr(line, 70, 1),"
        " CASE substr(line, 70, 1) WHEN 'A' THEN 'B' ELSE 'A' END) WHERE log = ? AND size = ?",
        LOG,
        size,
    )
    assert changed == 2
    keys = log_signer(kept.settings, attested.made.deployment.organs[0].log).verifier_keys
    with TestClient(create_app(kept.settings)) as client:
        headers = bearer(attested.made.tokens["county-a"])
        path = f"/v1/captures/{kept.captures[0]}/proof?min=witnessed"
        answer = client.get(path, headers=headers)
        metrics = client.get("/metrics").text
        checkpoint = client.get(f"/logs/{LOG}/checkpoint").content
    proof = parse_tlog_proof(answer.content)
    signed = open_checkpoint(proof.checkpoint, keys)
    assert attested.policy.judge(signed).satisfied is True
    assert signed.checkpoint.size != size
    attested.policy.judge(open_checkpoint(checkpoint, keys))
    assert "fengni_damaged_cosignatures_total 2.0" in metrics


@pytest.mark.parametrize("number", range(3))
def test_tamper_flips_the_named_captures_own_text(kept: Kept, number: int) -> None:
    """The one text that no longer opens is that of the capture, and not a neighbour's."""
    capture = kept.captures[number]
    [(index,)] = kept.rows("SELECT idx FROM records WHERE statement_id = ?", capture)
    tamper(kept.settings, Target.TEXT, capture)
    [finding] = kept.fsck()
    assert finding.startswith("text_unreadable texts/000")
    assert f"text {index}:" in finding
    tamper(kept.settings, Target.TEXT, capture)
    assert kept.fsck() == []


# ------------------------------------------------------------------------------ objects


def body_of(kept: Kept, kind: str) -> tuple[str, dict[str, Any]]:
    """Subject and body of the last statement of a kind."""
    query = (
        "SELECT records.subject, statement FROM texts JOIN records USING (log, idx)"
        " WHERE kind = ? AND subject IS NOT NULL ORDER BY idx"
    )
    subject, raw = kept.rows(query, kind)[-1]
    assert isinstance(raw, bytes)
    return str(subject), json.loads(raw)["body"]


def object_path(kept: Kept, name: str) -> Path:
    """Where an object lies."""
    return kept.places.objects / "sha256" / name[:2] / name[2:4] / name


def test_a_deleted_object_is_named(kept: Kept) -> None:
    """Its capture, its digest and what it was: the store alone cannot tell that it was there."""
    subject, body = body_of(kept, "stored")
    name = body["object"]["name"]
    object_path(kept, name).unlink()
    [wrong] = kept.wrong()
    assert wrong.startswith("objects.present ")
    assert name in wrong
    assert subject in wrong


def test_an_object_of_another_length_is_named(kept: Kept) -> None:
    """Its length is the statement's, whatever lies there now."""
    subject, body = body_of(kept, "stored")
    path = object_path(kept, body["object"]["name"])
    path.chmod(0o600)
    path.write_bytes(b"longer than it was")
    wrong = kept.wrong()
    assert [one.split()[0] for one in wrong] == ["objects.present", "objects.bytes"]
    assert subject in wrong[0]


def test_quarantined_bytes_are_missed_and_compared(kept: Kept) -> None:
    """What was taken aside is named by its custody statement, and is there."""
    [path] = (kept.places.staging / "quarantine").iterdir()
    path.chmod(0o600)
    path.write_bytes(b"3our")
    [changed] = kept.wrong()
    path.unlink()
    [gone] = kept.wrong()
    assert changed.startswith("objects.present The quarantined bytes")
    assert "are others now" in changed
    assert "are gone" in gone
    assert kept.captures[-1] in gone


def test_what_nobody_names_is_reported(kept: Kept) -> None:
    """An object without a statement is noted, and what is no object is wrong."""
    data = b"planted"
    name = hashlib.sha256(data).hexdigest()
    path = object_path(kept, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    [note] = [one for one in kept.doctor() if one.name == "objects.unnamed"]
    assert name in note.detail
    assert kept.wrong() == []
    (path.parent / "notes.txt").write_text("hello")
    [wrong] = kept.wrong()
    assert wrong.startswith("objects.strangers ")
    assert "notes.txt" in wrong
