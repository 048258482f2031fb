"""`key`: a key is enrolled, rotated or revoked; whose, for what, from when.

Signed by the organ's registrar, whose key is not on the server. Each registrar's key
statements form one chain: `sequence` counts from 1 without a gap and the envelope's
`previous` names the one before. `request` is the exception: the new key signs it itself,
it is never logged, and the enrolment carries it as proof of possession, so that a key
signs statements and nothing else.
"""

from evidence.kinds.members import CODE, EXAMPLE_SHA256, KEY_ID, NAME, PERSON, Kind, Role
from evidence.schema import Base64, Choice, Integer, Record, Time

ENROLLABLE = tuple(role.value for role in Role if role is not Role.REGISTRAR)
MAX_POSSESSION_BYTES = 2048

KIND = Kind(
    name="key",
    says="This key is enrolled, rotated or revoked; whose, for what, from when.",
    signers=frozenset({Role.REGISTRAR}),
    body=Record(
        {
            "action": Choice(("request", "enrol", "rotate", "revoke")),
            "key_id": KEY_ID,
            "role": Choice(ENROLLABLE),
            "holder": PERSON,
            "epoch?": Integer(1, 10**6),
            "sequence?": Integer(1),
            "public_key?": Base64(91),
            "possession?": Record(
                {"statement": Base64(MAX_POSSESSION_BYTES), "signature": Base64(72)}
            ),
            "replaces?": KEY_ID,
            "suspected_since?": Time(),
            "reason?": CODE,
            "label?": NAME,
        }
    ),
    example={
        "action": "revoke",
        "epoch": 1,
        "holder": "device-017",
        "key_id": EXAMPLE_SHA256,
        "reason": "lost",
        "role": "device",
        "sequence": 12,
        "suspected_since": "2026-11-20T16:00:00.000Z",
    },
    selector="action",
    demanded={
        "request": frozenset({"public_key"}),
        "enrol": frozenset({"epoch", "sequence", "public_key", "possession"}),
        "rotate": frozenset({"epoch", "sequence", "public_key", "possession", "replaces"}),
        "revoke": frozenset({"epoch", "sequence", "reason"}),
    },
)
