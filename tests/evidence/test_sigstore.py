"""A Sigstore bundle says what the log says: each value is checked by its own means."""

import base64
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key

from evidence.keys import verify_signature
from evidence.leaf import parse_leaf
from evidence.merkle import hash_leaf, verify_inclusion
from evidence.sigstore import TrustedAuthority, make_bundle, make_trusted_root
from evidence.tlog.proof import parse_tlog_proof
from tests.evidence.package_maker import token, world_with_photo
from tests.evidence.timestamp_maker import START, Authority


def bytes_of(text: str) -> bytes:
    """What base64 says."""
    return base64.b64decode(text, validate=True)


def test_a_bundle_proves_its_statement() -> None:
    """The signature is over the artifact, the entry is in the tree, and the token is there."""
    world, capture = world_with_photo()
    packed = next(item for item in world.packed(world.checkpoint()) if item.signed.id == capture.id)
    proof = parse_tlog_proof(packed.proof)
    stamp = token(Authority.new(), capture.signature)
    key = world.device.public_key
    log_key = world.log.verifier_keys[0]
    bundle: dict[str, Any] = make_bundle(capture, key, proof, log_key, [stamp])
    material, message = bundle["verificationMaterial"], bundle["messageSignature"]
    entry = material["tlogEntries"][0]
    leaf, inclusion = bytes_of(entry["canonicalizedBody"]), entry["inclusionProof"]
    verify_signature(key, bytes_of(message["signature"]), capture.raw)
    verify_inclusion(
        hash_leaf(leaf),
        int(inclusion["logIndex"]),
        int(inclusion["treeSize"]),
        [bytes_of(item) for item in inclusion["hashes"]],
        bytes_of(inclusion["rootHash"]),
    )
    assert bytes_of(message["messageDigest"]["digest"]) == sha256(capture.raw).digest()
    assert parse_leaf(leaf).statement_id == capture.id
    assert entry["logIndex"] == inclusion["logIndex"] == str(proof.index)
    assert inclusion["checkpoint"]["envelope"].encode() == proof.checkpoint
    assert material["publicKey"]["hint"] == world.device.key_id
    stamps = material["timestampVerificationData"]["rfc3161Timestamps"]
    assert [bytes_of(item["signedTimestamp"]) for item in stamps] == [stamp]


def test_a_bundle_needs_a_token_and_the_ed25519_key() -> None:
    """Sigstore's clients know neither an entry without a time nor ML-DSA-44."""
    world, capture = world_with_photo()
    proof = parse_tlog_proof(world.packed(world.checkpoint())[2].proof)
    ed25519, ml_dsa = world.log.verifier_keys
    for key, tokens in ((ed25519, []), (ml_dsa, [b"token"])):
        with pytest.raises(ValueError, match="token and the log's Ed25519 key"):
            make_bundle(capture, world.device.public_key, proof, key, tokens)


def test_a_trusted_root_holds_the_log_s_key_and_the_authority_s_chain() -> None:
    """The log's key verifies its checkpoint, and its id begins with that of its note lines."""
    world, _ = world_with_photo()
    authority, log_key = Authority.new(), world.log.verifier_keys[0]
    chain = (authority.signer.der, authority.root.der)
    root: dict[str, Any] = make_trusted_root(
        [(log_key, START)],
        [TrustedAuthority(name="test authority", certificates=chain, valid_from=START)],
    )
    [log], [stamper] = root["tlogs"], root["timestampAuthorities"]
    public = load_der_public_key(bytes_of(log["publicKey"]["rawBytes"]))
    text, lines = world.checkpoint(cosigned=False).decode().split("\n\n", 1)
    signed = bytes_of(lines.split("\n", 1)[0].rsplit(" ", 1)[1])
    public.verify(signed[4:], f"{text}\n".encode())  # type: ignore[union-attr, call-arg]
    assert bytes_of(log["logId"]["keyId"])[:4] == signed[:4]
    assert [bytes_of(item["rawBytes"]) for item in stamper["certChain"]["certificates"]] == [*chain]
    assert stamper["validFor"] == log["publicKey"]["validFor"]
