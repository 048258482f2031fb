"""How long content stays and who may end it: decided from what the log says, and nothing else.

    stored ── admitted or extended (locks grow) ── held / released ── requested ── approved twice ──
    begun ── disposed

Does: folds the statements about one capture into where it stands, and decides each next step. One
person requests, two others approve: three persons in all, so that neither a requester nor a pair
agrees with itself. Disposal begins only when every period has ended and no hold runs; a hold or a
new lock voids a request, and comes too late once disposal has begun. Refuses a step while the clock
is behind the log: such a clock is wrong.

The log orders. Two steps may be admitted at the same moment that do not go together; whichever
stands first in the log counts, and the other has no effect, here as for anybody who reads the log
later.

Source: docs/how-to/retention.md names the articles.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from service.law.refusals import (
    ApprovalsMissing,
    ClockBehind,
    DisposalBegun,
    HoldUnknown,
    NotRequested,
    OnHold,
    PeriodShortened,
    RetentionRunning,
    SamePerson,
)

APPROVALS = 2
"""So many persons approve, and none of them requested it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One statement about a capture's retention.

    Attributes:
        statement: its id.
        event: the word of the `custody` statement, or `stored` or `disposed`.
        at: when it was made, UTC.
        actor: who did it; empty for the server itself.
        reference: of a case or a hold.
        request: id of the request that is approved or begun.
        until: until when content is locked by it, UTC.
        authority: the article that a request names.
        reason: a code.
    """

    statement: str
    event: str
    at: datetime
    actor: str = ""
    reference: str = ""
    request: str = ""
    until: datetime | None = None
    authority: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a capture's content stands.

    Attributes:
        keep_until: its class keeps it until then, UTC; None where no class says so.
        locked_until: it is locked until then, UTC; None where nothing locks it.
        holds: references of the legal holds that run.
        request: the newest request for its disposal.
        approvals: of that request, in their order.
        begun: id of the statement that its disposal has begun; empty before.
        disposed: id of the certificate; empty before.
    """

    keep_until: datetime | None = None
    locked_until: datetime | None = None
    holds: frozenset[str] = frozenset()
    request: Act | None = None
    approvals: tuple[Act, ...] = ()
    begun: str = ""
    disposed: str = ""

    @property
    def expires_at(self) -> datetime | None:
        """When the last of its periods ends; None where it has none."""
        ends = [one for one in (self.keep_until, self.locked_until) if one is not None]
        return max(ends, default=None)

    @property
    def approved(self) -> bool:
        """Whether enough persons have approved the request."""
        return self.request is not None and len(self.approvals) >= APPROVALS


def fold(acts: Iterable[Act], keep_until: datetime | None) -> Standing:
    """Where content stands after these acts, in the order of the log."""
    standing = Standing(keep_until=keep_until)
    for act in acts:
        standing = _after(standing, act)
    return standing


def consider(standing: Standing, act: Act, at: datetime, newest: datetime) -> None:
    """Decide whether one step of a person or the server may be logged now.

    Args:
        standing: where the content stands as of the entries before it.
        act: the step, as its statement says it.
        at: now, UTC.
        newest: when the newest entry of the log was received, UTC.

    Raises:
        Refusal: see the rule of that step.
        TypeError: it is no step: a mistake.
    """
    match act.event:
        case "retained" if act.until is not None:
            consider_lock(standing, act.until)
        case "held":
            consider_hold(standing)
        case "released":
            consider_release(standing, act.reference)
        case "disposal_requested":
            consider_request(standing, at, newest)
        case "disposal_approved":
            consider_approval(standing, act.request, act.actor, at, newest)
        case "disposal_begun":
            consider_beginning(standing, at, newest)
        case _:
            raise TypeError("what was to be considered is no step of retention")


def consider_lock(standing: Standing, until: datetime) -> None:
    """Decide whether content may be locked until then.

    Raises:
        DisposalBegun: it is being disposed of.
        PeriodShortened: it is locked for longer already.
    """
    _require_alive(standing)
    if standing.locked_until is not None and until < standing.locked_until:
        raise PeriodShortened("A lock only grows; the content is locked for longer already.")


