"""`correction`: a human supersedes a statement; both stay visible.

Signed with the human's own key. Nothing is ever edited: the envelope's `about` is the
statement that is superseded, `replacement` the one that takes its place.
"""

from evidence.kinds.members import EXAMPLE_ID, HUMANS, PERSON, REASONS, STATEMENT_ID, Kind
from evidence.schema import Record

KIND = Kind(
    name="correction",
    says="Supersedes a statement; both stay visible.",
    signers=HUMANS,
    body=Record({"actor": PERSON, "replacement?": STATEMENT_ID, "reasons": REASONS}),
    example={
        "actor": "officer-003",
        "reasons": [{"code": "wrong_task", "note": "The shot belongs to the visit next door."}],
        "replacement": EXAMPLE_ID,
    },
    needs_about=True,
)
