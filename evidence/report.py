"""What a verification found: named checks, four outcomes, the ladder of each capture.

Does: collects. Refuses to be a truth value: one green tick for everything is forbidden,
so `if report:` is an error and a reader must say which question he asks.

Four outcomes, kept apart: `pass`; `content_changed` (bytes, signature, proof or order are
not what was logged); `cannot_confirm` (something is missing, and it says what);
`not_checked`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import NoReturn

from evidence.canonical import JSONObject
from evidence.errors import EvidenceError
from evidence.schema import format_time


class Outcome(StrEnum):
    """What became of one check."""

    PASS = "pass"  # noqa: S105  an outcome, no password
    CHANGED = "content_changed"
    UNCONFIRMED = "cannot_confirm"
    UNCHECKED = "not_checked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a check is for.

    Attributes:
        proves: the sentence that holds when it passes.
        threat: who it stops.
        decides: whether a missing answer keeps the whole package from passing.
    """

    proves: str
    threat: str
    decides: bool = True


CHECKS: Mapping[str, Meaning] = MappingProxyType(
    {
        "package.container": Meaning(
            proves="The package is a well-formed bag without tricks in its names or sizes.",
            threat="a hostile package: bombs, path tricks, members that two readers see apart",
        ),
        "package.manifest": Meaning(
            proves="Every file is listed once and has the listed SHA-256.",
            threat="a file added, removed or damaged on the way",
        ),
        "known_keys.valid": Meaning(
            proves="The trusted keys have not expired and are for this deployment.",
            threat="an old trust file that still believes a lost key",
        ),
        "statement.signature": Meaning(
            proves="Every statement has exactly the bytes that its signer signed.",
            threat="an edited time, place, size or digest",
        ),
        "log.checkpoint": Meaning(
            proves="Every checkpoint carries the pinned log's signatures under its own origin.",
            threat="a log made up for the occasion",
        ),
        "log.inclusion": Meaning(
            proves="Every statement is an entry of the log at the stated index.",
            threat="a statement that was never logged, or logged elsewhere",
        ),
        "key.chain": Meaning(
            proves="Every key statement continues its registrar's chain without a gap.",
            threat="a key that vouches for itself, an enrolment behind the registrar's back",
        ),
        "key.validity": Meaning(
            proves="Every signer's key was enrolled, not revoked, and allowed to sign that kind.",
            threat="a stolen, revoked or foreign key",
        ),
        "key.status": Meaning(
            proves="The server states that this is the whole key chain as of a log size.",
            threat="a revocation left out of the package",
        ),
        "log.witnesses": Meaning(
            proves="A quorum of known witnesses has seen the checkpoint: there is one history.",
            threat="an operator who shows two histories or restores an old one",
        ),
        "time.checkpoint": Meaning(
            proves="An independent authority saw the checkpoint not later than the stated time.",
            threat="a forger of time",
        ),
        "time.signature": Meaning(
            proves="An independent authority saw the capture's own signature at the stated time.",
            threat="a key used after its epoch and dated back",
            decides=False,
        ),
        "key.suspicion": Meaning(
            proves="No signer's key was under suspicion by the time that others saw its signature.",
            threat="a stolen key, used before its holder missed it",
        ),
        "content.digest": Meaning(
            proves="The original has exactly the bytes that the device announced.",
            threat="a replaced or edited photo",
        ),
        "content.stored": Meaning(
            proves="The server states that it stored these bytes whole, where, and how firmly.",
            threat="an operator who lost or swapped the object",
        ),
        "session.completeness": Meaning(
            proves="The session was opened in the log before its shots, and none is missing.",
            threat="an inspector who omits the unfavourable shot",
            decides=False,
        ),
        "time.not_before": Meaning(
            proves="The capture was signed after known witnesses signed what its session holds.",
            threat="a capture that was signed before the visit that it is said to be of",
            decides=False,
        ),
        "custody.trail": Meaning(
            proves="What was done with the bytes is listed, in the order of the log.",
            threat="a reading or an export that nobody admits",
            decides=False,
        ),
    }
)
RUNGS = (
    "claimed",
    "signed",
    "received",
    "logged",
    "witnessed",
    "time_stamped",
    "stored",
    "reviewed",
)
PROVEN = (
    "Proven, where the checks pass: who signed which bytes, in what order, not later than "
    "when, and that nothing was changed or removed since."
)
NOT_PROVEN = "Not proven: that the scene was real, or that the device's clock and position were."


