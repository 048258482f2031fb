"""Signed notes: a text, a blank line, and one line for each signature.

    example.com/log
    7
    Tju7H3tHjc/nH7YxYxUZo7yhLJrvyhYSv85ME6hiZNQ=

    — example.com/log <base64 of key id ‖ signature>

This module reads and writes that form, and the `vkey` text of a verifier's key. It refuses
bytes that it could not write again identically: control characters, loose base64, names with
spaces. It does not decide whom to trust, and a parsed `Note` is unverified.

Source: C2SP signed-note.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from evidence.errors import FieldInvalid, KeyInvalid, NoteInvalid, SignatureInvalid, TooLarge
from evidence.schema import decode_base64, encode_base64

ED25519: Final = 0x01
"""Signature type of a log: Ed25519 over the note's text."""
COSIGNATURE_ED25519: Final = 0x04
"""Signature type of a witness: time and Ed25519, see `evidence.tlog.cosignature`."""
ML_DSA_44: Final = 0x06
"""Signature type of a log or a witness: time and ML-DSA-44, see `evidence.tlog.cosignature`."""

PUBLIC_KEY_BYTES: Final = {ED25519: 32, COSIGNATURE_ED25519: 32, ML_DSA_44: 1312}
"""Length of the public key by signature type; a type that is not here is refused in vkeys."""

MAX_NOTE_BYTES: Final = 256 * 1024
MAX_SIGNATURES: Final = 64
MAX_VKEY_CHARS: Final = 4096
KEY_ID_BYTES: Final = 4

_NO_TEXT = re.compile("[\\x00-\\x09\\x0b-\\x1f\\ud800-\\udfff]")
_NO_NAME = re.compile("[\\s+\\x00-\\x1f\\ud800-\\udfff]")
_KEY_ID_HEX = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSignature:
    """One signature line, unverified.

    Attributes:
        name: the key's name: not empty, without spaces, plus signs and control characters.
        key_id: 4 bytes; a hint which key to try, no proof of anything.
        value: the signature itself, 1 byte or more; its form depends on the key's type.
    """

    name: str
    key_id: bytes
    value: bytes

    def __post_init__(self) -> None:
        """Refuse what no signature line can carry."""
        if not is_key_name(self.name):
            raise NoteInvalid("a signature line names no key")
        if len(self.key_id) != KEY_ID_BYTES or not self.value:
            raise NoteInvalid("a signature line carries no key id and signature")


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A signed note, unverified.

    Attributes:
        text: what is signed, its final newline included.
        signatures: the lines in their order, at least one.
    """

    text: str
    signatures: tuple[NoteSignature, ...]

    def __post_init__(self) -> None:
        """Refuse what `parse_note` would not read back identically."""
        if not self.text.endswith("\n") or _NO_TEXT.search(self.text):
            raise NoteInvalid("the text of a note ends in a newline and has no control characters")
        if not self.signatures:
            raise NoteInvalid("the note has no signature")

    def encode(self) -> bytes:
        """Return the note as UTF-8 bytes."""
        lines = "".join(map(signature_line, self.signatures))
        return f"{self.text}\n{lines}".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A public key with the name and the signature type under which it is trusted.

    Attributes:
        name: a log's origin or a witness's name.
        kind: `ED25519`, `COSIGNATURE_ED25519` or `ML_DSA_44`.
        public_key: raw public key; 32 bytes, or 1,312 for ML-DSA-44.
    """

    name: str
    kind: int
    public_key: bytes

    def __post_init__(self) -> None:
        """Refuse names, types and lengths that no vkey of ours can have."""
        if not is_key_name(self.name):
            raise KeyInvalid("a verifier key has no usable name")
        if PUBLIC_KEY_BYTES.get(self.kind) != len(self.public_key):
            raise KeyInvalid("a verifier key is of an unknown type or of the wrong length")

    @property
    def full_key_id(self) -> bytes:
        """SHA-256(name ‖ 0x0A ‖ type ‖ public key), 32 bytes; Rekor v2's log id."""
        material = self.name.encode() + b"\n" + bytes([self.kind]) + self.public_key
        return sha256(material).digest()

    @property
    def key_id(self) -> bytes:
        """The first 4 bytes of `full_key_id`, as signature lines name the key."""
        return self.full_key_id[:KEY_ID_BYTES]

    def encode(self) -> str:
        """Return the vkey text `<name>+<8 hex digits>+<base64 of type ‖ public key>`."""
        material = encode_base64(bytes([self.kind]) + self.public_key)
        return f"{self.name}+{self.key_id.hex()}+{material}"

    def made(self, signature: NoteSignature) -> bool:
        """Whether the line claims to be this key's: same name and same key id."""
        return signature.name == self.name and signature.key_id == self.key_id


