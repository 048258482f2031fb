"""What others attest about a log's checkpoint and a capture's signature: witnesses and time.

Does: judges the pinned quorum of witnesses and the RFC 3161 tokens of a package. Refuses
roots that came with a token and tokens that do not hold for these bytes. A sound token whose
authority is not pinned, or was compromised by then, is not believed: anybody can add one to a
package, so it takes nothing away from a token beside it that verifies.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from evidence.entries import LogView
from evidence.errors import (
    EvidenceError,
    KeyUnknown,
    QuorumMissing,
    SignatureInvalid,
    TimestampNotBelieved,
)
from evidence.known_keys import KnownKeys
from evidence.package import Package, timestamps_over
from evidence.report import Findings, Outcome
from evidence.timestamp import Timestamp, TimestampRoot, verify_timestamp
from evidence.tlog.checkpoint import timestamped_message
from evidence.tlog.note import ML_DSA_44

_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z; the format of a cosignature goes on to 2^63
MAX_TOKENS = 16  # for one message; two authorities are asked
CLOCKS_APART = timedelta(minutes=5)
"""So far behind an authority's or a witness's clock the verifier's own may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnessed:
    """Whether the pinned quorum has cosigned.

    Attributes:
        satisfied: the quorum is met.
        first_seen: earliest time that a known witness states, UTC.
        names: the known witnesses that cosigned, as the pinned policy names them.
    """

    satisfied: bool
    first_seen: datetime | None
    names: tuple[str, ...]


def witnessed(view: LogView, known: KnownKeys, at: datetime, findings: Findings) -> Witnessed:
    """Judge a checkpoint's cosignatures by the pinned policy at a time; notes `log.witnesses`."""
    origin = view.signed.checkpoint.origin
    try:
        seen = known.logs[origin].policy.judge(view.signed)
    except EvidenceError as error:
        findings.error("log.witnesses", error, subject=origin)
        return Witnessed(satisfied=False, first_seen=None, names=())
    times = [moment(seconds) for _, seconds in seen.seen]
    early = all(time <= at + CLOCKS_APART for time in times)
    if not early:
        ahead = QuorumMissing("A known witness states a time after that of this verification.")
        findings.error("log.witnesses", ahead, subject=origin, outcome=Outcome.UNCONFIRMED)
    if not seen.satisfied:
        missing = QuorumMissing("Too few known witnesses have cosigned: unwitnessed.")
        findings.error("log.witnesses", missing, subject=origin, outcome=Outcome.UNCONFIRMED)
    return Witnessed(
        satisfied=seen.satisfied and early,
        first_seen=min(times, default=None),
        names=tuple(name for name, _ in seen.seen),
    )


def moment(seconds: int) -> datetime:
    """The time that a witness states; one that no calendar holds becomes the last one there is."""
    return datetime.fromtimestamp(min(seconds, _LAST_SECOND), UTC)


def stamped_checkpoint(
    package: Package, view: LogView, known: KnownKeys, at: datetime, findings: Findings
) -> tuple[Timestamp, ...]:
    """Verify the tokens over a checkpoint at a time; notes `time.checkpoint`."""
    origin = view.signed.checkpoint.origin
    message = timestamped_message(view.data, origin)  # opened before: of this origin, signed by it
    return _stamped(package, message, known, at, findings, ("time.checkpoint", origin))


def stamped_signatures(
    package: Package, view: LogView, known: KnownKeys, at: datetime, findings: Findings
) -> dict[str, tuple[Timestamp, ...]]:
    """Verify the tokens over captures' own signatures at a time; notes `time.signature`.

    Returns:
        The verified tokens by capture id; captures without one are left out.
    """
    found: dict[str, tuple[Timestamp, ...]] = {}
    for entry in view.entries:
        if entry.statement.kind == "capture":
            tokens = _stamped(
                package,
                entry.leaf.signature,
                known,
                at,
                findings,
                ("time.signature", entry.statement.id),
            )
            if tokens:
                found[entry.statement.id] = tokens
    return found


def demand_ml_dsa(
    view: LogView, known: KnownKeys, tokens: Iterable[Timestamp], findings: Findings
) -> None:
    """Demand the log's ML-DSA-44 line from the pinned date on; notes `log.checkpoint`.

    Whoever breaks Ed25519 one day can sign any checkpoint, but cannot date a token back:
    only a token older than the pinned date excuses a missing second line.
    """
    log = known.logs[view.signed.checkpoint.origin]
    first = min((token.gen_time for token in tokens), default=None)
    excused = log.ml_dsa_from is None or (first is not None and first < log.ml_dsa_from)
    if not excused and all(key.kind != ML_DSA_44 for key in view.signed.log_keys):
        missing = SignatureInvalid("The checkpoint lacks the log's ML-DSA-44 signature.")
        findings.error("log.checkpoint", missing, subject=log.origin)


def _stamped(
    package: Package,
    message: bytes,
    known: KnownKeys,
    at: datetime,
    findings: Findings,
    place: tuple[str, str],
) -> tuple[Timestamp, ...]:
    """Judge every token over a message; one that is merely not believed needs another beside it."""
    name, subject = place
    members = package.names(timestamps_over(message))
    if not members:
        missing = "No time-stamp covers it."
        findings.add(name, Outcome.UNCONFIRMED, missing, subject=subject, code=KeyUnknown.code)
        return ()
    roots = [
        TimestampRoot(certificate=root.certificate, valid_until=root.compromised_since)
        for root in known.tsa_roots
    ]
    found: list[Timestamp] = []
    aside: list[TimestampNotBelieved] = []
    for member in members[:MAX_TOKENS]:
        try:
            token = verify_timestamp(package.read(member), message, roots)
            if token.gen_time > at + CLOCKS_APART:
                raise TimestampNotBelieved("The time-stamp is of after this verification.")
            found.append(token)
        except TimestampNotBelieved as error:
            aside.append(error)
        except EvidenceError as error:
            findings.error(name, error, subject=subject)
    for reason in aside:
        if found:
            findings.mention(name, reason, subject=subject)
        else:
            findings.error(name, reason, subject=subject, outcome=Outcome.UNCONFIRMED)
    return tuple(found)
