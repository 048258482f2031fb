"""Verifies a token's signature under the certificate that it binds, without any chain.

Does: tells a token that holds for its bytes, but whose authority nobody pinned, from one that
was damaged or made up. Refuses to say anything about whose certificate it is: under a pinned
root `rfc3161-client` (OpenSSL) judges signature and chain together, and only that is believed.

Source: RFC 5652 §5.4, §5.6; RFC 3279, RFC 8410 for the algorithms.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from evidence.errors import TimestampInvalid
from evidence.timestamp.reading import DIGESTS, Token, read_attributes
from evidence.timestamp.structures import MESSAGE_DIGEST, Covered, SignerInfo

_HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


def verify_own_signature(token: Token, signer: x509.Certificate) -> None:
    """Demand that the bound certificate's key signed this very time-stamp.

    1. The signed attribute message-digest is the digest of the signed TSTInfo.
    2. The signature verifies over the signed attributes, written as a SET: ECDSA, RSA with
       PKCS #1 v1.5, or Ed25519, with the digest that the token names.

    Args:
        token: from `read_token`.
        signer: the certificate that its signed attributes bind.

    Raises:
        TimestampInvalid: it did not, or with an algorithm that is not known here.
    """
    (info,) = token.signed.signers.as_list()
    name = DIGESTS[info.digest_algorithm.algorithm]
    digest = hashlib.new(name, token.signed.content.octets).digest()
    if read_attributes(info).get(MESSAGE_DIGEST) != asn1.encode_der(digest):  # 1
        raise TimestampInvalid("The time-stamp's signature covers other content.")
    try:
        _verify(signer, info.signature, _covered(info), _HASHES[name])  # 2
    except InvalidSignature as exc:
        raise TimestampInvalid("The time-stamp's signature does not hold.") from exc


def _covered(info: SignerInfo) -> bytes:
    """The signed attributes as RFC 5652 §5.4 has them signed: with the tag of a SET."""
    whole = asn1.encode_der(Covered(attributes=info.signed_attributes))
    long_form = whole[1] & 0x80
    return whole[2 + (whole[1] & 0x7F if long_form else 0) :]


def _verify(
    signer: x509.Certificate, signature: bytes, covered: bytes, digest: hashes.HashAlgorithm
) -> None:
    key = signer.public_key()
    if isinstance(key, EllipticCurvePublicKey):
        key.verify(signature, covered, ECDSA(digest))
    elif isinstance(key, RSAPublicKey):
        key.verify(signature, covered, PKCS1v15(), digest)
    elif isinstance(key, Ed25519PublicKey):
        key.verify(signature, covered)
    else:
        raise TimestampInvalid("The time-stamp is signed with an algorithm that is not known.")
