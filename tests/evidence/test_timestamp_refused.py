"""RFC 3161: every part of a token that is wrong is refused, for its reason."""

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519
from cryptography.x509 import ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from evidence.errors import TimestampInvalid, TimestampNotBelieved
from evidence.timestamp import (
    TimestampRoot,
    read_response,
    structures,
    verify_timestamp,
)
from evidence.timestamp.reading import read_token
from evidence.timestamp.signature import verify_own_signature
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


def test_other_bytes_are_refused() -> None:
    """A token for other bytes proves nothing about these."""
    assert refused(RESPONSE, message=b"another") == "The time-stamp covers other bytes."


def test_another_nonce_is_refused() -> None:
    """A token that answers another request, or none, is refused where the nonce is known."""
    expected = "The time-stamp answers another request."
    assert refused(RESPONSE, nonce=98) == expected
    assert refused(GOOD.but(nonce=None).response(), nonce=98) == expected


def test_a_root_in_the_token_is_not_trusted() -> None:
    """A token cannot vouch for itself by bringing its own root."""
    everything = [x.certificate for x in (AUTHORITY.root, AUTHORITY.intermediate, AUTHORITY.signer)]
    response = GOOD.but(certificates=everything).response()
    expected = "No known root stands above the authority that stamped."
    assert refused(response, roots=[maker.issue("Other root").der]) == expected
    assert refused(response, roots=[]) == expected


def test_a_root_among_the_helping_certificates_is_not_trusted() -> None:
    """A self-signed certificate that is handed in as a helper never becomes a root."""
    namesake = maker.issue("Test root")
    everything = [AUTHORITY.root.der, AUTHORITY.intermediate.der, AUTHORITY.signer.der]
    expected = "The chain of the time-stamp's authority does not hold."
    assert refused(RESPONSE, roots=[namesake.der], chain=everything) == expected


def test_an_intermediate_is_no_root() -> None:
    """Pinning a certificate that is not self-signed trusts nothing."""
    expected = "The chain of the time-stamp's authority does not hold."
    assert refused(RESPONSE, roots=[AUTHORITY.intermediate.der]) == expected


def test_a_missing_intermediate_is_named() -> None:
    """Without the intermediate no known root stands above the signer."""
    response = GOOD.but(certificates=[AUTHORITY.signer.certificate]).response()
    expected = "No known root stands above the authority that stamped."
    assert refused(response) == expected
    assert verify_timestamp(response, MESSAGE, [ROOT], chain=[AUTHORITY.intermediate.der]).serial


def test_a_missing_signer_is_named() -> None:
    """Without the signer's certificate nothing can be said."""
    response = GOOD.but(certificates=[AUTHORITY.intermediate.certificate]).response()
    expected = "The certificate that signed the time-stamp is not at hand."
    assert refused(response) == expected


def test_a_token_of_an_authority_that_nobody_pinned_is_told_apart_from_a_broken_one() -> None:
    """A sound token without a pinned root, or after its compromise, is not believed: no forgery."""
    late = TimestampRoot(certificate=ROOT, valid_until=maker.NOW)
    bare = GOOD.but(certificates=[AUTHORITY.signer.certificate]).response()
    for response, roots in ((RESPONSE, []), (RESPONSE, [late]), (bare, [ROOT])):
        with pytest.raises(TimestampNotBelieved):
            verify_timestamp(response, MESSAGE, roots)
    broken = GOOD.but(tamper=lambda s: s[:-1] + bytes([s[-1] ^ 1])).response()
    for response, message in ((broken, MESSAGE), (RESPONSE, b"another")):
        with pytest.raises(TimestampInvalid) as caught:
            verify_timestamp(response, message, [])
        assert not isinstance(caught.value, TimestampNotBelieved)


def test_the_own_signature_is_verified_for_the_usual_algorithms_only() -> None:
    """Ed25519 over the attributes holds; a key of an algorithm that is not known says nothing."""
    token = read_token(RESPONSE)
    (info,) = token.signed.signers.as_list()
    key = ed25519.Ed25519PrivateKey.generate()
    attributes = b"".join(map(asn1.encode_der, info.signed_attributes.as_list()))
    covered = maker.element(0x31, attributes)
    signed = replace(token.signed, signers=asn1.SetOf([replace(info, signature=key.sign(covered))]))
    verify_own_signature(replace(token, signed=signed), certified(key))
    with pytest.raises(TimestampInvalid):
        verify_own_signature(token, certified(key))
    with pytest.raises(TimestampInvalid):
        verify_own_signature(token, certified(ed448.Ed448PrivateKey.generate()))


