"""`capture`: these bytes were captured.

Signed by the device at the shutter, before anything is sent. In a session the envelope's
`about` is the opening `session`, `previous` the statement before this one, and `number`
counts from 1. Time and place are claims of the device. `import` marks bytes that came
from a gallery or a card: a lower grade, never hidden.
"""

from evidence.kinds.members import (
    EXAMPLE_CONTENT,
    NAME,
    NAMED_CONTENT,
    PERSON,
    PLACE,
    Kind,
    Role,
)
from evidence.schema import Choice, Integer, Record, Text, Time

KIND = Kind(
    name="capture",
    says="These bytes (digest, size, media type) were captured: time, place, by whom, for what.",
    signers=frozenset({Role.DEVICE, Role.PATROL}),
    body=Record(
        {
            "content": NAMED_CONTENT,
            "mode": Choice(("attended", "automated", "import")),
            "captured_at": Time(),
            "utc_offset_min?": Integer(-1080, 1080),
            "place?": PLACE,
            "officer?": PERSON,
            "task?": NAME,
            "number?": Integer(1, 10**6),
            "make?": Text(64),
            "model?": Text(64),
        }
    ),
    example={
        "captured_at": "2026-11-23T01:04:05.678Z",
        "content": EXAMPLE_CONTENT,
        "mode": "attended",
        "number": 1,
        "officer": "officer-003",
        "place": {
            "accuracy_mm": 8000,
            "lat_e7": 302741000,
            "lon_e7": 1201551000,
            "source": "gnss",
        },
        "task": "task-20261123-07",
        "utc_offset_min": 480,
    },
)
