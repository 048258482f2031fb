"""Cosignatures: a witness states when it saw a consistent tree of this size and root.

A cosignature is a signature line of a checkpoint whose value is 8 bytes of POSIX seconds,
big-endian, and a signature: Ed25519 (type 0x04) over

    cosignature/v1
    time 1679315147
    <the checkpoint's body>

or ML-DSA-44 (type 0x06) over the binary `cosigned_message`, which also names the cosigner and
is what a log's own second signature line signs. This module makes and checks both. It refuses
subtrees that do not start at leaf 0, and it takes no time of zero for a witness's word: a
cosignature without a time attests nothing about when.

Source: C2SP tlog-cosignature 1.1; tlog-witness for the time that must not be zero.
"""

from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from evidence.errors import SignatureInvalid
from evidence.tlog.note import (
    COSIGNATURE_ED25519,
    ML_DSA_44,
    NoteSignature,
    VerifierKey,
    verify_ed25519,
)

MAX_TIME_S: Final = 2**63 - 1
_LABEL: Final = b"subtree/v1\n\x00"
_TIME_BYTES: Final = 8


class TreeHead(Protocol):
    """What is cosigned; `evidence.tlog.checkpoint.Checkpoint` is one."""

    @property
    def origin(self) -> str:
        """The log."""
        ...

    @property
    def size(self) -> int:
        """Number of leaves."""
        ...

    @property
    def root(self) -> bytes:
        """Root hash, 32 bytes."""
        ...

    def body(self) -> str:
        """Return the checkpoint's text, final newline included."""
        ...


class Cosigner:
    """A witness's keys. It signs whatever it is given: the witness checks consistency first."""

    __slots__ = ("_ed25519", "_ml_dsa", "name")

    def __init__(
        self, name: str, ed25519: Ed25519PrivateKey, ml_dsa: MLDSA44PrivateKey | None
    ) -> None:
        """Take the keys of one witness.

        Args:
            name: a schema-less URL, at most 255 bytes of UTF-8.
            ed25519: its own key; the message does not name the cosigner, so sharing one
                between cosigners would let one's word pass for another's.
            ml_dsa: the second key, or None.
        """
        self.name = name
        self._ed25519 = ed25519
        self._ml_dsa = ml_dsa

    @property
    def verifier_keys(self) -> tuple[VerifierKey, ...]:
        """The public keys: type 0x04, and 0x06 where there is one."""
        return timestamping_keys(self.name, self._ed25519, self._ml_dsa)

    def cosign(self, checkpoint: TreeHead, at_s: int) -> list[NoteSignature]:
        """Return one cosignature for each key, Ed25519 first.

        Args:
            checkpoint: what the witness found consistent with all it saw before.
            at_s: POSIX seconds, 1 ≤ at_s < 2**63.

        Raises:
            ValueError: the time is out of range, or name or origin is longer than 255 bytes.
        """
        if at_s < 1:
            raise ValueError("a cosignature states a time after 1970")
        keys = self.verifier_keys
        message = ed25519_message(checkpoint, at_s)
        lines = [_line(keys[0], at_s, self._ed25519.sign(message))]
        if self._ml_dsa is not None:
            lines.append(ml_dsa_line(keys[1], self._ml_dsa, checkpoint, at_s))
        return lines


def timestamping_keys(
    name: str, ed25519: Ed25519PrivateKey, ml_dsa: MLDSA44PrivateKey | None
) -> tuple[VerifierKey, ...]:
    """Return the verifier keys of a cosigner's private keys."""
    public = ed25519.public_key().public_bytes_raw()
    first = VerifierKey(name=name, kind=COSIGNATURE_ED25519, public_key=public)
    return (first,) if ml_dsa is None else (first, ml_dsa_key(name, ml_dsa))


def ml_dsa_key(name: str, private_key: MLDSA44PrivateKey) -> VerifierKey:
    """Return the verifier key, type 0x06, of an ML-DSA-44 private key."""
    public = private_key.public_key().public_bytes_raw()
    return VerifierKey(name=name, kind=ML_DSA_44, public_key=public)


def ml_dsa_line(
    key: VerifierKey, private_key: MLDSA44PrivateKey, checkpoint: TreeHead, at_s: int
) -> NoteSignature:
    """Return a signature line of type 0x06, for a witness or for the log itself.

    Args:
        key: the public half, whose name is signed along.
        private_key: signs in hedged mode, so two lines for one message differ.
        checkpoint: what is signed; its extension lines are not covered.
        at_s: POSIX seconds, 0 ≤ at_s < 2**63.
    """
    return _line(key, at_s, private_key.sign(cosigned_message(key.name, at_s, checkpoint)))


