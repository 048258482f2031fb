"""Our vectors of tlog-proof and tlog-policy, which were made without the code under test."""

import json
import runpy
from pathlib import Path
from typing import TypedDict

import pytest

from evidence.errors import EvidenceError
from evidence.merkle import hash_leaf, verify_inclusion
from evidence.tlog.checkpoint import open_checkpoint, parse_checkpoint_body
from evidence.tlog.note import parse_note
from evidence.tlog.policy import parse_policy
from evidence.tlog.proof import parse_tlog_proof
from tests.tools import ROOT

VECTORS = ROOT / "tests" / "vectors" / "tlog"


class ProofVector(TypedDict):
    """What `expected.json` says about one proof."""

    entry: str
    policy: str
    outcome: str


class Expected(TypedDict):
    """The whole of `expected.json`."""

    proofs: dict[str, ProofVector]
    policies: dict[str, str]


EXPECTED: Expected = json.loads((VECTORS / "expected.json").read_text())


def verify(data: bytes, entry: bytes, policy_file: str) -> None:
    """The procedure of tlog-proof, “Verifying a tlog proof”."""
    policy = parse_policy((VECTORS / policy_file).read_bytes())
    proof = parse_tlog_proof(data)
    origin = parse_checkpoint_body(parse_note(proof.checkpoint).text).origin
    signed = open_checkpoint(proof.checkpoint, policy.log_keys(origin))
    policy.require(signed)
    checkpoint = signed.checkpoint
    verify_inclusion(hash_leaf(entry), proof.index, checkpoint.size, proof.hashes, checkpoint.root)


@pytest.mark.parametrize("name", EXPECTED["proofs"])
def test_each_proof_passes_or_fails_as_expected(name: str) -> None:
    """Read, open, ask the quorum, verify: `pass` or one error code."""
    vector = EXPECTED["proofs"][name]
    outcome = "pass"
    try:
        verify((VECTORS / name).read_bytes(), vector["entry"].encode(), vector["policy"])
    except EvidenceError as error:
        outcome = error.code
    assert outcome == vector["outcome"]


@pytest.mark.parametrize("name", EXPECTED["policies"])
def test_each_policy_is_read_or_refused_as_expected(name: str) -> None:
    """`pass`, and then it is written and read back, or one error code."""
    outcome = "pass"
    try:
        policy = parse_policy((VECTORS / name).read_bytes())
        assert parse_policy(policy.encode()) == policy
    except EvidenceError as error:
        outcome = error.code
    assert outcome == EXPECTED["policies"][name]


def test_every_file_is_named_in_the_expectations_and_can_be_made_again(tmp_path: Path) -> None:
    """No vector is forgotten, and all but the hedged ones are written again byte for byte."""
    runpy.run_path(str(VECTORS / "regenerate.py"))["main"](tmp_path)
    made = {path.name for path in tmp_path.iterdir()}
    kept = {path.name for path in VECTORS.iterdir() if path.suffix not in {".md", ".py"}}
    kept.discard("__pycache__")
    assert made == kept
    assert made - {"expected.json"} == EXPECTED["proofs"].keys() | EXPECTED["policies"].keys()
    for name in sorted(made):
        if not (name.startswith("hybrid") and name.endswith(".tlog-proof")):
            assert (tmp_path / name).read_bytes() == (VECTORS / name).read_bytes(), name
