"""`inspected`: what the server's tools read, as its opinion.

Signed by the server. Names the input digest, each tool with its artifact hash, and the
digest of the full output, so that a reviewer can run it again. `facets` keeps four states
apart; silence never passes for absence. `about` is the capture.
"""

from evidence.kinds.members import (
    CODE,
    CONTENT,
    EXAMPLE_REPORT,
    EXAMPLE_SHA256,
    NAME,
    SHA256,
    Kind,
    Role,
)
from evidence.schema import Choice, Integer, Record, Sequence, Text

STATES = ("absent", "read", "present_unreadable", "unsupported")
OUTCOMES = ("ok", "killed_cpu", "killed_memory", "timeout", "crashed")

KIND = Kind(
    name="inspected",
    says="What the tools read, and where it disagrees with the claim; the server's opinion.",
    signers=frozenset({Role.SERVER}),
    body=Record(
        {
            "input_sha256": SHA256,
            "outcome": Choice(OUTCOMES),
            "tools": Sequence(Record({"name": NAME, "version": Text(64), "sha256?": SHA256}), 32),
            "isolation": Sequence(CODE, 16),
            "facets": Sequence(Record({"facet": CODE, "state": Choice(STATES)}), 32),
            "findings": Sequence(Record({"code": CODE, "facet?": CODE}), 64),
            "discrepancies": Sequence(
                Record({"code": CODE, "difference?": Integer(-(2**53) + 1), "unit?": CODE}), 64
            ),
            "output?": CONTENT,
            "output_object?": Record({"name": SHA256, "version?": Text(255)}),
        }
    ),
    example={
        "discrepancies": [{"code": "time_differs", "difference": 42, "unit": "s"}],
        "facets": [{"facet": "exif", "state": "read"}, {"facet": "c2pa", "state": "absent"}],
        "findings": [],
        "input_sha256": EXAMPLE_SHA256,
        "isolation": ["rlimits", "seccomp"],
        "outcome": "ok",
        "output": EXAMPLE_REPORT,
        "tools": [{"name": "exifread", "sha256": EXAMPLE_SHA256, "version": "3.5.1"}],
    },
    needs_about=True,
)
