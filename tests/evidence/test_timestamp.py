"""RFC 3161: requests, what a good token proves, and limits."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509 import ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from evidence.errors import EvidenceError, TooLarge
from evidence.timestamp import (
    make_request,
    read_response,
    structures,
    verify_timestamp,
)
from tests.evidence import timestamp_maker as maker
from tests.evidence.timestamp_maker import (
    AUTHORITY,
    GOOD,
    MESSAGE,
    RESPONSE,
    ROOT,
    accuracy,
    bound,
    bound_v1,
    refused,
)

STAMPING = ExtendedKeyUsageOID.TIME_STAMPING
UNKNOWN = ObjectIdentifier("1.3.6.1.4.1.32473.9")


def test_a_good_token_tells_time_serial_authority_accuracy_and_root() -> None:
    """A token verifies under the pinned root and keeps the fraction of its second."""
    stamp = verify_timestamp(RESPONSE, MESSAGE, [ROOT], nonce=99)
    assert stamp.gen_time == datetime(2026, 6, 1, 12, 0, 0, 250_000, tzinfo=UTC)
    assert (stamp.serial, stamp.tsa, stamp.accuracy_ms) == (4711, "CN=Test TSA", 1000)
    assert stamp.root == hashlib.sha256(ROOT).hexdigest()


def test_reading_a_token_claims_no_root() -> None:
    """A token that was only read says the same, without a root."""
    read = read_response(RESPONSE)
    verified = verify_timestamp(RESPONSE, MESSAGE, [ROOT])
    assert read.root is None
    assert (read.gen_time, read.serial, read.tsa) == (
        verified.gen_time,
        verified.serial,
        verified.tsa,
    )


def test_the_right_root_is_found_among_others() -> None:
    """A root of the same name with another key does not hide the right one."""
    namesake = maker.issue("Test root")
    stamp = verify_timestamp(RESPONSE, MESSAGE, [namesake.der, ROOT])
    assert stamp.root == hashlib.sha256(ROOT).hexdigest()


def test_certificates_may_come_from_the_caller_instead_of_the_token() -> None:
    """A token without certificates verifies with the chain that was archived beside it."""
    bare = GOOD.but(certificates=[]).response()
    chain = [AUTHORITY.intermediate.der, AUTHORITY.signer.der]
    assert verify_timestamp(bare, MESSAGE, [ROOT], chain=chain).serial == 4711
    assert read_response(bare).tsa == ""


def test_certificates_in_any_order_are_read() -> None:
    """Older OpenSSL writes the certificates unsorted; they lie outside the signature."""
    two = [AUTHORITY.signer.certificate, AUTHORITY.intermediate.certificate]
    for order in (two, two[::-1]):
        response = GOOD.but(certificates=order).response()
        assert verify_timestamp(response, MESSAGE, [ROOT]).serial == 4711


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
def test_a_certificate_may_be_bound_by_any_sha2(name: str) -> None:
    """ESSCertIDv2 with an explicit algorithm of the SHA-2 family holds."""
    oid = {"sha256": structures.SHA256, "sha384": structures.SHA384, "sha512": structures.SHA512}
    value = maker.cert_v2(hashlib.new(name, AUTHORITY.signer.der).digest(), oid[name])
    assert verify_timestamp(bound(value), MESSAGE, [ROOT]).serial == 4711


def test_a_certificate_may_be_bound_by_the_older_attribute() -> None:
    """ESSCertID (SHA-1) alone holds, as older authorities send it."""
    value = maker.cert_v1(hashlib.sha1(AUTHORITY.signer.der).digest())  # noqa: S324 -- RFC 2634
    assert verify_timestamp(bound_v1(value), MESSAGE, [ROOT]).serial == 4711


def test_a_self_signed_authority_can_be_pinned_itself() -> None:
    """A TSA certificate that is its own issuer is a root like any other."""
    alone = maker.issue("Alone", purposes=[STAMPING])
    authority = maker.Authority(root=alone, intermediate=alone, signer=alone)
    response = maker.Making(authority=authority, certificates=[alone.certificate]).response()
    assert verify_timestamp(response, MESSAGE, [alone.der]).tsa == "CN=Alone"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (None, None),
        ((None, None, None), 0),
        ((0, 1, None), 1),
        ((2, 30, 1), 2031),
        ((None, None, 999), 1),
        ((86_400, None, None), 86_400_000),
    ],
)
def test_accuracy_is_rounded_up(parts: tuple[Any, Any, Any] | None, expected: int | None) -> None:
    """An uncertainty may be overstated by less than a millisecond, never understated."""
    response = GOOD.but(info={"accuracy": accuracy(parts)}).response()
    assert verify_timestamp(response, MESSAGE, [ROOT]).accuracy_ms == expected


def test_an_uncritical_extension_is_ignored() -> None:
    """What an authority adds without demanding that it be understood does no harm."""
    extension = structures.Extension(kind=UNKNOWN, critical=False, octets=b"\x05\x00")
    response = GOOD.but(info={"extensions": [extension]}).response()
    assert verify_timestamp(response, MESSAGE, [ROOT]).serial == 4711


def test_a_name_that_cannot_be_printed_is_shown_without_its_controls() -> None:
    """An authority's name cannot turn the line around in which it is printed."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "TSA \u202egpj.x" + "y" * 10)])
    root = maker.issue("Test root")
    signer = maker.issue(name, root, purposes=[STAMPING])
    authority = maker.Authority(root=root, intermediate=root, signer=signer)
    stamp = verify_timestamp(maker.Making(authority=authority).response(), MESSAGE, [root.der])
    assert stamp.tsa == "CN=TSA �gpj.x" + "y" * 10