def certified(key: ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) -> x509.Certificate:
    """A certificate for a key of another algorithm."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Other algorithm")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, maker.START, maker.END)
    return builder.sign(key, None)


def test_a_flipped_signature_is_refused() -> None:
    """A signature that does not verify is refused under the right root."""
    broken = GOOD.but(tamper=lambda s: s[:-1] + bytes([s[-1] ^ 1])).response()
    assert refused(broken) == "The time-stamp's signature does not hold."


@pytest.mark.parametrize(
    ("at", "holds"),
    [
        (maker.START, True),
        (maker.START - timedelta(microseconds=1000), False),
        (maker.END - timedelta(milliseconds=1), True),
        (maker.END, False),
    ],
)
def test_the_signer_must_be_valid_at_the_token_s_time(*, at: datetime, holds: bool) -> None:
    """Validity is judged at the token's time, to the fraction; its end is outside."""
    response = GOOD.but(gen_time=at).response()
    if holds:
        assert verify_timestamp(response, MESSAGE, [ROOT]).gen_time == at
    else:
        expected = "The signing certificate was not valid at the token's time."
        assert refused(response) == expected


def test_an_intermediate_that_had_ended_is_refused() -> None:
    """Every certificate of the chain is judged at the token's time."""
    intermediate = maker.issue(
        "Short", AUTHORITY.root, validity=(maker.START, maker.NOW - timedelta(days=1))
    )
    signer = maker.issue("Test TSA", intermediate, purposes=[STAMPING])
    authority = maker.Authority(root=AUTHORITY.root, intermediate=intermediate, signer=signer)
    response = maker.Making(authority=authority).response()
    assert refused(response) == "The chain of the time-stamp's authority does not hold."


@pytest.mark.parametrize(
    ("purposes", "critical", "expected"),
    [
        ([], True, "The signing certificate may not stamp time."),
        ([STAMPING], False, "The signing certificate is not critically limited to time-stamps."),
        (
            [ExtendedKeyUsageOID.CODE_SIGNING],
            True,
            "The signing certificate is not critically limited to time-stamps.",
        ),
        (
            [STAMPING, ExtendedKeyUsageOID.EMAIL_PROTECTION],
            True,
            "The signing certificate is not critically limited to time-stamps.",
        ),
    ],
)
def test_a_key_with_another_purpose_is_refused(
    *, purposes: list[ObjectIdentifier], critical: bool, expected: str
) -> None:
    """The signer's key may stamp time and nothing else, and critically so."""
    authority = maker.Authority.new(purposes=purposes, critical=critical)
    response = maker.Making(authority=authority).response()
    assert refused(response, roots=[authority.root.der]) == expected


def test_a_root_counts_only_between_its_dates() -> None:
    """A pinned root covers a token from `valid_from` on and before `valid_until`."""
    second = timedelta(seconds=1)
    for start, end in ((None, None), (maker.NOW, None), (None, maker.NOW + second)):
        root = TimestampRoot(certificate=ROOT, valid_from=start, valid_until=end)
        assert verify_timestamp(RESPONSE, MESSAGE, [root]).serial == 4711
    for start, end in ((maker.NOW + second, None), (None, maker.NOW)):
        root = TimestampRoot(certificate=ROOT, valid_from=start, valid_until=end)
        expected = "The token's time lies outside the dates of its root."
        assert refused(RESPONSE, roots=[root]) == expected


def test_a_certificate_with_the_signer_s_name_cannot_stand_in_for_it() -> None:
    """Another certificate with the same issuer and serial is not taken for the signer."""
    serial = AUTHORITY.signer.certificate.serial_number
    double = maker.issue("Test TSA", AUTHORITY.intermediate, purposes=[STAMPING], serial=serial)
    three = [double.certificate, AUTHORITY.signer.certificate, AUTHORITY.intermediate.certificate]
    for order in (three, three[::-1]):
        response = GOOD.but(certificates=order).response()
        assert verify_timestamp(response, MESSAGE, [ROOT]).tsa == "CN=Test TSA"
    response = GOOD.but(certificates=[double.certificate]).response()
    assert refused(response) == "The certificate that signed the time-stamp is not at hand."


