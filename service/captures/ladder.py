"""The proof ladder of one capture, recomputed from what the log, the store and others hold.

    1. read the capture and the statements that bear its rungs from the log's rows
    2. verify each signature, its place in the tree, and its key at that index
    3. ask the pinned witnesses' cosignatures and the pinned authorities' time-stamps
    4. climb, with the same function that climbs for a package (`evidence.ladder`)
    5. look whether the object is still there

Does: says for each rung how it stands and what is missing. Refuses to take a rung from a state
column, and to add the rungs up.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from evidence.attested import Witnessed, moment
from evidence.entries import Entry, LogView
from evidence.errors import EvidenceError
from evidence.keyring import EnrolledKey, Keyring
from evidence.ladder import climb
from evidence.leaf import Leaf, leaf_of
from evidence.merkle import hash_leaf, verify_inclusion
from evidence.proven import Proven
from evidence.report import RUNGS, CaptureReport, Findings, Outcome, Rung
from evidence.statement import SignedStatement, Statement, open_statement
from evidence.tlog.checkpoint import open_checkpoint
from evidence.tlog.proof import TlogProof
from service.context import Context, Organ
from service.proofs import (
    lacking_authorities,
    newest_cosigned,
    read_checkpoint_tokens,
    read_signature_tokens,
    read_signed,
)
from storage import records
from storage.errors import IntegrityAlarm, NotFound
from storage.records import StoredRecord

MISSING: Mapping[str, str] = {
    "signed": "a valid enrolment of the signer's key",
    "received": "the content",
    "witnessed": "cosignatures of enough witnesses",
    "time_stamped": "a time-stamp of a pinned authority",
    "stored": "the server's statement that it stored the bytes",
    "reviewed": "a review",
}
"""What a rung that cannot be confirmed waits for."""

_BEARING = frozenset({"stored", "review", "disposed"})
"""Kinds of statements about a capture that bear a rung."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A record with the raw text and key that stand beside it, unverified."""

    record: StoredRecord
    signed: SignedStatement
    public_key: bytes


def read_rows(connection: Connection, log: str, capture: str) -> list[Row]:
    """The capture's row and those on which a rung or its earliest time rests; the capture first.

    Returns:
        An empty list where the log holds no such capture.

    Raises:
        IntegrityAlarm: a text or a key is missing.
    """
    own = records.find_record(connection, log, capture)
    if own is None or own.kind != "capture":
        return []
    about = records.records_about(connection, log, capture)
    found = [own, *(record for record in about if record.kind in _BEARING)]
    opening = own.subject and records.find_record(connection, log, own.subject)
    if opening and opening.kind == "session":
        found.append(opening)
    return [_row(connection, record) for record in found]


def climb_ladder(context: Context, organ: Organ, rows: list[Row]) -> CaptureReport:
    """Do steps 2 to 5 of the module's procedure.

    Rows of a batch that is committed and not yet answered for are left for the next look.

    Args:
        context: the object store.
        organ: whose log it is.
        rows: as `read_rows` gave them, not empty.
    """
    head = organ.log.latest()
    note = organ.log.cosignatures.note(head.size)
    findings = Findings()
    entries: list[Entry] = []
    holders: dict[str, EnrolledKey] = {}
    try:
        signed = open_checkpoint(note, organ.log_keys)
        for row in rows:
            if row.record.committed_size > head.size and entries:
                continue
            entry = _prove(organ, row, head.size, signed.checkpoint.root, note)
            entries.append(entry)
            try:
                holder = organ.admission.keys.require(entry.statement, entry.index)
                holders[entry.statement.id] = holder
            except EvidenceError:
                continue  # the rung that rests on this key says so
    except EvidenceError as error:
        return _broken(rows[0], error)
    index = rows[0].record.index
    capture = entries[0]
    proven = Proven(
        view=LogView(
            data=note,
            signed=signed,
            entries=tuple(sorted(entries, key=lambda entry: entry.index)),
            keyring=Keyring(organ.admission.house.audience, ()),
            chain={},
        ),
        holders=holders,
        witnessed=_witnessed(organ, index),
        tokens=read_checkpoint_tokens(context.db, organ, index),
        signature_tokens={
            capture.statement.id: read_signature_tokens(context.db, organ, rows[0].record)
        },
        policies={} if organ.policy is None else {organ.origin: organ.policy},
    )
    report = climb(capture, proven, findings, {})
    lacking = lacking_authorities(context.db, organ, index)
    rungs = (_name_lacking(_look(context, proven, rung), lacking) for rung in report.rungs)
    return replace(report, rungs=tuple(rungs))


