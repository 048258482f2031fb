"""Entries of a package: each statement with its leaf, its proof and its signer's key.

Does: the middle of the procedure in `evidence.verify`: reads what a package holds about
each statement, verifies signature, log and key, and notes what it finds. Refuses to believe
an entry on the word of its neighbours: only what passed all its own checks is handed on.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from evidence.digest import sha256_hex
from evidence.errors import (
    CheckpointInvalid,
    DigestMismatch,
    EvidenceError,
    KeyUnknown,
    PackageInvalid,
    TooLarge,
    TwoHistories,
    VersionUnknown,
)
from evidence.keyring import EnrolledKey, Keyring
from evidence.known_keys import KnownKeys
from evidence.leaf import Leaf, parse_leaf
from evidence.merkle import hash_leaf, verify_inclusion
from evidence.package import LEAVES, PROOFS, STATEMENTS, Package, members_of
from evidence.report import Findings, Outcome
from evidence.statement import Statement, open_statement
from evidence.tlog.checkpoint import SignedCheckpoint, open_checkpoint
from evidence.tlog.proof import TlogProof, parse_tlog_proof

MAX_CHECKPOINTS = 64  # a package has one for each log
_FOLDERS = (STATEMENTS, LEAVES, PROOFS)
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A statement whose own signature verified.

    Attributes:
        statement: read strictly.
        leaf: what the log entry says.
        leaf_hash: RFC 6962 leaf hash of the entry, 32 bytes.
        proof: where in which checkpoint the entry is said to be.
    """

    statement: Statement
    leaf: Leaf
    leaf_hash: bytes
    proof: TlogProof

    @property
    def index(self) -> int:
        """Zero-based log index."""
        return self.proof.index


@dataclass(frozen=True, slots=True, kw_only=True)
class LogView:
    """One log as the package shows it: one checkpoint, and the entries that it covers.

    Attributes:
        data: the checkpoint's bytes, cosignatures included.
        signed: the checkpoint, its log's signatures verified.
        entries: entries proven to be in it, in log order.
        keyring: the keys as its `key` statements tell.
        chain: for each organ the id of the key statement with each sequence number.
    """

    data: bytes
    signed: SignedCheckpoint
    entries: tuple[Entry, ...]
    keyring: Keyring
    chain: Mapping[str, Mapping[int, str]]


def read_entries(package: Package, findings: Findings) -> list[Entry]:
    """Read every statement of the package and verify its own signature.

    Notes `statement.signature` for each that fails, and for each member of these folders with a
    name that no reader looks up: it would be a place to hide something, or be counted twice.

    Returns:
        The entries that passed.
    """
    found: list[Entry] = []
    checkpoints: dict[bytes, bytes] = {}
    for name in package.names():
        if not name.startswith(_FOLDERS):
            continue
        statement_id = name.split("/")[2].partition(".")[0]
        if not _ID.fullmatch(statement_id) or name not in members_of(statement_id):
            misnamed = PackageInvalid("A file among the statements has a name that none can have.")
            findings.error("statement.signature", misnamed, subject=name)
        elif name.startswith(STATEMENTS):
            try:
                found.append(_read_entry(package, statement_id, checkpoints))
            except VersionUnknown as error:
                findings.error(
                    "statement.signature",
                    error,
                    subject=statement_id,
                    outcome=Outcome.UNCONFIRMED,
                )
            except EvidenceError as error:
                findings.error("statement.signature", error, subject=statement_id)
    if not found:
        findings.add(
            "statement.signature", Outcome.UNCONFIRMED, "The package holds no readable statement."
        )
    findings.conclude("statement.signature")
    return found


def _read_entry(package: Package, statement_id: str, checkpoints: dict[bytes, bytes]) -> Entry:
    statement_name, leaf_name, proof_name = members_of(statement_id)
    raw = package.read(statement_name)
    if sha256_hex(raw) != statement_id:
        raise DigestMismatch("A statement's bytes do not have the digest that is its id.")
    leaf_bytes = package.read(leaf_name)
    leaf = parse_leaf(leaf_bytes)
    if leaf.statement_id != statement_id:
        raise DigestMismatch("A log entry is about another statement.")
    return Entry(
        statement=open_statement(raw, leaf.signature, leaf.public_key),
        leaf=leaf,
        leaf_hash=hash_leaf(leaf_bytes),
        proof=_read_proof(package.read(proof_name), checkpoints),
    )


