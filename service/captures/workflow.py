"""Ingest: received content becomes an object, and the server states it.

    1. look up the whole batch at once
    2. take the staged bytes into the object store: named by their digest, read back; several
       objects at a time, because disks and hashes wait for each other's ends
    3. state `stored` for the whole batch in one submission to the log
    4. in that transaction: the contents' rows, the end of these pieces, those that follow

Each step may be repeated after a crash: the object store takes the same bytes again, and a
statement is logged only while the lease holds. Inspection and time-stamp come afterwards, as
pieces of their own: sealing waits for nobody's opinion.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection

from evidence.errors import DigestMismatch, EvidenceError
from evidence.schema import format_time
from evidence.statement import About, SignedStatement, Statement
from service.captures.arrivals import STORE
from service.captures.queries import (
    Upload,
    find_uploads,
    mark_stored,
    newest_about_each,
    with_text,
)
from service.captures.sealing import Placed, class_for, let_go, place
from service.context import Context, Organ
from service.law.refusals import LeaseLost, Refusal
from service.retention_classes import RetentionClass
from service.work.queue import Piece, add_pieces, finish_pieces, still_leased
from service.work.worker import Failures, Task
from storage import records
from storage.errors import NotFound, StorageError
from storage.log import Appended, Outcome
from storage.objects import AssuranceLevel, Staged
from storage.sealing import FORMAT

if TYPE_CHECKING:
    from evidence.canonical import JSONObject

INSPECT = "inspect"
STAMP = "stamp"
BATCH = 50
_THREADS = 8
_SLOTS = 2
"""While one batch waits for the log, the next is taken into the store."""

ASSURANCE = {
    AssuranceLevel.S3_UNPROVEN: "s3-unproven",
    AssuranceLevel.DIRECTORY_MODE_BITS: "directory-mode-bits",
    AssuranceLevel.DIRECTORY_IMMUTABLE: "directory-append-only-immutable",
    AssuranceLevel.S3_OBJECT_LOCK_GOVERNANCE: "s3-object-lock-governance",
    AssuranceLevel.S3_OBJECT_LOCK_COMPLIANCE: "s3-object-lock-compliance",
}
"""The words of the evidence format for what a store measures of itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Received:
    """Content that waits to become an object."""

    piece: Piece
    upload: Upload
    index: int
    previous: str | None
    kind: RetentionClass | None

    def staged(self, context: Context) -> Staged:
        """Where it waits."""
        upload = self.upload
        return context.staging.waiting(upload.capture, upload.sha256, upload.size_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """Content that is an object now."""

    received: _Received
    placed: Placed

    @property
    def capture(self) -> str:
        """Id of the capture."""
        return self.received.upload.capture


class Ingest:
    """Makes objects of received content."""

    def __init__(self, context: Context) -> None:
        """Prepare for one context."""
        self._context = context
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="keeping")
        self._batches = 0
        self._counting = Lock()

    @property
    def busy(self) -> bool:
        """Whether content is being sealed."""
        return self._batches > 0

    def task(self) -> Task:
        """The work that arrivals release."""
        return Task(kind=STORE, do=self.store, batch=BATCH, slots=_SLOTS)

    def close(self) -> None:
        """Let go of the threads."""
        self._pool.shutdown(wait=True)

    def store(self, pieces: Sequence[Piece]) -> Failures:
        """Do one batch; see the module's procedure."""
        with self._counting:
            self._batches += 1
        try:
            failures: dict[Piece, Exception] = {}
            for organ_id in sorted({piece.organ for piece in pieces}):
                organ = self._context.organs[organ_id]
                mine = [piece for piece in pieces if piece.organ == organ_id]
                failures |= self._store(organ, mine)
            return failures
        finally:
            with self._counting:
                self._batches -= 1

    def _store(self, organ: Organ, pieces: Sequence[Piece]) -> dict[Piece, Exception]:
        found = self._look_up(organ, pieces)  # 1
        failures: dict[Piece, Exception] = {
            piece: NotFound("the capture of this work is not there")
            for piece in pieces
            if piece not in found
        }
        kept: list[_Kept] = []
        for piece, outcome in zip(
            found, self._pool.map(partial(self._keep, organ), found.values()), strict=True
        ):
            if isinstance(outcome, _Kept):
                kept.append(outcome)
            else:
                failures[piece] = outcome
        return failures | self._state(organ, kept)

    def _look_up(self, organ: Organ, pieces: Sequence[Piece]) -> dict[Piece, _Received]:
        captures = [piece.subject for piece in pieces]
        with self._context.db.read() as connection:
            uploads = find_uploads(connection, organ.log_id, captures)
            logged = records.find_records(connection, organ.log_id, captures)
            newest = newest_about_each(connection, organ.log_id, captures)
            modes = _modes(connection, organ, logged)
        index = {record.statement_id: record.index for record in logged}
        return {
            piece: _Received(
                piece=piece,
                upload=uploads[piece.subject],
                index=index[piece.subject],
                previous=newest.get(piece.subject),
                kind=class_for(self._context, organ.settings, modes.get(piece.subject, "")),
            )
            for piece in pieces
            if piece.subject in uploads and piece.subject in index
        }

    def _keep(self, organ: Organ, received: _Received) -> _Kept | Exception:
        """Make an object of it (2), or say why not: one bad disk block sinks one capture."""
        upload = received.upload
        at = upload.received_at or self._context.clock()
        try:
            staged, kind = received.staged(self._context), received.kind
            placed = place(self._context, organ.origin, upload.capture, staged, kind, at)
        except (StorageError, EvidenceError) as error:
            return error
        held = (placed.stored.name, placed.stored.size_bytes)
        if not placed.sealed and held != (upload.sha256, upload.size_bytes):
            return DigestMismatch("The stored object is not the announced content.")
        return _Kept(received=received, placed=placed)

    def _state(self, organ: Organ, kept: Sequence[_Kept]) -> dict[Piece, Exception]:
        """State that these are stored, in one submission (3, 4)."""
        if not kept:
            return {}
        pieces = tuple(one.received.piece for one in kept)
        following = [INSPECT]
        if organ.settings.stamp_captures and organ.settings.authorities:
            following.append(STAMP)
        effects = Sealed(
            log=organ.log_id,
            organ=organ.id,
            pieces=pieces,
            following=tuple(following),
            at=self._context.clock(),
        )
        made = [self._statement(organ, one) for one in kept]
        outcomes = organ.admission.submit_own(
            made, guard=StillLeased(pieces=pieces), effects=effects
        ).result()
        for one, outcome in zip(kept, outcomes, strict=True):
            if one.placed.sealed and not isinstance(outcome, Exception):
                let_go(one.received.staged(self._context))  # only now is the sealed one findable
        return _failed(kept, outcomes)

    def _statement(self, organ: Organ, one: _Kept) -> SignedStatement:
        upload, stored, kind = one.received.upload, one.placed.stored, one.received.kind
        if upload.received_at is None:
            raise NotFound("the content has no time of arrival")
        kept: JSONObject = {
            "store": self._context.objects.store_id,
            "name": stored.name,
            "size_bytes": stored.size_bytes,
        }
        if stored.version is not None:
            kept["version"] = stored.version
        if one.placed.sealed:
            kept["sealed"] = FORMAT
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
        if stored.locked_until is not None:
            body["locked_until"] = format_time(stored.locked_until)
        if kind is not None:
            body["retention_class"] = kind.name
        about = About(statement=upload.capture, log=organ.origin, index=one.received.index)
        return organ.admission.make("stored", body, about, one.received.previous)