def ed25519_message(checkpoint: TreeHead, at_s: int) -> bytes:
    """Return the bytes that a cosignature of type 0x04 signs."""
    return f"cosignature/v1\ntime {at_s}\n{checkpoint.body()}".encode()


def cosigned_message(cosigner: str, at_s: int, checkpoint: TreeHead) -> bytes:
    """Return the `cosigned_message` that a signature of type 0x06 signs.

    Its fields in order: the 12-byte label, the cosigner's name (1 length byte), the time,
    the log's origin (1 length byte), start = 0 and end = size as 8 bytes each, the root.

    Args:
        cosigner: key name, 1–255 bytes of UTF-8; the origin where the log itself signs.
        at_s: POSIX seconds, 0 ≤ at_s < 2**63.
        checkpoint: the tree that is signed as the subtree [0, size).

    Raises:
        ValueError: a field does not fit the structure.

    Source: C2SP tlog-cosignature, “ML-DSA-44 signed message”.
    """
    return b"".join(
        (
            _LABEL,
            _opaque(cosigner),
            _time_bytes(at_s),
            _opaque(checkpoint.origin),
            bytes(8),
            checkpoint.size.to_bytes(8, "big"),
            checkpoint.root,
        )
    )


def verify_cosignature(checkpoint: TreeHead, signature: NoteSignature, key: VerifierKey) -> int:
    """Return when the witness says it saw this checkpoint; raise unless it did say so.

    Args:
        checkpoint: read from the same note as the signature.
        signature: a line of that note.
        key: a witness's key, type 0x04 or 0x06, from a trusted source.

    Returns:
        POSIX seconds, 1 ≤ time < 2**63. Whether that is in the future is not asked here.

    Raises:
        SignatureInvalid: not this key's line, malformed, a time of zero, or not valid.
    """
    at_s = verify_timestamped(checkpoint, signature, key)
    if at_s == 0:
        raise SignatureInvalid("a witness's cosignature states no time")
    return at_s


def verify_timestamped(checkpoint: TreeHead, signature: NoteSignature, key: VerifierKey) -> int:
    """Do as `verify_cosignature` does, but take a time of zero, as a log's own line may have."""
    if not key.made(signature):
        raise SignatureInvalid("the signature line names another key")
    at_s = int.from_bytes(signature.value[:_TIME_BYTES], "big")
    raw = signature.value[_TIME_BYTES:]
    if at_s > MAX_TIME_S:
        raise SignatureInvalid("a cosignature states a time beyond 2^63 − 1")
    if key.kind == COSIGNATURE_ED25519:
        verify_ed25519(key.public_key, raw, ed25519_message(checkpoint, at_s))
    elif key.kind == ML_DSA_44:
        _verify_ml_dsa(key, raw, checkpoint, at_s)
    else:
        raise SignatureInvalid("a key of this type makes no cosignatures")
    return at_s


def _verify_ml_dsa(key: VerifierKey, raw: bytes, checkpoint: TreeHead, at_s: int) -> None:
    try:
        message = cosigned_message(key.name, at_s, checkpoint)
        MLDSA44PublicKey.from_public_bytes(key.public_key).verify(raw, message)
    except (InvalidSignature, ValueError) as error:
        raise SignatureInvalid("an ML-DSA-44 signature does not verify") from error


def _line(key: VerifierKey, at_s: int, raw: bytes) -> NoteSignature:
    return NoteSignature(name=key.name, key_id=key.key_id, value=_time_bytes(at_s) + raw)


def _time_bytes(at_s: int) -> bytes:
    if not 0 <= at_s <= MAX_TIME_S:
        raise ValueError("a time lies between 0 and 2^63 − 1 seconds")
    return at_s.to_bytes(_TIME_BYTES, "big")


def _opaque(text: str) -> bytes:
    """Encode `opaque<1..2^8-1>` of RFC 8446 §3: one length byte, then the bytes."""
    raw = text.encode()
    if not 1 <= len(raw) <= 255:
        raise ValueError("a cosigner's name and an origin have 1 to 255 bytes")
    return bytes([len(raw)]) + raw
