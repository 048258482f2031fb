"""`present`: an officer was there.

Signed with the officer's own key. Only presence counts toward two officers on site
(Administrative Penalty Law art. 42); it is not adoption.
"""

from evidence.kinds.members import PERSON, PLACE, Kind, Role
from evidence.schema import Choice, Record, Time

KIND = Kind(
    name="present",
    says="I was there.",
    signers=frozenset({Role.OFFICER}),
    body=Record(
        {
            "officer": PERSON,
            "capacity": Choice(("lead", "second", "observer")),
            "present_from": Time(),
            "present_until?": Time(),
            "place?": PLACE,
        }
    ),
    example={
        "capacity": "second",
        "officer": "officer-011",
        "present_from": "2026-11-23T01:00:00.000Z",
    },
    needs_about=True,
)
