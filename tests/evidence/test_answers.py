"""What a verification answers where parts of a package are missing, foreign, or too new."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
import rfc8785

from evidence.canonical import JSONObject
from evidence.digest import sha256_hex
from evidence.entries import MAX_CHECKPOINTS
from evidence.errors import EvidenceError
from evidence.keys import P256Signer
from evidence.kinds import KINDS
from evidence.leaf import leaf_of
from evidence.packing import Contents
from evidence.report import Check, Findings, Outcome, Report
from evidence.statement import SignedStatement
from evidence.tlog.note import NoteSignature, signature_line
from evidence.tlog.policy import parse_policy
from evidence.tlog.proof import parse_tlog_proof
from evidence.verify import verify_package
from tests.evidence.package_maker import (
    AT,
    ORIGIN,
    PHOTO,
    World,
    world_with_photo,
    written,
)
from tests.evidence.test_verify import rewritten

NOW = AT + timedelta(days=1)


def judged(world: World, contents: Contents) -> Report:
    """The report over a package, by its own world's known keys."""
    return verify_package(written(contents), world.known(), NOW)


def told(report: Report, name: str) -> list[tuple[Outcome, str, str]]:
    """Outcome, sentence and subject of each answer under a name."""
    return [
        (check.outcome, check.detail, check.subject)
        for check in report.checks
        if check.name == name
    ]


def test_a_statement_of_a_later_version_cannot_be_confirmed() -> None:
    """An older verifier says that it cannot read it, not that it was changed."""
    world, capture = world_with_photo()
    raw = rfc8785.dumps(json.loads(capture.raw) | {"type": "fengni/capture/v2"})
    signed = SignedStatement(raw=raw, signature=world.device.sign(raw), key_id=capture.key_id)
    world.logged.append((signed, world.device.public_key))
    report = judged(world, world.contents([capture]))
    [(outcome, _, subject)] = told(report, "statement.signature")
    assert (outcome, subject) == (Outcome.UNCONFIRMED, signed.id)
    assert [check for check in report.checks if check.outcome is Outcome.CHANGED] == []


def test_a_package_without_statements_proves_nothing() -> None:
    """What the index promises is named as not proven, and so is the absence of statements."""
    world, capture = world_with_photo()
    report = judged(world, replace(world.contents([capture]), statements=[]))
    assert told(report, "statement.signature") == [
        (Outcome.UNCONFIRMED, "The package holds no readable statement.", "")
    ]
    assert told(report, "log.inclusion") == [
        (
            Outcome.UNCONFIRMED,
            "The package promises this capture but does not prove it.",
            capture.id,
        )
    ]
    assert report.captures == ()


def test_a_package_that_promises_no_capture_cannot_pass() -> None:
    """Statements alone, however sound, are not what a package is handed over for."""
    world, _ = world_with_photo()
    report = judged(world, world.contents([]))
    assert (Outcome.UNCONFIRMED, "The package promises no capture.", "") in told(
        report, "log.inclusion"
    )
    assert report.outcome is Outcome.UNCONFIRMED


def test_a_leaf_of_another_statement_is_noticed() -> None:
    """A log entry put beside a statement that it does not name fails statement.signature."""
    world, capture = world_with_photo()
    other, public_key = world.logged[-1]
    leaf = leaf_of(other.id, other.signature, public_key)
    data = written(world.contents([capture])).getvalue()
    swapped = rewritten(data, {f"data/leaves/{capture.id}.json": leaf})
    report = verify_package(io.BytesIO(swapped), world.known(), NOW)
    assert told(report, "statement.signature") == [
        (Outcome.CHANGED, "A log entry is about another statement.", capture.id)
    ]


def test_an_original_that_differs_from_its_listed_digest_is_noticed() -> None:
    """The list is held against the bytes even where the announcement would not be reached."""
    world, capture = world_with_photo()
    data = written(world.contents([capture])).getvalue()
    other = rewritten(data, {f"data/originals/{capture.id}.jpg": PHOTO[::-1]})
    report = verify_package(io.BytesIO(other), world.known(), NOW)
    assert told(report, "content.digest") == [
        (Outcome.CHANGED, "An original does not have its listed SHA-256.", capture.id)
    ]


