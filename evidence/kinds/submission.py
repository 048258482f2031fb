"""`submission`: what a party filed.

Signed by the server as received, or with the party's own key. The text itself is content.
"""

from evidence.kinds.members import CONTENT, EXAMPLE_REPORT, NAME, PERSON, Kind, Role
from evidence.schema import Choice, Record, Time

KIND = Kind(
    name="submission",
    says="What a party filed.",
    signers=frozenset({Role.SERVER, Role.PARTY}),
    body=Record(
        {
            "case": NAME,
            "party": PERSON,
            "submission": Choice(("statement", "defence", "waiver", "consent", "evidence")),
            "channel": Choice(("counter", "online", "post", "on_site")),
            "content": CONTENT,
            "received_at": Time(),
        }
    ),
    example={
        "case": "case-2026-000142",
        "channel": "online",
        "content": EXAMPLE_REPORT,
        "party": "party-1",
        "received_at": "2026-11-23T02:00:00.000Z",
        "submission": "defence",
    },
)
