"""The log entry of a statement: the RFC 8785 form of a Rekor v2 `hashedrekord` 0.0.2.

Does: writes and reads the one leaf that a statement has, so that C2SP and Sigstore tools
read the same entry. Refuses: any other member, key type or encoding. The statement's text
is never in the leaf; its digest, the signature and the public key are.

    {"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":
    {"algorithm":"SHA2_256","digest":"<base64>"},"signature":{"content":"<base64 DER>",
    "verifier":{"keyDetails":"PKIX_ECDSA_P256_SHA_256","publicKey":{"rawBytes":
    "<base64 SubjectPublicKeyInfo>"}}}}}}          (one line, without spaces)

Source: sigstore/protobuf-specs `hashedrekord.proto` v0.0.2; docs/evidence-format.md §4.
"""

import re
from dataclasses import dataclass

from evidence.errors import FieldInvalid, LeafInvalid
from evidence.schema import decode_base64, encode_base64

KEY_DETAILS = "PKIX_ECDSA_P256_SHA_256"
_BASE64 = r"([A-Za-z0-9+/]+={0,2})"
_TEMPLATE = (
    '{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":'
    '{"data":{"algorithm":"SHA2_256","digest":"%s"},"signature":{"content":"%s",'
    '"verifier":{"keyDetails":"' + KEY_DETAILS + '","publicKey":{"rawBytes":"%s"}}}}}}'
)
_PATTERN = re.compile(re.escape(_TEMPLATE).replace("%s", _BASE64))
_MAX_LEAF_BYTES = 1024  # ours has at most 471: 44 + 96 + 124 characters of base64 and the frame
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What a leaf says.

    Attributes:
        statement_id: SHA-256 of the statement's canonical bytes, 64 hex digits.
        signature: DER ECDSA signature over those bytes.
        public_key: DER SubjectPublicKeyInfo of the signer.
    """

    statement_id: str
    signature: bytes
    public_key: bytes


def leaf_of(statement_id: str, signature: bytes, public_key: bytes) -> bytes:
    """Write the leaf of a signed statement.

    Args:
        statement_id: 64 lowercase hex digits.
        signature: DER.
        public_key: DER SubjectPublicKeyInfo.

    Returns:
        ASCII bytes, about 470 of them; their RFC 6962 leaf hash goes into the log.
    """
    return (
        _TEMPLATE
        % (
            encode_base64(bytes.fromhex(statement_id)),
            encode_base64(signature),
            encode_base64(public_key),
        )
    ).encode("ascii")


def parse_leaf(leaf: bytes) -> Leaf:
    """Read a leaf of ours, strictly.

    Raises:
        LeafInvalid: the bytes are any other entry, or base64 that does not round-trip.
    """
    if len(leaf) > _MAX_LEAF_BYTES:
        msg = "A log entry is longer than any that this format writes."
        raise LeafInvalid(msg)
    found = _PATTERN.fullmatch(leaf.decode("ascii", "replace"))
    if not found:
        msg = "A log entry is no hashedrekord 0.0.2 of a P-256 key."
        raise LeafInvalid(msg)
    try:
        digest, signature, public_key = map(decode_base64, found.groups())
    except FieldInvalid as error:
        msg = "A log entry holds base64 that is malformed or not its own canonical form."
        raise LeafInvalid(msg) from error
    if len(digest) != _DIGEST_BYTES:
        msg = "A log entry's digest is not 32 bytes."
        raise LeafInvalid(msg)
    return Leaf(statement_id=digest.hex(), signature=signature, public_key=public_key)