def is_key_name(name: str) -> bool:
    """Whether a text can name a key: not empty, no Unicode spaces, no plus, no controls."""
    return bool(name) and not _NO_NAME.search(name)


def is_line(text: str) -> bool:
    """Whether a text can stand as one line of a note: not empty, no controls, no newline."""
    return bool(text) and "\n" not in text and not _NO_TEXT.search(text)


def signature_line(signature: NoteSignature) -> str:
    """Return `— <name> <base64 of key id ‖ signature>` with its newline."""
    encoded = encode_base64(signature.key_id + signature.value)
    return f"— {signature.name} {encoded}\n"


def parse_note(data: bytes, *, max_signatures: int = MAX_SIGNATURES) -> Note:
    """Read a signed note without verifying it.

    Args:
        data: UTF-8, at most 256 KiB.
        max_signatures: how many signature lines are read at most; C2SP demands ≥ 16.

    Returns:
        A note whose `encode()` is `data` again.

    Raises:
        TooLarge: more bytes or more lines than the limits.
        NoteInvalid: anything else about it; the sender's fault.

    Source: C2SP signed-note, “Format”.
    """
    if len(data) > MAX_NOTE_BYTES:
        raise TooLarge("the note is larger than 256 KiB")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NoteInvalid("the note is not UTF-8") from error
    text, blank, lines = whole.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise NoteInvalid("the note has no signature lines after a blank line")
    found = lines[:-1].split("\n")
    if len(found) > max_signatures:
        raise TooLarge("the note carries too many signatures")
    signatures = tuple(map(parse_signature_line, found))
    if len(set(found)) != len(found):  # a genuine line, repeated, would cost time each time
        raise NoteInvalid("the note carries one signature line twice")
    return Note(text=f"{text}\n", signatures=signatures)


def parse_signature_line(line: str) -> NoteSignature:
    """Read one signature line without its newline.

    Raises:
        NoteInvalid: it is not exactly what `signature_line` writes.
    """
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    if dash != "—":
        raise NoteInvalid("a signature line does not begin with an em dash and a space")
    try:
        raw = decode_base64(encoded)
    except FieldInvalid as error:
        raise NoteInvalid("a signature is not in canonical base64") from error
    return NoteSignature(name=name, key_id=raw[:KEY_ID_BYTES], value=raw[KEY_ID_BYTES:])


def parse_vkey(text: str) -> VerifierKey:
    """Read a verifier key such as `example.com/foo+530d903a+AekyeRrm…`.

    Raises:
        KeyInvalid: the form, the type or the length is wrong, or the key id is not the one
            that belongs to this name, type and key.

    Source: C2SP signed-note, “Verifier keys”.
    """
    if len(text) > MAX_VKEY_CHARS:
        raise KeyInvalid("a verifier key is longer than 4,096 characters")
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    if not _KEY_ID_HEX.fullmatch(key_id):
        raise KeyInvalid("a verifier key lacks its eight lowercase hex digits")
    try:
        material = decode_base64(encoded)
    except FieldInvalid as error:
        raise KeyInvalid("a verifier key is not in canonical base64") from error
    if not material:
        raise KeyInvalid("a verifier key is empty")
    key = VerifierKey(name=name, kind=material[0], public_key=material[1:])
    if key.key_id.hex() != key_id:
        raise KeyInvalid("a verifier key carries another key's id")
    return key


def verify_ed25519(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Raise SignatureInvalid unless an Ed25519 signature (RFC 8032) holds.

    Args:
        public_key: 32 bytes.
        signature: 64 bytes; any other length does not hold.
        message: what was signed.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature as error:
        raise SignatureInvalid("an Ed25519 signature does not verify") from error
