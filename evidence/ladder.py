"""The ladder of one capture, recomputed from proven entries and never read from a file.

Does: says for each rung what stands behind it: claimed, signed, received, logged,
witnessed, time-stamped, stored, reviewed. Refuses to add them up: each rung has a trust
anchor of its own, and a higher one does not mend a lower one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, cast

from evidence.attested import Witnessed
from evidence.entries import Entry, LogView
from evidence.errors import DigestMismatch
from evidence.keyring import EnrolledKey
from evidence.report import CaptureReport, Findings, Outcome, Rung
from evidence.statement import Statement
from evidence.timestamp import Timestamp

if TYPE_CHECKING:
    from evidence.canonical import JSONObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """One log with everything that was proven about it.

    Attributes:
        view: its checkpoint and entries.
        holders: the signer's key of each entry whose key was valid.
        witnessed: what the pinned witnesses say.
        tokens: verified time-stamps over the checkpoint.
        signature_tokens: verified time-stamps over captures' own signatures.
    """

    view: LogView
    holders: Mapping[str, EnrolledKey]
    witnessed: Witnessed
    tokens: tuple[Timestamp, ...]
    signature_tokens: Mapping[str, tuple[Timestamp, ...]]

    def trusted(self, kind: str, subject: str | None = None) -> list[Statement]:
        """Statements of one kind whose signer's key was valid, in log order."""
        return [
            entry.statement
            for entry in self.view.entries
            if entry.statement.kind == kind
            and entry.statement.id in self.holders
            and (subject is None or _subject(entry) == subject)
        ]


def climb(capture: Statement, proven: Proven, findings: Findings) -> CaptureReport:
    """Recompute the ladder of a capture that is proven to be in the log.

    Notes `content.stored`, `session.completeness` and `custody.trail`.
    """
    stored = _stored(capture, proven, findings)
    _session(capture, proven, findings)
    events = len(proven.trusted("custody", capture.id))
    findings.add(
        "custody.trail",
        Outcome.PASS,
        f"{events} custody events are logged; that no reading went unlogged is not proven.",
        subject=capture.id,
    )
    after = [token.gen_time for token in proven.tokens]
    after += [token.gen_time for token in proven.signature_tokens.get(capture.id, ())]
    if proven.witnessed.first_seen is not None:
        after.append(proven.witnessed.first_seen)
    return CaptureReport(
        id=capture.id,
        claimed_at=capture.made_at,
        not_before=None,
        not_after=min(after, default=None),
        rungs=(
            Rung(
                name="claimed",
                outcome=Outcome.PASS,
                detail="Time and place are what the device says.",
            ),
            _signed(capture, proven),
            _received(stored),
            Rung(
                name="logged",
                outcome=Outcome.PASS,
                detail=f"An entry of the log {proven.view.signed.checkpoint.origin}.",
            ),
            _witnessed(proven.witnessed),
            _time_stamped(after_tokens=proven.tokens),
            _stored_rung(stored, findings.worst("content.stored", [capture.id])),
            _reviewed(capture, proven),
        ),
    )


def _subject(entry: Entry) -> str | None:
    return entry.statement.about.statement if entry.statement.about else None


def _signed(capture: Statement, proven: Proven) -> Rung:
    key = proven.holders.get(capture.id)
    if key is None:
        return Rung(
            name="signed",
            outcome=Outcome.UNCONFIRMED,
            detail="The signer's key is not proven to have been valid.",
        )
    return Rung(
        name="signed",
        outcome=Outcome.PASS,
        detail=f"Signed with the key of {key.holder} ({key.role}, epoch {key.epoch}).",
    )


def _stored(capture: Statement, proven: Proven, findings: Findings) -> Statement | None:
    """The first `stored` statement counts; each must agree with the capture."""
    found = proven.trusted("stored", capture.id)
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
        review
        for review in proven.trusted("review")
        if content["sha256"] in cast("list[str]", review.body["contents"])
    ]
    if not reviews:
        return Rung(name="reviewed", outcome=Outcome.UNCHECKED, detail="No review is included.")
    return Rung(
        name="reviewed",
        outcome=Outcome.PASS,
        detail=f"Reviewed: {reviews[-1].body['verdict']}.",
    )


def _session(capture: Statement, proven: Proven, findings: Findings) -> None:
    """Completeness is claimed only where the opening was logged before the shots."""
    missing = _session_gap(capture, proven)
    if missing is None:
        findings.add(
            "session.completeness",
            Outcome.PASS,
            "The session was opened in the log before its shots; none is missing.",
            subject=capture.id,
        )
    else:
        findings.add("session.completeness", Outcome.UNCONFIRMED, missing, subject=capture.id)


def _session_gap(capture: Statement, proven: Proven) -> str | None:
    """The first thing that keeps the session from being complete, or None."""
    opening = capture.about.statement if capture.about else None
    if opening is None:
        return "The capture belongs to no session; completeness is not claimed."
    indexes = {entry.statement.id: entry.index for entry in proven.view.entries}
    sessions = {item.id: item for item in proven.trusted("session")}
    if opening not in sessions or sessions[opening].body["phase"] != "open":
        return "The session's opening is not in the package."
    shots = proven.trusted("capture", opening)
    if any(indexes[shot.id] < indexes[opening] for shot in shots):
        return "The session was opened in the log only after a shot."
    closings = [
        item
        for item in sessions.values()
        if item.body["phase"] == "close" and item.about and item.about.statement == opening
    ]
    if not closings:
        return "The session was not closed, or its closing is not in the package."
    numbers = sorted(cast("int", shot.body.get("number", 0)) for shot in shots)
    if numbers != list(range(1, cast("int", closings[0].body["count"]) + 1)):
        return f"The package holds {len(shots)} of {closings[0].body['count']} shots."
    before = {shot.previous for shot in shots}
    if before != {opening, *(shot.id for shot in shots)} - {_last(shots)}:
        return "The shots do not name each other in one chain."
    return None


def _last(shots: list[Statement]) -> str:
    return max(shots, key=lambda shot: cast("int", shot.body.get("number", 0))).id
