"""Statements are read strictly: each fault has a code of its own."""

import base64
import json
import os
from datetime import UTC, datetime, timedelta, timezone

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import example, given
from hypothesis import strategies as st

from evidence.canonical import MAX_BYTES, canonicalise, parse_canonical
from evidence.errors import (
    DuplicateKey,
    EvidenceError,
    FieldInvalid,
    FieldMissing,
    FieldUnknown,
    KeyInvalid,
    KindUnknown,
    LeafInvalid,
    NotCanonical,
    NumberRefused,
    SignatureInvalid,
    TextRefused,
    TooLarge,
    VersionUnknown,
)
from evidence.keys import (
    P256Signer,
    check_public_key,
    key_id_of,
    signature_from_raw,
    verify_signature,
)
from evidence.kinds import ALL
from evidence.kinds.members import Kind
from evidence.leaf import leaf_of, parse_leaf
from evidence.schema import format_time, parse_time
from evidence.statement import (
    About,
    from_wire,
    make_statement,
    open_statement,
    parse_statement,
    sign_statement,
    to_wire,
)

SIGNER = P256Signer.generate()
AT = datetime(2026, 11, 23, 1, 4, 5, 678901, tzinfo=UTC)
# A SubjectPublicKeyInfo of RSA with a modulus of 488 bits: as long as one of P-256.
RSA_OF_91_BYTES = bytes.fromhex(
    "3059300d06092a864886f70d01010105000348003045023e00" + "80" + "00" * 59 + "01" + "0203010001"
)


def example_of(kind: Kind) -> bytes:
    """A statement of this kind with its literal example as the body."""
    return make_statement(
        kind.name,
        audience="fengni-test",
        organ="test-organ",
        signer=SIGNER.key_id,
        salt=os.urandom(16).hex(),
        made_at=AT,
        body=kind.example,
        about=About(statement="ab" * 32, log="fengni.example/logs/test", index=7),
        previous="cd" * 32,
    )


def changed(**members: object) -> bytes:
    """A capture statement with members replaced, written canonically but unchecked."""
    kind = next(kind for kind in ALL if kind.name == "capture")
    document = json.loads(example_of(kind))
    document.update(members)
    return rfc8785.dumps({name: value for name, value in document.items() if value is not None})


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_every_kind_signs_and_opens_its_example(kind: Kind) -> None:
    """The literal example of each kind is accepted and comes back unchanged."""
    signed = sign_statement(example_of(kind), SIGNER)
    statement = open_statement(signed.raw, signed.signature, SIGNER.public_key)
    assert (kind.name, kind.example) == (statement.kind, statement.body)
    assert signed == from_wire(to_wire(signed))  # type: ignore[arg-type]
    assert statement.about == About(statement="ab" * 32, log="fengni.example/logs/test", index=7)


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b'{"a":1,"a":2}', DuplicateKey),
        (b'{"a":1.5}', NumberRefused),
        (b'{"a":1e3}', NumberRefused),
        (b'{"a":NaN}', NumberRefused),
        (b'{"a":9007199254740992}', NumberRefused),
        (b'{"a":123456789012345678901234567890}', NumberRefused),
        (b'{"a":-0}', NotCanonical),
        (b'{ "a":1}', NotCanonical),
        (b'{"b":1,"a":1}', NotCanonical),
        (b'{"a":"\\u0041"}', NotCanonical),
        (b'{"a":"\\u0007"}', TextRefused),
        (b'{"a":"\x7f"}', TextRefused),
        (b'{"a":"b\\/c"}', NotCanonical),
        (b'{"a":"\\ud800"}', TextRefused),
        ('{"a":"\u202e"}'.encode(), TextRefused),
        ('{"a":"\ufdd0"}'.encode(), TextRefused),
        ('{"é":1}'.encode(), TextRefused),
        (b"[1]", NotCanonical),
        (b"1", NotCanonical),
        (b"\xff", NotCanonical),
        (b"", NotCanonical),
        (b"[" * 9000, TooLarge),
        (b'{"a":' * 9 + b"1" + b"}" * 9, TooLarge),
        (b'{"a":"' + b"x" * MAX_BYTES + b'"}', TooLarge),
    ],
)
def test_bytes_that_are_not_canonical_are_refused(raw: bytes, error: type[EvidenceError]) -> None:
    """Each way of not being canonical has its own error."""
    with pytest.raises(error):
        parse_canonical(raw)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"a": 2**53}, NumberRefused),
        ({"a": -(2**53)}, NumberRefused),
        ({"a": [1.5]}, NumberRefused),
        ({"a": b"bytes"}, NotCanonical),
        ({1: "a"}, TextRefused),
        ({"a": "\u202e"}, TextRefused),
        ({"a": "x" * MAX_BYTES}, TooLarge),
        ({"a": [[[[[[[[1]]]]]]]]}, TooLarge),
    ],
)
def test_a_writer_refuses_what_no_reader_takes(value: object, error: type[EvidenceError]) -> None:
    """A value that has no canonical form here is refused before it is signed."""
    with pytest.raises(error):
        canonicalise(value)