def test_a_token_signed_by_another_key_than_it_binds_is_refused() -> None:
    """The bound certificate's own key must have signed."""
    serial = AUTHORITY.signer.certificate.serial_number
    double = maker.issue("Test TSA", AUTHORITY.intermediate, purposes=[STAMPING], serial=serial)
    kind = structures.SIGNING_CERTIFICATE_V2
    value = maker.cert_v2(hashlib.sha256(AUTHORITY.signer.der).digest())
    authority = maker.Authority(
        root=AUTHORITY.root, intermediate=AUTHORITY.intermediate, signer=double
    )
    forged = maker.Making(
        authority=authority,
        attributes={kind: maker.attribute(kind, value)},
        certificates=[AUTHORITY.signer.certificate, AUTHORITY.intermediate.certificate],
    ).response()
    assert refused(forged) == "The time-stamp's signature does not hold."


UNBOUND = "The token does not bind its signing certificate."
AMBIGUOUS = "A signed attribute of the token is ambiguous."
NO_STAMP = "The signature is not one over a time-stamp."


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (maker.cert_v2(b"\0" * 32), "The certificate that signed the time-stamp is not at hand."),
        (structures.SigningCertificateV2(certs=[], policies=None), UNBOUND),
        (
            maker.cert_v2(b"\0" * 20, maker.SHA1),
            "The signing certificate is bound by a digest that is not SHA-2.",
        ),
    ],
)
def test_a_wrong_binding_is_refused(value: structures.SigningCertificateV2, expected: str) -> None:
    """ESSCertIDv2 must name the signer by a SHA-2 digest."""
    assert refused(bound(value)) == expected


def test_an_empty_older_binding_is_refused() -> None:
    """ESSCertID without a member binds nothing."""
    value = structures.SigningCertificate(certs=[], policies=None)
    assert refused(bound_v1(value)) == UNBOUND


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"attributes": {structures.SIGNING_CERTIFICATE_V2: None}}, UNBOUND),
        ({"attributes": {structures.CONTENT_TYPE: None}}, NO_STAMP),
        (
            {
                "attributes": {
                    structures.CONTENT_TYPE: maker.attribute(
                        structures.CONTENT_TYPE, ObjectIdentifier("1.2.840.113549.1.7.1")
                    )
                }
            },
            NO_STAMP,
        ),
        (
            {
                "extra_attributes": [
                    maker.attribute(structures.CONTENT_TYPE, structures.TST_INFO, UNKNOWN)
                ],
                "attributes": {structures.CONTENT_TYPE: None},
            },
            AMBIGUOUS,
        ),
        (
            {"extra_attributes": [maker.attribute(maker.MESSAGE_DIGEST, b"\0" * 32)]},
            AMBIGUOUS,
        ),
        (
            {"attributes": {maker.MESSAGE_DIGEST: None}},
            "The time-stamp's signature covers other content.",
        ),
        (
            {
                "attributes": {
                    maker.MESSAGE_DIGEST: maker.attribute(maker.MESSAGE_DIGEST, b"\0" * 32)
                }
            },
            "The time-stamp's signature covers other content.",
        ),
        (
            {"digest_algorithm": maker.SHA1},
            "The time-stamp is signed over a digest that is not SHA-2.",
        ),
        ({"signers": 0}, "A time-stamp token has exactly one signer."),
        ({"signers": 2}, "A time-stamp token has exactly one signer."),
        ({"content_kind": UNKNOWN}, "What is signed is no time-stamp."),
        ({"token_kind": UNKNOWN}, "The response holds no signed time-stamp token."),
        ({"status": 2}, "The time-stamp authority did not grant a token."),
        ({"info": {"version": 2}}, "The time-stamp has a version that is not known."),
        ({"info": {"serial": -1}}, "The time-stamp's serial number is out of range."),
        ({"info": {"serial": 2**160}}, "The time-stamp's serial number is out of range."),
        (
            {
                "info": {
                    "extensions": [structures.Extension(kind=UNKNOWN, critical=True, octets=b"")]
                }
            },
            "The time-stamp has a critical extension that is not known.",
        ),
        (
            {"info": {"accuracy": accuracy((86_400, 1, None))}},
            "The time-stamp's accuracy is out of range.",
        ),
        (
            {"info": {"accuracy": accuracy((-1, None, None))}},
            "The time-stamp's accuracy is out of range.",
        ),
        (
            {"info": {"accuracy": accuracy((1, None, 1000))}},
            "The time-stamp's accuracy is out of range.",
        ),
        (
            {
                "info": {
                    "imprint": structures.MessageImprint(
                        algorithm=maker.algorithm(structures.SHA512),
                        digest=hashlib.sha512(MESSAGE).digest(),
                    )
                }
            },
            "The time-stamp does not cover a SHA-256 digest.",
        ),
        (
            {
                "info": {
                    "imprint": structures.MessageImprint(
                        algorithm=maker.algorithm(structures.SHA256), digest=b"\0" * 31
                    )
                }
            },
            "The time-stamp does not cover a SHA-256 digest.",
        ),
    ],
)
def test_a_wrong_part_is_refused_for_its_reason(changes: dict[str, Any], expected: str) -> None:
    """Each part of a token that is wrong is named."""
    assert refused(GOOD.but(**changes).response()) == expected


