"""The ladder of one capture, recomputed from proven entries and never read from a file.

Does: says for each rung what stands behind it: claimed, signed, received, logged,
witnessed, time-stamped, stored, reviewed. Refuses to add them up: each rung has a trust
anchor of its own, and a higher one does not mend a lower one.

Source: docs/evidence-format.md §10, step 10, with its numbers; §11.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, cast

from evidence.attested import Witnessed
from evidence.entries import Entry
from evidence.errors import DigestMismatch
from evidence.proven import Proven
from evidence.report import CaptureReport, Findings, Outcome, Rung
from evidence.sessions import note_completeness, note_not_before
from evidence.statement import Statement
from evidence.timestamp import Timestamp

if TYPE_CHECKING:
    from evidence.canonical import JSONObject


def climb(
    entry: Entry, proven: Proven, findings: Findings, gaps: dict[str, str | None]
) -> CaptureReport:
    """Recompute the ladder of a capture that is proven to be in the log.

    Notes `content.stored`, `session.completeness`, `custody.trail` and `time.not_before`.

    Args:
        entry: the capture.
        proven: its log.
        findings: where the answers are noted.
        gaps: see `note_completeness`; one for the whole package.
    """
    capture = entry.statement
    stored = _stored(entry, proven, findings)  # 10.1
    note_completeness(entry, proven, findings, gaps)  # 10.2, 10.3
    not_after = proven.seen_at(capture.id)  # 10.4
    not_before = note_not_before(entry, proven, not_after, findings)  # 10.5
    events = len(proven.trusted("custody", entry))  # 10.6
    findings.add(
        "custody.trail",
        Outcome.PASS,
        f"{events} custody events are logged; that no reading went unlogged is not proven.",
        subject=capture.id,
    )
    return CaptureReport(
        id=capture.id,
        claimed_at=capture.made_at,
        not_before=not_before,
        not_after=not_after,
        rungs=(  # 10.7
            Rung(
                name="claimed",
                outcome=Outcome.PASS,
                detail="Time and place are what the device says.",
            ),
            _signed(capture, proven, findings.worst("key.suspicion", [capture.id])),
            _received(stored),
            Rung(
                name="logged",
                outcome=Outcome.PASS,
                detail=f"An entry of the log {proven.origin}.",
            ),
            _witnessed(proven.witnessed),
            _time_stamped(after_tokens=proven.tokens),
            _stored_rung(stored, findings.worst("content.stored", [capture.id])),
            _reviewed(capture, proven),
        ),
    )


def _signed(capture: Statement, proven: Proven, suspicion: Outcome) -> Rung:
    key = proven.holders.get(capture.id)
    if key is None:
        return Rung(
            name="signed",
            outcome=Outcome.UNCONFIRMED,
            detail="The signer's key is not proven to have been valid.",
        )
    if suspicion is Outcome.UNCONFIRMED:
        return Rung(
            name="signed",
            outcome=suspicion,
            detail=f"Signed with a key of {key.holder} that may have been in other hands.",
        )
    return Rung(
        name="signed",
        outcome=Outcome.PASS,
        detail=f"Signed with the key of {key.holder} ({key.role}, epoch {key.epoch}).",
    )


def _stored(entry: Entry, proven: Proven, findings: Findings) -> Statement | None:
    """The first `stored` statement counts; each must agree with the capture."""
    capture = entry.statement
    found = [other.statement for other in proven.trusted("stored", entry)]
    if not found:
        findings.add(
            "content.stored",
            Outcome.UNCONFIRMED,
            "No statement of the server says that the bytes were stored.",
            subject=capture.id,
        )
        return None
    announced = cast("JSONObject", capture.body["content"])
    for statement in found:
        content = cast("JSONObject", statement.body["content"])
        if any(content[name] != announced[name] for name in ("sha256", "size_bytes")):
            error = DigestMismatch("The server stored other bytes than the device announced.")
            findings.error("content.stored", error, subject=capture.id)
    return found[0]


def _received(stored: Statement | None) -> Rung:
    if stored is None:
        return Rung(name="received", outcome=Outcome.UNCONFIRMED, detail="No receipt of the bytes.")
    return Rung(
        name="received",
        outcome=Outcome.PASS,
        detail=f"Received at {stored.body['received_at']}, as the server's clock says.",
    )


def _stored_rung(stored: Statement | None, outcome: Outcome) -> Rung:
    if stored is None or outcome is Outcome.CHANGED:
        return Rung(name="stored", outcome=outcome, detail="Storage is not proven.")
    lock = stored.body.get("locked_until")
    held = f"locked until {lock}" if lock else "not locked against its administrator"
    return Rung(
        name="stored",
        outcome=Outcome.PASS,
        detail=f"Stored at assurance level {stored.body['assurance']}, {held}.",
    )


def _witnessed(witnessed: Witnessed) -> Rung:
    if not witnessed.satisfied:
        return Rung(name="witnessed", outcome=Outcome.UNCONFIRMED, detail="Unwitnessed.")
    if not witnessed.names:
        nobody = "The known keys demand no witness, and none has cosigned."
        return Rung(name="witnessed", outcome=Outcome.UNCHECKED, detail=nobody)
    return Rung(
        name="witnessed",
        outcome=Outcome.PASS,
        detail="Cosigned by " + ", ".join(witnessed.names) + ".",
    )


def _time_stamped(*, after_tokens: Iterable[Timestamp]) -> Rung:
    tokens = sorted(after_tokens, key=lambda token: token.gen_time)
    if not tokens:
        return Rung(
            name="time_stamped", outcome=Outcome.UNCONFIRMED, detail="No time-stamp is proven."
        )
    return Rung(
        name="time_stamped",
        outcome=Outcome.PASS,
        detail=f"Not later than {_shown(tokens[-1].gen_time)}, by {tokens[-1].tsa}.",
    )


def _shown(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


def _reviewed(capture: Statement, proven: Proven) -> Rung:
    content = cast("JSONObject", capture.body["content"])
    reviews = [
        review.statement
        for review in proven.trusted("review")
        if content["sha256"] in cast("list[str]", review.statement.body["contents"])
    ]
    if not reviews:
        return Rung(name="reviewed", outcome=Outcome.UNCHECKED, detail="No review is included.")
    return Rung(
        name="reviewed",
        outcome=Outcome.PASS,
        detail=f"Reviewed: {reviews[-1].body['verdict']}.",
    )
