"""What fsck finds: where something is not as it was signed.

tile_differs  tile/0/000  entry 17 has another hash than the record at index 17
"""

from dataclasses import dataclass

MAX_FINDINGS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        code: a stable word of the list in `fsck`.
        place: what to look at: `record 17`, `tile/0/000`, `checkpoint 300`, `head`.
        detail: one sentence for the operator, without personal data.
    """

    code: str
    place: str
    detail: str


class Findings:
    """A list that stops growing at `MAX_FINDINGS`: damage may be everywhere."""

    def __init__(self) -> None:
        """Begin empty."""
        self.found: list[Finding] = []

    def add(self, code: str, place: str, detail: str) -> None:
        """Note one finding."""
        if len(self.found) < MAX_FINDINGS:
            self.found.append(Finding(code=code, place=place, detail=detail))
        elif len(self.found) == MAX_FINDINGS:
            detail = "there are more findings than are listed"
            self.found.append(Finding(code="too_many", place="log", detail=detail))
