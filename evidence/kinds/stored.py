"""`stored`: the bytes arrived complete and lie where nobody can quietly change them.

Signed by the server after it read the bytes back. `content` repeats the announced bytes;
`object` names what lies in the store; with `sealed` it is encrypted in that format, under a key
of its own, and has another digest and length. `retention_class` is the class that it was stored
under, where there is one.
`assurance` is the store's measured level, never better than it is (`s3-unproven`: an S3 store
whose locks did not pass its self-test). `about` is the capture.
"""

from evidence.kinds.members import (
    CONTENT,
    EXAMPLE_CONTENT,
    EXAMPLE_SHA256,
    NAME,
    SHA256,
    Kind,
    Role,
)
from evidence.schema import Choice, Integer, Record, Text, Time

ASSURANCE = (
    "s3-unproven",
    "directory-mode-bits",
    "directory-append-only-immutable",
    "s3-object-lock-governance",
    "s3-object-lock-compliance",
)

KIND = Kind(
    name="stored",
    says="The bytes arrived complete, equal the announced digest, lie at this object.",
    signers=frozenset({Role.SERVER}),
    body=Record(
        {
            "content": CONTENT,
            "object": Record(
                {
                    "store": NAME,
                    "name": SHA256,
                    "size_bytes": Integer(0),
                    "version?": Text(255),
                    "sealed?": Choice(("fengni-sealed/1",)),
                }
            ),
            "assurance": Choice(ASSURANCE),
            "received_at": Time(),
            "locked_until?": Time(),
            "retention_class?": NAME,
        }
    ),
    example={
        "assurance": "directory-mode-bits",
        "content": EXAMPLE_CONTENT,
        "object": {"name": EXAMPLE_SHA256, "size_bytes": 4, "store": "local"},
        "received_at": "2026-11-23T01:04:09.120Z",
    },
    needs_about=True,
)
