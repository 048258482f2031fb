"""Who may call what: the scopes of a bearer token and what each of them opens.

Does: answers whether a holder may act. Refuses to know how a holder was authenticated; tokens
today, OpenID Connect later, and certificates of devices come to the same `Holder`.
"""

from dataclasses import dataclass
from enum import StrEnum

from service.law.refusals import NotPermitted


class Scope(StrEnum):
    """One thing that a holder may do for its organ."""

    CAPTURE = "capture"
    """Announce statements and send content."""

    READ = "read"
    """Lists, proofs, bundles and statements: everything but the content itself."""

    VIEW = "view"
    """Read content; every reading is logged."""

    RETAIN = "retain"
    """Lock content for longer, hold it and release it; each is logged."""

    DISPOSE = "dispose"
    """Request the disposal of content whose periods have ended."""

    APPROVE = "approve"
    """Approve what somebody else requested."""

    EXPORT = "export"
    """Have packages made and fetch them; every export is logged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Somebody who called, as far as the rules care.

    Attributes:
        name: a pseudonym, as it appears in custody statements.
        organ: the organ that the holder acts for; nothing of another organ exists for it.
        scopes: what the holder may do.
    """

    name: str
    organ: str
    scopes: frozenset[Scope]


def require_scope(holder: Holder, scope: Scope) -> None:
    """Let the holder pass, or say which scope is missing.

    Raises:
        NotPermitted: the holder lacks `scope`.
    """
    if scope not in holder.scopes:
        msg = f"This call needs a token with the scope {scope.value}."
        raise NotPermitted(msg)
