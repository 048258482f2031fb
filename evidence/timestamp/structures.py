"""The ASN.1 of RFC 3161 and of the part of CMS that a time-stamp token uses.

Does: declares the structures; `cryptography.hazmat.asn1` reads them as strict DER. Refuses:
the CMS choices that no time-stamp authority uses (attribute certificates, a signer named by
key identifier), which are a parse error here.

`certificates` is a SET in the standard and a SEQUENCE OF here: it lies outside the signature,
and older OpenSSL, and so FreeTSA, writes it unsorted. The members are the same bytes.

Sources: RFC 3161 §2.4, RFC 5652 §5, RFC 5816 §2 (ESSCertIDv2), RFC 2634 §5.4 (ESSCertID).
"""

from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.x509 import ObjectIdentifier

SIGNED_DATA: Final = ObjectIdentifier("1.2.840.113549.1.7.2")
CONTENT_TYPE: Final = ObjectIdentifier("1.2.840.113549.1.9.3")
MESSAGE_DIGEST: Final = ObjectIdentifier("1.2.840.113549.1.9.4")
TST_INFO: Final = ObjectIdentifier("1.2.840.113549.1.9.16.1.4")
SIGNING_CERTIFICATE: Final = ObjectIdentifier("1.2.840.113549.1.9.16.2.12")
SIGNING_CERTIFICATE_V2: Final = ObjectIdentifier("1.2.840.113549.1.9.16.2.47")
SHA256: Final = ObjectIdentifier("2.16.840.1.101.3.4.2.1")
SHA384: Final = ObjectIdentifier("2.16.840.1.101.3.4.2.2")
SHA512: Final = ObjectIdentifier("2.16.840.1.101.3.4.2.3")


@asn1.sequence
class AlgorithmIdentifier:
    """A digest algorithm: the parameters are NULL or absent."""

    algorithm: ObjectIdentifier
    parameters: asn1.Null | None


@asn1.sequence
class MessageImprint:
    """The digest that is stamped."""

    algorithm: AlgorithmIdentifier
    digest: bytes


@asn1.sequence
class TimeStampReq:
    """What is sent to the authority."""

    version: int
    imprint: MessageImprint
    policy: ObjectIdentifier | None
    nonce: int | None
    cert_req: Annotated[bool, asn1.Default(value=False)]


@asn1.sequence
class PKIStatusInfo:
    """Whether the authority stamped, and if not why."""

    status: int
    texts: list[str] | None
    failure: asn1.BitString | None


@asn1.sequence
class EncapsulatedContent:
    """What the CMS signature covers: here the DER of a TSTInfo."""

    kind: ObjectIdentifier
    octets: Annotated[bytes, asn1.Explicit(0)]


@asn1.sequence
class IssuerAndSerial:
    """Names the signing certificate; the issuer stays opaque, OpenSSL compares it."""

    issuer: asn1.TLV
    serial: int


@asn1.sequence
class Attribute:
    """One attribute; `values` is a SET with one member for every kind that we read."""

    kind: ObjectIdentifier
    values: asn1.SetOf[asn1.TLV]


@asn1.sequence
class Covered:
    """The signed attributes with the tag under which they are signed (RFC 5652 §5.4)."""

    attributes: asn1.SetOf[Attribute]


@asn1.sequence
class SignerInfo:
    """One signature. Signed attributes are not optional where the content is a TSTInfo."""

    version: int
    signer: IssuerAndSerial
    digest_algorithm: AlgorithmIdentifier
    signed_attributes: Annotated[asn1.SetOf[Attribute], asn1.Implicit(0)]
    signature_algorithm: asn1.TLV
    signature: bytes
    unsigned_attributes: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]


@asn1.sequence
class SignedData:
    """Content, certificates (unsigned, any order) and signatures."""

    version: int
    digest_algorithms: asn1.SetOf[AlgorithmIdentifier]
    content: EncapsulatedContent
    certificates: Annotated[list[x509.Certificate] | None, asn1.Implicit(0)]
    revocations: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]
    signers: asn1.SetOf[SignerInfo]


@asn1.sequence
class ContentInfo:
    """The time-stamp token."""

    kind: ObjectIdentifier
    signed_data: Annotated[SignedData, asn1.Explicit(0)]


@asn1.sequence
class TimeStampResp:
    """What the authority sends back and what we store."""

    status: PKIStatusInfo
    token: ContentInfo | None


@asn1.sequence
class Accuracy:
    """How far the stated time may be from UTC, either way."""

    seconds: int | None
    millis: Annotated[int | None, asn1.Implicit(0)]
    micros: Annotated[int | None, asn1.Implicit(1)]


@asn1.sequence
class Extension:
    """An extension of a TSTInfo; we know none."""

    kind: ObjectIdentifier
    critical: Annotated[bool, asn1.Default(value=False)]
    octets: bytes


@asn1.sequence
class TSTInfo:
    """What the authority signed. `tsa` is its own claim about its name and is not used."""

    version: int
    policy: ObjectIdentifier
    imprint: MessageImprint
    serial: int
    gen_time: asn1.GeneralizedTime
    accuracy: Accuracy | None
    ordering: Annotated[bool, asn1.Default(value=False)]
    nonce: int | None
    tsa: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]  # [0] EXPLICIT GeneralName
    extensions: Annotated[list[Extension] | None, asn1.Implicit(1)]


@asn1.sequence
class IssuerSerial:
    """Repeats the certificate's issuer and serial; its digest already binds all of it."""

    issuer: list[asn1.TLV]
    serial: int


@asn1.sequence
class ESSCertID:
    """The SHA-1 of a certificate: RFC 2634, still sent by older authorities."""

    digest: bytes
    issuer_serial: IssuerSerial | None


@asn1.sequence
class ESSCertIDv2:
    """A digest of a certificate, SHA-256 where no algorithm is named."""

    algorithm: AlgorithmIdentifier | None
    digest: bytes
    issuer_serial: IssuerSerial | None


@asn1.sequence
class SigningCertificate:
    """The attribute of RFC 2634; the first member is the signer's certificate."""

    certs: list[ESSCertID]
    policies: list[asn1.TLV] | None


@asn1.sequence
class SigningCertificateV2:
    """The attribute of RFC 5035; the first member is the signer's certificate."""

    certs: list[ESSCertIDv2]
    policies: list[asn1.TLV] | None
