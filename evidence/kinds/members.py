"""Members that several kinds share, and what a kind is.

Does: names the recurring parts once (content, place, people, references). Refuses to hold
anything that only one kind uses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from evidence.canonical import JSONObject
from evidence.schema import Choice, Hex, Integer, Record, Sequence, Text

MAX_CONTENT_BYTES = (
    2**40
)  # 1 TiB: larger than any card; keeps sizes within every language's integers
EXAMPLE_ID = "4f2d7a0c9be1386d5f40c1ab27e69d83fe0512b47c8a93d6015e7bb2c49f3a68"
EXAMPLE_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


class Role(StrEnum):
    """What a key was enrolled for. One key, one role."""

    REGISTRAR = "registrar"
    RULE_AUTHOR = "rule_author"
    DEVICE = "device"
    PATROL = "patrol"
    OFFICER = "officer"
    AUXILIARY = "auxiliary"
    REVIEWER = "reviewer"
    PARTY = "party"
    SERVER = "server"


HUMANS = frozenset({Role.OFFICER, Role.REVIEWER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of statement.

    Attributes:
        name: the word in `fengni/<name>/v1`.
        version: the major version that this code writes and reads.
        says: one sentence, as in the reference.
        signers: the roles whose keys may sign it.
        body: the schema of the member `body`.
        example: a body that the schema accepts.
        needs_about: whether the envelope's `about` must be there.
        selector: the member whose word decides what else must be there, or empty.
        demanded: for each such word the optional members that become mandatory; a name
            that begins with `/` is a member of the envelope.
        reserved: members of the body that may be there with one such word only.
    """

    name: str
    says: str
    signers: frozenset[Role]
    body: Record
    example: JSONObject
    needs_about: bool = False
    selector: str = ""
    demanded: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    reserved: Mapping[str, str] = field(default_factory=dict[str, str])
    version: int = 1

    @property
    def type(self) -> str:
        """The member `type` of such a statement."""
        return f"fengni/{self.name}/v{self.version}"


STATEMENT_ID = Hex(32)
SHA256 = Hex(32)
KEY_ID = Hex(32)
CODE = Text(64, r"[a-z][a-z0-9_]*")
NAME = Text(64, r"[a-z0-9][a-z0-9._-]*")
PERSON = Text(64, r"[a-z0-9][a-z0-9._-]*")  # a pseudonym; never a name or a number of a document
NOTE = Text(1000)
ORIGIN = Text(255, r"[a-z0-9./-]+")
MEDIA_TYPE = Text(127, r"[a-z0-9][a-z0-9.+-]*/[a-z0-9][a-z0-9.+-]*")
ARTICLE = Text(200)
CONTENT = Record(
    {"sha256": SHA256, "size_bytes": Integer(0, MAX_CONTENT_BYTES), "media_type": MEDIA_TYPE}
)
NAMED_CONTENT = Record({**CONTENT.members, "name?": Text(255)})
PLACE = Record(
    {
        "lat_e7": Integer(-900_000_000, 900_000_000),
        "lon_e7": Integer(-1_800_000_000, 1_800_000_000),
        "accuracy_mm": Integer(0, 10**10),
        "height_mm?": Integer(-(10**8), 10**8),
        "source": Choice(("gnss", "network", "fused", "manual")),
    }
)
REASONS = Sequence(Record({"code": CODE, "article?": ARTICLE, "note?": NOTE}), 64)
EVIDENCE = Sequence(STATEMENT_ID, 200)
EXAMPLE_CONTENT: JSONObject = {
    "media_type": "image/jpeg",
    "sha256": EXAMPLE_SHA256,
    "size_bytes": 4,
}
EXAMPLE_REPORT: JSONObject = {
    "media_type": "application/json",
    "sha256": EXAMPLE_SHA256,
    "size_bytes": 4,
}