def consider_hold(standing: Standing) -> None:
    """Decide whether a legal hold may be put on content."""
    _require_alive(standing)


def consider_release(standing: Standing, reference: str) -> None:
    """Decide whether a hold may be lifted.

    Raises:
        HoldUnknown: no hold of this reference runs.
    """
    if reference not in standing.holds:
        raise HoldUnknown("No legal hold of this reference runs.", pointer="/reference")


def consider_request(standing: Standing, at: datetime, newest: datetime) -> None:
    """Decide whether somebody may request the disposal of content.

    Args:
        standing: where it stands.
        at: now, UTC.
        newest: when the newest entry of the log was received, UTC.
    """
    _require_alive(standing)
    _require_over(standing, at, newest)


def consider_approval(
    standing: Standing, request: str, actor: str, at: datetime, newest: datetime
) -> None:
    """Decide whether a person may approve a request.

    Raises:
        NotRequested: that is not the newest request about this content.
        SamePerson: he requested it, or approved it before.
        RetentionRunning, OnHold, ClockBehind: see `consider_beginning`.
    """
    _require_alive(standing)
    asked = standing.request
    if asked is None or asked.statement != request:
        raise NotRequested("There is no such request, or a newer one.", pointer="/request")
    if actor == asked.actor or actor in {one.actor for one in standing.approvals}:
        raise SamePerson("One person requests and two others approve, each of them once.")
    _require_over(standing, at, newest)


def consider_beginning(standing: Standing, at: datetime, newest: datetime) -> None:
    """Decide whether a disposal may begin now.

    Raises:
        NotRequested: nobody requested it.
        ApprovalsMissing: fewer than two persons approved it.
        RetentionRunning: a period has not ended.
        OnHold: a legal hold runs.
        ClockBehind: the clock is behind the log.
    """
    if standing.request is None:
        raise NotRequested("Nobody has requested this disposal.")
    if not standing.approved:
        raise ApprovalsMissing(f"A disposal needs the approval of {APPROVALS} persons.")
    _require_over(standing, at, newest)


def _require_alive(standing: Standing) -> None:
    """What is being disposed of takes no step any more."""
    if standing.begun or standing.disposed:
        raise DisposalBegun("The content is disposed of, or that has begun.")


def _require_over(standing: Standing, at: datetime, newest: datetime) -> None:
    if at < newest:
        raise ClockBehind("The clock is behind the newest entry of the log.")
    if standing.holds:
        raise OnHold("A legal hold runs.")
    if standing.expires_at is not None and at < standing.expires_at:
        raise RetentionRunning("A period of retention has not ended.")


def _after(standing: Standing, act: Act) -> Standing:
    """Where content stands after one more act; an act that came too late changes nothing."""
    if act.event == "disposed":
        return replace(standing, disposed=act.statement)
    if standing.begun or standing.disposed:
        return standing
    after = standing
    match act.event:
        case "stored" | "retained":
            ends = [one for one in (standing.locked_until, act.until) if one is not None]
            after = replace(_voided(standing), locked_until=max(ends, default=None))
        case "held":
            after = replace(_voided(standing), holds=standing.holds | {act.reference})
        case "released":
            after = replace(standing, holds=standing.holds - {act.reference})
        case "disposal_requested":
            after = replace(standing, request=act, approvals=())
        case "disposal_approved":
            after = _approved(standing, act)
        case "disposal_begun":
            after = _begun(standing, act)
        case _:
            pass
    return after


def _voided(standing: Standing) -> Standing:
    """Who approved did not know of what came after."""
    return replace(standing, request=None, approvals=())


def _approved(standing: Standing, act: Act) -> Standing:
    asked = standing.request
    known = {one.actor for one in standing.approvals}
    if asked is None or act.request != asked.statement or act.actor in known | {asked.actor}:
        return standing
    return replace(standing, approvals=(*standing.approvals, act))


def _begun(standing: Standing, act: Act) -> Standing:
    over = standing.expires_at is None or act.at >= standing.expires_at
    if not standing.approved or standing.holds or not over:
        return standing
    return replace(standing, begun=act.statement)
