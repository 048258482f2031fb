"""What somebody with full rights changes or removes is noticed, and named."""

from collections.abc import Iterator
from pathlib import Path

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
