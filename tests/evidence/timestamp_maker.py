"""A time-stamp authority in memory whose every part can be made wrong.

The good tokens that it makes are checked against `openssl ts -verify` in
tests/judges/test_rfc3161_judges.py; foreign tokens come from other authorities.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from evidence.errors import TimestampInvalid
from evidence.timestamp import TimestampRoot, structures, verify_timestamp

SHA1 = ObjectIdentifier("1.3.14.3.2.26")
MESSAGE_DIGEST = ObjectIdentifier("1.2.840.113549.1.9.4")
SIGNING_TIME = ObjectIdentifier("1.2.840.113549.1.9.5")
POLICY = ObjectIdentifier("1.3.6.1.4.1.32473.1")
NOW = datetime(2026, 6, 1, 12, 0, 0, 250_000, tzinfo=UTC)
START = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2027, 1, 1, tzinfo=UTC)


@asn1.sequence
class Any1:
    """A sequence of one anything: the way to a TLV of bytes that are already DER."""

    value: asn1.TLV


def element(tag: int, content: bytes) -> bytes:
    """Write one DER element (content under 64 KiB)."""
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def tlv(der: bytes) -> asn1.TLV:
    """Wrap one complete DER element."""
    return asn1.decode_der(Any1, element(0x30, der)).value


def attribute(kind: ObjectIdentifier, *values: object) -> structures.Attribute:
    """Make a signed attribute out of values that `encode_der` takes."""
    return structures.Attribute(
        kind=kind, values=asn1.SetOf([tlv(asn1.encode_der(value)) for value in values])
    )


def algorithm(oid: ObjectIdentifier) -> structures.AlgorithmIdentifier:
    """Make an algorithm identifier without parameters."""
    return structures.AlgorithmIdentifier(algorithm=oid, parameters=None)


def der(certificate: x509.Certificate) -> bytes:
    """Return a certificate's bytes."""
    return certificate.public_bytes(Encoding.DER)


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        """Return the certificate's bytes."""
        return der(self.certificate)


def issue(
    name: str | x509.Name,
    issuer: Issued | None = None,
    *,
    purposes: Sequence[ObjectIdentifier] | None = None,
    critical: bool = True,
    serial: int | None = None,
    validity: tuple[datetime, datetime] = (START, END),
    public_key: rsa.RSAPublicKey | None = None,
) -> Issued:
    """Issue a certificate: an authority without `purposes`, a leaf with them.

    For `public_key` the caller holds the private one; `key` is then of no use.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    if isinstance(name, str):
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    leaf = purposes is not None
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(public_key or key.public_key())
        .serial_number(x509.random_serial_number() if serial is None else serial)
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
        .add_extension(x509.BasicConstraints(ca=not leaf, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(leaf, False, False, False, False, not leaf, not leaf, False, False),
            critical=True,
        )
    )
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=critical)
    certificate = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    return Issued(certificate=certificate, key=key)


@dataclass(frozen=True, kw_only=True)
class Authority:
    """Root → intermediate → signer; `replace` any of them."""

    root: Issued
    intermediate: Issued
    signer: Issued

    @classmethod
    def new(
        cls,
        purposes: Sequence[ObjectIdentifier] = (ExtendedKeyUsageOID.TIME_STAMPING,),
        *,
        critical: bool = True,
    ) -> "Authority":
        """Make three new keys; the signer's may do what `purposes` say."""
        root = issue("Test root")
        intermediate = issue("Test intermediate", root)
        return cls(
            root=root,
            intermediate=intermediate,
            signer=issue("Test TSA", intermediate, purposes=purposes, critical=critical),
        )


def cert_v2(digest: bytes, oid: ObjectIdentifier | None = None) -> structures.SigningCertificateV2:
    """Make the attribute value that binds a certificate by SHA-256 or what `oid` names."""
    named = None if oid is None else algorithm(oid)
    first = structures.ESSCertIDv2(algorithm=named, digest=digest, issuer_serial=None)
    return structures.SigningCertificateV2(certs=[first], policies=None)


def cert_v1(digest: bytes) -> structures.SigningCertificate:
    """Make the older attribute value that binds a certificate by SHA-1."""
    first = structures.ESSCertID(digest=digest, issuer_serial=None)
    return structures.SigningCertificate(certs=[first], policies=None)


