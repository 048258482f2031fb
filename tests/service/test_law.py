"""What is taken into a log: the right deployment, organ, log, kind and size."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from evidence.kinds import KINDS
from evidence.statement import About, Statement, make_statement, parse_statement
from service.law.permissions import Holder, Scope, require_scope
from service.law.refusals import (
    AudienceRefused,
    ContentRefused,
    KindRefused,
    NotPermitted,
    OrganRefused,
    Refusal,
    SubjectMismatch,
)
from service.law.signing import House, consider_outside, consider_own

HOUSE = House(
    audience="demo",
    organ="county-a",
    log="fengni.example/a-2026",
    log_id="a-2026",
    max_content_bytes=1000,
)
SUBJECT = About(statement="ab" * 32)


def statement(kind: str, **changes: object) -> Statement:
    """The kind's own example as a statement of county-a, with some members changed."""
    about = SUBJECT if KINDS[kind].needs_about else None
    raw = make_statement(
        kind,
        audience="demo",
        organ="county-a",
        signer="cd" * 32,
        salt="00" * 16,
        made_at=datetime(2026, 11, 23, tzinfo=UTC),
        body=KINDS[kind].example,
        about=about,
        previous="ef" * 32 if kind == "key" else None,
    )
    return replace(parse_statement(raw), **changes)


@pytest.mark.parametrize("kind", ["capture", "session", "key", "policy"])
def test_devices_and_registrars_may_hand_in_theirs(kind: str) -> None:
    """The four kinds of outside signers in use now are taken."""
    consider_outside(statement(kind), HOUSE)


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"capture", "session", "key", "policy"}))
def test_no_other_kind_comes_from_outside(kind: str) -> None:
    """Nobody hands in the server's own statements, or kinds of a later part."""
    with pytest.raises(KindRefused):
        consider_outside(statement(kind), HOUSE)


@pytest.mark.parametrize("kind", ["stored", "inspected", "custody", "check"])
def test_the_server_states_its_own_doings(kind: str) -> None:
    """The four kinds that the server makes now are taken from it."""
    consider_own(statement(kind), HOUSE)


@pytest.mark.parametrize("kind", ["capture", "decision", "review", "key"])
def test_the_server_makes_no_human_s_statement(kind: str) -> None:
    """A capture, a decision, a review or an enrolment is never the server's."""
    with pytest.raises(KindRefused):
        consider_own(statement(kind), HOUSE)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"audience": "other"}, AudienceRefused),
        ({"organ": "county-b"}, OrganRefused),
        ({"about": About(statement="ab" * 32, log="elsewhere", index=1)}, SubjectMismatch),
    ],
)
def test_a_statement_for_another_place_is_refused(
    changes: dict[str, object], refusal: type[Refusal]
) -> None:
    """A replay into another deployment, organ or log is named as such."""
    with pytest.raises(refusal):
        consider_outside(statement("session", **changes), HOUSE)


def test_a_key_request_is_not_logged() -> None:
    """Only the enrolment that carries it is."""
    request = statement("key", body={**KINDS["key"].example, "action": "request"})
    with pytest.raises(KindRefused):
        consider_outside(request, HOUSE)


def test_content_beyond_the_limit_is_refused_when_it_is_announced() -> None:
    """The limit is told before a byte is sent."""
    body = {**KINDS["capture"].example, "content": {"size_bytes": 1001}}
    with pytest.raises(ContentRefused):
        consider_outside(statement("capture", body=body), HOUSE)


def test_a_holder_may_do_what_its_scopes_say_and_nothing_else() -> None:
    """Whoever may read lists and proofs may not read content by that."""
    holder = Holder(name="clerk-001", organ="county-a", scopes=frozenset({Scope.READ}))
    require_scope(holder, Scope.READ)
    for scope in (Scope.CAPTURE, Scope.VIEW, Scope.EXPORT):
        with pytest.raises(NotPermitted, match=scope.value):
            require_scope(holder, scope)
