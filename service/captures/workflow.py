"""Ingest: received content becomes an object, and the server states it.

    1. take the staged bytes into the object store: named by their digest, read back
    2. state `stored` for the whole batch in one submission to the log
    3. in that transaction: the content's row, the end of this piece, the pieces that follow

Each step may be repeated after a crash: the object store takes the same bytes again, and a
statement is logged only while the lease holds. Inspection and time-stamp come afterwards, as
pieces of their own: sealing waits for nobody's opinion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from evidence.errors import DigestMismatch, EvidenceError
from evidence.schema import format_time
from evidence.statement import About, SignedStatement, Statement
from service.captures.arrivals import STORE
from service.captures.queries import Upload, find_upload, mark_stored, newest_about
from service.context import Context, Organ
from service.law.refusals import Refusal
from service.work.queue import Piece, add_pieces, finish_piece, require_lease
from service.work.worker import Failures, Task
from storage import records
from storage.errors import NotFound, StorageError
from storage.log import Appended, Outcome
from storage.objects import AssuranceLevel, StagedFile, StoredObject

if TYPE_CHECKING:
    from evidence.canonical import JSONObject

INSPECT = "inspect"
STAMP = "stamp"
BATCH = 50
ASSURANCE = {
    AssuranceLevel.DIRECTORY_MODE_BITS: "directory-mode-bits",
    AssuranceLevel.DIRECTORY_IMMUTABLE: "directory-append-only-immutable",
    AssuranceLevel.S3_OBJECT_LOCK_GOVERNANCE: "s3-object-lock-governance",
    AssuranceLevel.S3_OBJECT_LOCK_COMPLIANCE: "s3-object-lock-compliance",
}
"""The words of the evidence format for what a store measures of itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """Content that is an object now."""

    piece: Piece
    upload: Upload
    index: int
    previous: str | None
    stored: StoredObject


class Ingest:
    """Makes objects of received content."""

    def __init__(self, context: Context) -> None:
        """Prepare for one context."""
        self._context = context

    def task(self) -> Task:
        """The work that arrivals release."""
        return Task(kind=STORE, do=self.store, batch=BATCH)

    def store(self, pieces: Sequence[Piece]) -> Failures:
        """Do one batch; see the module's procedure."""
        failures: dict[Piece, Exception] = {}
        for organ_id in sorted({piece.organ for piece in pieces}):
            organ = self._context.organs[organ_id]
            kept: list[_Kept] = []
            for piece in pieces:
                if piece.organ != organ_id:
                    continue
                try:
                    kept.append(self._keep(piece))
                except (StorageError, EvidenceError) as error:
                    failures[piece] = error
            failures |= self._state(organ, kept)
        return failures

    def _keep(self, piece: Piece) -> _Kept:
        with self._context.db.read() as connection:
            upload = find_upload(connection, piece.log, piece.subject)
            record = records.find_record(connection, piece.log, piece.subject)
            previous = newest_about(connection, piece.log, piece.subject)
        if upload is None or record is None:
            raise NotFound("the capture of this work is not there")
        stored = self._context.objects.put_once(
            StagedFile(
                key=upload.capture,
                path=self._context.places.waiting(upload.capture, upload.sha256),
                sha256=upload.sha256,
                size_bytes=upload.size_bytes,
            )
        )
        if (stored.name, stored.size_bytes) != (upload.sha256, upload.size_bytes):
            raise DigestMismatch("The stored object is not the announced content.")
        return _Kept(
            piece=piece, upload=upload, index=record.index, previous=previous, stored=stored
        )

    def _state(self, organ: Organ, kept: Sequence[_Kept]) -> dict[Piece, Exception]:
        """State that these are stored, in one submission."""
        if not kept:
            return {}
        by_capture = {one.upload.capture: one for one in kept}

        def guard(connection: Connection, statement: Statement) -> None:
            """Only while the lease holds: else another worker states the same."""
            require_lease(connection, _of(statement, by_capture).piece)

        def effects(connection: Connection, appended: list[Appended]) -> None:
            """Rows and following work, in the transaction of the statements."""
            self._leave_work(
                connection, organ, [_of(one.pending.statement, by_capture) for one in appended]
            )

        made = [self._statement(organ, one) for one in kept]
        outcomes = organ.admission.submit_own(made, guard=guard, effects=effects).result()
        return _failed(kept, outcomes)

    def _statement(self, organ: Organ, one: _Kept) -> SignedStatement:
        upload, stored = one.upload, one.stored
        if upload.received_at is None:
            raise NotFound("the content has no time of arrival")
        kept: JSONObject = {
            "store": self._context.objects.store_id,
            "name": stored.name,
            "size_bytes": stored.size_bytes,
        }
        if stored.version is not None:
            kept["version"] = stored.version
        body: JSONObject = {
            "content": {
                "sha256": upload.sha256,
                "size_bytes": upload.size_bytes,
                "media_type": upload.media_type,
            },
            "object": kept,
            "assurance": ASSURANCE[stored.level],
            "received_at": format_time(upload.received_at),
        }
        about = About(statement=upload.capture, log=organ.origin, index=one.index)
        return organ.admission.make("stored", body, about, one.previous)

    def _leave_work(self, connection: Connection, organ: Organ, done: Sequence[_Kept]) -> None:
        at = self._context.clock()
        captures = [one.upload.capture for one in done]
        mark_stored(connection, organ.log_id, captures, at)
        for one in done:
            finish_piece(connection, one.piece)
        following = [INSPECT]
        if organ.settings.stamp_captures and organ.settings.authorities:
            following.append(STAMP)
        for kind in following:
            add_pieces(
                connection, log=organ.log_id, organ=organ.id, kind=kind, subjects=captures, at=at
            )


def _of(statement: Statement, by_capture: dict[str, _Kept]) -> _Kept:
    if statement.about is None:
        raise TypeError("a stored statement without a subject passed its schema")
    return by_capture[statement.about.statement]


def _failed(kept: Sequence[_Kept], outcomes: Sequence[Outcome]) -> dict[Piece, Exception]:
    """Which pieces were refused; a fault that is no refusal ends the batch."""
    failures: dict[Piece, Exception] = {}
    for one, outcome in zip(kept, outcomes, strict=True):
        if isinstance(outcome, EvidenceError | Refusal):
            failures[one.piece] = outcome
        elif isinstance(outcome, Exception):
            raise outcome
    return failures
