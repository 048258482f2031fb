"""The routes of retention: where content stands, longer locks, holds, disposal by three persons.

Does: reads requests, calls one function, writes where the content stands then. Refuses to decide.
"""

from datetime import datetime
from typing import Annotated, Literal

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import Body
from msgspec import Meta, Struct

from service.captures.routes import CaptureId
from service.guards import JSON, Caller, needs
from service.law.permissions import Scope
from service.retention.deeds import (
    Wish,
    approve_disposal,
    hold,
    lock_longer,
    release,
    request_disposal,
)
from service.retention.standing import Subject, find_subject

Reason = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$", description="A code.")]
Reference = Annotated[
    str,
    Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="Of the case, or of the hold."),
]
Authority = Annotated[
    str, Meta(min_length=1, max_length=200, description="The article or order acted under.")
]
Until = Annotated[
    datetime,
    Meta(tz=True, description="Until when it is locked; else what its class says of cases."),
]
Hex = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class RetentionStep(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A step that keeps content: admit it to a case, extend its lock, hold it, release it."""

    action: Literal["admit", "extend", "hold", "release"]
    reason: Reason
    reference: Reference
    authority: Authority | None = None
    until: Until | None = None


class DisposalRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request to dispose of content; the authority may be left out where its class has one."""

    reason: Reason
    authority: Authority | None = None


class DisposalApproval(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Another person's approval of a request."""

    request: Annotated[Hex, Meta(description="Statement id of the request.")]
    reason: Reason


class RetentionView(Struct, frozen=True):
    """Where a capture's content stands, as the log says now."""

    capture: Hex
    retention_class: str | None
    source: Annotated[str | None, Meta(description="Law and article of its class.")]
    sealed: bool
    keep_until: datetime | None
    locked_until: datetime | None
    expires_at: datetime | None
    holds: list[str]
    request: Annotated[Hex | None, Meta(description="Statement id of the request in force.")]
    approvals: Annotated[list[Hex], Meta(description="Statement ids, of different persons.")]
    begun: Annotated[Hex | None, Meta(description="Statement id: its disposal has begun.")]
    disposed: Annotated[Hex | None, Meta(description="Statement id of the certificate.")]


@get(
    "/v1/captures/{capture:str}/retention",
    guards=[needs(Scope.READ)],
    sync_to_thread=True,
    summary="Show how long a capture's content stays",
)
def get_retention(capture: CaptureId, caller: NamedDependency[Caller]) -> RetentionView:
    """Class, locks, holds and disposal of one capture's content."""
    return _view(find_subject(caller.context, caller.organ, capture))


@post(
    "/v1/captures/{capture:str}/retention",
    status_code=200,
    guards=[needs(Scope.RETAIN, media_type=JSON)],
    sync_to_thread=True,
    summary="Lock content for longer, hold it, or release it",
    description="`admit` and `extend` lock the object for longer in the store, never shorter. A"
    " hold is lifted by its own reference. Each step is logged, and voids a request for disposal"
    " unless it is a release.",
)
def post_retention(
    capture: CaptureId, data: Annotated[RetentionStep, Body()], caller: NamedDependency[Caller]
) -> RetentionView:
    """Take a step that keeps content."""
    wish = Wish(
        reason=data.reason,
        reference=data.reference,
        authority=data.authority or "",
        until=data.until,
    )
    step = {"hold": hold, "release": release}.get(data.action, lock_longer)
    return _view(step(caller.context, caller.organ, caller.holder, capture, wish))


@post(
    "/v1/captures/{capture:str}/disposal",
    status_code=200,
    guards=[needs(Scope.DISPOSE, media_type=JSON)],
    sync_to_thread=True,
    summary="Request the disposal of content",
    description="Possible once every period has ended and while no hold runs. Two other persons"
    " approve before anything is destroyed.",
)
def post_disposal(
    capture: CaptureId, data: Annotated[DisposalRequest, Body()], caller: NamedDependency[Caller]
) -> RetentionView:
    """Request a disposal."""
    wish = Wish(reason=data.reason, authority=data.authority or "")
    return _view(request_disposal(caller.context, caller.organ, caller.holder, capture, wish))


@post(
    "/v1/captures/{capture:str}/disposal/approvals",
    status_code=200,
    guards=[needs(Scope.APPROVE, media_type=JSON)],
    sync_to_thread=True,
    summary="Approve the disposal of content",
    description="Neither who requested it nor who approved it before. With the second approval the"
    " disposal is done as soon as a worker comes to it.",
)
def post_approval(
    capture: CaptureId, data: Annotated[DisposalApproval, Body()], caller: NamedDependency[Caller]
) -> RetentionView:
    """Approve a disposal."""
    wish = Wish(reason=data.reason)
    done = approve_disposal(
        caller.context, caller.organ, caller.holder, capture, wish, data.request
    )
    return _view(done)


def _view(subject: Subject) -> RetentionView:
    standing, kind = subject.standing, subject.kind
    return RetentionView(
        capture=subject.capture,
        retention_class=None if kind is None else kind.name,
        source=None if kind is None else kind.source.cited,
        sealed=bool(subject.kept.key),
        keep_until=standing.keep_until,
        locked_until=standing.locked_until,
        expires_at=standing.expires_at,
        holds=sorted(standing.holds),
        request=None if standing.request is None else standing.request.statement,
        approvals=[one.statement for one in standing.approvals],
        begun=standing.begun or None,
        disposed=standing.disposed or None,
    )
