"""Building a package: gather what is logged about some captures and lay it out.

Does: finds the captures, everything said about them, their sessions, the whole key chain and
the status of the chain; proves all of it into one checkpoint; adds tokens, bundles and the
originals. `evidence.packing.write_package` writes the result.
Refuses to invent: what is missing (a cosignature, a token, an original) is left out,
and the verifier then says so.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from sqlalchemy import Connection

from evidence.canonical import JSONObject
from evidence.digest import Measured
from evidence.package import MAX_SMALL_BYTES, PIECE_BYTES
from evidence.packing import Contents, Original, PackedStatement
from evidence.sigstore import make_bundle
from evidence.statement import SignedStatement, Statement, parse_statement
from evidence.tlog.checkpoint import timestamped_message
from evidence.tlog.note import VerifierKey
from evidence.tlog.policy import Policy
from evidence.tlog.proof import TlogProof, parse_tlog_proof
from service.contents import Kept, Vault, kept_by, output_of
from storage import records
from storage.db.engine import Database
from storage.errors import IntegrityAlarm, NotFound
from storage.log import OpenLog
from storage.records import Stamped, StoredRecord

_KEYS_A_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """Where one organ's evidence lies.

    Attributes:
        db: the database.
        log: the organ's open log.
        log_id: its id in the database.
        log_key: its Ed25519 verifier key; the key's name is the log's origin.
        policy: which witnesses count, or None where none are named.
        vault: the object store, with the keys to what is sealed in it.
        audience: the deployment's stable id.
        authorities: how many time-stamp authorities are named.
    """

    db: Database
    log: OpenLog
    log_id: str
    log_key: VerifierKey
    policy: Policy | None
    vault: Vault
    audience: str
    authorities: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A logged statement with all that proves it.

    Attributes:
        record: its row.
        statement: its text, read strictly.
        public_key: DER SubjectPublicKeyInfo of its signer.
        tokens: RFC 3161 responses over its signature.
    """

    record: StoredRecord
    statement: Statement
    public_key: bytes
    tokens: tuple[bytes, ...]

    @property
    def signed(self) -> SignedStatement:
        """The statement as it travels."""
        return SignedStatement(
            raw=self.statement.raw, signature=self.record.signature, key_id=self.record.key_id
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """The one checkpoint that everything in a package leads into.

    Attributes:
        size: number of leaves.
        note: the signed note with the cosignatures known so far.
        tokens: RFC 3161 responses over it.
        complete: it satisfies the witness policy and carries a token of each authority.
    """

    size: int
    note: bytes
    tokens: tuple[bytes, ...]
    complete: bool


def collect(shelf: Shelf, captures: Sequence[str], further: Sequence[str] = ()) -> list[Held]:
    """Everything that a package about these captures must hold, in log order.

    Args:
        shelf: where it lies.
        captures: statement ids of captures in this log.
        further: ids of other statements to include, such as the status of the key chain.

    Raises:
        NotFound: a capture or further statement is not in this log.
        IntegrityAlarm: a row names a text or a key that is gone.
    """
    with shelf.db.read() as connection:
        found: dict[int, StoredRecord] = {}
        for statement_id in (*captures, *further):
            record = records.find_record(connection, shelf.log_id, statement_id)
            if record is None:
                raise NotFound("a statement of the export is not in the log")
            found[record.index] = record
        for capture in captures:
            about = records.records_about(connection, shelf.log_id, capture)
            found |= {record.index: record for record in about}
        found |= {record.index: record for record in _sessions(connection, shelf, found.values())}
        found |= {record.index: record for record in _key_chain(connection, shelf)}
        begun = records.records_of_kind(connection, shelf.log_id, "succession", limit=1)
        found |= {record.index: record for record in begun}
        return [_held(connection, shelf, found[index]) for index in sorted(found)]


def choose_anchor(shelf: Shelf, above: int) -> Anchor:
    """The newest checkpoint that covers an index, cosigned and stamped where there is one.

    Args:
        shelf: where it lies.
        above: index of the last leaf that must be covered.

    Raises:
        NotFound: no checkpoint covers the index yet.
    """
    cosigned = None if shelf.policy is None else shelf.log.newest_cosigned(above, shelf.policy)
    if cosigned is not None:
        tokens = _tokens(shelf, Stamped.CHECKPOINT, cosigned.size)
        complete = len(tokens) >= max(1, shelf.authorities)
        return Anchor(size=cosigned.size, note=cosigned.note, tokens=tokens, complete=complete)
    shelf.log.reach(above + 1)
    head = shelf.log.latest()
    if head.size <= above:
        raise NotFound("no checkpoint covers the statement yet")
    tokens = _tokens(shelf, Stamped.CHECKPOINT, head.size)
    return Anchor(
        size=head.size,
        note=head.note,
        tokens=tokens,
        complete=shelf.policy is None and len(tokens) >= max(1, shelf.authorities),
    )


def lay_out(
    shelf: Shelf, captures: Sequence[str], held: Sequence[Held], anchor: Anchor, at: datetime
) -> Contents:
    """Prove what was collected into the anchor and say what goes into the package.

    Args:
        shelf: where it lies.
        captures: statement ids of the exported captures.
        held: from `collect`.
        anchor: from `choose_anchor`, covering all of it.
        at: now, UTC.
    """
    packed = [_packed(shelf, item, anchor) for item in held]
    origin = shelf.log_key.name
    timestamps = {item.record.signature: item.tokens for item in held if item.tokens}
    if anchor.tokens:
        timestamps[timestamped_message(anchor.note, origin)] = anchor.tokens
    wanted = set(captures)
    bundles = {
        item.statement.id: _bundle(shelf, item, proof)
        for item, proof in zip(held, packed, strict=True)
        if item.statement.id in wanted and item.tokens
    }
    return Contents(
        audience=shelf.audience,
        made_at=at,
        captures=list(captures),
        statements=packed,
        timestamps=timestamps,
        originals=list(_originals(shelf, wanted, held)),
        bundles=bundles,
        attachments=_outputs(shelf, held),
    )


def _sessions(
    connection: Connection, shelf: Shelf, captures: Iterable[StoredRecord]
) -> list[StoredRecord]:
    found: list[StoredRecord] = []
    for subject in {record.subject for record in captures if record.kind == "capture"}:
        opening = subject and records.find_record(connection, shelf.log_id, subject)
        if opening and opening.kind == "session":
            about = records.records_about(connection, shelf.log_id, opening.statement_id)
            found += [opening, *(record for record in about if record.kind == "session")]
    return found


def _key_chain(connection: Connection, shelf: Shelf) -> list[StoredRecord]:
    found: list[StoredRecord] = []
    start = 0
    while page := records.records_of_kind(
        connection, shelf.log_id, "key", start=start, limit=_KEYS_A_PAGE
    ):
        found += page
        start = page[-1].index + 1
    return found


def _held(connection: Connection, shelf: Shelf, record: StoredRecord) -> Held:
    text = records.text_at(connection, shelf.log_id, record.index)
    public_key = records.public_key_of(connection, shelf.log_id, record.key_id)
    if text is None or public_key is None:
        raise IntegrityAlarm("a logged statement's text or key is gone")
    stamps = records.timestamps_of(connection, shelf.log_id, Stamped.SIGNATURE, record.index)
    return Held(
        record=record,
        statement=parse_statement(text),
        public_key=public_key,
        tokens=tuple(stamp.response for stamp in stamps),
    )


def _tokens(shelf: Shelf, kind: Stamped, position: int) -> tuple[bytes, ...]:
    with shelf.db.read() as connection:
        stamps = records.timestamps_of(connection, shelf.log_id, kind, position)
    return tuple(stamp.response for stamp in stamps)


def _packed(shelf: Shelf, item: Held, anchor: Anchor) -> PackedStatement:
    hashes = shelf.log.proof(item.record.index, anchor.size)
    proof = TlogProof(index=item.record.index, hashes=tuple(hashes), checkpoint=anchor.note)
    return PackedStatement(signed=item.signed, public_key=item.public_key, proof=proof.encode())


def _bundle(shelf: Shelf, item: Held, packed: PackedStatement) -> bytes:
    document = make_bundle(
        item.signed, item.public_key, parse_tlog_proof(packed.proof), shelf.log_key, item.tokens
    )
    return json.dumps(document, ensure_ascii=False, indent=1).encode()


def _originals(shelf: Shelf, captures: set[str], held: Sequence[Held]) -> Iterator[Original]:
    given = _disposed(held)  # of these there is nothing to give
    for item in held:
        about = item.statement.about
        if item.statement.kind != "stored" or about is None or about.statement not in captures:
            continue
        if about.statement in given:
            continue
        given.add(about.statement)
        content = cast("JSONObject", item.statement.body["content"])
        kept = kept_by(item.statement)
        yield Original(
            capture=about.statement,
            media_type=str(content["media_type"]),
            content=Measured(sha256=kept.sha256, size_bytes=kept.size_bytes),
            pieces=_reader(shelf, kept),
        )


def _disposed(held: Sequence[Held]) -> set[str]:
    """Captures whose content was disposed of; the certificate is in the package."""
    return {
        item.statement.about.statement
        for item in held
        if item.statement.kind == "disposed" and item.statement.about is not None
    }


def _reader(shelf: Shelf, kept: Kept) -> Callable[[], Iterator[bytes]]:
    def pieces() -> Iterator[bytes]:
        with shelf.vault.open(shelf.log_key.name, kept) as stream:
            while piece := stream.read(PIECE_BYTES):
                yield piece

    return pieces


def _outputs(shelf: Shelf, held: Sequence[Held]) -> dict[str, bytes]:
    """The full output of each inspection, so that a reviewer can compare it with his own."""
    found: dict[str, bytes] = {}
    gone = _disposed(held)
    for item in held:
        about = item.statement.about
        if about is not None and about.statement in gone:
            continue
        kept = output_of(item.statement) if item.statement.kind == "inspected" else None
        if kept is not None and kept.size_bytes <= MAX_SMALL_BYTES:
            found[f"{kept.sha256}.json"] = b"".join(_reader(shelf, kept)())
    return found
