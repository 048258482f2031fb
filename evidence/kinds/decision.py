"""`decision`: the outcome of a case over the frozen list of evidence.

Signed with a human's own key. The list is complete at the moment of signing: evidence that
was gathered later does not support the decision (行政诉讼证据规定 art. 60).
"""

from evidence.kinds.members import (
    CODE,
    CONTENT,
    EVIDENCE,
    EXAMPLE_ID,
    EXAMPLE_REPORT,
    HUMANS,
    NAME,
    PERSON,
    REASONS,
    STATEMENT_ID,
    Kind,
)
from evidence.schema import Choice, Record

KIND = Kind(
    name="decision",
    says="The outcome over the frozen evidence list.",
    signers=HUMANS,
    body=Record(
        {
            "case": NAME,
            "outcome": CODE,
            "procedure": Choice(("simple", "ordinary")),
            "track": Choice(("standard", "fast")),
            "decided_by": PERSON,
            "evidence": EVIDENCE,
            "advice?": STATEMENT_ID,
            "document?": CONTENT,
            "reasons": REASONS,
        }
    ),
    example={
        "case": "case-2026-000142",
        "decided_by": "officer-003",
        "document": EXAMPLE_REPORT,
        "evidence": [EXAMPLE_ID],
        "outcome": "no_penalty",
        "procedure": "ordinary",
        "reasons": [{"article": "行政处罚法 第33条第1款", "code": "minor_and_corrected"}],
        "track": "fast",
    },
)