@pytest.mark.parametrize(
    ("members", "error", "pointer"),
    [
        ({"extra": 1}, FieldUnknown, "/extra"),
        ({"organ": None}, FieldMissing, "/organ"),
        ({"organ": "No Such Organ"}, FieldInvalid, "/organ"),
        ({"type": "fengni/capture/v2"}, VersionUnknown, "/type"),
        ({"type": "fengni/nonsense/v1"}, KindUnknown, "/type"),
        ({"type": "capture"}, FieldInvalid, "/type"),
        ({"type": None}, FieldMissing, "/type"),
        ({"suite": "es512"}, FieldInvalid, "/suite"),
        ({"salt": "00"}, FieldInvalid, "/salt"),
        ({"made_at": "2026-11-23T01:04:60.000Z"}, FieldInvalid, "/made_at"),
        ({"made_at": "2026-11-23T01:04:05Z"}, FieldInvalid, "/made_at"),
        ({"about": {"statement": "ab" * 32, "log": "x"}}, FieldInvalid, "/about"),
        ({"body": {"mode": "attended"}}, FieldMissing, "/body/content"),
        ({"body": []}, FieldInvalid, "/body"),
    ],
)
def test_a_faulty_member_is_named(
    members: dict[str, object], error: type[EvidenceError], pointer: str
) -> None:
    """The error points at the member that is wrong."""
    with pytest.raises(error) as caught:
        parse_statement(changed(**members))
    assert pointer == caught.value.pointer


@pytest.mark.parametrize(
    ("change", "error"),
    [({"check": "doctor"}, FieldUnknown), ({"keyring": None}, FieldMissing)],
)
def test_the_state_of_the_key_chain_stands_in_its_own_check_only(
    change: dict[str, object], error: type[EvidenceError]
) -> None:
    """A doctor that also confirms the key chain, and a check of it that says nothing, are none."""
    kind = next(kind for kind in ALL if kind.name == "check")
    body = {name: value for name, value in {**kind.example, **change}.items() if value is not None}
    with pytest.raises(error) as caught:
        parse_statement(changed(type="fengni/check/v1", body=body))
    assert caught.value.pointer == "/body/keyring"


def test_a_kind_that_needs_a_subject_demands_it() -> None:
    """`stored` without `about` is no statement."""
    kind = next(kind for kind in ALL if kind.name == "stored")
    with pytest.raises(FieldMissing):
        make_statement(
            "stored",
            audience="a",
            organ="o",
            signer=SIGNER.key_id,
            salt="0" * 32,
            made_at=AT,
            body=kind.example,
        )


def test_an_action_demands_its_members() -> None:
    """An enrolment without a public key is no statement."""
    kind = next(kind for kind in ALL if kind.name == "key")
    body = {**kind.example, "action": "enrol"}
    with pytest.raises(FieldMissing):
        make_statement(
            "key",
            audience="a",
            organ="o",
            signer=SIGNER.key_id,
            salt="0" * 32,
            made_at=AT,
            body=body,
        )
    with pytest.raises(KindUnknown):
        make_statement(
            "rumour",
            audience="a",
            organ="o",
            signer=SIGNER.key_id,
            salt="0" * 32,
            made_at=AT,
            body={},
        )


def test_a_signature_belongs_to_its_bytes_and_its_key() -> None:
    """A flipped bit, another key, or another named signer is refused."""
    raw = changed()
    signed = sign_statement(raw, SIGNER)
    other = P256Signer.generate()
    with pytest.raises(SignatureInvalid):
        open_statement(raw + b" ", signed.signature, SIGNER.public_key)
    with pytest.raises(SignatureInvalid):
        open_statement(raw, signed.signature, other.public_key)
    with pytest.raises(SignatureInvalid):
        open_statement(raw, other.sign(raw), other.public_key)
    with pytest.raises(SignatureInvalid):
        sign_statement(raw, other)


def test_only_strict_der_is_a_signature() -> None:
    """A second encoding of one signature would be a second leaf."""
    signature = SIGNER.sign(b"x")
    for wrong in (signature + b"\x00", b"", b"\x30\x06\x02\x01\x00\x02\x01\x00", b"\x30\x80"):
        with pytest.raises(SignatureInvalid):
            verify_signature(SIGNER.public_key, wrong, b"x")
    with pytest.raises(SignatureInvalid):
        signature_from_raw(b"\x01" * 63)
    with pytest.raises(SignatureInvalid):
        verify_signature(SIGNER.public_key, signature_from_raw(b"\x01" * 64), b"x")


