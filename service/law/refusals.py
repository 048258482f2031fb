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
    └── LeaseLost                  lease_lost            another worker has it
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
