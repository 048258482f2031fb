"""Makes RFC 3161 requests and reads responses, without proving anything about them.

Does: writes a request, and takes a response apart into the values that its checks need.
Refuses: responses over 64 KiB, anything but strict DER, a refusal of the authority, several
signers, several values of one attribute, critical extensions that we do not know.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import ObjectIdentifier

from evidence.errors import TimestampInvalid, TooLarge
from evidence.timestamp import structures

MAX_RESPONSE_BYTES: Final = 64 * 1024  # real tokens with a chain of three are below 8 KiB
MAX_CERTIFICATES: Final = 16
MAX_ACCURACY_MS: Final = 24 * 3600 * 1000  # a wider one would swallow the interval shown
MAX_NAME_CHARACTERS: Final = 300

_GRANTED: Final = 0
_MICROS_PER_MS: Final = 1000
_MAX_SERIAL_BITS: Final = 160  # RFC 3161 §2.4.2
DIGESTS: Final[Mapping[ObjectIdentifier, str]] = {
    structures.SHA256: "sha256",
    structures.SHA384: "sha384",
    structures.SHA512: "sha512",
}
# What `cryptography` raises for a certificate, at once or when a part of it is first looked at.
CERTIFICATE_ERRORS: Final = (
    ValueError,
    CryptographyDeprecationWarning,  # where warnings are errors: a certificate soon to be refused
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
_Structure = TypeVar("_Structure")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timestamp:
    """What a token says.

    `gen_time` is UTC, with the fraction that the authority states; `serial` has at most 160
    bits; `tsa` is the RFC 4514 subject of the signing certificate, empty when the token does
    not carry it; `accuracy_ms` is rounded up, None when the authority states none; `root` is
    the SHA-256 (hex) of the root certificate that the token was verified under, None for a
    token that was only read.
    """

    gen_time: datetime
    serial: int
    tsa: str
    accuracy_ms: int | None
    root: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """The parts of a granted token that its checks look at; nothing is proven yet.

    `binding` is the digest name and the digest of the signing certificate, from the signed
    attributes; `signer_serial` is the serial of that certificate as the signature names it;
    `signed` is the CMS structure that all this was read from.
    """

    imprint: bytes
    gen_time: datetime
    serial: int
    accuracy_ms: int | None
    nonce: int | None
    binding: tuple[str, bytes]
    signer_serial: int
    certificates: tuple[x509.Certificate, ...]
    signed: structures.SignedData

    def signing_certificate(self, others: Sequence[x509.Certificate]) -> x509.Certificate | None:
        """Find the certificate that the signature binds itself to, here or among `others`.

        Without this binding, a certificate with the same issuer and serial but other contents
        could stand in for the one that signed (RFC 5035 §1.1, substitution).
        """
        name, digest = self.binding
        for certificate in (*self.certificates, *others):
            found = hashlib.new(name, _der(certificate)).digest()
            if found == digest and certificate.serial_number == self.signer_serial:
                return certificate
        return None

    def carrying(self, certificates: Sequence[x509.Certificate]) -> bytes:
        """Write the token again as a DER `TimeStampResp` that carries other certificates.

        They lie outside the signature; all that is signed stays byte for byte.
        """
        signed = replace(self.signed, certificates=sorted(certificates, key=_der))
        return asn1.encode_der(
            structures.TimeStampResp(
                status=structures.PKIStatusInfo(status=_GRANTED, texts=None, failure=None),
                token=structures.ContentInfo(kind=structures.SIGNED_DATA, signed_data=signed),
            )
        )


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def make_request(message: bytes, nonce: int) -> bytes:
    """Write the DER `TimeStampReq` that asks for a token over `message`, with certificates.

    Args:
        message: the bytes to stamp; only their SHA-256 is in the request.
        nonce: fresh random number, 0 ≤ nonce < 2**64, which the token must repeat.

    Raises:
        ValueError: the nonce is out of range.

    Source: RFC 3161 §2.4.1.
    """
    if not 0 <= nonce < 2**64:
        raise ValueError("A nonce has 64 bits.")
    algorithm = structures.AlgorithmIdentifier(algorithm=structures.SHA256, parameters=asn1.Null())
    imprint = structures.MessageImprint(
        algorithm=algorithm, digest=hashlib.sha256(message).digest()
    )
    return asn1.encode_der(
        structures.TimeStampReq(version=1, imprint=imprint, policy=None, nonce=nonce, cert_req=True)
    )


def read_response(response: bytes) -> Timestamp:
    """Read what a response says, for display and for indexing. Nothing is verified.

    Args:
        response: DER `TimeStampResp`, at most 64 KiB.

    Raises:
        TooLarge: the response is larger.
        TimestampInvalid: it is no granted RFC 3161 response over a SHA-256 digest.
    """
    token = read_token(response)
    return Timestamp(
        gen_time=token.gen_time,
        serial=token.serial,
        tsa=subject_of(token.signing_certificate(())),
        accuracy_ms=token.accuracy_ms,
    )


def subject_of(certificate: x509.Certificate | None) -> str:
    """Write a certificate's subject as RFC 4514 text that is safe to print, or nothing."""
    if certificate is None:
        return ""
    try:
        text = certificate.subject.rfc4514_string()
    except CERTIFICATE_ERRORS as exc:
        raise TimestampInvalid("A certificate in the token has no readable subject.") from exc
    return "".join(c if c.isprintable() else "�" for c in text[:MAX_NAME_CHARACTERS])


