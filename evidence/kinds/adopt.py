"""`adopt`: an officer verified this and takes it over.

Signed with the officer's own key. Adopting an auxiliary's or contractor's capture leaves
it a lead until two officers' own verification is on record; `record` names that.
"""

from evidence.kinds.members import EVIDENCE, EXAMPLE_ID, PERSON, Kind, Role
from evidence.schema import Choice, Record

KIND = Kind(
    name="adopt",
    says="I verified this and take it over.",
    signers=frozenset({Role.OFFICER}),
    body=Record(
        {
            "officer": PERSON,
            "verified_by": Choice(("site_visit", "questioning", "documents")),
            "record": EVIDENCE,
        }
    ),
    example={"officer": "officer-003", "record": [EXAMPLE_ID], "verified_by": "site_visit"},
    needs_about=True,
)