def test_only_the_one_form_of_a_p256_key_is_a_key() -> None:
    """Other lengths, curves and garbage are refused, as public and as private key."""
    check_public_key(SIGNER.public_key)
    point = SIGNER.public_key[27:]
    hybrid = SIGNER.public_key[:26] + bytes([6 + point[-1] % 2]) + point
    beside = SIGNER.public_key[:-1] + bytes([point[-1] ^ 1])  # of a fresh key, always another byte
    wrong_keys = (b"", b"\x00" * 91, beside, hybrid, RSA_OF_91_BYTES)
    for wrong in wrong_keys:
        with pytest.raises(KeyInvalid):
            check_public_key(wrong)
    other = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    for pem in (b"nonsense", other):
        with pytest.raises(KeyInvalid):
            P256Signer.from_pem(pem)
    with pytest.raises(KeyInvalid):
        P256Signer(ec.generate_private_key(ec.SECP384R1()))
    locked = SIGNER.to_pem(b"secret")
    assert SIGNER.key_id == P256Signer.from_pem(locked, b"secret").key_id
    with pytest.raises(KeyInvalid):
        P256Signer.from_pem(locked, b"wrong")
    assert key_id_of(SIGNER.public_key) == SIGNER.key_id


def test_a_leaf_is_its_own_canonical_form() -> None:
    """The leaf equals its RFC 8785 form and reads back; any other entry is refused."""
    signed = sign_statement(changed(), SIGNER)
    leaf = leaf_of(signed.id, signed.signature, SIGNER.public_key)
    assert leaf == rfc8785.dumps(json.loads(leaf))
    assert parse_leaf(leaf).signature == signed.signature
    stray = base64.b64encode(signed.signature)[:-1]
    digest = base64.b64encode(bytes.fromhex(signed.id))
    for wrong in (
        b"",
        leaf + b" ",
        leaf.replace(b"0.0.2", b"0.0.1"),
        leaf.replace(stray, b"!"),
        leaf.replace(digest, base64.b64encode(bytes(31))),  # shorter than a SHA-256
        leaf.replace(digest, b"A" * 45),  # no whole groups of four
        leaf.replace(digest, b"A" * 44 + b"="),  # padding that pads nothing
        leaf.replace(digest, b"A" * 42 + b"B="),  # 32 bytes, with bits that stand for nothing
        leaf.replace(digest, b"A" * 1024),  # as long as a leaf may be, before its frame
    ):
        with pytest.raises(LeafInvalid):
            parse_leaf(wrong)


def test_times_are_written_and_read_to_the_millisecond() -> None:
    """A time is cut, not rounded, and needs a zone."""
    assert format_time(AT) == "2026-11-23T01:04:05.678Z"
    for text in (
        "2026-11-23T01:04:05.678Z",
        "0001-01-01T00:00:00.000Z",
        "9999-12-31T23:59:59.999Z",
    ):
        assert format_time(parse_time(text)) == text
    assert format_time(AT.astimezone(timezone(timedelta(hours=8)))) == format_time(AT)
    with pytest.raises(ValueError, match="zone"):
        format_time(AT.replace(tzinfo=None))


NAMES = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=8)
TEXTS = st.text(
    alphabet=st.characters(
        exclude_categories=("Cc", "Cs", "Cn"), exclude_characters="\u061c\u200e\u200f"
    ),
    max_size=20,
).filter(lambda text: not any("\u202a" <= c <= "\u202e" or "\u2066" <= c <= "\u2069" for c in text))
VALUES = st.recursive(
    st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXTS | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_canonical_json_round_trips(document: dict[str, object]) -> None:
    """What is written canonically is what rfc8785 writes, and reads back equal."""
    try:
        raw = canonicalise(document)
    except TooLarge:
        return
    assert raw == rfc8785.dumps(document)  # type: ignore[arg-type]
    assert document == parse_canonical(raw)


@given(st.binary(max_size=400))
@example(b"{}")
def test_arbitrary_bytes_leave_only_our_errors(data: bytes) -> None:
    """No library exception leaves a parser, and what is read as an object is written alike."""
    for parser in (parse_statement, parse_leaf, check_public_key):
        with pytest.raises(EvidenceError):
            parser(data)
    try:
        document = parse_canonical(data)
    except EvidenceError:
        return
    assert data == canonicalise(document)
