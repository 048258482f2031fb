"""`transition`: a human took a case one step further.

Signed with the human's own key. States are named by the rule pack; this format only fixes
that each step names the one before it (the envelope's `previous`).
"""

from evidence.kinds.members import CODE, HUMANS, NAME, PERSON, REASONS, Kind
from evidence.schema import Record

KIND = Kind(
    name="transition",
    says="A step of the case.",
    signers=HUMANS,
    body=Record(
        {
            "case": NAME,
            "from_state": CODE,
            "to_state": CODE,
            "actor": PERSON,
            "reasons": REASONS,
        }
    ),
    example={
        "actor": "officer-003",
        "case": "case-2026-000142",
        "from_state": "evidence_review",
        "reasons": [{"article": "行政处罚法 第54条", "code": "facts_established"}],
        "to_state": "notice",
    },
)
