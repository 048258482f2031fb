"""The steps that people take: admit, extend, hold, release, request, approve.

    1. where the content stands is read from the log, and the step is considered
    2. a lock or a hold is put on the object in the store: too firm is harmless, too loose is not
    3. the step is stated; in the log's transaction it is considered again: another may have come
    4. the second approval leaves the work of disposing behind, in that same transaction
    5. a release lifts the store's own hold once it is logged and no other hold runs

Does: each for one capture, blocking until it is logged. Refuses whatever `service.law.retention`
does.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Connection

from evidence.schema import format_time
from evidence.statement import About
from service.admission import Effects
from service.context import Context, Organ
from service.custody import require_logged
from service.law.permissions import Holder
from service.law.refusals import DisposalBegun
from service.law.retention import (
    APPROVALS,
    consider_hold,
    consider_lock,
    consider_release,
)
from service.problems import Problem
from service.retention.standing import StillAllowed, Subject, find_subject, read_standing
from service.work.queue import add_pieces
from storage.log import Appended

DISPOSE = "dispose"
"""The kind of work that a second approval leaves behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants with a capture's content.

    Attributes:
        reason: a code.
        reference: of the case, or of the hold.
        authority: the article or order that he acts under; empty for the class's own.
        until: until when it is to be locked, UTC; None for what its class says.
    """

    reason: str
    reference: str = ""
    authority: str = ""
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """One step that is stated.

    Attributes:
        event: the `custody` statement's word.
        wish: what the person wants.
        until: until when content is locked by it, UTC.
        request: the request that it approves.
        effects: what its transaction leaves behind.
    """

    event: str
    wish: Wish
    until: datetime | None = None
    request: str = ""
    effects: Effects | None = None


def lock_longer(
    context: Context, organ: Organ, holder: Holder, capture: str, wish: Wish
) -> Subject:
    """Lock content for longer, as when it is admitted to a case; returns where it stands then.

    Raises:
        Problem: `capture_unknown`, `content_unknown`, or `invalid` where nothing says until when.
        Refusal: see `consider_lock`.
        StorageError: the store did not lock it, or the log takes nothing now.
    """
    subject = find_subject(context, organ, capture)
    until = wish.until
    if until is None and subject.kind is not None:
        until = context.clock() + timedelta(days=subject.kind.case_lock_days)
    if until is None:
        fault = {"pointer": "/until", "detail": "The capture has no class that would say."}
        raise Problem("invalid", "Say until when it is to be locked.", errors=(fault,))
    asked = until
    consider_lock(subject.standing, asked)
    for kept in (subject.kept, *subject.outputs):
        measured = context.objects.retain(kept.name, kept.version, asked).locked_until
        until = max(until, measured or until)
    _state(organ, holder, subject, _Step(event="retained", wish=wish, until=until))
    return find_subject(context, organ, capture)


def hold(context: Context, organ: Organ, holder: Holder, capture: str, wish: Wish) -> Subject:
    """Put a legal hold on content; returns where it stands then.

    Raises:
        Problem, Refusal, StorageError: as `lock_longer`.
    """
    subject = find_subject(context, organ, capture)
    consider_hold(subject.standing)
    _hold_objects(context, subject, on=True)
    _state(organ, holder, subject, _Step(event="held", wish=wish))
    now = find_subject(context, organ, capture)
    if wish.reference not in now.standing.holds:  # its disposal began a moment before
        raise DisposalBegun("The content is disposed of, or that has begun.")
    return now


def release(context: Context, organ: Organ, holder: Holder, capture: str, wish: Wish) -> Subject:
    """Lift the legal hold of a reference; returns where it stands then.

    Raises:
        Problem, StorageError: as `lock_longer`.
        HoldUnknown: no hold of this reference runs.
    """
    subject = find_subject(context, organ, capture)
    consider_release(subject.standing, wish.reference)
    _state(organ, holder, subject, _Step(event="released", wish=wish))
    now = find_subject(context, organ, capture)
    if not now.standing.holds:
        _hold_objects(context, now, on=False)
    return now


def request_disposal(
    context: Context, organ: Organ, holder: Holder, capture: str, wish: Wish
) -> Subject:
    """Request the disposal of content whose periods have ended; returns where it stands then.

    Raises:
        Problem: as `lock_longer`, or `invalid` where neither he nor a class names an authority.
        Refusal: see `service.law.retention.consider_request`.
    """
    subject = find_subject(context, organ, capture)
    if not wish.authority and subject.kind is None:
        fault = {"pointer": "/authority", "detail": "The capture has no class that names one."}
        raise Problem("invalid", "Name the authority for its disposal.", errors=(fault,))
    _state(organ, holder, subject, _Step(event="disposal_requested", wish=wish))
    return find_subject(context, organ, capture)


def approve_disposal(
    context: Context, organ: Organ, holder: Holder, capture: str, wish: Wish, request: str
) -> Subject:
    """Approve a request; with the second approval the disposal is left to be done.

    Raises:
        Problem: as `lock_longer`.
        Refusal: see `service.law.retention.consider_approval`.
    """
    subject = find_subject(context, organ, capture)
    approved = Approved(
        log=organ.log_id,
        organ=organ.id,
        capture=capture,
        keep_until=subject.keep_until,
        at=context.clock(),
    )
    step = _Step(event="disposal_approved", wish=wish, request=request, effects=approved)
    _state(organ, holder, subject, step)
    return find_subject(context, organ, capture)


class Approved(msgspec.Struct, frozen=True, kw_only=True, tag="disposal_approved"):
    """With the last approval the work is left in the transaction that says so.

    Attributes:
        log: id of the log.
        organ: the organ.
        capture: whose content is to be disposed of.
        keep_until: until when its class keeps it, UTC; None where it has none.
        at: when it was approved, UTC.
    """

    log: str
    organ: str
    capture: str
    keep_until: datetime | None
    at: datetime

    def __call__(self, connection: Connection, _appended: list[Appended], /) -> None:
        """Count the approvals, this one included."""
        standing = read_standing(connection, self.log, self.capture, self.keep_until)
        if len(standing.approvals) >= APPROVALS:
            add_pieces(
                connection,
                log=self.log,
                organ=self.organ,
                kind=DISPOSE,
                subjects=[self.capture],
                at=self.at,
            )


def _hold_objects(context: Context, subject: Subject, *, on: bool) -> None:
    for kept in (subject.kept, *subject.outputs):
        context.objects.hold(kept.name, kept.version, on=on)


def _state(organ: Organ, holder: Holder, subject: Subject, step: _Step) -> None:
    """State a step, considered in the transaction that logs it."""
    given = {
        "reason": step.wish.reason,
        "reference": step.wish.reference,
        "authority": step.wish.authority,
        "request": step.request,
        "until": "" if step.until is None else format_time(step.until),
    }
    body = {"event": step.event, "actor": holder.name, **{k: v for k, v in given.items() if v}}
    about = About(statement=subject.capture, log=organ.origin, index=subject.index)
    made = organ.admission.make("custody", body, about, subject.previous)

    guard = StillAllowed(log=organ.log_id, capture=subject.capture, keep_until=subject.keep_until)
    require_logged(organ.admission.submit_own([made], guard=guard, effects=step.effects).result())