# ------------------------------------------------------------------------------------ limits


def test_limits_hold_before_anything_is_read() -> None:
    """Responses, certificates and helpers beyond their limits are refused as too large."""
    with pytest.raises(TooLarge):
        read_response(b"\x30" * (64 * 1024 + 1))
    with pytest.raises(TooLarge):
        read_response(GOOD.but(certificates=[AUTHORITY.signer.certificate] * 17).response())
    with pytest.raises(TooLarge):
        verify_timestamp(RESPONSE, MESSAGE, [ROOT], chain=[ROOT] * 17)
    with pytest.raises(TooLarge):
        verify_timestamp(RESPONSE, MESSAGE, [ROOT], chain=[b"\x30" * (16 * 1024 + 1)])


def test_a_helper_that_is_no_certificate_is_refused() -> None:
    """Bytes beside the token that are no certificate are the package's fault."""
    assert refused(RESPONSE, chain=[b"no"]) == "A certificate handed in with a time-stamp is none."


def test_a_root_that_is_no_certificate_is_the_caller_s_mistake() -> None:
    """Pinned roots are configuration: what is wrong there is no evidence error."""
    with pytest.raises(ValueError, match="no certificate"):
        verify_timestamp(RESPONSE, MESSAGE, [b"no"])
    with pytest.raises(ValueError, match="At most 64 roots"):
        verify_timestamp(RESPONSE, MESSAGE, [ROOT] * 65)


# ----------------------------------------------------------------------------------- requests


def test_a_request_is_the_der_of_rfc_3161() -> None:
    """The request is byte for byte what RFC 3161 §2.4.1 says, with SHA-256 and certReq."""
    imprint = "3031300d060960864801650304020105000420" + hashlib.sha256(MESSAGE).hexdigest()
    assert make_request(MESSAGE, 5).hex() == "303c020101" + imprint + "0201050101ff"


@pytest.mark.parametrize("nonce", [-1, 2**64])
def test_a_nonce_has_64_bits(nonce: int) -> None:
    """A nonce outside 64 bits is the caller's mistake."""
    with pytest.raises(ValueError, match="64 bits"):
        make_request(MESSAGE, nonce)


# ----------------------------------------------------------------------------- arbitrary bytes


@given(st.binary(max_size=300))
def test_arbitrary_bytes_leave_only_evidence_errors(data: bytes) -> None:
    """Nothing but EvidenceError leaves the parser, whatever the bytes."""
    for call in (read_response, lambda d: verify_timestamp(d, MESSAGE, [ROOT])):
        with pytest.raises(EvidenceError):
            call(data)


@given(st.integers(0, len(RESPONSE) - 1), st.integers(1, 255))
def test_no_changed_byte_changes_what_is_proven(place: int, flip: int) -> None:
    """A changed byte is refused, or lay outside the signature and proves exactly the same."""
    changed = RESPONSE[:place] + bytes([RESPONSE[place] ^ flip]) + RESPONSE[place + 1 :]
    try:
        stamp = verify_timestamp(changed, MESSAGE, [ROOT])
    except EvidenceError:
        return
    assert stamp == verify_timestamp(RESPONSE, MESSAGE, [ROOT])


@given(st.integers(0, len(RESPONSE)), st.binary(max_size=40), st.integers(0, 40))
def test_spliced_bytes_leave_only_evidence_errors(place: int, piece: bytes, cut: int) -> None:
    """Cutting and inserting inside a real response ends in an answer or an EvidenceError."""
    changed = RESPONSE[:place] + piece + RESPONSE[place + cut :]
    try:
        stamp = verify_timestamp(changed, MESSAGE, [ROOT])
    except EvidenceError:
        return
    assert stamp == verify_timestamp(RESPONSE, MESSAGE, [ROOT])