def test_a_capture_is_promised_once() -> None:
    """An index that counts one capture as two is refused with the list."""
    world, capture = world_with_photo()
    contents = world.contents([capture])
    report = judged(world, replace(contents, captures=[capture.id] * 2))
    assert told(report, "package.manifest") == [
        (Outcome.CHANGED, "The package's index names a capture twice.", "")
    ]


def test_known_keys_of_another_deployment_cannot_confirm() -> None:
    """Organs and logs may have one name in two deployments."""
    world, capture = world_with_photo()
    known = world.known(audience="another-deployment")
    report = verify_package(written(world.contents([capture])), known, NOW)
    assert told(report, "known_keys.valid") == [
        (
            Outcome.UNCONFIRMED,
            "The known keys are for another deployment than the package.",
            "",
        )
    ]
    assert Outcome.UNCONFIRMED is report.outcome
    assert {outcome for outcome, *_ in told(report, "key.chain")} == {Outcome.UNCONFIRMED}
    assert {outcome for outcome, *_ in told(report, "key.validity")} == {Outcome.UNCONFIRMED}


def test_a_verification_needs_a_zone() -> None:
    """A time without a zone could be eight hours off, and known keys expire."""
    world, capture = world_with_photo()
    package = written(world.contents([capture]))
    with pytest.raises(ValueError, match="zone"):
        verify_package(package, world.known(), NOW.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"size": 4}, Outcome.PASS),
        ({"size": 5}, Outcome.UNCONFIRMED),
        ({"log": "fengni.example/logs/another"}, Outcome.UNCONFIRMED),
        ({"sequence": 1}, Outcome.UNCONFIRMED),
        ({"head": "ab" * 32}, Outcome.UNCONFIRMED),
    ],
)
def test_a_status_counts_for_what_its_signer_could_see(
    change: JSONObject, outcome: Outcome
) -> None:
    """The server's word on a later tree, another log or another chain confirms no chain."""
    world = World()
    world.key("enrol", world.server, "server")
    world.key("enrol", world.device, "device")
    capture = world.photo()
    ring: JSONObject = {"log": ORIGIN, "size": 4, "sequence": 2, "head": world.head, **change}
    world.say(world.server, "check", {"check": "keyring", "outcome": "pass", "keyring": ring})
    found = told(judged(world, world.contents([capture])), "key.status")
    assert [outcome] == [answer for answer, _, _ in found]


@pytest.mark.parametrize("contents", [[sha256_hex(PHOTO)], ["ab" * 32]])
def test_a_review_is_shown_where_it_names_the_content(contents: list[str]) -> None:
    """The highest rung says the verdict on exactly these bytes, or that there is none."""
    world, capture = world_with_photo()
    reviewer = P256Signer.generate()
    world.key("enrol", reviewer, "reviewer")
    body: JSONObject = {**KINDS["review"].example, "contents": [*contents]}
    world.say(reviewer, "review", body, about=capture.id)
    world.status()
    report = judged(world, world.contents([capture]))
    rung = next(rung for rung in report.captures[0].rungs if rung.name == "reviewed")
    assert (rung.outcome, rung.detail) == (
        (Outcome.PASS, "Reviewed: accepted.")
        if contents == [sha256_hex(PHOTO)]
        else (Outcome.UNCHECKED, "No review is included.")
    )


def test_a_log_without_a_pinned_date_needs_no_ml_dsa() -> None:
    """Until a date is pinned, the log's Ed25519 signature alone is enough."""
    world, capture = world_with_photo()
    log = replace(world.known().logs[ORIGIN], ml_dsa_from=None)
    known = world.known(logs={ORIGIN: log})
    lines = world.checkpoint().decode().splitlines(keepends=True)
    note = "".join(line for line in lines if len(line) < 1000 or "witness" in line).encode()
    contents = replace(world.contents([capture]), statements=world.packed(note))
    report = verify_package(written(contents), known, NOW)
    assert known.logs[ORIGIN].ml_dsa_from is None
    assert [outcome for outcome, _, _ in told(report, "log.checkpoint")] == [Outcome.PASS]


def test_a_report_over_nothing_is_no_pass() -> None:
    """Whoever requires a pass of a report without checks is told that nothing was checked."""
    with pytest.raises(EvidenceError, match="Nothing was checked"):
        report_of().require()