class StillLeased(msgspec.Struct, frozen=True, kw_only=True, tag="still_leased"):
    """Only while the lease holds: else another worker states the same.

    Attributes:
        pieces: of the captures that the statements are about.
    """

    pieces: tuple[Piece, ...]

    def check(self, connection: Connection, _at: datetime, /) -> Callable[[Statement], None]:
        """Ask once for all of them, in the transaction that they share."""
        leased = {piece.subject for piece in still_leased(connection, self.pieces)}

        def check(statement: Statement) -> None:
            """Refuse a statement about a capture whose piece is not this worker's any more."""
            if _subject(statement) not in leased:
                raise LeaseLost("Another worker has taken this work over.")

        return check


class Sealed(msgspec.Struct, frozen=True, kw_only=True, tag="sealed"):
    """What follows when content is stated to be stored: its row, the pieces' end, the next work.

    Attributes:
        log: id of the log.
        organ: the organ.
        pieces: of the whole submission; those of statements that were refused stay.
        following: kinds of work that begin.
        at: when it was stored, UTC.
    """

    log: str
    organ: str
    pieces: tuple[Piece, ...]
    following: tuple[str, ...]
    at: datetime

    def __call__(self, connection: Connection, appended: list[Appended], /) -> None:
        """Write it for what was logged."""
        logged = {_subject(one.pending.statement) for one in appended}
        done = [piece for piece in self.pieces if piece.subject in logged]
        captures = [piece.subject for piece in done]
        mark_stored(connection, self.log, captures, self.at)
        finish_pieces(connection, done)
        for kind in self.following:
            add_pieces(
                connection,
                log=self.log,
                organ=self.organ,
                kind=kind,
                subjects=captures,
                at=self.at,
            )


def _modes(
    connection: Connection, organ: Organ, logged: Sequence[records.StoredRecord]
) -> dict[str, str]:
    """In which mode each of these captures was made, where a class of retention asks for it."""
    if not organ.settings.retention:
        return {}
    return {
        record.statement_id: str(with_text(connection, record).statement.body["mode"])
        for record in logged
    }


def _subject(statement: Statement) -> str:
    if statement.about is None:
        raise TypeError("a stored statement without a subject passed its schema")
    return statement.about.statement


def _failed(kept: Sequence[_Kept], outcomes: Sequence[Outcome]) -> dict[Piece, Exception]:
    """Which pieces were refused; a fault that is no refusal ends the batch."""
    failures: dict[Piece, Exception] = {}
    for one, outcome in zip(kept, outcomes, strict=True):
        if isinstance(outcome, EvidenceError | Refusal):
            failures[one.received.piece] = outcome
        elif isinstance(outcome, Exception):
            raise outcome
    return failures