def read_token(response: bytes) -> Token:
    """Take a response apart.

    Raises:
        TooLarge: more than 64 KiB, or more than 16 certificates.
        TimestampInvalid: see `read_response`.
    """
    if len(response) > MAX_RESPONSE_BYTES:
        raise TooLarge(f"A time-stamp response has at most {MAX_RESPONSE_BYTES} bytes.")
    reply = _decode(structures.TimeStampResp, response)
    if reply.status.status != _GRANTED:
        raise TimestampInvalid("The time-stamp authority did not grant a token.")
    if reply.token is None or reply.token.kind != structures.SIGNED_DATA:
        raise TimestampInvalid("The response holds no signed time-stamp token.")
    signed = reply.token.signed_data
    certificates = tuple(signed.certificates or ())
    if len(certificates) > MAX_CERTIFICATES:
        raise TooLarge(f"A time-stamp token carries at most {MAX_CERTIFICATES} certificates.")
    signers = signed.signers.as_list()
    if len(signers) != 1:
        raise TimestampInvalid("A time-stamp token has exactly one signer.")
    if signed.content.kind != structures.TST_INFO:
        raise TimestampInvalid("What is signed is no time-stamp.")
    info = _decode(structures.TSTInfo, signed.content.octets)
    _check_info(info)
    return Token(
        imprint=info.imprint.digest,
        gen_time=info.gen_time.as_datetime(),
        serial=info.serial,
        accuracy_ms=_accuracy_ms(info.accuracy),
        nonce=info.nonce,
        binding=_binding(signers[0]),
        signer_serial=signers[0].signer.serial,
        certificates=certificates,
        signed=signed,
    )


def _decode(kind: type[_Structure], data: bytes) -> _Structure:
    try:
        return asn1.decode_der(kind, data)
    except CERTIFICATE_ERRORS as exc:
        raise TimestampInvalid("The time-stamp is not the DER of RFC 3161.") from exc


def _check_info(info: structures.TSTInfo) -> None:
    if info.version != 1:
        raise TimestampInvalid("The time-stamp has a version that is not known.")
    if info.imprint.algorithm.algorithm != structures.SHA256 or len(info.imprint.digest) != 32:
        raise TimestampInvalid("The time-stamp does not cover a SHA-256 digest.")
    if not 0 <= info.serial < 2**_MAX_SERIAL_BITS:
        raise TimestampInvalid("The time-stamp's serial number is out of range.")
    if any(extension.critical for extension in info.extensions or ()):
        raise TimestampInvalid("The time-stamp has a critical extension that is not known.")


def _accuracy_ms(accuracy: structures.Accuracy | None) -> int | None:
    """Milliseconds, rounded up: an uncertainty may be overstated, never understated."""
    if accuracy is None:
        return None
    parts = (accuracy.seconds or 0, accuracy.millis or 0, accuracy.micros or 0)
    milliseconds = parts[0] * 1000 + parts[1] - (-parts[2] // _MICROS_PER_MS)
    if min(parts) < 0 or max(parts[1:]) > 999 or milliseconds > MAX_ACCURACY_MS:
        raise TimestampInvalid("The time-stamp's accuracy is out of range.")
    return milliseconds


def _binding(signer: structures.SignerInfo) -> tuple[str, bytes]:
    """Return digest name and digest of the certificate that the signature binds itself to."""
    if signer.digest_algorithm.algorithm not in DIGESTS:
        raise TimestampInvalid("The time-stamp is signed over a digest that is not SHA-2.")
    attributes = read_attributes(signer)
    if attributes.get(structures.CONTENT_TYPE) != asn1.encode_der(structures.TST_INFO):
        # Without it a signature made for other content could be passed off as a time-stamp.
        raise TimestampInvalid("The signature is not one over a time-stamp.")
    newer = attributes.get(structures.SIGNING_CERTIFICATE_V2)
    if newer is not None:
        return _first_v2(_decode(structures.SigningCertificateV2, newer))
    older = attributes.get(structures.SIGNING_CERTIFICATE)
    if older is None:
        raise TimestampInvalid("The token does not bind its signing certificate.")
    certs = _decode(structures.SigningCertificate, older).certs
    if not certs:
        raise TimestampInvalid("The token does not bind its signing certificate.")
    # SHA-1 names a certificate of the authority's own here: to forge the binding one would
    # need a second preimage, which SHA-1 still resists, and the chain has to hold besides.
    return "sha1", certs[0].digest


def _first_v2(attribute: structures.SigningCertificateV2) -> tuple[str, bytes]:
    if not attribute.certs:
        raise TimestampInvalid("The token does not bind its signing certificate.")
    first = attribute.certs[0]
    algorithm = structures.SHA256 if first.algorithm is None else first.algorithm.algorithm
    if algorithm not in DIGESTS:
        raise TimestampInvalid("The signing certificate is bound by a digest that is not SHA-2.")
    return DIGESTS[algorithm], first.digest


def read_attributes(signer: structures.SignerInfo) -> Mapping[ObjectIdentifier, bytes]:
    """Return the signed attributes by kind, each with the DER of its one value.

    Raises:
        TimestampInvalid: one stands twice, or has several values.
    """
    found: dict[ObjectIdentifier, bytes] = {}
    for attribute in signer.signed_attributes.as_list():
        values = attribute.values.as_list()
        if attribute.kind in found or len(values) != 1:
            # Two readers could each take another one of them.
            raise TimestampInvalid("A signed attribute of the token is ambiguous.")
        found[attribute.kind] = asn1.encode_der(values[0])
    return found
