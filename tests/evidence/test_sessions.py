"""What is about what, whole sessions, and the time before which nothing in one was signed."""

import io
from dataclasses import replace
from datetime import timedelta

import pytest

from evidence.attested import moment
from evidence.canonical import JSONObject
from evidence.entries import Entry
from evidence.leaf import Leaf
from evidence.proven import is_about
from evidence.report import Outcome, Report
from evidence.statement import About, SignedStatement, parse_statement
from evidence.tlog.proof import TlogProof
from evidence.verify import verify_package
from tests.evidence.package_maker import AT, HELD_AT, ORIGIN, World, pinned, stamped, written
from tests.evidence.timestamp_maker import Authority

NOW = AT + timedelta(days=1)
INVENTORY: JSONObject = {"media_type": "text/plain", "sha256": "ab" * 32, "size_bytes": 1}


def entry(world: World, signed: SignedStatement, index: int, **changes: object) -> Entry:
    """An entry at an index, as if all its own checks had passed."""
    statement = replace(parse_statement(signed.raw), **changes)
    leaf = Leaf(statement_id=signed.id, signature=b"", public_key=b"")
    proof = TlogProof(index=index, hashes=(), checkpoint=world.checkpoint())
    return Entry(statement=statement, leaf=leaf, leaf_hash=b"", proof=proof)


def test_a_statement_is_about_what_it_names_rightly_and_nothing_else() -> None:
    """Name, place, organ, deployment and order must all fit."""
    world = World()
    capture = world.photo()
    receipt = world.logged[-1][0]
    for _ in range(3):
        world.photo()
    subject = entry(world, capture, 5)
    right: list[dict[str, object]] = [
        {},
        {"about": About(statement=capture.id, log=ORIGIN, index=5)},
    ]
    wrong: list[dict[str, object]] = [
        {"about": None},
        {"about": About(statement="ab" * 32)},
        {"about": About(statement=capture.id, log=ORIGIN, index=4)},
        {"about": About(statement=capture.id, log="elsewhere", index=5)},
        {"organ": "other-organ"},
        {"audience": "other"},
    ]
    found = [
        is_about(entry(world, receipt, 6, **changes), subject, ORIGIN) for changes in right + wrong
    ]
    assert found == [True] * len(right) + [False] * len(wrong)
    assert [is_about(entry(world, receipt, at), subject, ORIGIN) for at in (4, 5)] == [False, False]


def session(
    *closings: JSONObject, held: JSONObject | None = None, chained: bool = True
) -> tuple[World, list[str]]:
    """A session with two numbered shots; says the world and the shots' ids."""
    world = World()
    world.key("enrol", world.server, "server")
    world.key("enrol", world.device, "device")
    body: JSONObject = {
        "phase": "open",
        "session": "visit",
        "checkpoint": held or world.held(),
    }
    opening = world.say(world.device, "session", body)
    last, made = opening.id, list[str]()
    for number in (1, 2):
        previous = last if chained else opening.id
        last = world.photo(number=number, about=opening.id, previous=previous).id
        made.append(last)
    for closing in closings:
        said: JSONObject = {"phase": "close", "session": "visit", **closing}
        world.say(world.device, "session", said, about=opening.id)
    world.status()
    return world, made


def judged(world: World, shots: list[str], authority: Authority | None = None) -> Report:
    """The report over a package of these shots."""
    captures = [signed for signed, _ in world.logged if signed.id in shots]
    contents = world.contents(captures)
    roots = ()
    if authority is not None:
        contents = stamped(world, captures[0], authority, captures)
        roots = (pinned(authority),)
    return verify_package(
        io.BytesIO(written(contents).getvalue()), world.known(tsa_roots=roots), NOW
    )


def told(report: Report, name: str) -> set[tuple[Outcome, str]]:
    """Outcome and sentence of each answer under a name."""
    return {(check.outcome, check.detail) for check in report.checks if check.name == name}


@pytest.mark.parametrize(
    ("closings", "chained", "sentence"),
    [
        ([{"count": 2}], True, ""),
        ([{"count": 2, "inventory": INVENTORY}] * 2, True, ""),
        ([], True, "The session was not closed, or its closing is not in the package."),
        (
            [{"count": 2}, {"count": 3}],
            True,
            "The session was closed more than once with different counts.",
        ),
        (
            [{"count": 2}, {"count": 2, "inventory": INVENTORY}],
            True,
            "The session was closed more than once with different counts.",
        ),
        ([{"count": 3}], True, "The package holds 2 of 3 shots."),
        (
            [{"count": 2}],
            False,
            "The shots do not name each other in one chain.",
        ),
    ],
)
def test_a_session_is_whole_or_says_why_not(
    closings: list[JSONObject], chained: bool, sentence: str
) -> None:
    """All closings agree, and the shots are numbered and chained without a gap."""
    report = judged(*session(*closings, chained=chained))
    ((outcome, detail),) = told(report, "session.completeness")
    expected = (Outcome.UNCONFIRMED, sentence) if sentence else (Outcome.PASS, detail)
    assert (outcome, detail) == expected


def test_a_capture_inherits_the_time_of_the_checkpoint_that_its_device_held() -> None:
    """The earliest cosignature counts, and the interval ends where the first token stands."""
    authority = Authority.new()
    report = judged(*session({"count": 2}), authority)
    assert {outcome for outcome, _ in told(report, "time.not_before")} == {Outcome.PASS}
    assert [capture.not_before for capture in report.captures] == [HELD_AT, HELD_AT]
    assert all(
        capture.not_before < capture.not_after
        for capture in report.captures
        if capture.not_before and capture.not_after
    )


def test_an_empty_tree_has_one_root() -> None:
    """Nobody can have held a checkpoint that no log can sign."""
    held: JSONObject = {"log": ORIGIN, "size": 0, "root": "00" * 32, "cosignatures": []}
    report = judged(*session({"count": 2}, held=held))
    assert {outcome for outcome, _ in told(report, "time.not_before")} == {Outcome.CHANGED}


def test_a_time_beyond_every_calendar_becomes_the_last_one() -> None:
    """A cosignature's format has times that no calendar has; a report must not fail over them."""
    assert moment(2**63 - 1) == moment(253_402_300_799)
