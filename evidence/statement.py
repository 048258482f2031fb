"""The statement: a small signed JSON document, the one form of everything that matters.

Does: writes, signs, opens and reads statements. Refuses: bytes that are not canonical,
members that the schema does not name, kinds it does not know, later major versions, and
anything whose signature does not verify. The hash and the signature are always over the
bytes as received, never over something written again.

    {"audience":"demo","body":{…},"made_at":"2026-11-23T01:04:05.900Z","organ":"demo-organ",
     "salt":"<32 hex>","signer":"<key id>","suite":"es256","type":"fengni/capture/v1"}

Source: docs/evidence-format.md §1 to §3.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from evidence.canonical import MAX_BYTES, JSONObject, JSONValue, canonicalise, parse_canonical
from evidence.digest import sha256_hex
from evidence.errors import (
    FieldInvalid,
    FieldMissing,
    FieldUnknown,
    KindUnknown,
    SignatureInvalid,
    VersionUnknown,
)
from evidence.keys import Signer, key_id_of, verify_signature
from evidence.kinds import KINDS
from evidence.kinds.members import KEY_ID, NAME, ORIGIN, STATEMENT_ID, Kind
from evidence.schema import (
    Base64,
    Choice,
    Hex,
    Integer,
    Record,
    Text,
    Time,
    encode_base64,
    format_time,
    parse_time,
)

SUITE = "es256"
SALT_BYTES = 16
MAX_SIGNATURE_BYTES = 72
_TYPE = re.compile(r"fengni/([a-z]{1,32})/v([1-9][0-9]{0,3})")
ABOUT = Record({"statement": STATEMENT_ID, "log?": ORIGIN, "index?": Integer(0)})
ENVELOPE: dict[str, Text | Choice | Hex | Time | Record] = {
    "type": Text(64),
    "suite": Choice((SUITE,)),
    "audience": NAME,
    "organ": NAME,
    "signer": KEY_ID,
    "salt": Hex(SALT_BYTES),
    "made_at": Time(),
    "about?": ABOUT,
    "previous?": STATEMENT_ID,
}
_DOCUMENTS = {name: Record({**ENVELOPE, "body": kind.body}) for name, kind in KINDS.items()}
_RAW, _DER = Base64(MAX_BYTES), Base64(MAX_SIGNATURE_BYTES)
WIRE = Record({"statement": _RAW, "signature": _DER, "key_id": KEY_ID})


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The subject of a statement.

    Attributes:
        statement: the subject's statement id, 64 hex digits.
        log: the origin of the log that holds it, where the signer knew it.
        index: its zero-based index there, where the signer knew it.
    """

    statement: str
    log: str | None = None
    index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A statement that was read strictly.

    Attributes:
        id: SHA-256 of `raw`, 64 hex digits.
        kind: the word between the slashes of `type`.
        version: the major version in `type`.
        audience: the deployment's stable id.
        organ: the organ in whose name it is made.
        signer: key id of the signer.
        salt: 32 hex digits.
        made_at: when the signer says that it was made, UTC.
        about: the subject, where there is one.
        previous: id of the last earlier statement about that subject that the signer knew.
        body: what it says, checked against the kind's schema.
        raw: the canonical bytes.
    """

    id: str
    kind: str
    version: int
    audience: str
    organ: str
    signer: str
    salt: str
    made_at: datetime
    about: About | None
    previous: str | None
    body: Mapping[str, JSONValue]
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedStatement:
    """The canonical bytes with their signature, as they travel.

    Attributes:
        raw: canonical statement bytes.
        signature: DER ECDSA signature over `raw`.
        key_id: key id of the signer, 64 hex digits.
    """

    raw: bytes
    signature: bytes
    key_id: str

    @property
    def id(self) -> str:
        """Statement id, 64 hex digits."""
        return sha256_hex(self.raw)


def make_statement(  # noqa: PLR0913  the envelope has nine members
    kind: str,
    *,
    audience: str,
    organ: str,
    signer: str,
    salt: str,
    made_at: datetime,
    body: Mapping[str, JSONValue],
    about: About | None = None,
    previous: str | None = None,
) -> bytes:
    """Write the canonical bytes of a new statement, checked as a reader would.

    Args:
        kind: a word of the registry, such as `capture`.
        audience: the deployment's stable id.
        organ: the organ in whose name it is made.
        signer: key id of the signer.
        salt: 32 hex digits from the operating system's randomness.
        made_at: now, as the signer's clock says it; cut to milliseconds.
        body: what it says.
        about: the subject, where there is one.
        previous: the last earlier statement about the subject that the signer knows.

    Returns:
        Canonical bytes, ready to be signed.

    Raises:
        EvidenceError: a reader would refuse it.
    """
    if kind not in KINDS:
        msg = "The statement's kind is not known."
        raise KindUnknown(msg, pointer="/type")
    document: JSONObject = {
        "type": KINDS[kind].type,
        "suite": SUITE,
        "audience": audience,
        "organ": organ,
        "signer": signer,
        "salt": salt,
        "made_at": format_time(made_at),
        "body": dict(body),
    }
    if about is not None:
        document["about"] = _about_members(about)
    if previous is not None:
        document["previous"] = previous
    raw = canonicalise(document)
    _read(raw, document)
    return raw


def sign_statement(raw: bytes, signer: Signer) -> SignedStatement:
    """Sign canonical bytes that name this signer.

    Raises:
        SignatureInvalid: the bytes name another signer.
        EvidenceError: the bytes are no statement.
    """
    statement = parse_statement(raw)
    if statement.signer != signer.key_id:
        msg = "The statement names another signer than the key at hand."
        raise SignatureInvalid(msg)
    return SignedStatement(raw=raw, signature=signer.sign(raw), key_id=signer.key_id)


def open_statement(raw: bytes, signature: bytes, public_key: bytes) -> Statement:
    """Verify a signature over received bytes, then read them.

    Args:
        raw: the statement's bytes as received.
        signature: strict DER.
        public_key: DER SubjectPublicKeyInfo that the caller resolved for the signer.

    Returns:
        The statement; whether the key was valid is the key ring's question.

    Raises:
        SignatureInvalid: the signature does not hold, or another key is named inside.
        FormatInvalid: the bytes are no statement; a subclass tells why.
    """
    verify_signature(public_key, signature, raw)
    statement = parse_statement(raw)
    if statement.signer != key_id_of(public_key):
        msg = "The statement names another signer than the key that signed it."
        raise SignatureInvalid(msg)
    return statement


def parse_statement(raw: bytes) -> Statement:
    """Read a statement strictly, without looking at any signature.

    Raises:
        FormatInvalid: a subclass tells what is wrong and where.
    """
    return _read(raw, parse_canonical(raw))


def _read(raw: bytes, document: JSONObject) -> Statement:
    kind, version = _kind_of(document)
    _DOCUMENTS[kind.name].check(document, "")
    body = cast("Mapping[str, JSONValue]", document["body"])
    _check_demanded(kind, document, body)
    about = document.get("about")
    return Statement(
        id=sha256_hex(raw),
        kind=kind.name,
        version=version,
        audience=str(document["audience"]),
        organ=str(document["organ"]),
        signer=str(document["signer"]),
        salt=str(document["salt"]),
        made_at=parse_time(str(document["made_at"])),
        about=_about_of(about) if isinstance(about, dict) else None,
        previous=cast("str | None", document.get("previous")),
        body=body,
        raw=raw,
    )


def _kind_of(document: JSONObject) -> tuple[Kind, int]:
    """Kind and version come first: a later version's members must not be guessed at."""
    if "type" not in document:
        msg = "A member that this format demands is missing."
        raise FieldMissing(msg, pointer="/type")
    word = document["type"]
    found = _TYPE.fullmatch(word) if isinstance(word, str) else None
    if not found:
        msg = "The statement's type is not of the form fengni/<kind>/v<major>."
        raise FieldInvalid(msg, pointer="/type")
    if found[1] not in KINDS:
        msg = "The statement's kind is not known."
        raise KindUnknown(msg, pointer="/type")
    kind = KINDS[found[1]]
    if int(found[2]) != kind.version:
        msg = "The statement is of a format version that this reader does not know."
        raise VersionUnknown(msg, pointer="/type")
    return kind, int(found[2])