def _meaning(name: str) -> Meaning:
    """What a check is for; a name that is not in the registry is a mistake of the caller."""
    if name not in CHECKS:
        raise ValueError("a check must be in the registry")
    return CHECKS[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question and its answer.

    Attributes:
        name: a key of `CHECKS`.
        outcome: one of the four.
        detail: one plain sentence.
        subject: the statement or member concerned, or empty for the whole package.
        code: the error's stable code, or empty.
        mentioned: it is told and neither decides nor keeps the check from passing.
    """

    name: str
    outcome: Outcome
    detail: str
    subject: str = ""
    code: str = ""
    mentioned: bool = False

    def __post_init__(self) -> None:
        """Refuse, as the caller's mistake, a name that no registry explains."""
        _meaning(self.name)

    @property
    def decides(self) -> bool:
        """Whether this answer can keep the whole package from passing."""
        return _meaning(self.name).decides and not self.mentioned

    @property
    def verdict(self) -> Outcome:
        """What this answer alone makes of the whole package."""
        if self.outcome is Outcome.CHANGED:
            return Outcome.CHANGED
        if self.outcome is Outcome.PASS or not self.decides:
            return Outcome.PASS
        return Outcome.UNCONFIRMED


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One step of a capture's ladder, each with a trust anchor of its own."""

    name: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureReport:
    """One capture as the package proves it.

    Attributes:
        id: statement id of the capture.
        claimed_at: what the device's clock said.
        not_before: time of the witnessed checkpoint that the device held, where proven.
        not_after: first independent time, where proven.
        rungs: the ladder, lowest first.
    """

    id: str
    claimed_at: datetime
    not_before: datetime | None
    not_after: datetime | None
    rungs: tuple[Rung, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that a verification found.

    Attributes:
        checks: in the order of the procedure.
        captures: the exported captures.
        known_keys_sha256: digest of the trust file that was used.
        known_keys_version: its version.
        at: the time that the verification was told.
    """

    checks: tuple[Check, ...]
    captures: tuple[CaptureReport, ...]
    known_keys_sha256: str
    known_keys_version: int
    at: datetime

    def __bool__(self) -> NoReturn:
        """Refuse: a report has no truth value; ask for `outcome` or call `require`."""
        raise TypeError("a report is no truth value; look at its outcome or call require()")

    @property
    def outcome(self) -> Outcome:
        """The worst verdict of any check; a pass only where one that decides was asked."""
        verdicts = {check.verdict for check in self.checks}
        if Outcome.CHANGED in verdicts:
            return Outcome.CHANGED
        if Outcome.UNCONFIRMED in verdicts or not any(check.decides for check in self.checks):
            return Outcome.UNCONFIRMED
        return Outcome.PASS

    def require(self) -> None:
        """Raise unless every check that decides has passed.

        Raises:
            EvidenceError: with the first answer that stands in the way, never with one that
                decides nothing.
        """
        outcome = self.outcome
        if outcome is Outcome.PASS:
            return
        for check in self.checks:
            if check.verdict is outcome:
                raise EvidenceError(f"{check.name}: {check.detail}")
        raise EvidenceError("Nothing was checked.")

    def to_json(self) -> JSONObject:
        """The report as JSON, for `--json` and the API."""
        return {
            "outcome": self.outcome,
            "at": format_time(self.at),
            "known_keys": {
                "sha256": self.known_keys_sha256,
                "version": self.known_keys_version,
            },
            "checks": [_check_members(check) for check in self.checks],
            "captures": [_capture_members(capture) for capture in self.captures],
            "proven": PROVEN,
            "not_proven": NOT_PROVEN,
        }


def _check_members(check: Check) -> JSONObject:
    members: JSONObject = {
        "name": check.name,
        "outcome": check.outcome,
        "detail": check.detail,
        "decides": check.decides,
    }
    if check.subject:
        members["subject"] = check.subject
    if check.code:
        members["code"] = check.code
    return members


def _capture_members(capture: CaptureReport) -> JSONObject:
    return {
        "id": capture.id,
        "claimed_at": format_time(capture.claimed_at),
        "not_before": format_time(capture.not_before) if capture.not_before else None,
        "not_after": format_time(capture.not_after) if capture.not_after else None,
        "ladder": [
            {"rung": rung.name, "outcome": rung.outcome, "detail": rung.detail}
            for rung in capture.rungs
        ],
    }


class Findings:
    """Collects answers while a procedure runs; one summary for each check that passed."""

    __slots__ = ("_about", "_checks")

    def __init__(self) -> None:
        """Begin with nothing found."""
        self._checks: list[Check] = []
        self._about: dict[tuple[str, str], set[Outcome]] = {}

    def add(
        self, name: str, outcome: Outcome, detail: str, *, subject: str = "", code: str = ""
    ) -> None:
        """Note one answer; a name that is not in the registry of checks is a ValueError."""
        self._note(Check(name=name, outcome=outcome, detail=detail, subject=subject, code=code))

    def error(
        self,
        name: str,
        error: EvidenceError,
        *,
        subject: str = "",
        outcome: Outcome = Outcome.CHANGED,
    ) -> None:
        """Note what an error says, by default as changed content."""
        self.add(name, outcome, error.detail, subject=subject, code=error.code)

    def mention(self, name: str, error: EvidenceError, *, subject: str = "") -> None:
        """Note what was left aside because something else answers the question."""
        self._note(
            Check(
                name=name,
                outcome=Outcome.UNCHECKED,
                detail=error.detail,
                subject=subject,
                code=error.code,
                mentioned=True,
            )
        )

    def conclude(self, name: str, detail: str = "") -> None:
        """Note a pass, unless something else was noted under that name."""
        if not any(check.name == name and not check.mentioned for check in self._checks):
            self.add(name, Outcome.PASS, detail or _meaning(name).proves)

    def worst(self, name: str, subjects: Iterable[str] = ()) -> Outcome:
        """The worst answer under a name, about these subjects or the whole package."""
        _meaning(name)
        wanted = {"", *subjects}
        outcomes = set[Outcome]().union(*(self._about.get((name, one), ()) for one in wanted))
        for outcome in (Outcome.CHANGED, Outcome.UNCONFIRMED, Outcome.UNCHECKED):
            if outcome in outcomes:
                return outcome
        return Outcome.PASS if outcomes else Outcome.UNCHECKED

    def _note(self, check: Check) -> None:
        self._checks.append(check)
        self._about.setdefault((check.name, check.subject), set()).add(check.outcome)

    def checks(self) -> tuple[Check, ...]:
        """Everything noted, in the order of the registry."""
        order = {name: number for number, name in enumerate(CHECKS)}
        return tuple(sorted(self._checks, key=lambda check: order[check.name]))