def _read_proof(data: bytes, checkpoints: dict[bytes, bytes]) -> TlogProof:
    """A proof; those that lead into one checkpoint share its bytes, and there are few of them."""
    proof = parse_tlog_proof(data)
    if proof.checkpoint not in checkpoints:
        if len(checkpoints) == MAX_CHECKPOINTS:
            raise TooLarge("The proofs lead into more checkpoints than a reader takes.")
        checkpoints[proof.checkpoint] = proof.checkpoint
    return replace(proof, checkpoint=checkpoints[proof.checkpoint])


def read_logs(entries: Iterable[Entry], known: KnownKeys, findings: Findings) -> list[LogView]:
    """Verify checkpoints and inclusion, then fold each log's key statements.

    Notes `log.checkpoint`, `log.inclusion` and `key.chain`.
    """
    by_checkpoint: dict[bytes, list[Entry]] = {}
    for entry in entries:
        by_checkpoint.setdefault(entry.proof.checkpoint, []).append(entry)
    opened: dict[str, dict[bytes, SignedCheckpoint]] = {}
    for data, members in by_checkpoint.items():
        signed = _open(data, known, findings, members)
        if signed is not None:
            opened.setdefault(signed.checkpoint.origin, {})[data] = signed
    views: list[LogView] = []
    for origin, notes in opened.items():
        chosen = _choose(origin, notes, findings)
        for data in sorted(notes.keys() - {chosen}):
            _leave_out(by_checkpoint[data], findings)
        placed = _placed(by_checkpoint[chosen], notes[chosen], findings)
        keyring = Keyring(known.audience, known.registrars)
        chain = _fold(keyring, known, placed, findings)
        views.append(
            LogView(data=chosen, signed=notes[chosen], entries=placed, keyring=keyring, chain=chain)
        )
    return views


def _choose(origin: str, notes: Mapping[bytes, SignedCheckpoint], findings: Findings) -> bytes:
    """The checkpoint that counts: of the largest size, then the bytewise smallest note.

    All of them carry the log's signature. Two roots of one size are the log's own signed proof
    that it keeps two histories, whichever of them counts.
    """
    chosen = min(notes, key=lambda data: (-notes[data].checkpoint.size, data))
    if len(notes) > 1:
        findings.add(
            "log.checkpoint",
            Outcome.UNCONFIRMED,
            "The package leads into several checkpoints of one log; the largest one counts.",
            subject=origin,
        )
    heads = {(signed.checkpoint.size, signed.checkpoint.root) for signed in notes.values()}
    if len({size for size, _ in heads}) < len(heads):
        forked = TwoHistories("The log has signed two histories.")
        findings.error("log.checkpoint", forked, subject=origin)
    return chosen


def _leave_out(members: Iterable[Entry], findings: Findings) -> None:
    for entry in members:
        findings.add(
            "log.inclusion",
            Outcome.UNCONFIRMED,
            "The statement leads into another checkpoint than the one that counts.",
            subject=entry.statement.id,
        )


def _open(
    data: bytes, known: KnownKeys, findings: Findings, members: list[Entry]
) -> SignedCheckpoint | None:
    subject = members[0].statement.id
    origin = data.split(b"\n", 1)[0].decode("utf-8", "replace")
    if origin not in known.logs:
        error = CheckpointInvalid("The checkpoint is of a log that is not among the known keys.")
        findings.error("log.checkpoint", error, subject=subject, outcome=Outcome.UNCONFIRMED)
        return None
    try:
        return open_checkpoint(data, known.logs[origin].keys)
    except EvidenceError as error:
        findings.error("log.checkpoint", error, subject=subject)
        return None


def _placed(
    members: list[Entry], signed: SignedCheckpoint, findings: Findings
) -> tuple[Entry, ...]:
    found: list[Entry] = []
    checkpoint = signed.checkpoint
    for entry in members:
        try:
            verify_inclusion(
                entry.leaf_hash,
                entry.index,
                checkpoint.size,
                entry.proof.hashes,
                checkpoint.root,
            )
        except EvidenceError as error:
            findings.error("log.inclusion", error, subject=entry.statement.id)
        else:
            found.append(entry)
    return tuple(sorted(found, key=lambda entry: entry.index))


