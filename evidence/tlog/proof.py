"""Proof files: an entry's index, its inclusion proof and the checkpoint, in one text.

    c2sp.org/tlog-proof@v1
    extra <base64>                                  (may be missing)
    index 73894
    gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=    (one line a hash, the leaf's sibling first)

    example.com/fancylog
    109482
    sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=

    — example.com/fancylog hI2DJw…

They are stored as `.tlog-proof`. This module writes and reads them and refuses everything that
it would not write identically. It verifies nothing: for that, open the checkpoint
(`open_checkpoint`), judge its witnesses (`Policy.judge`), then `merkle.verify_inclusion` with a
leaf hash computed from the entry itself. Extra data is never signed.

Source: C2SP tlog-proof.
"""

import re
from dataclasses import dataclass
from typing import Final

from evidence.errors import FieldInvalid, ProofFileInvalid, TooLarge
from evidence.merkle import HASH_BYTES
from evidence.schema import decode_base64, encode_base64
from evidence.tlog.checkpoint import parse_checkpoint_body
from evidence.tlog.note import parse_note

MAX_PROOF_FILE_BYTES: Final = 256 * 1024
MAX_HASHES: Final = 64
_HEADER: Final = "c2sp.org/tlog-proof@v1"
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlogProof:
    """An unverified proof that an entry stands in a log.

    Attributes:
        index: number of the entry, 0 ≤ index < the checkpoint's size.
        hashes: at most 64 hashes of 32 bytes, the leaf's sibling first.
        checkpoint: the signed note, verbatim.
        extra: opaque bytes that nobody signed, 1 byte or more, or None.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def __post_init__(self) -> None:
        """Refuse what `parse_tlog_proof` would not read back identically."""
        if len(self.hashes) > MAX_HASHES:
            raise TooLarge("the proof has more than 64 hashes")
        if any(len(value) != HASH_BYTES for value in self.hashes):
            raise ProofFileInvalid("a hash of the proof is not 32 bytes long")
        if self.extra is not None and not self.extra:
            raise ProofFileInvalid("the proof has an extra line without data")
        size = parse_checkpoint_body(parse_note(self.checkpoint).text).size
        if not 0 <= self.index < size:
            raise ProofFileInvalid("the proof's index is not in the checkpoint's tree")

    def encode(self) -> bytes:
        """Return the file's bytes."""
        lines = [_HEADER]
        if self.extra is not None:
            lines.append(f"extra {encode_base64(self.extra)}")
        lines.append(f"index {self.index}")
        lines += (encode_base64(value) for value in self.hashes)
        return "\n".join(lines).encode() + b"\n\n" + self.checkpoint


def parse_tlog_proof(data: bytes) -> TlogProof:
    """Read a proof file without verifying it.

    Args:
        data: at most 256 KiB.

    Returns:
        A proof whose `encode()` is `data` again.

    Raises:
        TooLarge: more bytes, or more than 64 hashes.
        ProofFileInvalid: the header, extra, index or hash lines are not in their one form.
        NoteInvalid: what follows the blank line is no checkpoint.

    Source: C2SP tlog-proof, “Format”.
    """
    if len(data) > MAX_PROOF_FILE_BYTES:
        raise TooLarge("the proof file is larger than 256 KiB")
    head, _, checkpoint = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise ProofFileInvalid("the lines of the proof are not ASCII") from error
    if lines.pop(0) != _HEADER:
        raise ProofFileInvalid("the file does not begin as a proof of this version")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = _base64_line(lines.pop(0).removeprefix("extra "))
    index = _INDEX.fullmatch(lines.pop(0)) if lines else None
    if index is None:
        raise ProofFileInvalid("the proof has no index line")
    if len(lines) > MAX_HASHES:
        raise TooLarge("the proof has more than 64 hashes")
    hashes = tuple(map(_base64_line, lines))
    return TlogProof(index=int(index[1]), hashes=hashes, checkpoint=checkpoint, extra=extra)


def _base64_line(text: str) -> bytes:
    try:
        return decode_base64(text)
    except FieldInvalid as error:
        raise ProofFileInvalid("a line of the proof is not canonical base64") from error