@dataclass(frozen=True, kw_only=True)
class Making:
    """How to make a token; the defaults make a good one."""

    authority: Authority
    message: bytes = b"a checkpoint"
    gen_time: datetime = NOW
    nonce: int | None = 99
    info: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[ObjectIdentifier, structures.Attribute | None] = field(default_factory=dict)
    extra_attributes: Sequence[structures.Attribute] = ()
    digest_algorithm: ObjectIdentifier = structures.SHA256
    certificates: Sequence[x509.Certificate] | None = None
    signers: int = 1
    content_kind: ObjectIdentifier = structures.TST_INFO
    token_kind: ObjectIdentifier = structures.SIGNED_DATA
    status: int = 0
    tamper: Callable[[bytes], bytes] = bytes

    def but(self, **changes: object) -> "Making":
        """Return the same making with these parts changed."""
        return replace(self, **changes)

    def tst_info(self) -> bytes:
        """Return the DER of the TSTInfo."""
        parts: dict[str, Any] = {
            "version": 1,
            "policy": POLICY,
            "imprint": structures.MessageImprint(
                algorithm=algorithm(structures.SHA256),
                digest=hashlib.sha256(self.message).digest(),
            ),
            "serial": 4711,
            "gen_time": asn1.GeneralizedTime(self.gen_time),
            "accuracy": structures.Accuracy(seconds=1, millis=None, micros=None),
            "ordering": False,
            "nonce": self.nonce,
            "tsa": None,
            "extensions": None,
        }
        return asn1.encode_der(structures.TSTInfo(**(parts | dict(self.info))))

    def signed_attributes(self, content: bytes) -> list[structures.Attribute]:
        """Return the attributes that the signature covers, sorted as DER wants them."""
        signer = der(self.authority.signer.certificate)
        wanted: dict[ObjectIdentifier, structures.Attribute | None] = {
            structures.CONTENT_TYPE: attribute(structures.CONTENT_TYPE, structures.TST_INFO),
            MESSAGE_DIGEST: attribute(MESSAGE_DIGEST, hashlib.sha256(content).digest()),
            structures.SIGNING_CERTIFICATE_V2: attribute(
                structures.SIGNING_CERTIFICATE_V2, cert_v2(hashlib.sha256(signer).digest())
            ),
        }
        wanted |= self.attributes
        kept = [a for a in wanted.values() if a is not None]
        return sorted([*kept, *self.extra_attributes], key=asn1.encode_der)

    def signer_info(self, content: bytes) -> structures.SignerInfo:
        """Sign the attributes and describe the signature."""
        attributes = self.signed_attributes(content)
        covered = element(0x31, b"".join(asn1.encode_der(a) for a in attributes))
        signer = self.authority.signer
        return structures.SignerInfo(
            version=1,
            signer=structures.IssuerAndSerial(
                issuer=tlv(signer.certificate.issuer.public_bytes()),
                serial=signer.certificate.serial_number,
            ),
            digest_algorithm=algorithm(self.digest_algorithm),
            signed_attributes=asn1.SetOf(attributes),
            signature_algorithm=tlv(
                asn1.encode_der(algorithm(ObjectIdentifier("1.2.840.10045.4.3.2")))
            ),
            signature=self.tamper(signer.key.sign(covered, ec.ECDSA(hashes.SHA256()))),
            unsigned_attributes=None,
        )

    def response(self) -> bytes:
        """Return the DER of the whole response."""
        content = self.tst_info()
        certificates = self.certificates
        if certificates is None:
            certificates = [
                self.authority.signer.certificate,
                self.authority.intermediate.certificate,
            ]
        signed = structures.SignedData(
            version=3,
            digest_algorithms=asn1.SetOf([algorithm(structures.SHA256)]),
            content=structures.EncapsulatedContent(kind=self.content_kind, octets=content),
            certificates=list(certificates) or None,
            revocations=None,
            signers=asn1.SetOf([self.signer_info(content)] * self.signers),
        )
        return asn1.encode_der(
            structures.TimeStampResp(
                status=structures.PKIStatusInfo(status=self.status, texts=None, failure=None),
                token=structures.ContentInfo(kind=self.token_kind, signed_data=signed),
            )
        )


MESSAGE = b"a checkpoint"
AUTHORITY = Authority.new()
GOOD = Making(authority=AUTHORITY)
RESPONSE = GOOD.response()
ROOT = AUTHORITY.root.der


def refused(
    response: bytes,
    *,
    message: bytes = MESSAGE,
    roots: Sequence[bytes | TimestampRoot] = (ROOT,),
    nonce: int | None = None,
    chain: Sequence[bytes] = (),
) -> str:
    """Return the sentence with which a response is refused."""
    with pytest.raises(TimestampInvalid) as caught:
        verify_timestamp(response, message, roots, nonce=nonce, chain=chain)
    return caught.value.detail


def bound(value: structures.SigningCertificateV2) -> bytes:
    """Make a response whose signature binds `value`."""
    kind = structures.SIGNING_CERTIFICATE_V2
    return GOOD.but(attributes={kind: attribute(kind, value)}).response()


def bound_v1(value: structures.SigningCertificate) -> bytes:
    """Make a response whose signature binds `value`, by the older attribute alone."""
    older = structures.SIGNING_CERTIFICATE
    changes = {structures.SIGNING_CERTIFICATE_V2: None, older: attribute(older, value)}
    return GOOD.but(attributes=changes).response()


def accuracy(parts: tuple[int | None, ...] | None) -> structures.Accuracy | None:
    """Make an accuracy of seconds, milliseconds and microseconds."""
    if parts is None:
        return None
    return structures.Accuracy(seconds=parts[0], millis=parts[1], micros=parts[2])
