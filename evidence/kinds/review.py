"""`review`: a reviewer's technical or legal verdict on exact digests.

Signed with the reviewer's own key. The four technical questions are those of the
Administrative Penalty Law art. 41: true, clear, complete, accurate 真实、清晰、完整、准确.
"""

from evidence.kinds.members import EXAMPLE_SHA256, PERSON, REASONS, SHA256, Kind, Role
from evidence.schema import Choice, Flag, Record, Sequence

KIND = Kind(
    name="review",
    says="A technical or legal verdict on exact digests.",
    signers=frozenset({Role.REVIEWER}),
    body=Record(
        {
            "review": Choice(("technical", "legal")),
            "reviewer": PERSON,
            "contents": Sequence(SHA256, 200),
            "verdict": Choice(("accepted", "curable_defect", "fatal_defect", "returned")),
            "true?": Flag(),
            "clear?": Flag(),
            "complete?": Flag(),
            "accurate?": Flag(),
            "reasons": REASONS,
        }
    ),
    example={
        "accurate": True,
        "clear": True,
        "complete": True,
        "contents": [EXAMPLE_SHA256],
        "reasons": [],
        "review": "technical",
        "reviewer": "reviewer-002",
        "true": True,
        "verdict": "accepted",
    },
    needs_about=True,
)
