"""RFC 3161: tokens that nobody here made, from Sigstore, FreeTSA and the rfc3161-client tests."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from evidence.errors import TimestampInvalid, TimestampNotBelieved
from evidence.timestamp import (
    TimestampRoot,
    read_response,
    verify_timestamp,
)
from evidence.timestamp.reading import read_token


def sigstore_case(shared: Path, name: str) -> tuple[bytes, bytes, list[bytes], dict[str, Any]]:
    """Return response, stamped bytes, certificate chain (root last) and bundle of a case."""
    folder = shared / "vectors" / "sigstore-checkpoints" / name
    bundle = json.loads((folder / "bundle.sigstore.json").read_text())
    trusted = json.loads((folder / "trusted_root.json").read_text())
    stamps = bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    chain = trusted["timestampAuthorities"][0]["certChain"]["certificates"]
    return (
        base64.b64decode(stamps[0]["signedTimestamp"]),
        base64.b64decode(bundle["messageSignature"]["signature"]),
        [base64.b64decode(c["rawBytes"]) for c in chain],
        {"bundle": bundle, "validity": trusted["timestampAuthorities"][0]["validFor"]},
    )


def utc(text: str | None) -> datetime | None:
    """Read the RFC 3339 time of a trusted root."""
    return None if text is None else datetime.fromisoformat(text)


def verify_case(shared: Path, name: str) -> str:
    """Verify a case as its trusted root says; return the time, or the reason of refusal."""
    response, message, chain, more = sigstore_case(shared, name)
    root = TimestampRoot(
        certificate=chain[-1],
        valid_from=utc(more["validity"].get("start")),
        valid_until=utc(more["validity"].get("end")),
    )
    try:
        return verify_timestamp(response, message, [root], chain=chain[:-1]).gen_time.isoformat()
    except TimestampInvalid as exc:
        return exc.detail


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rekor2-happy-path", "2025-06-12T12:02:20+00:00"),
        ("rekor2-timestamp-with-embedded-cert", "2025-08-06T18:51:36+00:00"),
        ("rekor2-timestamp-without-embedded-cert", "2025-08-06T19:03:51+00:00"),
        ("rekor2-timestamp-with-expired-cert-chain", "2025-08-07T15:32:26+00:00"),
        (
            "rekor2-timestamp-outside-trust-root-tsa-validity_fail",
            "The token's time lies outside the dates of its root.",
        ),
        (
            "rekor2-timestamp-outside-tsa-cert-validity_fail",
            "The signing certificate was not valid at the token's time.",
        ),
        ("rekor2-timestamp-payload-mismatch_fail", "The time-stamp covers other bytes."),
        (
            "rekor2-timestamp-untrusted-tsa-with-embedded-cert_fail",
            "No known root stands above the authority that stamped.",
        ),
        (
            "rekor2-timestamp-untrusted-tsa-without-embedded-cert_fail",
            "The certificate that signed the time-stamp is not at hand.",
        ),
    ],
)
def test_sigstore_s_cases_end_as_their_names_say(shared: Path, name: str, expected: str) -> None:
    """Sigstore's conformance cases verify or fail for the reason that their README gives."""
    assert verify_case(shared, name) == expected


def test_sigstore_s_incorrect_time_is_a_good_token_at_the_wrong_time(shared: Path) -> None:
    """That token holds; its time lies outside the signing key's life, which the caller judges."""
    name = "rekor2-timestamp-with-incorrect-time_fail"
    response, message, chain, more = sigstore_case(shared, name)
    stamp = verify_timestamp(response, message, [chain[-1]], chain=chain[:-1])
    material = more["bundle"]["verificationMaterial"]["certificate"]["rawBytes"]
    signer = x509.load_der_x509_certificate(base64.b64decode(material))
    assert stamp.gen_time > signer.not_valid_after_utc


def test_freetsa_s_unsorted_token_verifies_when_its_root_is_pinned(shared: Path) -> None:
    """The one authority of the cases that sorts no certificates and binds by SHA-1 is read."""
    name = "rekor2-timestamp-untrusted-tsa-with-embedded-cert_fail"
    response, message, _, _ = sigstore_case(shared, name)
    embedded = read_token(response).certificates
    roots = [c.public_bytes(Encoding.DER) for c in embedded if c.issuer == c.subject]
    assert len(roots) == 1
    stamp = verify_timestamp(response, message, roots)
    assert stamp.gen_time == datetime(2025, 8, 6, 19, 38, 49, tzinfo=UTC)


@pytest.mark.parametrize(
    "name",
    [
        "rekor2-timestamp-untrusted-tsa-with-embedded-cert_fail",
        "rekor2-timestamp-with-embedded-cert",
    ],
)
def test_a_foreign_token_holds_although_nobody_pinned_its_authority(
    shared: Path, name: str
) -> None:
    """FreeTSA signs with RSA and Sigstore with ECDSA; without a root both are not believed."""
    response, message, _, _ = sigstore_case(shared, name)
    with pytest.raises(TimestampNotBelieved):
        verify_timestamp(response, message, [])


def captured(shared: Path, name: str) -> bytes:
    """Return one of the responses of the rfc3161-client test set."""
    return (shared / "captures" / "rfc3161-tsr" / "test" / "fixtures" / name).read_bytes()


def test_a_foreign_token_without_certificates_verifies_with_the_chain(shared: Path) -> None:
    """Sigstore's staging TSA stamped "hello" without sending its certificate."""
    response = captured(shared, "sigstage/response-no-embedded-cert.tsr")
    _, _, chain, _ = sigstore_case(shared, "rekor2-happy-path")
    stamp = verify_timestamp(response, b"hello", [chain[-1]], chain=chain[:-1])
    assert stamp.gen_time == datetime(2025, 6, 18, 8, 13, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    "name",
    [
        "identrust/issue-104.tsr",
        "sigstage/response-sha384.tsr",
        "test_tsa/other_response.tsr",
        "test_tsa/response-injected-certs.tsr",
    ],
)
def test_foreign_tokens_over_other_digests_are_refused_by_name(shared: Path, name: str) -> None:
    """SHA-384 and SHA-512 imprints are real tokens, and not ones that we ask for."""
    with pytest.raises(TimestampInvalid) as caught:
        read_response(captured(shared, name))
    assert caught.value.detail == "The time-stamp does not cover a SHA-256 digest."
