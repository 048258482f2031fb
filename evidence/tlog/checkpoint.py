"""Checkpoints: the signed statement of a log that its tree has this size and this root.

    example.com/behind-the-sofa
    20852163
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeO…

A log of ours signs twice, both lines under its origin: Ed25519 (type 0x01) over the text and
ML-DSA-44 (type 0x06) over the `cosigned_message` of tlog-cosignature. This module makes, reads
and opens checkpoints. It refuses a checkpoint of an origin that none of the caller's keys is
named after, and one in which any line of a known key fails. It does not count witnesses; see
`evidence.tlog.policy`.

Source: C2SP tlog-checkpoint.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from evidence.errors import CheckpointInvalid, FieldInvalid, SignatureInvalid
from evidence.merkle import EMPTY_ROOT, HASH_BYTES
from evidence.schema import decode_base64, encode_base64
from evidence.tlog.cosignature import ml_dsa_key, ml_dsa_line, verify_timestamped
from evidence.tlog.note import (
    ED25519,
    Note,
    NoteSignature,
    VerifierKey,
    is_line,
    parse_note,
    signature_line,
    verify_ed25519,
)

MAX_SIZE: Final = 2**63 - 1
MAX_ORIGIN_BYTES: Final = 255
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_OUR_ORIGIN = re.compile(r"[a-z0-9](?:[a-z0-9./-]*[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a log says about its tree, unsigned.

    Attributes:
        origin: the log's name; any line of text where others made it.
        size: number of leaves, 0 ≤ size < 2**63.
        root: 32 bytes; the empty tree has `merkle.EMPTY_ROOT`.
        extensions: further lines, opaque; ours are always empty, and ML-DSA-44 lines do not
            cover them.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what `parse_checkpoint_body` would not read back identically."""
        if not is_line(self.origin):
            raise CheckpointInvalid("the checkpoint has no origin line")
        if not 0 <= self.size <= MAX_SIZE:
            raise CheckpointInvalid("the checkpoint's tree size is out of range")
        if len(self.root) != HASH_BYTES:
            raise CheckpointInvalid("the checkpoint's root hash is not 32 bytes")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise CheckpointInvalid("the checkpoint of an empty tree has another root")
        if not all(map(is_line, self.extensions)):
            raise CheckpointInvalid("the checkpoint has an empty extension line")

    def body(self) -> str:
        """Return the note text: origin, size, root and extensions, each with its newline."""
        lines = (self.origin, str(self.size), encode_base64(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """A checkpoint whose log was verified. Only `open_checkpoint` should make one.

    Attributes:
        checkpoint: what the log says.
        note: the whole note, with lines of unknown keys still in it.
        log_keys: the keys whose lines verified, in the order of the note.
    """

    checkpoint: Checkpoint
    note: Note
    log_keys: tuple[VerifierKey, ...]


class LogSigner:
    """A log's keys. It signs what it is given: that sizes only grow is the log's duty."""

    __slots__ = ("_ed25519", "_ml_dsa", "origin")

    def __init__(
        self, origin: str, ed25519: Ed25519PrivateKey, ml_dsa: MLDSA44PrivateKey | None
    ) -> None:
        """Take the keys of one log.

        Args:
            origin: see `check_origin`.
            ed25519: the key of the line of type 0x01.
            ml_dsa: the key of the line of type 0x06, or None.

        Raises:
            CheckpointInvalid: the origin is not one that we give to a log.
        """
        check_origin(origin)
        self.origin = origin
        self._ed25519 = ed25519
        self._ml_dsa = ml_dsa

    @property
    def verifier_keys(self) -> tuple[VerifierKey, ...]:
        """The public keys: type 0x01, and 0x06 where there is one."""
        public = self._ed25519.public_key().public_bytes_raw()
        first = VerifierKey(name=self.origin, kind=ED25519, public_key=public)
        return (first,) if self._ml_dsa is None else (first, ml_dsa_key(self.origin, self._ml_dsa))

    def sign(self, checkpoint: Checkpoint, at_s: int) -> bytes:
        """Return the signed note, Ed25519 line first.

        Args:
            checkpoint: of this signer's origin.
            at_s: POSIX seconds for the ML-DSA-44 line, 0 ≤ at_s < 2**63.

        Raises:
            ValueError: another log's checkpoint, or a time out of range.
        """
        if checkpoint.origin != self.origin:
            raise ValueError("a log signs no checkpoint of another origin")
        keys = self.verifier_keys
        text = checkpoint.body()
        value = self._ed25519.sign(text.encode())
        lines = [NoteSignature(name=self.origin, key_id=keys[0].key_id, value=value)]
        if self._ml_dsa is not None:
            lines.append(ml_dsa_line(keys[1], self._ml_dsa, checkpoint, at_s))
        return Note(text=text, signatures=tuple(lines)).encode()


def check_origin(origin: str) -> None:
    """Raise unless we would give a log this origin; others' logs may have looser ones.

    Allowed are lowercase ASCII letters, digits, dots, slashes and hyphens, a letter or digit
    at both ends, at most 255 bytes, so that an origin is also a path, a key name and a file.

    Raises:
        CheckpointInvalid: it has other characters, or is too long.
    """
    if len(origin) > MAX_ORIGIN_BYTES or not _OUR_ORIGIN.fullmatch(origin):
        raise CheckpointInvalid("an origin has only lowercase letters, digits and . / -")


def parse_checkpoint_body(text: str) -> Checkpoint:
    """Read a note's text as a checkpoint.

    Returns:
        A checkpoint whose `body()` is `text` again.

    Raises:
        CheckpointInvalid: a line is missing, empty or not in its one canonical form.

    Source: C2SP tlog-checkpoint, “Note text”.
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop():
        raise CheckpointInvalid("a checkpoint has at least three lines")
    origin, size, root, *extensions = lines
    if not _SIZE.fullmatch(size):
        raise CheckpointInvalid("the checkpoint's tree size is not a decimal number")
    try:
        root_hash = decode_base64(root)
    except FieldInvalid as error:
        raise CheckpointInvalid("the checkpoint's root hash is not canonical base64") from error
    return Checkpoint(origin=origin, size=int(size), root=root_hash, extensions=tuple(extensions))


def open_checkpoint(
    data: bytes,
    log_keys: Sequence[VerifierKey],
    *,
    require: frozenset[int] = frozenset({ED25519}),
) -> SignedCheckpoint:
    """Read a signed checkpoint and verify that its log signed it.

    1. The note and its text are well formed.
    2. The origin is the name of at least one of the keys; keys of other names are not tried.
    3. Every line of such a key verifies; a bad one makes the whole note untrustworthy.
    4. Each type in `require` is among the keys that verified. (Threat: once one of two
       algorithms is broken, a forger leaves out the other's line.)
    5. Extension lines are there only if a line covers them, and ML-DSA-44 lines do not.

    Args:
        data: the note.
        log_keys: trusted keys of one or several logs, never from the same source as `data`.
        require: signature types that must all be there.

    Raises:
        NoteInvalid: step 1, or CheckpointInvalid in step 1 or 2.
        SignatureInvalid: steps 3 to 5.

    Source: C2SP signed-note, “Signatures”; tlog-checkpoint.
    """
    note = parse_note(data)  # 1
    checkpoint = parse_checkpoint_body(note.text)
    known = [key for key in log_keys if key.name == checkpoint.origin]  # 2
    if not known:
        raise CheckpointInvalid("the checkpoint is not from a log that is known here")
    verified: list[VerifierKey] = []
    for signature in note.signatures:  # 3
        for key in known:
            if key.made(signature):
                _verify_log_line(checkpoint, note, signature, key)
                verified.append(key)
    kinds = {key.kind for key in verified}
    if not verified or not require <= kinds:  # 4
        raise SignatureInvalid("the checkpoint lacks a demanded signature of its log")
    if checkpoint.extensions and ED25519 not in kinds:  # 5
        raise SignatureInvalid("no signature covers the checkpoint's extension lines")
    return SignedCheckpoint(checkpoint=checkpoint, note=note, log_keys=tuple(verified))


def timestamped_message(data: bytes, origin: str) -> bytes:
    """Return the bytes that an RFC 3161 token for this checkpoint covers.

    They are the body, a blank line and the lines under the log's own name, in their order:
    cosignatures that arrive later do not change them. Nothing is verified here.

    Args:
        data: the note, with or without cosignatures.
        origin: the log's origin.

    Raises:
        NoteInvalid: the bytes are no note; CheckpointInvalid: no checkpoint of this origin,
            or without a line of its log.
    """
    note = parse_note(data)
    own = [signature for signature in note.signatures if signature.name == origin]
    if parse_checkpoint_body(note.text).origin != origin or not own:
        raise CheckpointInvalid("the checkpoint is not signed under this origin")
    return f"{note.text}\n{''.join(map(signature_line, own))}".encode()


def _verify_log_line(
    checkpoint: Checkpoint, note: Note, signature: NoteSignature, key: VerifierKey
) -> None:
    if key.kind == ED25519:
        verify_ed25519(key.public_key, signature.value, note.text.encode())
    else:
        verify_timestamped(checkpoint, signature, key)