def report_of(*checks: Check) -> Report:
    """A report that found exactly this."""
    return Report(
        checks=checks, captures=(), known_keys_sha256="ab" * 32, known_keys_version=1, at=NOW
    )


@pytest.mark.parametrize("outcome", [Outcome.UNCONFIRMED, Outcome.UNCHECKED])
def test_what_stands_in_the_way_is_a_check_that_decides(outcome: Outcome) -> None:
    """A check that decides nothing is never given as the reason, though it was noted before."""
    report = report_of(
        Check(name="time.signature", outcome=Outcome.UNCONFIRMED, detail="no token"),
        Check(name="log.witnesses", outcome=outcome, detail="mentioned", mentioned=True),
        Check(name="content.stored", outcome=outcome, detail="no receipt"),
    )
    assert report.outcome is Outcome.UNCONFIRMED
    with pytest.raises(EvidenceError, match=r"^content\.stored: no receipt$"):
        report.require()


def test_a_trust_file_that_demands_no_witness_says_so() -> None:
    """A quorum of nobody is met by everything: the rung is not checked, and no pass."""
    world, capture = world_with_photo()
    log = replace(world.known().logs[ORIGIN], policy=parse_policy(b"quorum none\n"))
    known = world.known(logs={ORIGIN: log})
    report = verify_package(written(world.contents([capture])), known, NOW)
    rung = next(rung for rung in report.captures[0].rungs if rung.name == "witnessed")
    assert (rung.outcome, rung.detail) == (
        Outcome.UNCHECKED,
        "The known keys demand no witness, and none has cosigned.",
    )


def test_a_receipt_of_other_bytes_is_noticed() -> None:
    """What the server says that it stored must be what the device announced."""
    world, capture = world_with_photo()
    body: JSONObject = {**KINDS["stored"].example}
    world.say(world.server, "stored", body, about=capture.id)
    report = judged(world, world.contents([capture]))
    assert told(report, "content.stored") == [
        (Outcome.CHANGED, "The server stored other bytes than the device announced.", capture.id)
    ]
    rung = next(rung for rung in report.captures[0].rungs if rung.name == "stored")
    assert (rung.outcome, rung.detail) == (Outcome.CHANGED, "Storage is not proven.")


def test_one_checkpoint_too_many_is_not_read() -> None:
    """Each checkpoint is verified whole, so a package leads into a bounded number of them."""
    world, capture = world_with_photo()
    while len(world.logged) <= MAX_CHECKPOINTS:
        world.say(world.server, "custody", {**KINDS["custody"].example}, about=capture.id)
    contents = world.contents([capture])
    note = parse_tlog_proof(contents.statements[0].proof).checkpoint
    statements = [
        replace(item, proof=item.proof.replace(note, note + unknown_line(number)))
        for number, item in enumerate(contents.statements)
    ]
    report = judged(world, replace(contents, statements=statements))
    last = max(signed.id for signed, _ in world.logged)
    assert told(report, "statement.signature") == [
        (Outcome.CHANGED, "The proofs lead into more checkpoints than a reader takes.", last)
    ]


def unknown_line(number: int) -> bytes:
    """A signature line of a key that nobody knows."""
    line = NoteSignature(name="nobody", key_id=b"none", value=number.to_bytes(2, "big"))
    return signature_line(line).encode()


def test_what_decides_nothing_is_no_pass_alone() -> None:
    """A report of checks that do not decide is no pass, and names none of them."""
    report = report_of(Check(name="custody.trail", outcome=Outcome.PASS, detail="read twice"))
    assert report.outcome is Outcome.UNCONFIRMED
    with pytest.raises(EvidenceError, match="Nothing was checked"):
        report.require()


@pytest.mark.parametrize(
    "ask",
    [
        lambda: Check(name="time.signatures", outcome=Outcome.PASS, detail=""),
        lambda: Findings().add("time.signatures", Outcome.PASS, ""),
        lambda: Findings().mention("time.signatures", EvidenceError("")),
        lambda: Findings().conclude("time.signatures"),
        lambda: Findings().worst("time.signatures"),
    ],
    ids=["check", "add", "mention", "conclude", "worst"],
)
def test_a_check_that_does_not_exist_is_the_callers_mistake(ask: Callable[[], object]) -> None:
    """A misspelt name would never fail, and nobody would notice that nothing was asked."""
    with pytest.raises(ValueError, match="registry"):
        ask()
