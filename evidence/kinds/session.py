"""`session`: a visit or sortie opens or closes.

Signed by the device. Opening names the newest witnessed checkpoint that the device holds:
its root is the not-before bound of every shot. Closing counts the shots and may name an
inventory. The closing statement's `about` is the opening one.
"""

from evidence.kinds.members import CHECKPOINT, CONTENT, EXAMPLE_SHA256, NAME, PERSON, Kind, Role
from evidence.schema import Choice, Integer, Record, Sequence

KIND = Kind(
    name="session",
    says="A visit or sortie opens (newest witnessed checkpoint held) or closes (count).",
    signers=frozenset({Role.DEVICE, Role.PATROL}),
    body=Record(
        {
            "phase": Choice(("open", "close")),
            "session": Choice(("visit", "sortie", "patrol")),
            "task?": NAME,
            "officers?": Sequence(PERSON, 16),
            "checkpoint?": CHECKPOINT,
            "count?": Integer(0, 10**6),
            "inventory?": CONTENT,
        }
    ),
    example={
        "checkpoint": {
            "log": "fengni.example/logs/demo-2026",
            "root": EXAMPLE_SHA256,
            "size": 4096,
        },
        "officers": ["officer-003", "officer-011"],
        "phase": "open",
        "session": "visit",
        "task": "task-20261123-07",
    },
    selector="phase",
    demanded={"close": frozenset({"count", "/about"})},
)
