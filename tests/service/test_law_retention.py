"""Who may do what to content, and when: the rules, without a database, a clock or a network."""

from datetime import UTC, datetime, timedelta

import pytest

from service.law.refusals import (
    ApprovalsMissing,
    ClockBehind,
    DisposalBegun,
    HoldUnknown,
    NotRequested,
    OnHold,
    PeriodShortened,
    Refusal,
    RetentionRunning,
    SamePerson,
)
from service.law.retention import (
    Act,
    Standing,
    consider_approval,
    consider_beginning,
    consider_hold,
    consider_lock,
    consider_release,
    consider_request,
    fold,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def day(number: int) -> datetime:
    """So many days after the beginning."""
    return START + timedelta(days=number)


def act(event: str, at: int, actor: str = "", **more: object) -> Act:
    """A statement; its id tells what and when."""
    return Act(statement=f"{event}-{at}", event=event, at=day(at), actor=actor, **more)  # type: ignore[arg-type]


STORED = act("stored", 0, until=day(2))
ASKED = act("disposal_requested", 31, "clerk")
HEAD = act("disposal_approved", 32, "head", request=ASKED.statement)
JURIST = act("disposal_approved", 33, "jurist", request=ASKED.statement)
BEGUN = act("disposal_begun", 34)
HELD = act("held", 10, "jurist", reference="h1")
FREED = act("released", 20, "jurist", reference="h1")
CASE = act("retained", 12, "jurist", until=day(100))

BEGINNINGS: dict[str, tuple[list[Act], int, type[Refusal] | None]] = {
    "all in order": ([STORED, ASKED, HEAD, JURIST], 34, None),
    "on the last day of its class": ([STORED, ASKED, HEAD, JURIST], 29, RetentionRunning),
    "on the day it ends": ([STORED, ASKED, HEAD, JURIST], 30, None),
    "locked for a case": ([STORED, CASE, ASKED, HEAD, JURIST], 99, RetentionRunning),
    "the case's lock is over": ([STORED, CASE, ASKED, HEAD, JURIST], 100, None),
    "held": ([STORED, HELD, ASKED, HEAD, JURIST], 34, OnHold),
    "held and released": ([STORED, HELD, FREED, ASKED, HEAD, JURIST], 34, None),
    "one of two holds released": (
        [STORED, HELD, act("held", 11, reference="h2"), FREED, ASKED, HEAD, JURIST],
        34,
        OnHold,
    ),
    "nobody asked": ([STORED], 34, NotRequested),
    "nobody approved": ([STORED, ASKED], 34, ApprovalsMissing),
    "one approved": ([STORED, ASKED, HEAD], 34, ApprovalsMissing),
    "one approved twice": ([STORED, ASKED, HEAD, HEAD], 34, ApprovalsMissing),
    "the requester approved": (
        [STORED, ASKED, HEAD, act("disposal_approved", 33, "clerk", request=ASKED.statement)],
        34,
        ApprovalsMissing,
    ),
    "another request was approved": (
        [STORED, ASKED, HEAD, act("disposal_requested", 33, "clerk"), JURIST],
        34,
        ApprovalsMissing,
    ),
    "held after the approvals": (
        [STORED, ASKED, HEAD, JURIST, act("held", 33, reference="h1")],
        34,
        NotRequested,
    ),
    "held and released after the approvals": (
        [STORED, ASKED, HEAD, JURIST, act("held", 33, reference="h1"), FREED],
        34,
        NotRequested,
    ),
    "admitted after the approvals": (
        [STORED, ASKED, HEAD, JURIST, act("retained", 33, until=day(40))],
        50,
        NotRequested,
    ),
    "the clock is behind": ([STORED, ASKED, HEAD, JURIST], 33, ClockBehind),
}


@pytest.mark.parametrize("what", BEGINNINGS)
def test_when_a_disposal_may_begin(what: str) -> None:
    """Only after the last period, without a hold, asked for by one and approved by two others."""
    acts, at, refusal = BEGINNINGS[what]
    newest = day(34) if refusal is ClockBehind else day(1)
    standing = fold(acts, day(30))
    if refusal is None:
        consider_beginning(standing, day(at), newest)
        consider_request(standing, day(at), newest)
    else:
        with pytest.raises(refusal):
            consider_beginning(standing, day(at), newest)


APPROVERS = {
    "the requester": ("clerk", [], SamePerson),
    "the first one": ("head", [], None),
    "the same again": ("head", [HEAD], SamePerson),
    "a second one": ("jurist", [HEAD], None),
}


@pytest.mark.parametrize("who", APPROVERS)
def test_who_may_approve(who: str) -> None:
    """Neither who asked nor who approved before."""
    actor, before, refusal = APPROVERS[who]
    standing = fold([STORED, ASKED, *before], day(30))
    if refusal is None:
        consider_approval(standing, ASKED.statement, actor, day(34), day(1))
    else:
        with pytest.raises(refusal):
            consider_approval(standing, ASKED.statement, actor, day(34), day(1))


def test_only_the_newest_request_is_approved() -> None:
    """One that was voided, superseded or never made is none."""
    standing = fold([STORED, ASKED], day(30))
    with pytest.raises(NotRequested):
        consider_approval(standing, "another", "head", day(34), day(1))
    with pytest.raises(NotRequested):
        consider_approval(fold([STORED], day(30)), ASKED.statement, "head", day(34), day(1))
    with pytest.raises(RetentionRunning):
        consider_approval(standing, ASKED.statement, "head", day(29), day(1))


def test_the_log_orders_what_was_admitted_at_once() -> None:
    """A hold after the beginning has no effect, nor has a beginning after a hold."""
    begun = fold([STORED, ASKED, HEAD, JURIST, BEGUN, act("held", 35, reference="h")], day(30))
    assert (begun.begun, begun.holds) == (BEGUN.statement, frozenset())
    held = fold([STORED, ASKED, HEAD, JURIST, act("held", 34, reference="h"), BEGUN], day(30))
    assert (held.begun, held.holds) == ("", frozenset({"h"}))
    early = fold([STORED, ASKED, HEAD, JURIST, act("disposal_begun", 29)], day(30))
    assert early.begun == ""
    assert fold([*[STORED, ASKED, HEAD, JURIST, BEGUN], act("disposed", 36)], None).disposed


@pytest.mark.parametrize("ended", [Standing(begun="x"), Standing(disposed="x")])
def test_what_is_being_disposed_of_takes_no_step(ended: Standing) -> None:
    """Neither a lock, nor a hold, nor a request, nor an approval."""
    with pytest.raises(DisposalBegun):
        consider_lock(ended, day(1))
    with pytest.raises(DisposalBegun):
        consider_hold(ended)
    with pytest.raises(DisposalBegun):
        consider_request(ended, day(1), day(0))
    with pytest.raises(DisposalBegun):
        consider_approval(ended, "x", "head", day(1), day(0))


def test_a_lock_only_grows_and_a_hold_ends_by_its_own_name() -> None:
    """A shorter lock and another reference are refused; equal and longer locks are not."""
    standing = fold([STORED, CASE, HELD], day(30))
    assert standing.expires_at == day(100)
    consider_lock(standing, day(100))
    with pytest.raises(PeriodShortened):
        consider_lock(standing, day(99))
    consider_release(standing, "h1")
    with pytest.raises(HoldUnknown):
        consider_release(standing, "h2")
    assert fold([act("viewed", 1)], None) == Standing()
    consider_lock(Standing(), day(0))
    consider_request(Standing(), day(1), day(1))
