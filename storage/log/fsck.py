"""fsck: everything that a log keeps is recomputed and compared, and nothing is believed.

1. The head file and the published checkpoint are read first: they can only be behind. The
   database's file is sound; else nothing below would mean anything.
2. Each checkpoint row is what its note says, and the log's keys signed the note. Each kept
   cosignature is what its row says, and the witness's key signed it, where that key is known.
3. Each record has its text and its key; the text hashes to the statement id, reads as a
   statement and says what the record's columns say; the key hashes to the key id; the leaf made
   from them has the hash that the record names.
4. The leaves in their order lead to the root of every checkpoint that was ever signed.
5. Published bundles hold those leaves and, encrypted, those texts; published tiles those hashes.
6. The published checkpoint is one of ours, byte for byte; the head is the root of one of ours.
7. There is no row beyond the newest checkpoint, of another organ, or under nothing.

A head or a publication that is merely behind is no finding: the next start brings it up. It
repairs nothing, and it needs no running log: a read of a log that is in use is safe.

Codes: database_damaged unreadable head_missing head_damaged head_differs log_missing
log_differs checkpoint_missing checkpoint_invalid checkpoint_differs root_differs record_missing
record_differs record_extra text_missing text_differs text_extra key_missing key_differs
leaf_differs published_invalid published_differs tile_missing tile_differs bundle_missing
bundle_differs text_bundle_missing text_bundle_differs text_key_missing text_unreadable
cosignature_differs row_stray too_many
"""

from collections.abc import Sequence

from sqlalchemy import Connection

from evidence.digest import sha256_hex
from evidence.errors import EvidenceError
from evidence.merkle import EMPTY_ROOT, Frontier, hash_leaf
from evidence.statement import parse_statement
from evidence.tlog.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint
from evidence.tlog.note import ML_DSA_44, VerifierKey
from evidence.tlog.tiles import TILE_WIDTH
from storage import records
from storage.db.engine import integrity_faults
from storage.db.tables import EVIDENCE
from storage.errors import IntegrityAlarm, NotFound, Unavailable
from storage.log.cosigned import read_line
from storage.log.findings import Finding, Findings
from storage.log.heads import Head
from storage.log.published import PublishedFiles
from storage.log.rows import (
    LoggedRow,
    checkpoint_size_above,
    checkpoint_sizes,
    checkpoints_between,
    count_rows,
    logged_rows,
    newest_size,
    reach,
    strays,
)
from storage.log.submission import LogStores
from storage.records import StoredCheckpoint


def fsck(
    stores: LogStores, log_keys: Sequence[VerifierKey], witness_keys: Sequence[VerifierKey] = ()
) -> list[Finding]:
    """Check a whole log; empty means clean.

    Args:
        stores: of the log; only read.
        log_keys: the log's public keys, from somewhere else than these stores.
        witness_keys: of the witnesses that count, from the same place; lines of other keys are
            only compared with their rows.

    Raises:
        StorageError: the head or the tile store does not answer before the check begins.
    """
    findings = Findings()
    head = _read_head(stores, findings)  # 1
    note = stores.tiles.checkpoint()
    try:
        with stores.db.read() as connection:
            faults = integrity_faults(connection, EVIDENCE)
            for fault in faults:
                findings.add("database_damaged", "database", fault)
            if not faults:
                _Check(stores, log_keys, witness_keys, connection, findings).run(head, note)
    except (IntegrityAlarm, Unavailable) as fault:
        findings.add("unreadable", "stores", fault.detail)
    return findings.found


def _read_head(stores: LogStores, findings: Findings) -> Head | None:
    try:
        return stores.heads.read()
    except NotFound:
        findings.add("head_missing", "head", "the log has no head file")
    except IntegrityAlarm as alarm:
        findings.add("head_damaged", "head", alarm.detail)
    return None


