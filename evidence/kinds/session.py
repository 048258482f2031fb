"""`session`: a visit or sortie opens or closes.

Signed by the device. Opening names the newest witnessed checkpoint that the device holds, with
the witnesses' Ed25519 lines for it: nobody can have signed the opening, or a shot that names
it, before they had. A line stands as in a note, without its line feed. Closing counts the shots
and may name an inventory. The closing statement's `about` is the opening one.
"""

from evidence.kinds.members import CONTENT, EXAMPLE_SHA256, NAME, ORIGIN, PERSON, Kind, Role
from evidence.schema import Choice, Hex, Integer, Record, Sequence, Text

MAX_COSIGNATURES = 8
MAX_COSIGNATURE_CHARS = 512  # an Ed25519 line is about 100 characters and the witness's name
_HELD = Record(
    {
        "log": ORIGIN,
        "size": Integer(0),
        "root": Hex(32),
        "cosignatures?": Sequence(Text(MAX_COSIGNATURE_CHARS), MAX_COSIGNATURES),
    }
)

EXAMPLE_LINE = (
    "— witness.example/east O/wuTgAAAABrA5AQAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAh"
    "IiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/QA=="
)

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
            "checkpoint?": _HELD,
            "count?": Integer(0, 10**6),
            "inventory?": CONTENT,
        }
    ),
    example={
        "checkpoint": {
            "cosignatures": [EXAMPLE_LINE],
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
