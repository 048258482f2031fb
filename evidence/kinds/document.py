"""`document`: a document was issued.

Signed by the server: digest, number and kind. It is a record of issue, never the organ's
seal.
"""

from evidence.kinds.members import CODE, CONTENT, NAME, Kind, Role
from evidence.schema import Record, Text

KIND = Kind(
    name="document",
    says="Digest, number and kind of a document that was issued.",
    signers=frozenset({Role.SERVER}),
    body=Record({"content": CONTENT, "document": CODE, "number": Text(64), "case?": NAME}),
    example={
        "case": "case-2026-000142",
        "content": {
            "media_type": "application/pdf",
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "size_bytes": 4,
        },
        "document": "decision_draft",
        "number": "2026-000142",
    },
)
