"""Sigstore bundle v0.3 and trusted root, so that Sigstore's own clients can judge us.

Does: writes a bundle for one statement (managed key, Rekor v2 log entry, RFC 3161 token)
and the trusted root that such a client is configured with. Refuses to read either: what
judges these files is somebody else's code; our own verifier reads the statement, the
proof and the token, and checks more than a bundle can say.

Source: sigstore/protobuf-specs `sigstore_bundle.proto` v0.3 and `sigstore_trustroot.proto`;
docs/evidence-format.md §9.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from evidence.canonical import JSONObject, JSONValue
from evidence.leaf import leaf_of
from evidence.schema import encode_base64, format_time
from evidence.statement import SignedStatement
from evidence.tlog.checkpoint import parse_checkpoint_body
from evidence.tlog.note import ED25519, VerifierKey, parse_note
from evidence.tlog.proof import TlogProof

BUNDLE_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
TRUSTED_ROOT_MEDIA_TYPE = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedAuthority:
    """A time-stamping authority as a Sigstore client wants it.

    Attributes:
        name: common name, for people.
        certificates: DER, the signing certificate first, the root last.
        valid_from: UTC.
    """

    name: str
    certificates: tuple[bytes, ...]
    valid_from: datetime


def make_bundle(
    signed: SignedStatement,
    public_key: bytes,
    proof: TlogProof,
    log_key: VerifierKey,
    tokens: Sequence[bytes],
) -> JSONObject:
    """Write the bundle of one logged statement.

    Args:
        signed: the statement with its signature; its canonical bytes are the artifact.
        public_key: DER SubjectPublicKeyInfo of the signer.
        proof: inclusion proof and checkpoint.
        log_key: the log's Ed25519 key, whose full 32-byte id names the log.
        tokens: DER TimeStampResp over the statement's own DER signature, at least one.

    Returns:
        A JSON document; its artifact is `signed.raw`.

    Raises:
        ValueError: no token, or a key of another kind: the caller's mistake.
        NoteInvalid: the proof's checkpoint is malformed.
    """
    if not tokens or log_key.kind != ED25519:
        raise ValueError("a bundle needs a token and the log's Ed25519 key")
    checkpoint = parse_checkpoint_body(parse_note(proof.checkpoint).text)
    entry: JSONObject = {
        "logIndex": str(proof.index),
        "logId": {"keyId": encode_base64(log_key.full_key_id)},
        "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
        "inclusionProof": {
            "logIndex": str(proof.index),
            "rootHash": encode_base64(checkpoint.root),
            "treeSize": str(checkpoint.size),
            "hashes": [encode_base64(item) for item in proof.hashes],
            "checkpoint": {"envelope": proof.checkpoint.decode("utf-8")},
        },
        "canonicalizedBody": encode_base64(leaf_of(signed.id, signed.signature, public_key)),
    }
    return {
        "mediaType": BUNDLE_MEDIA_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": signed.key_id},
            "tlogEntries": [entry],
            "timestampVerificationData": {
                "rfc3161Timestamps": [{"signedTimestamp": encode_base64(token)} for token in tokens]
            },
        },
        "messageSignature": {
            "messageDigest": {
                "algorithm": "SHA2_256",
                "digest": encode_base64(bytes.fromhex(signed.id)),
            },
            "signature": encode_base64(signed.signature),
        },
    }


def make_trusted_root(
    logs: Iterable[tuple[VerifierKey, datetime]], authorities: Iterable[TrustedAuthority]
) -> JSONObject:
    """Write the trusted root for a Sigstore client.

    Args:
        logs: each log's Ed25519 key with the time from which it signs, UTC.
        authorities: the time-stamping authorities.

    Returns:
        A JSON document. Inside a package it is a convenience, never a trust anchor.
    """
    tlogs: list[JSONValue] = [
        {
            "baseUrl": f"https://{key.name}",
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": encode_base64(_ed25519_spki(key)),
                "keyDetails": "PKIX_ED25519",
                "validFor": {"start": format_time(since)},
            },
            "logId": {"keyId": encode_base64(key.full_key_id)},
        }
        for key, since in logs
    ]
    stampers: list[JSONValue] = [
        {
            "subject": {"organization": "", "commonName": authority.name},
            "certChain": {
                "certificates": [{"rawBytes": encode_base64(der)} for der in authority.certificates]
            },
            "validFor": {"start": format_time(authority.valid_from)},
        }
        for authority in authorities
    ]
    return {
        "mediaType": TRUSTED_ROOT_MEDIA_TYPE,
        "tlogs": tlogs,
        "certificateAuthorities": [],
        "ctlogs": [],
        "timestampAuthorities": stampers,
    }


def _ed25519_spki(key: VerifierKey) -> bytes:
    loaded = Ed25519PublicKey.from_public_bytes(key.public_key)
    return loaded.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