class _Check:
    """One run over one snapshot of the database."""

    def __init__(
        self,
        stores: LogStores,
        log_keys: Sequence[VerifierKey],
        witness_keys: Sequence[VerifierKey],
        connection: Connection,
        findings: Findings,
    ) -> None:
        self._stores = stores
        self._log = stores.log_id
        self._log_keys = log_keys
        self._witness_keys = witness_keys
        self._kinds = frozenset(key.kind for key in log_keys)
        self._connection = connection
        self._findings = findings
        self._organ = ""
        self._frontier = Frontier.empty()
        self._pending: list[StoredCheckpoint] = []
        self._sizes: list[int] = []  # of the checkpoints that may cover the bundle at hand
        self._key_organs: dict[str, str] = {}
        self._unreadable: set[int] = set()  # of the bundle at hand

    def run(self, head: Head | None, published_note: bytes | None) -> None:
        """Compare everything with everything; what differs goes into the findings."""
        known = records.log_of(self._connection, self._log)
        size = newest_size(self._connection, self._log)
        if known is None or size is None:
            self._findings.add("log_missing", "log", "the database does not know this log")
            return
        self._organ, origin = known
        if origin != self._stores.origin:
            self._findings.add("log_differs", "log", "the database names another origin")
        end = min(size, reach(self._connection, self._log))
        if end < size:
            detail = f"there is no record from here to the newest checkpoint's {size}"
            self._findings.add("record_missing", f"record {end}", detail)
        published = self._published_size(published_note)
        files = PublishedFiles(self._stores, min(published, end), self._findings)
        self._walk(end, files)
        files.finish()
        self._check_head(head)  # 6
        self._check_ends(size)  # 7

    def _published_size(self, note: bytes | None) -> int:
        """Step 6 for the tile store; returns how far the files must reach."""
        if note is None:
            return 0
        try:
            size = self._open(note).checkpoint.size
        except EvidenceError as error:
            self._findings.add("published_invalid", "checkpoint", error.detail)
            return 0
        ours = self._signed(size)
        if ours is None or ours.note != note:
            self._findings.add(
                "published_differs", "checkpoint", "the published checkpoint is not one of ours"
            )
        return size

    def _walk(self, size: int, files: PublishedFiles) -> None:
        """Steps 2 to 5, bundle by bundle."""
        self._take_checkpoints(-1, 0)
        for first in range(0, size, TILE_WIDTH):
            end = min(first + TILE_WIDTH, size)
            self._take_checkpoints(first, end)
            rows = self._rows(first, end)
            hashes = [
                self._check_row(index, rows.get(index), files.leaf_hash(index))
                for index in range(first, end)
            ]
            for leaf_hash in hashes:
                files.add_nodes(self._frontier.append(leaf_hash))
                self._check_roots()
            files.check_bundles(first, end, rows)

    def _take_checkpoints(self, above: int, up_to: int) -> None:
        """Step 2 for the checkpoints of the bundle that comes next."""
        sizes = checkpoint_sizes(self._connection, self._log, above, up_to)
        following = checkpoint_size_above(self._connection, self._log, up_to)
        self._sizes = [*sizes, following or 0]
        self._pending = self._checkpoints(above, up_to, sizes)
        if up_to == 0 and (not self._pending or self._pending[0].root != EMPTY_ROOT):
            detail = "there is no checkpoint of the empty log"
            self._findings.add("checkpoint_missing", "checkpoint 0", detail)
        for row in self._pending:
            self._check_checkpoint(row)

    def _checkpoints(self, above: int, up_to: int, sizes: list[int]) -> list[StoredCheckpoint]:
        """Those of these checkpoints that can be read; the others are named."""
        try:
            return checkpoints_between(self._connection, self._log, above, up_to)
        except IntegrityAlarm:  # one of them: each on its own
            read = [self._signed(size) for size in sizes]
        return [row for row in read if row is not None]

    def _signed(self, size: int) -> StoredCheckpoint | None:
        try:
            return records.checkpoints_of(self._connection, self._log, [size]).get(size)
        except IntegrityAlarm as alarm:
            self._findings.add("unreadable", f"checkpoint {size}", alarm.detail)
            return None

    def _rows(self, first: int, end: int) -> dict[int, LoggedRow]:
        """The rows of a bundle that can be read; the others are named."""
        self._unreadable.clear()
        try:
            found = logged_rows(self._connection, self._log, first, end)
        except IntegrityAlarm:  # one of them: each on its own
            found = [row for index in range(first, end) for row in self._row(index)]
        return {row.idx: row for row in found}

    def _row(self, index: int) -> list[LoggedRow]:
        try:
            return logged_rows(self._connection, self._log, index, index + 1)
        except IntegrityAlarm as alarm:
            self._unreadable.add(index)
            self._findings.add("unreadable", f"record {index}", alarm.detail)
            return []

    def _check_checkpoint(self, row: StoredCheckpoint) -> None:
        place = f"checkpoint {row.size}"
        try:
            signed = self._open(row.note)
        except EvidenceError as error:
            self._findings.add("checkpoint_invalid", place, error.detail)
            return
        said = signed.checkpoint
        times = {
            int.from_bytes(line.value[:8])
            for line in signed.note.signatures
            for key in signed.log_keys
            if key.kind == ML_DSA_44 and key.made(line)
        }
        if (said.size, said.root) != (row.size, row.root) or not times <= {
            int(row.committed_at.timestamp())
        }:
            self._findings.add("checkpoint_differs", place, "the row is not what its note says")
        try:
            lines = records.cosignatures_of(self._connection, self._log, row.size)
        except IntegrityAlarm as alarm:
            self._findings.add("unreadable", place, f"its cosignatures: {alarm.detail}")
            return
        for line in lines:
            self._check_cosignature(place, said, line)

    def _check_cosignature(
        self, place: str, said: Checkpoint, row: records.StoredCosignature
    ) -> None:
        try:
            read_line(row, said, self._witness_keys)
        except EvidenceError as error:
            detail = f"witness {row.witness}: {error.detail}"
            self._findings.add("cosignature_differs", place, detail)

    def _check_roots(self) -> None:
        """Step 4."""
        while self._pending and self._pending[0].size <= self._frontier.size:
            row = self._pending.pop(0)
            if row.size == self._frontier.size and row.root != self._frontier.root():
                detail = "the leaves do not lead to the signed root"
                self._findings.add("root_differs", f"checkpoint {row.size}", detail)

    def _check_row(self, index: int, row: LoggedRow | None, published: bytes | None) -> bytes:
        """Step 3; returns the hash with which the tree goes on.

        Where the parts and the column disagree, the published tile says which one changed, so
        that one flipped byte is one finding and not a broken tree ever after.
        """
        place = f"record {index}"
        if row is None:
            if index not in self._unreadable:
                self._findings.add("record_missing", place, "there is no record at this index")
            return published or bytes(32)
        self._check_text(place, row)
        self._check_key(place, row)
        if row.committed_size != self._covering(index):
            detail = "it is not committed by the first checkpoint that covers it"
            self._findings.add("record_differs", place, detail)
        leaf = row.leaf()
        computed = row.leaf_hash if leaf is None else hash_leaf(leaf)
        if computed != row.leaf_hash:
            detail = "its parts do not make the leaf that it names"
            self._findings.add("leaf_differs", place, detail)
        return published if published in (computed, row.leaf_hash) else row.leaf_hash

    def _check_text(self, place: str, row: LoggedRow) -> None:
        if row.statement is None:
            self._findings.add("text_missing", place, "there is no text at this index")
            return
        if sha256_hex(row.statement) != row.statement_id:
            self._findings.add("text_differs", place, "the text is not the one that was signed")
            return
        try:
            said = parse_statement(row.statement)
        except EvidenceError as error:
            self._findings.add("text_differs", place, error.detail)
            return
        columns = (row.organ, row.key_id, row.kind, row.subject, row.previous)
        subject = None if said.about is None else said.about.statement
        if columns != (said.organ, said.signer, said.kind, subject, said.previous):
            detail = "the record's columns are not what its text says"
            self._findings.add("record_differs", place, detail)
        if row.text_organ != said.organ:
            self._findings.add("text_differs", place, "the text's row names another organ")

    def _check_key(self, place: str, row: LoggedRow) -> None:
        if row.public_key is None:
            self._findings.add("key_missing", place, "the signer's public key is not there")
            return
        first = self._key_organs.setdefault(row.key_id, row.organ)
        if sha256_hex(row.public_key) != row.key_id or row.key_organ != first:
            self._findings.add("key_differs", place, "the signer's key is not what its row says")

    def _covering(self, index: int) -> int:
        """Size of the first checkpoint that covers an index of the bundle at hand."""
        return next((size for size in self._sizes if size > index), 0)

    def _check_head(self, head: Head | None) -> None:
        if head is None:
            return
        ours = self._signed(head.size)
        if ours is None or ours.root != head.root:
            self._findings.add("head_differs", "head", "the head is no tree that was signed here")

    def _check_ends(self, size: int) -> None:
        in_records, in_texts = count_rows(self._connection, self._log, beyond=size)
        if in_records:
            detail = "there are records beyond the newest checkpoint"
            self._findings.add("record_extra", f"record {size}", detail)
        if in_texts:
            detail = "there are texts beyond the newest checkpoint"
            self._findings.add("text_extra", f"record {size}", detail)
        for detail in strays(self._connection, self._log, self._organ):
            self._findings.add("row_stray", "database", detail)

    def _open(self, note: bytes) -> SignedCheckpoint:
        return open_checkpoint(note, self._log_keys, require=self._kinds)
