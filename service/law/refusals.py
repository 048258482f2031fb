"""Every refusal: the bytes are right and the store works, but the rules say no.

Each class has a stable `code` that `service.problems` gives a status and a title.

    Refusal                        refusal
    ├── NotPermitted               not_permitted         the holder's token lacks the scope
    ├── OrganRefused               organ_refused         made in the name of another organ
    ├── AudienceRefused            audience_refused      made for another deployment
    ├── KindRefused                kind_refused          a kind that is not taken from outside
    ├── SubjectMismatch            subject_mismatch      `about` names another place than the log's
    ├── ContentRefused             content_refused       larger than this deployment takes
    ├── AlreadyDone                already_done          what was asked has been done before
    ├── NotAnchored                not_anchored          somebody still owes an answer
    ├── GivenUp                    given_up              trying again would not help
    ├── LeaseLost                  lease_lost            another worker has it
    ├── RetentionRunning           retention_running     a period has not ended
    ├── PeriodShortened            period_shortened      a lock only grows
    ├── OnHold                     on_hold               a legal hold runs
    ├── HoldUnknown                hold_unknown          no such hold runs
    ├── NotRequested               not_requested         nobody asked for this disposal
    ├── SamePerson                 same_person           one person in two parts
    ├── ApprovalsMissing           approvals_missing     too few persons agreed
    ├── DisposalBegun              disposal_begun        it is too late
    └── ClockBehind                clock_behind          the clock is behind the log
"""

from typing import ClassVar


class Refusal(Exception):
    """The rules say no. `detail` is one plain sentence without personal data."""

    code: ClassVar[str] = "refusal"

    def __init__(self, detail: str, *, pointer: str = "") -> None:
        """Keep the sentence and, where the fault has a place, its JSON pointer.

        Args:
            detail: one sentence that a non-programmer can read; never echoes input text.
            pointer: RFC 6901 pointer into the statement at fault, or empty.
        """
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer


class NotPermitted(Refusal):
    """The bearer's token does not carry the scope that the call needs."""

    code = "not_permitted"


class OrganRefused(Refusal):
    """The statement is made in the name of an organ that the sender does not act for."""

    code = "organ_refused"


class AudienceRefused(Refusal):
    """The statement was made for another deployment; taking it here would be a replay."""

    code = "audience_refused"


class KindRefused(Refusal):
    """Only the server itself, or nobody yet, may log this kind."""

    code = "kind_refused"


class SubjectMismatch(Refusal):
    """`about` names a place in the log where another statement, or none, stands."""

    code = "subject_mismatch"


class ContentRefused(Refusal):
    """The announced content is larger than this deployment takes."""

    code = "content_refused"


class AlreadyDone(Refusal):
    """What was asked has been done before, by this or another worker; nothing is repeated."""

    code = "already_done"


class NotAnchored(Refusal):
    """Witnesses or authorities have not answered for a checkpoint yet; waiting is worth it."""

    code = "not_anchored"


class LeaseLost(Refusal):
    """Another worker has the piece of work meanwhile; this one must not finish it."""

    code = "lease_lost"


class GivenUp(Refusal):
    """Another attempt could only fail in the same way; the work is shown as failed at once."""

    code = "given_up"


class RetentionRunning(Refusal):
    """A period of retention has not ended, so content may not be disposed of."""

    code = "retention_running"


class PeriodShortened(Refusal):
    """A lock only grows, and this one would be shorter than the one that runs."""

    code = "period_shortened"


class OnHold(Refusal):
    """A legal hold runs, so content may not be disposed of."""

    code = "on_hold"


class HoldUnknown(Refusal):
    """No legal hold of this reference runs."""

    code = "hold_unknown"


class NotRequested(Refusal):
    """Nobody requested this disposal, or what was requested is void by now."""

    code = "not_requested"


class SamePerson(Refusal):
    """One person would act in two parts where the law of this house wants several."""

    code = "same_person"


class ApprovalsMissing(Refusal):
    """Fewer persons have approved than a disposal needs."""

    code = "approvals_missing"


class DisposalBegun(Refusal):
    """The content is disposed of, or its disposal has begun; no other step is taken any more."""

    code = "disposal_begun"


class ClockBehind(Refusal):
    """The clock is behind the newest entry of the log, so no period can be said to have ended."""

    code = "clock_behind"
