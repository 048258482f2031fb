"""`check`: the server examined itself.

Signed by the server: doctor, scrub, monitor, recovery after a crash, and the state of the
key chain at a log size (`keyring`), which a package carries so that an omitted revocation
would be a signed lie instead of a gap. No other check may carry that state: it confirms a
chain, and must not do so in passing.
"""

from evidence.kinds.members import CODE, CONTENT, EXAMPLE_ID, ORIGIN, STATEMENT_ID, Kind, Role
from evidence.schema import Choice, Integer, Record, Sequence

KIND = Kind(
    name="check",
    says="Doctor, scrub, monitor, recovery or key-chain results.",
    signers=frozenset({Role.SERVER}),
    body=Record(
        {
            "check": Choice(("doctor", "scrub", "monitor", "recovery", "keyring")),
            "outcome": Choice(("pass", "fail", "degraded")),
            "results?": Sequence(
                Record(
                    {
                        "code": CODE,
                        "outcome": Choice(("pass", "fail", "note")),
                        "count?": Integer(0),
                    }
                ),
                64,
            ),
            "keyring?": Record(
                {
                    "log": ORIGIN,
                    "size": Integer(0),
                    "sequence": Integer(0),
                    "head?": STATEMENT_ID,
                }
            ),
            "report?": CONTENT,
        }
    ),
    example={
        "check": "keyring",
        "keyring": {
            "head": EXAMPLE_ID,
            "log": "fengni.example/logs/demo-2026",
            "sequence": 12,
            "size": 4096,
        },
        "outcome": "pass",
    },
    selector="check",
    demanded={"keyring": frozenset({"keyring"})},
    reserved={"keyring": "keyring"},
)