def test_a_granted_response_without_a_token_is_refused() -> None:
    """Granted without a token is nothing."""
    assert refused(bytes.fromhex("30053003020100")) == (
        "The response holds no signed time-stamp token."
    )


def test_a_certificate_signed_over_a_weak_digest_is_refused() -> None:
    """A chain that leans on SHA-1 is refused, whatever OpenSSL thinks of it."""
    weak = weaken(AUTHORITY.intermediate.certificate)
    response = GOOD.but(certificates=[AUTHORITY.signer.certificate, weak]).response()
    expected = "A certificate of the time-stamp is signed over a weak digest."
    assert refused(response) == expected


def weaken(certificate: x509.Certificate) -> x509.Certificate:
    """Say ecdsa-with-SHA1 where a certificate says ecdsa-with-SHA256 (its signature breaks)."""
    sha256, sha1 = (
        bytes.fromhex("300a06082a8648ce3d040302"),
        bytes.fromhex("300906072a8648ce3d0401"),
    )
    inner = certificate.tbs_certificate_bytes
    content = inner[inner.index(b"\xa0\x03\x02\x01\x02") :].replace(sha256, sha1)
    signature = maker.element(0x03, b"\0" + certificate.signature)
    return x509.load_der_x509_certificate(
        maker.element(0x30, maker.element(0x30, content) + sha1 + signature)
    )


def test_an_unreadable_certificate_name_is_refused() -> None:
    """A name that OpenSSL could not read either ends in a sentence, not in a panic."""
    root = maker.issue("Test root")
    good = maker.issue("abcde", root, purposes=[STAMPING])
    bad = maker.der(good.certificate).replace(b"\x0c\x05abcde", b"\x0c\x05\xff\xfe\xfd\xfc\xfb")
    signer = maker.Issued(certificate=x509.load_der_x509_certificate(bad), key=good.key)
    authority = maker.Authority(root=root, intermediate=root, signer=signer)
    response = maker.Making(authority=authority, certificates=[signer.certificate]).response()
    assert refused(response, roots=[root.der]) == "A certificate of the time-stamp cannot be read."
    with pytest.raises(TimestampInvalid):
        read_response(response)


def test_a_certificate_of_an_unknown_version_is_refused() -> None:
    """A version that X.509 does not have ends in a sentence, in the token and beside it."""
    good = AUTHORITY.intermediate.der
    bad = good.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03", 1)
    response = RESPONSE.replace(good, bad, 1)
    assert refused(response) == "The time-stamp is not the DER of RFC 3161."
    assert refused(RESPONSE, chain=[bad]) == "A certificate handed in with a time-stamp is none."
    with pytest.raises(ValueError, match="no certificate"):
        verify_timestamp(RESPONSE, MESSAGE, [bad])
