"""`custody`: something was done with the bytes.

Signed by who acted, or by the server for what it did or let through. `actor` is a
pseudonym. A view is logged before its first byte is sent. `about` is the capture.
"""

from evidence.kinds.members import CODE, CONTENT, EXAMPLE_CONTENT, NAME, PERSON, Kind, Role
from evidence.schema import Choice, Record

EVENTS = (
    "viewed",
    "previewed",
    "exported",
    "transferred",
    "accepted",
    "derived",
    "held",
    "released",
    "rehashed",
    "quarantined",
    "recovered",
)

KIND = Kind(
    name="custody",
    says="The bytes were viewed, exported, transferred, derived, held, quarantined or re-hashed.",
    signers=frozenset({Role.SERVER, Role.OFFICER, Role.REVIEWER}),
    body=Record(
        {
            "event": Choice(EVENTS),
            "actor": PERSON,
            "content?": CONTENT,
            "reason?": CODE,
            "recipient?": PERSON,
            "reference?": NAME,
        }
    ),
    example={"actor": "reviewer-002", "content": EXAMPLE_CONTENT, "event": "viewed"},
    needs_about=True,
)