def _fold(
    keyring: Keyring, known: KnownKeys, entries: Iterable[Entry], findings: Findings
) -> dict[str, dict[int, str]]:
    """Follow each organ's chain as far as it holds; what stands behind a break is not taken.

    Without a pinned registrar of the organ, or in another deployment than that of the known keys,
    nothing was broken: the trust file says nothing about it.
    """
    pinned = {registrar.organ for registrar in known.registrars}
    chain: dict[str, dict[int, str]] = {}
    broken: set[str] = set()
    for entry in entries:
        statement = entry.statement
        if statement.kind != "key":
            continue
        if statement.organ not in pinned or statement.audience != known.audience:
            missing = KeyUnknown("No registrar is pinned for this organ of this deployment.")
            findings.error("key.chain", missing, subject=statement.id, outcome=Outcome.UNCONFIRMED)
            continue
        if statement.organ in broken:
            continue
        try:
            keyring.apply(statement, entry.index)
        except EvidenceError as error:
            broken.add(statement.organ)
            findings.error("key.chain", error, subject=statement.id)
        else:
            head = keyring.head(statement.organ)
            chain.setdefault(statement.organ, {})[head.sequence] = statement.id
    return chain


def check_keys(view: LogView, known: KnownKeys, findings: Findings) -> dict[str, EnrolledKey]:
    """Demand of every entry that its signer's key was valid at its index.

    Notes `key.validity` for each that fails and `key.status` for the whole chain.

    Returns:
        The signer's key for each statement id that passed.
    """
    holders: dict[str, EnrolledKey] = {}
    for entry in view.entries:
        try:
            # The statement's signer is the SHA-256 of the leaf's key, which `open_statement`
            # demanded, and of the enrolled one, which the proof of possession did: one key.
            key = view.keyring.require(entry.statement, entry.index)
        except EvidenceError as error:
            findings.error(
                "key.validity",
                error,
                subject=entry.statement.id,
                outcome=_key_outcome(error, view, known, entry),
            )
        else:
            holders[entry.statement.id] = key
    _check_status(view, holders, findings)
    return holders


def _key_outcome(error: EvidenceError, view: LogView, known: KnownKeys, entry: Entry) -> Outcome:
    """Without the organ's chain, or in another deployment, nothing was broken."""
    statement = entry.statement
    missing = isinstance(error, KeyUnknown) and statement.organ not in view.chain
    foreign = statement.audience != known.audience
    return Outcome.UNCONFIRMED if missing or foreign else Outcome.CHANGED


def _check_status(view: LogView, holders: Mapping[str, EnrolledKey], findings: Findings) -> None:
    """The newest status must know the chain that the package shows, and reach its captures."""
    captures = (entry for entry in view.entries if entry.statement.kind == "capture")
    last = {entry.statement.organ: entry.index for entry in captures}  # entries ascend
    for organ in sorted(last):
        chain = set(view.chain.get(organ, {}).values())
        places = [entry.index for entry in view.entries if entry.statement.id in chain]
        sizes = (
            _status_size(entry, view, places)
            for entry in view.entries
            if entry.statement.id in holders and entry.statement.organ == organ
        )
        if max(sizes, default=0) <= last[organ]:
            findings.add(
                "key.status",
                Outcome.UNCONFIRMED,
                "No statement of the server says that this is the whole key chain.",
                subject=organ,
            )


def _status_size(entry: Entry, view: LogView, places: Sequence[int]) -> int:
    """The log size as of which this statement confirms the chain; 0 if it does not.

    Args:
        entry: any entry of the organ whose key was valid.
        view: its log.
        places: indexes of the organ's chain, ascending.
    """
    body = entry.statement.body
    status = body.get("keyring")
    if entry.statement.kind != "check" or not isinstance(status, dict):
        return 0  # the schema allows a status in a check of the key ring only
    if body["outcome"] != "pass":
        return 0
    sequence, size = status["sequence"], status["size"]
    if not isinstance(sequence, int) or not isinstance(size, int) or size > entry.index:
        return 0
    if status["log"] != view.signed.checkpoint.origin:
        return 0
    chain = view.chain.get(entry.statement.organ, {})
    shown = bisect_left(places, size)
    whole = sequence == shown and chain.get(sequence) == status.get("head")
    return size if sequence and whole else 0
