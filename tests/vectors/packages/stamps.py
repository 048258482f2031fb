"""Time-stamps in forms that the usual maker does not write; `edges.py` makes vectors of them."""

from dataclasses import dataclass, replace
from datetime import datetime

from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509 import ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID

from evidence.timestamp import structures
from tests.evidence.timestamp_maker import (
    Authority,
    Making,
    attribute,
    cert_v1,
    element,
    issue,
    tlv,
)


@dataclass(frozen=True, kw_only=True)
class RSAMaking(Making):
    """Signs with an RSA key, PKCS #1 v1.5."""

    key: rsa.RSAPrivateKey

    def signer_info(self, content: bytes) -> structures.SignerInfo:
        """See `Making.signer_info`."""
        info = super().signer_info(content)
        parts = b"".join(map(asn1.encode_der, self.signed_attributes(content)))
        return replace(
            info,
            signature=self.key.sign(element(0x31, parts), padding.PKCS1v15(), hashes.SHA256()),
            signature_algorithm=tlv(bytes.fromhex("300d06092a864886f70d01010b0500")),
        )


@dataclass(frozen=True, kw_only=True)
class MisnamedMaking(Making):
    """Names another issuer of its certificate, which the signature does not cover."""

    def signer_info(self, content: bytes) -> structures.SignerInfo:
        """See `Making.signer_info`."""
        info = super().signer_info(content)
        issuer = tlv(self.authority.root.certificate.subject.public_bytes())
        return replace(info, signer=replace(info.signer, issuer=issuer))


def makings(own: Authority, at: datetime) -> dict[str, tuple[Making, list[str]]]:
    """How to make each token, and what cannot be confirmed by it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    stamper = issue(
        "Test RSA TSA",
        own.intermediate,
        purposes=(ExtendedKeyUsageOID.TIME_STAMPING,),
        public_key=key.public_key(),
    )
    older = hashes.Hash(hashes.SHA1())  # noqa: S303  RFC 2634 has no other
    older.update(own.signer.der)
    bound: dict[ObjectIdentifier, structures.Attribute | None] = {
        structures.SIGNING_CERTIFICATE_V2: None,
        structures.SIGNING_CERTIFICATE: attribute(
            structures.SIGNING_CERTIFICATE, cert_v1(older.finalize())
        ),
    }
    return {
        "token-by-an-rsa-key": (
            RSAMaking(authority=replace(own, signer=stamper), gen_time=at, key=key),
            [],
        ),
        "token-bound-by-esscertid": (Making(authority=own, gen_time=at, attributes=bound), []),
        "token-of-another-issuer-by-name": (
            MisnamedMaking(authority=own, gen_time=at),
            ["time.checkpoint", "time.signature"],
        ),
    }
