"""`disposed`: content or text was destroyed, by which authority.

Signed by the server, naming the approvals of two persons. `contents` are the digests of all that
went, and of sealed objects their names too. `kept_for_others`: the same bytes are another's capture
under a class that does not seal, so they stay for that one. The leaf stays; the log is not broken.
`about` is the capture or the statement whose text went.
"""

from evidence.kinds.members import (
    ARTICLE,
    EVIDENCE,
    EXAMPLE_ID,
    EXAMPLE_SHA256,
    NAME,
    SHA256,
    STATEMENT_ID,
    Kind,
    Role,
)
from evidence.schema import Choice, Record, Sequence, Time

METHODS = (
    "key_destroyed",
    "object_removed",
    "key_destroyed_and_object_removed",
    "kept_for_others",
)

KIND = Kind(
    name="disposed",
    says="Content or text destroyed, by which authority.",
    signers=frozenset({Role.SERVER}),
    body=Record(
        {
            "disposed": Choice(("content", "text")),
            "contents": Sequence(SHA256, 200),
            "retention_class": NAME,
            "authority": ARTICLE,
            "approvals": EVIDENCE,
            "expired_at": Time(),
            "method?": Choice(METHODS),
            "request?": STATEMENT_ID,
        }
    ),
    example={
        "approvals": [EXAMPLE_ID],
        "authority": "公共安全视频图像信息系统管理条例 第17条",
        "contents": [EXAMPLE_SHA256],
        "disposed": "content",
        "expired_at": "2026-11-01T00:00:00.000Z",
        "retention_class": "public-video",
    },
    needs_about=True,
)
