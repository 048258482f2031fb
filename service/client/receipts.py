"""A receipt, and why a device believes it.

Does: recomputes the log entry from the statement that this device signed, follows the inclusion
proof to the checkpoint's root, and verifies the log's signatures under the known keys. Refuses
to take the entry, its hash or any key from the server that hands out the receipt.

    index, hashes, signed checkpoint — the `.tlog-proof` of C2SP, kept in the journal as it is
"""

from datetime import datetime

from evidence.errors import EvidenceError
from evidence.known_keys import KnownKeys, KnownLog
from evidence.leaf import leaf_of
from evidence.merkle import NodeReader, consistency_proof, hash_leaf, verify_consistency
from evidence.merkle import verify_inclusion as verify_leaf
from evidence.statement import SignedStatement
from evidence.tlog.checkpoint import SignedCheckpoint, open_checkpoint
from evidence.tlog.note import ED25519, ML_DSA_44
from evidence.tlog.proof import TlogProof
from service.client.failures import ReceiptRefused, Undecided


def verify_receipt(
    proof: TlogProof, signed: SignedStatement, public_key: bytes, log: KnownLog, at: datetime
) -> SignedCheckpoint:
    """Demand that the log has promised to hold this very statement.

    Args:
        proof: as the server handed it out; attacker's until proven otherwise.
        signed: what this device signed and sent.
        public_key: DER SubjectPublicKeyInfo of the device.
        log: the pinned log, from the known keys.
        at: now, UTC; after the pinned date both of the log's algorithms are demanded.

    Returns:
        The verified checkpoint.

    Raises:
        ReceiptRefused: the proof does not lead from this statement to a checkpoint of this log.
    """
    leaf_hash = hash_leaf(leaf_of(signed.id, signed.signature, public_key))
    try:
        checkpoint = open_known_checkpoint(proof.checkpoint, log, at)
        tree = checkpoint.checkpoint
        verify_leaf(leaf_hash, proof.index, tree.size, proof.hashes, tree.root)
    except EvidenceError as error:
        raise ReceiptRefused(f"The server's receipt does not hold. {error.detail}") from error
    return checkpoint


def open_known_checkpoint(note: bytes, log: KnownLog, at: datetime) -> SignedCheckpoint:
    """Open a checkpoint of one pinned log.

    Raises:
        EvidenceError: it is another log's, malformed, or lacks a demanded signature.
    """
    both = log.ml_dsa_from is not None and at >= log.ml_dsa_from
    require = frozenset({ED25519, ML_DSA_44} if both else {ED25519})
    return open_checkpoint(note, log.keys, require=require)


def require_extension(held: SignedCheckpoint, newer: SignedCheckpoint, node: NodeReader) -> None:
    """Demand that the newer tree contains the one that this device holds, unchanged.

    Args:
        held: a checkpoint from an earlier contact.
        newer: what the log publishes now.
        node: reads the newer tree's nodes, from tiles.

    Raises:
        ReceiptRefused: the log went back, or shows another history than before.
    """
    old, new = held.checkpoint, newer.checkpoint
    if new.size < old.size:
        raise ReceiptRefused(
            f"The log has gone back from {old.size} to {new.size} entries: it dropped some."
        )
    try:
        proof = consistency_proof(old.size, new.size, node)
        verify_consistency(old.size, old.root, new.size, new.root, proof)
    except EvidenceError as error:
        raise ReceiptRefused(
            "The log shows another history than the one that this device holds."
        ) from error


def known_log(known: KnownKeys, origin: str, at: datetime) -> KnownLog:
    """The pinned log of that origin.

    Raises:
        Undecided: it is not among the known keys, or these have expired.
    """
    if origin not in known.logs:
        raise Undecided(f"The log {origin} is not among the known keys.")
    if at >= known.expires:
        raise Undecided(f"The known keys expired on {known.expires:%Y-%m-%d}.")
    return known.logs[origin]
