"""`policy`: this rule pack, retention class or witness policy is in force.

Signed by the registrar or a rule author. The document itself is content, named by its
digest; a change is a new statement, so that a replay shows whom it would have flipped.
"""

from evidence.kinds.members import CONTENT, EXAMPLE_REPORT, NAME, Kind, Role
from evidence.schema import Choice, Integer, Record, Time

KIND = Kind(
    name="policy",
    says="This rule pack, retention class or witness policy is in force.",
    signers=frozenset({Role.REGISTRAR, Role.RULE_AUTHOR}),
    body=Record(
        {
            "policy": Choice(("rule_pack", "retention_class", "witness_policy", "sampling")),
            "name": NAME,
            "edition": Integer(1, 10**6),
            "document": CONTENT,
            "in_force_from": Time(),
            "in_force_until?": Time(),
        }
    ),
    example={
        "document": EXAMPLE_REPORT,
        "edition": 1,
        "in_force_from": "2026-12-01T00:00:00.000Z",
        "name": "two-local-witnesses",
        "policy": "witness_policy",
    },
)
