"""`custody`: something was done with the bytes.

Signed by who acted, or by the server for what it did or let through. `actor` is a
pseudonym. A view is logged before its first byte is sent. `until` is the date of a lock, `request`
the statement that is approved or begun, `authority` its article. `about` is the capture.
"""

from evidence.kinds.members import (
    ARTICLE,
    CODE,
    CONTENT,
    EXAMPLE_CONTENT,
    NAME,
    PERSON,
    STATEMENT_ID,
    Kind,
    Role,
)
from evidence.schema import Choice, Record, Time

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
    "retained",
    "disposal_requested",
    "disposal_approved",
    "disposal_begun",
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
            "authority?": ARTICLE,
            "request?": STATEMENT_ID,
            "until?": Time(),
        }
    ),
    example={"actor": "reviewer-002", "content": EXAMPLE_CONTENT, "event": "viewed"},
    needs_about=True,
)