def _check_demanded(kind: Kind, document: JSONObject, body: Mapping[str, JSONValue]) -> None:
    if kind.needs_about and "about" not in document:
        msg = "A statement of this kind must name its subject."
        raise FieldMissing(msg, pointer="/about")
    word = body.get(kind.selector)
    for name in sorted(kind.demanded.get(str(word), frozenset())):
        place, key = (document, name[1:]) if name.startswith("/") else (body, name)
        if key not in place:
            msg = "A member that this action or phase demands is missing."
            raise FieldMissing(msg, pointer=name if place is document else f"/body/{name}")
    for name, only in kind.reserved.items():
        if name in body and word != only:
            msg = f"The member stands only where {kind.selector} is {only}."
            raise FieldUnknown(msg, pointer=f"/body/{name}")


def _about_of(member: JSONObject) -> About:
    if ("log" in member) != ("index" in member):
        msg = "A subject's log and index stand together or not at all."
        raise FieldInvalid(msg, pointer="/about")
    return About(
        statement=str(member["statement"]),
        log=cast("str | None", member.get("log")),
        index=cast("int | None", member.get("index")),
    )


def _about_members(about: About) -> JSONObject:
    members: JSONObject = {"statement": about.statement}
    if about.log is not None:
        members["log"] = about.log
    if about.index is not None:
        members["index"] = about.index
    return members


def from_wire(item: JSONValue) -> SignedStatement:
    """Read one item of the wire form, without verifying anything.

    Args:
        item: `{"statement": base64, "signature": base64, "key_id": hex}`.

    Raises:
        StatementInvalid: a member is missing, unknown or malformed.
    """
    members = WIRE.check_names(item, "")
    KEY_ID.check(members["key_id"], "/key_id")
    return SignedStatement(
        raw=_RAW.read(members["statement"], "/statement"),
        signature=_DER.read(members["signature"], "/signature"),
        key_id=str(members["key_id"]),
    )


def to_wire(signed: SignedStatement) -> dict[str, str]:
    """Write the wire form of one signed statement."""
    return {
        "statement": encode_base64(signed.raw),
        "signature": encode_base64(signed.signature),
        "key_id": signed.key_id,
    }
