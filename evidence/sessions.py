"""Sessions: whether every shot is there, and before which time none of them was signed.

Does: finds a capture's session, tells whether the package holds the whole of it, and reads the
witnessed checkpoint that the device held when it opened the session. Nobody knows a witness's
signature before it was made, so whoever signed a statement that holds one signed it no earlier;
a capture names its opening by digest and inherits that. Refuses to say more: the bounds are those
of signatures, not of what a camera saw.

Source: docs/evidence-format.md §10, steps 10.2, 10.3 and 10.5; its numbers are those of 10.5.
"""

from datetime import datetime
from typing import cast

from evidence.attested import moment
from evidence.canonical import JSONObject
from evidence.entries import Entry
from evidence.errors import CheckpointInvalid, EvidenceError
from evidence.proven import Proven, is_about
from evidence.report import Findings, Outcome
from evidence.schema import format_time
from evidence.tlog.checkpoint import Checkpoint
from evidence.tlog.note import parse_signature_line
from evidence.tlog.policy import Policy


def opening_of(capture: Entry, proven: Proven) -> Entry | None:
    """The valid opening that the capture is about, by the same holder; None if there is none."""
    about = capture.statement.about
    entry = proven.find(about.statement) if about else None
    if entry is None or entry.statement.kind != "session" or not _opens(entry):
        return None
    belongs = is_about(capture, entry, proven.origin) and proven.same_holder(capture, entry)
    return entry if belongs else None


def note_completeness(
    capture: Entry, proven: Proven, findings: Findings, gaps: dict[str, str | None]
) -> None:
    """Note `session.completeness`: claimed only where the opening was logged before the shots.

    Args:
        capture: whose session is asked for.
        proven: its log.
        findings: where the answer is noted.
        gaps: what was found for a session before, by the opening's id; kept up here.
    """
    opening = opening_of(capture, proven)
    if capture.statement.about is None:
        missing: str | None = "The capture belongs to no session; completeness is not claimed."
    elif opening is None:
        missing = "No opening before the capture, by the same holder, is in the package."
    else:
        if opening.statement.id not in gaps:
            gaps[opening.statement.id] = _gap(opening, proven)
        missing = gaps[opening.statement.id]
    if missing is None:
        findings.add(
            "session.completeness",
            Outcome.PASS,
            "The session was opened in the log before its shots; none is missing.",
            subject=capture.statement.id,
        )
    else:
        findings.add(
            "session.completeness", Outcome.UNCONFIRMED, missing, subject=capture.statement.id
        )


def note_not_before(
    capture: Entry, proven: Proven, not_after: datetime | None, findings: Findings
) -> datetime | None:
    """Note `time.not_before`.

    1. The capture has an opening with a checkpoint, and the checkpoint's log is pinned.
    2. If it is this log, its size is not above the opening's index; and there can be such a tree.
    3. Each text is a signature line.
    4. No line of a pinned witness fails.
    5. The pinned quorum is met, and somebody stated a time.
    6. The earliest time that a pinned witness states is not after `not_after`.
    7. Then it was not signed before that.

    Args:
        capture: whose earliest time is asked for.
        proven: its log.
        not_after: the first independent time over it, UTC, where there is one.
        findings: where the answer is noted.

    Returns:
        The time before which it was not signed, UTC, or None.
    """
    subject = capture.statement.id
    opening = opening_of(capture, proven)  # 1
    held = opening.statement.body.get("checkpoint") if opening else None
    if opening is None or not isinstance(held, dict):
        missing = "The device is not known to have held a witnessed checkpoint before."
        findings.add("time.not_before", Outcome.UNCONFIRMED, missing, subject=subject)
        return None
    policy = proven.policies.get(str(held["log"]))
    if policy is None:
        missing = "The checkpoint that the device held is of a log that is not pinned."
        findings.add("time.not_before", Outcome.UNCONFIRMED, missing, subject=subject)
        return None
    try:
        if held["log"] == proven.origin and cast("int", held["size"]) > opening.index:  # 2
            raise CheckpointInvalid("The device says that it held a checkpoint of a later log.")
        since = _witnessed_since(held, policy)  # 2 to 5
        if since is not None and not_after is not None and since > not_after:  # 6
            raise CheckpointInvalid("The capture would be older than the session that it is in.")
    except EvidenceError as error:
        findings.error("time.not_before", error, subject=subject)
        return None
    if since is None:  # 5
        missing = "Too few known witnesses had cosigned the checkpoint that the device held."
        findings.add("time.not_before", Outcome.UNCONFIRMED, missing, subject=subject)
        return None
    findings.add(  # 7
        "time.not_before",
        Outcome.PASS,
        f"Not signed before {format_time(since)}: its session holds what witnesses signed then.",
        subject=subject,
    )
    return since


def _witnessed_since(held: JSONObject, policy: Policy) -> datetime | None:
    """The earliest time that a pinned witness states, if the quorum is met.

    Raises:
        EvidenceError: a text is no signature line, a line of a pinned witness does not verify,
            or there can be no such checkpoint.
    """
    checkpoint = Checkpoint(
        origin=str(held["log"]),
        size=cast("int", held["size"]),
        root=bytes.fromhex(str(held["root"])),
    )
    texts = cast("list[str]", held.get("cosignatures", []))
    seen = policy.judge_lines(checkpoint, tuple(map(parse_signature_line, texts)))
    times = [moment(seconds) for _, seconds in seen.seen]
    return min(times, default=None) if seen.satisfied else None


def _opens(entry: Entry) -> bool:
    return entry.statement.body["phase"] == "open"


def _gap(opening: Entry, proven: Proven) -> str | None:
    """The first thing that keeps the session from being complete, or None."""
    shots = [e for e in proven.trusted("capture", opening) if proven.same_holder(e, opening)]
    sessions = [e for e in proven.trusted("session", opening) if proven.same_holder(e, opening)]
    closings = [entry for entry in sessions if not _opens(entry)]
    if not closings:
        return "The session was not closed, or its closing is not in the package."
    counts = [
        (item.statement.body["count"], item.statement.body.get("inventory")) for item in closings
    ]
    if any(other != counts[0] for other in counts):
        return "The session was closed more than once with different counts."
    count = cast("int", counts[0][0])
    shots.sort(key=_number)
    if [_number(shot) for shot in shots] != list(range(1, count + 1)):
        return f"The package holds {len(shots)} of {count} shots."
    before = [opening, *shots]
    if any(
        shot.statement.previous != last.statement.id
        for last, shot in zip(before, shots, strict=False)
    ):
        return "The shots do not name each other in one chain."
    return None


def _number(shot: Entry) -> int:
    return cast("int", shot.statement.body.get("number", 0))
