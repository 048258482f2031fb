"""`succession`: this log continues another one of the same organ, under a new origin.

Signed by the registrar, whose key is not the server's, and valid as the first entry of the log
that it names and nowhere else. It says how far the predecessor was known to reach: for `year` an
ordinary end; for `rolled_back` the largest tree that anybody had seen of a log whose leaves are
lost, so that what is missing is admitted and not hidden.
"""

from evidence.kinds.members import EXAMPLE_SHA256, ORIGIN, Kind, Role
from evidence.schema import Choice, Hex, Integer, Record

KIND = Kind(
    name="succession",
    says="This log continues another one of the same organ, which ended at this tree.",
    signers=frozenset({Role.REGISTRAR}),
    body=Record(
        {
            "log": ORIGIN,
            "predecessor": Record({"log": ORIGIN, "size": Integer(0), "root": Hex(32)}),
            "reason": Choice(("year", "rolled_back", "keys", "moved")),
        }
    ),
    example={
        "log": "fengni.example/logs/demo-2027",
        "predecessor": {
            "log": "fengni.example/logs/demo-2026",
            "root": EXAMPLE_SHA256,
            "size": 4096,
        },
        "reason": "year",
    },
)
