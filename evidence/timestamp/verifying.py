"""Proves that an RFC 3161 response covers a message under a root that the caller pinned.

Does: the eight steps of `verify_timestamp`. Refuses: to take a root from the token, to look
at a clock, and to return a truth value; it raises or returns what the token says. A token that
holds for the bytes and only lacks a pinned root is told apart from one that does not hold.

`rfc3161-client` (OpenSSL inside) judges the CMS signature and the certificate chain. What it
leaves open is closed here: it accepts any digest and any extra key purpose, does not look at
the ESS binding, drops the fraction of a second, trusts a self-signed certificate that it is
handed as an intermediate, and cannot read certificates in another than DER's order.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID
from rfc3161_client import VerifierBuilder, decode_timestamp_response
from rfc3161_client.errors import VerificationError

from evidence.errors import TimestampInvalid, TimestampNotBelieved, TooLarge
from evidence.timestamp.reading import (
    CERTIFICATE_ERRORS,
    MAX_CERTIFICATES,
    Timestamp,
    Token,
    read_token,
    subject_of,
)
from evidence.timestamp.signature import verify_own_signature

MAX_CERTIFICATE_BYTES: Final = 16 * 1024
MAX_ROOTS: Final = 64
_STRONG: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512, type(None))  # None: Ed25519


@dataclass(frozen=True, slots=True, kw_only=True)
class TimestampRoot:
    """A root that the caller pinned, with the dates for which he trusts it.

    `certificate` is DER and self-signed. A token counts from `valid_from` on and before
    `valid_until` (UTC; None is no bound). The bounds are judged at the token's own time, and a
    stolen key can backdate: after a compromise a token needs a second authority all the same.
    """

    certificate: bytes
    valid_from: datetime | None = None
    valid_until: datetime | None = None

    def covers(self, at: datetime) -> bool:
        """Tell whether the caller trusts this root for a token of the time `at` (UTC)."""
        after_start = self.valid_from is None or self.valid_from <= at
        return after_start and (self.valid_until is None or at < self.valid_until)


def verify_timestamp(
    response: bytes,
    message: bytes,
    roots: Sequence[bytes | TimestampRoot],
    *,
    nonce: int | None = None,
    chain: Sequence[bytes] = (),
) -> Timestamp:
    """Prove that an authority under one of `roots` stamped exactly `message`.

    1. Limits on size and number, before anything is read.
    2. The response is granted, strict DER, with one signer over one time-stamp.
    3. The imprint is the SHA-256 of `message` (else: a token for other bytes).
    4. The nonce is the one that was sent (else: a token replayed by whoever relays it).
    5. The signature binds one certificate (ESSCertID or ESSCertIDv2), and that one is valid at
       the token's time and may stamp time and do nothing else, critically so (RFC 3161 §2.3).
    6. Its issuers lead by name to a root that the caller pinned for that time.
    7. OpenSSL verifies signature and chain to that root, at the token's time.
    8. Where 6 or 7 fails: the signature is verified under the bound certificate alone. If it
       holds, the token is sound and the caller does not believe its authority; else the token
       is not one over these bytes.

    Args:
        response: DER `TimeStampResp`, at most 64 KiB.
        message: the bytes that were to be stamped.
        roots: DER of self-signed certificates, at most 64; plain bytes mean no dates.
        nonce: the number sent with the request, where the caller still has it.
        chain: DER of certificates that help to build the path and are not trusted, at most 16:
            the authority's own where the token carries none, and intermediates.

    Returns:
        What the token says, with the root that it was verified under.

    Raises:
        TooLarge: a limit was passed.
        TimestampNotBelieved: it holds for these bytes, and leads to no root that is pinned for
            its time.
        TimestampInvalid: it does not hold for these bytes.
        ValueError: there are more than 64 roots, or one is no certificate (the caller's fault).
    """
    pinned = _load_roots(roots)
    helpers = _load_chain(chain)
    token = read_token(response)
    if token.imprint != hashlib.sha256(message).digest():
        raise TimestampInvalid("The time-stamp covers other bytes.")
    if nonce is not None and token.nonce != nonce:
        raise TimestampInvalid("The time-stamp answers another request.")
    try:
        signer = _signer(token, helpers)
        root = _believed(token, signer, pinned, helpers)
    except CERTIFICATE_ERRORS as exc:  # raised late, by a certificate's parts
        raise TimestampInvalid("A certificate of the time-stamp cannot be read.") from exc
    return Timestamp(
        gen_time=token.gen_time,
        serial=token.serial,
        tsa=subject_of(signer),
        accuracy_ms=token.accuracy_ms,
        root=root.fingerprint(hashes.SHA256()).hex(),
    )


def _believed(
    token: Token,
    signer: x509.Certificate,
    pinned: Sequence[tuple[TimestampRoot, x509.Certificate]],
    helpers: Sequence[x509.Certificate],
) -> x509.Certificate:
    """Steps 6 to 8: the pinned root above the signer, or why there is none."""
    try:
        path = _path(signer, (*token.certificates, *helpers))
        anchors = _anchors(path, pinned, token.gen_time)
        return _verify_signature(token.carrying(path), token.imprint, anchors)
    except TimestampNotBelieved:
        verify_own_signature(token, signer)
        raise


def _load_roots(
    roots: Sequence[bytes | TimestampRoot],
) -> list[tuple[TimestampRoot, x509.Certificate]]:
    if len(roots) > MAX_ROOTS:
        raise ValueError(f"At most {MAX_ROOTS} roots can be pinned.")
    pinned = [r if isinstance(r, TimestampRoot) else TimestampRoot(certificate=r) for r in roots]
    try:
        return [(root, x509.load_der_x509_certificate(root.certificate)) for root in pinned]
    except CERTIFICATE_ERRORS as exc:
        raise ValueError("A pinned root is no certificate.") from exc


def _load_chain(chain: Sequence[bytes]) -> list[x509.Certificate]:
    if len(chain) > MAX_CERTIFICATES or any(len(der) > MAX_CERTIFICATE_BYTES for der in chain):
        raise TooLarge("The certificates handed in with a time-stamp are too many or too large.")
    try:
        return [x509.load_der_x509_certificate(der) for der in chain]
    except CERTIFICATE_ERRORS as exc:
        raise TimestampInvalid("A certificate handed in with a time-stamp is none.") from exc


def _signer(token: Token, helpers: Sequence[x509.Certificate]) -> x509.Certificate:
    """Step 5: the bound certificate, once it may stamp time at the token's time."""
    signer = token.signing_certificate(helpers)
    if signer is None:
        raise TimestampInvalid("The certificate that signed the time-stamp is not at hand.")
    if not signer.not_valid_before_utc <= token.gen_time < signer.not_valid_after_utc:
        raise TimestampInvalid("The signing certificate was not valid at the token's time.")
    try:
        purpose = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound as exc:
        raise TimestampInvalid("The signing certificate may not stamp time.") from exc
    # A key that also signs documents could be led to sign something that reads as a token.
    if not purpose.critical or list(purpose.value) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        raise TimestampInvalid("The signing certificate is not critically limited to time-stamps.")
    return signer


def _path(signer: x509.Certificate, others: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Step 6: the signer and every certificate that its issuers' names lead to.

    Raises:
        TimestampNotBelieved: one of them is signed over a broken digest.
    """
    names = {signer.issuer}
    path = [signer]
    for _ in others:  # each round climbs a step, or there is none left
        # A second certificate of the signer's issuer and serial would make "the signer" ambiguous.
        path += [c for c in others if c.subject in names and c not in path and _apart(c, signer)]
        names |= {c.issuer for c in path}
    for certificate in path:
        own = certificate.issuer == certificate.subject  # then the pin vouches, not the signature
        if not own and not isinstance(certificate.signature_hash_algorithm, _STRONG):
            raise TimestampNotBelieved(
                "A certificate of the time-stamp is signed over a weak digest."
            )
    return path


def _apart(one: x509.Certificate, other: x509.Certificate) -> bool:
    return (one.issuer, one.serial_number) != (other.issuer, other.serial_number)


def _anchors(
    path: Sequence[x509.Certificate],
    pinned: Sequence[tuple[TimestampRoot, x509.Certificate]],
    at: datetime,
) -> list[x509.Certificate]:
    """Step 6: the pinned roots that the path leads to by name, in the caller's order."""
    names = {certificate.issuer for certificate in path}
    reached = [(root, certificate) for root, certificate in pinned if certificate.subject in names]
    if not reached:
        raise TimestampNotBelieved("No known root stands above the authority that stamped.")
    anchors = [certificate for root, certificate in reached if root.covers(at)]
    if not anchors:
        raise TimestampNotBelieved("The token's time lies outside the dates of its root.")
    return anchors


def _verify_signature(
    response: bytes, imprint: bytes, anchors: Sequence[x509.Certificate]
) -> x509.Certificate:
    """Step 7: return the first anchor under which OpenSSL accepts signature and chain.

    Everything untrusted is in the response, where OpenSSL takes it for untrusted: the library
    would put intermediates that it is handed among the trusted, and panics at unreadable ones.
    """
    for anchor in anchors:
        verifier = VerifierBuilder(roots=[anchor]).build()
        try:
            verifier.verify(decode_timestamp_response(response), imprint)
        except VerificationError:
            continue
        return anchor
    raise TimestampNotBelieved("The chain of the time-stamp's authority does not hold.")
