"""Statement keys: ECDSA P-256 over SHA-256, named by their public key.

Does: names keys, signs and verifies. Refuses: other curves, signatures that are not
strict DER, and any use of a key but for statements. A verifier here raises; it never
returns a truth value that a caller could forget to look at.

A key id is the SHA-256 of the DER SubjectPublicKeyInfo with the uncompressed point,
lowercase hex; the same text is the `hint` of a Sigstore bundle.
"""

from functools import lru_cache
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)

from evidence.digest import sha256_hex
from evidence.errors import KeyInvalid, SignatureInvalid

SPKI_BYTES = 91  # DER SubjectPublicKeyInfo of an uncompressed P-256 point
RAW_SIGNATURE_BYTES = 64  # r ‖ s as WebCrypto returns it
_ECDSA = ec.ECDSA(hashes.SHA256())
_KEYS_REMEMBERED = 4096


class Signer(Protocol):
    """Something that holds one P-256 key and signs statements with it."""

    @property
    def key_id(self) -> str:
        """SHA-256 of `public_key`, 64 lowercase hex digits."""
        ...

    @property
    def public_key(self) -> bytes:
        """DER SubjectPublicKeyInfo, 91 bytes."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Sign canonical statement bytes; returns a DER ECDSA signature."""
        ...


class P256Signer:
    """A signer whose key lies in this process's memory."""

    __slots__ = ("_key", "_key_id", "_spki")

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        """Hold a P-256 private key.

        Raises:
            KeyInvalid: the key is on another curve.
        """
        if not isinstance(key.curve, ec.SECP256R1):
            msg = "A statement key is on the curve P-256."
            raise KeyInvalid(msg)
        self._key = key
        self._spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self._key_id = key_id_of(self._spki)

    @classmethod
    def generate(cls) -> "P256Signer":
        """Make a new key from the operating system's randomness."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes, password: bytes | None = None) -> "P256Signer":
        """Read a PKCS#8 PEM private key.

        Raises:
            KeyInvalid: no such key, a wrong password, or another algorithm.
        """
        try:
            key = load_pem_private_key(pem, password)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            msg = "The bytes are no readable PEM private key."
            raise KeyInvalid(msg) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            msg = "A statement key is on the curve P-256."
            raise KeyInvalid(msg)
        return cls(key)

    def to_pem(self, password: bytes | None = None) -> bytes:
        """Write the private key as PKCS#8 PEM, encrypted where a password is given."""
        encryption = BestAvailableEncryption(password) if password else NoEncryption()
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)

    @property
    def key_id(self) -> str:
        """SHA-256 of the public key, 64 lowercase hex digits."""
        return self._key_id

    @property
    def public_key(self) -> bytes:
        """DER SubjectPublicKeyInfo, 91 bytes."""
        return self._spki

    def sign(self, message: bytes) -> bytes:
        """Sign `message`; returns a DER ECDSA signature over its SHA-256."""
        return self._key.sign(message, _ECDSA)


def key_id_of(public_key: bytes) -> str:
    """Name a public key.

    Args:
        public_key: DER SubjectPublicKeyInfo, 91 bytes.

    Returns:
        64 lowercase hex digits.
    """
    return sha256_hex(public_key)


def check_public_key(public_key: bytes) -> None:
    """Refuse anything but the one DER form of a P-256 public key.

    Raises:
        KeyInvalid: another algorithm, curve, point form or encoding.
    """
    _load(public_key)


def verify_signature(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Check an ECDSA P-256 signature over the SHA-256 of `message`.

    Args:
        public_key: DER SubjectPublicKeyInfo, 91 bytes.
        signature: strict DER, at most 72 bytes.
        message: the signed bytes.

    Raises:
        KeyInvalid: the public key is not one of ours.
        SignatureInvalid: the signature is not strict DER, or does not verify.
    """
    key = _load(public_key)
    _check_der(signature)
    try:
        key.verify(signature, message, _ECDSA)
    except InvalidSignature as error:
        msg = "The signature does not belong to these bytes and this key."
        raise SignatureInvalid(msg) from error


def signature_from_raw(raw: bytes) -> bytes:
    """Turn WebCrypto's r ‖ s into DER, once, at the edge.

    Args:
        raw: 64 bytes, r then s, big-endian.

    Raises:
        SignatureInvalid: another length.
    """
    if len(raw) != RAW_SIGNATURE_BYTES:
        msg = "A raw P-256 signature has 64 bytes."
        raise SignatureInvalid(msg)
    return encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))


def _check_der(signature: bytes) -> None:
    """Two encodings of one signature would be two leaves: only the strict one passes."""
    try:
        r, s = decode_dss_signature(signature)
    except ValueError as error:
        msg = "The signature is not DER."
        raise SignatureInvalid(msg) from error
    if r < 1 or s < 1 or encode_dss_signature(r, s) != signature:
        msg = "The signature is not strict DER."
        raise SignatureInvalid(msg)


@lru_cache(maxsize=_KEYS_REMEMBERED)
def _load(public_key: bytes) -> ec.EllipticCurvePublicKey:
    if len(public_key) != SPKI_BYTES:
        msg = "A statement key is an uncompressed P-256 point in DER, 91 bytes."
        raise KeyInvalid(msg)
    try:
        key = load_der_public_key(public_key)
    except (ValueError, UnsupportedAlgorithm) as error:
        msg = "The bytes are no DER public key."
        raise KeyInvalid(msg) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        msg = "A statement key is on the curve P-256."
        raise KeyInvalid(msg)
    if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != public_key:
        msg = "The public key is not in its one DER form."
        raise KeyInvalid(msg)
    return key
