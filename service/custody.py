"""Custody events that the server states: what it did with content, or let somebody do.

Does: makes the statement and hands it to the log. Refuses nothing by itself; a caller that must
not go on before the event is logged waits for the future.
"""

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

from evidence.canonical import JSONObject
from evidence.statement import About, SignedStatement
from service.admission import Admission, Effects, Guard
from storage.log import Outcome, Receipt

Event = Literal["viewed", "previewed", "exported", "quarantined", "recovered", "rehashed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What was done with a capture's content.

    Attributes:
        capture: the capture's id.
        index: the capture's index in the log.
        event: what was done.
        actor: pseudonym of who did it, or whose call it was.
        previous: the last statement about the capture that the server knows.
        content: digest, size and media type of the bytes concerned, where they are not the
            announced ones or none were announced to be concerned.
        reason: a code.
        reference: a name, such as an export's.
    """

    capture: str
    index: int
    event: Event
    actor: str
    previous: str | None = None
    content: JSONObject | None = None
    reason: str | None = None
    reference: str | None = None

    def body(self) -> JSONObject:
        """The statement's body."""
        body: JSONObject = {"event": self.event, "actor": self.actor}
        if self.content is not None:
            body["content"] = self.content
        if self.reason is not None:
            body["reason"] = self.reason
        if self.reference is not None:
            body["reference"] = self.reference
        return body


def make_custody(admission: Admission, deed: Deed) -> SignedStatement:
    """Make the statement of a deed; nothing is logged yet."""
    about = About(statement=deed.capture, log=admission.house.log, index=deed.index)
    return admission.make("custody", deed.body(), about, deed.previous)


def log_custody(
    admission: Admission,
    deed: Deed,
    *,
    guard: Guard | None = None,
    effects: Effects | None = None,
) -> Future[list[Outcome]]:
    """Make the statement of a deed and hand it to the log; see `Admission.submit_own`."""
    return admission.submit_own([make_custody(admission, deed)], guard=guard, effects=effects)


def require_logged(outcomes: list[Outcome]) -> list[Receipt]:
    """The receipts of statements that must all have been logged.

    Raises:
        Exception: the first refusal.
    """
    receipts: list[Receipt] = []
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
        receipts.append(outcome)
    return receipts
