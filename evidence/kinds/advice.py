"""`advice`: what the rules say, for a human to decide.

Signed by the server. Names the rule pack by hash, the facts with their evidence, and the
rules that matched, did not match or lacked a fact, so that anyone can run it again.
"""

from evidence.kinds.members import CODE, EVIDENCE, EXAMPLE_ID, EXAMPLE_SHA256, SHA256, Kind, Role
from evidence.schema import Record, Sequence

KIND = Kind(
    name="advice",
    says="What the rules say: pack, facts, matched and unmatched rules, missing facts.",
    signers=frozenset({Role.SERVER}),
    body=Record(
        {
            "rule_pack_sha256": SHA256,
            "outcome": CODE,
            "facts": Sequence(Record({"fact": CODE, "evidence": EVIDENCE}), 64),
            "matched": Sequence(CODE, 64),
            "unmatched": Sequence(CODE, 64),
            "missing": Sequence(CODE, 64),
        }
    ),
    example={
        "facts": [{"evidence": [EXAMPLE_ID], "fact": "corrected_in_time"}],
        "matched": ["minor_and_corrected"],
        "missing": [],
        "outcome": "no_penalty",
        "rule_pack_sha256": EXAMPLE_SHA256,
        "unmatched": ["repeat_offence"],
    },
)