def _row(connection: Connection, record: StoredRecord) -> Row:
    signed, public_key = read_signed(connection, record)
    return Row(record=record, signed=signed, public_key=public_key)


def _prove(organ: Organ, row: Row, size: int, root: bytes, note: bytes) -> Entry:
    """Verify one row: signature, leaf and place in the tree."""
    record = row.record
    statement = open_statement(row.signed.raw, record.signature, row.public_key)
    leaf_hash = hash_leaf(leaf_of(statement.id, record.signature, row.public_key))
    hashes = tuple(organ.log.proof(record.index, size))
    verify_inclusion(leaf_hash, record.index, size, hashes, root)
    leaf = Leaf(statement_id=statement.id, signature=record.signature, public_key=row.public_key)
    proof = TlogProof(index=record.index, hashes=hashes, checkpoint=note)
    return Entry(statement=statement, leaf=leaf, leaf_hash=leaf_hash, proof=proof)


def _witnessed(organ: Organ, index: int) -> Witnessed:
    cosigned = newest_cosigned(organ, index)
    if cosigned is None:
        return Witnessed(satisfied=False, first_seen=None, names=())
    seen = cosigned.witnessing.seen
    times = [moment(seconds) for _, seconds in seen]
    return Witnessed(
        satisfied=True, first_seen=min(times, default=None), names=tuple(name for name, _ in seen)
    )


def _look(context: Context, proven: Proven, rung: Rung) -> Rung:
    """A `stored` statement is worth what still lies under the name that it states."""
    stored: list[Statement] = [entry.statement for entry in proven.trusted("stored")]
    if rung.name != "stored" or rung.outcome is not Outcome.PASS or not stored:
        return rung
    certificates = proven.trusted("disposed")
    if certificates:
        said = f"{rung.detail} It was disposed of by {certificates[-1].statement.id}."
        return replace(rung, outcome=Outcome.UNCHECKED, detail=said)
    kept = stored[0].body["object"]
    if not isinstance(kept, dict):
        raise TypeError("a stored statement without an object passed its schema")
    version = kept.get("version")
    try:
        found = context.objects.stat(str(kept["name"]), str(version) if version else None)
    except (NotFound, IntegrityAlarm):
        return replace(rung, outcome=Outcome.CHANGED, detail="The object is gone from the store.")
    if found.size_bytes != kept["size_bytes"]:
        return replace(rung, outcome=Outcome.CHANGED, detail="The object has another length.")
    return replace(
        rung, detail=f"{rung.detail} It is there; its bytes are re-hashed when they are read."
    )


def _name_lacking(rung: Rung, lacking: tuple[str, ...]) -> Rung:
    """A time-stamp of one authority is worth less than those of two: say whose is missing."""
    if rung.name != "time_stamped" or not lacking:
        return rung
    return replace(rung, detail=f"{rung.detail} Not stamped yet by {', '.join(lacking)}.")


def _broken(row: Row, error: EvidenceError) -> CaptureReport:
    """The ladder of a capture whose own rows no longer agree with each other."""
    told = Rung(name="signed", outcome=Outcome.CHANGED, detail=error.detail)
    rungs = tuple(
        told
        if name == "signed"
        else Rung(name=name, outcome=Outcome.UNCHECKED, detail="A lower rung is broken.")
        for name in RUNGS
    )
    return CaptureReport(
        id=row.record.statement_id,
        claimed_at=row.record.received_at,
        not_before=None,
        not_after=None,
        rungs=rungs,
    )
