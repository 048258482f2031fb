"""What devices were promised, held against the tree that the log shows.

    1. a receipt's checkpoint is signed by the pinned keys, and its own proof leads to it
    2. the tree that the log shows now contains that checkpoint's tree, unchanged
    3. the entry at the receipt's index is the one that the receipt is for

Does: reads `.tlog-proof` files and the journals of our own client, which are opened for reading
alone. Refuses to take a receipt that does not hold by itself for a promise of the log.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from evidence.errors import EvidenceError
from evidence.merkle import consistency_proof, hash_leaf, verify_consistency, verify_inclusion
from evidence.tlog.checkpoint import Checkpoint, open_checkpoint
from evidence.tlog.note import VerifierKey
from evidence.tlog.proof import TlogProof, parse_tlog_proof
from evidence.tlog.tiles import TILE_WIDTH, TileName, TileReader, decode_bundle, width_in_tree
from service.monitor.findings import Code, Finding
from service.monitor.source import Absent
from service.monitor.walk import Fetch

SUFFIX = ".tlog-proof"
_JOURNAL = "journal.db"


class PromisesUnreadable(Exception):
    """The folder is not there, or a journal in it cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A receipt of a device.

    Attributes:
        place: where it lies, for people.
        raw: the `.tlog-proof`.
    """

    place: str
    raw: bytes


def read_promises(folder: Path) -> Iterator[Promise]:
    """Every receipt below a folder, in the order of the names.

    Raises:
        PromisesUnreadable: see the class.
    """
    if not folder.is_dir():
        raise PromisesUnreadable(f"{folder} is no folder of receipts.")
    for path in sorted(folder.rglob(f"*{SUFFIX}")):
        yield Promise(place=path.name, raw=path.read_bytes())
    for path in sorted(folder.rglob(_JOURNAL)):
        yield from _journal(path)


def check_promise(
    promise: Promise, log_keys: tuple[VerifierKey, ...], tree: Checkpoint, fetch: Fetch
) -> Finding | None:
    """Do the steps of the module; None where the promise was kept, or is another log's.

    Args:
        promise: the receipt.
        log_keys: the pinned keys of the log.
        tree: what the log shows now, signature verified.
        fetch: reads a file of the log.

    Raises:
        Unreachable: the log does not answer.
    """
    try:
        proof = parse_tlog_proof(promise.raw)
        signed = open_checkpoint(proof.checkpoint, log_keys)  # 1
    except EvidenceError:
        return None  # no promise of this log
    then = signed.checkpoint
    if then.size > tree.size:
        return _broken(promise, "The log shows fewer entries than this receipt promises.")
    reader = TileReader(fetch, tree.size)
    try:
        steps = consistency_proof(then.size, tree.size, reader)
        verify_consistency(then.size, then.root, tree.size, tree.root, steps)  # 2
        entry = _entry(proof, tree.size, fetch)
        verify_inclusion(hash_leaf(entry), proof.index, then.size, proof.hashes, then.root)  # 3
    except Absent as absent:
        return _broken(promise, f"It cannot be followed: {absent.path} is not there.")
    except EvidenceError as error:
        return _broken(promise, f"The entry {proof.index} is not the promised one. {error.detail}")
    return None


def _entry(proof: TlogProof, size: int, fetch: Fetch) -> bytes:
    group, place = divmod(proof.index, TILE_WIDTH)
    name = TileName(level=None, index=group, width=width_in_tree(None, group, size))
    entries = decode_bundle(fetch(name))
    return entries[place] if place < len(entries) else b""


def _journal(path: Path) -> Iterator[Promise]:
    """The receipts in a journal of `fengni upload`, which may be in use."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as journal:
            rows = journal.execute(
                "SELECT statement_id, receipt FROM entries WHERE receipt IS NOT NULL ORDER BY rowid"
            ).fetchall()
    except sqlite3.Error as error:
        raise PromisesUnreadable(f"The journal {path} cannot be read.") from error
    for statement_id, receipt in rows:
        yield Promise(place=f"{path.parent.name}/{statement_id}", raw=receipt)


def _broken(promise: Promise, detail: str) -> Finding:
    return Finding(code=Code.RECEIPT_DROPPED, place=promise.place, detail=detail)
