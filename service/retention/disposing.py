"""Disposal of content: what two approvals released, done once and stated.

    1. that it begins is stated, decided in the log's own transaction; from there on no hold comes
    2. the keys of what is sealed are destroyed, each leaving a note of who, when and why
    3. objects go, from the second store too, as far as locks and these accounts allow, and other
       captures do not need them
    4. copies go: quarantined transfers, made packages, staged bytes
    5. the certificate is stated; in that transaction the content's row says disposed and work ends

Does: each step again after a crash; every one of them finds what it did before. Refuses to begin
where the rules refuse, and then lets the work go: a hold or a new lock has voided the request.
Statements stay: the log is whole, and what it says of a capture is not its content.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection

from evidence.schema import format_time
from evidence.statement import About
from service.captures.inspection import OUTPUT_PREFIX
from service.captures.queries import mark_disposed
from service.captures.sealing import sealed_key
from service.captures.workflow import StillLeased
from service.contents import Kept
from service.context import Context, Organ
from service.custody import require_logged
from service.exports.queries import mark_expired, packages_with
from service.exports.workflow import packages_of
from service.law.refusals import Refusal
from service.law.retention import Act
from service.logs import get_logger
from service.objects import open_second
from service.problems import Problem
from service.retention.deeds import DISPOSE
from service.retention.others import is_named_elsewhere
from service.retention.standing import StillAllowed, Subject, find_subject
from service.work.queue import Piece, drop_pieces, finish_piece
from service.work.worker import Failures, Task
from storage.errors import Retained, StorageError, Unavailable
from storage.log import Appended
from storage.sealing import sealed_size

if TYPE_CHECKING:
    from evidence.canonical import JSONObject

NO_CLASS = "default"
"""In a certificate: the capture had no class of retention."""

_log = get_logger("disposing")


@dataclass(slots=True)
class _Gone:
    """What became of a capture's objects."""

    keys: int = 0
    objects: int = 0
    left: int = 0
    shared: int = 0

    @property
    def method(self) -> str:
        """The certificate's word."""
        if self.shared:
            return "kept_for_others"
        if self.keys:
            return "key_destroyed" if self.left else "key_destroyed_and_object_removed"
        return "object_removed"


class Disposing:
    """Disposes of content."""

    def __init__(self, context: Context) -> None:
        """Prepare for one context."""
        self._context = context

    def task(self) -> Task:
        """The work that second approvals leave behind."""
        return Task(kind=DISPOSE, do=self.dispose)

    def dispose(self, pieces: Sequence[Piece]) -> Failures:
        """Do each piece; see the module's procedure."""
        failures: dict[Piece, Exception] = {}
        for piece in pieces:
            try:
                self._dispose(self._context.organs[piece.organ], piece)
            except (StorageError, Refusal) as error:
                failures[piece] = error
            except (Problem, OSError) as error:
                fault = Unavailable("the content could not be disposed of")
                fault.__cause__ = error
                failures[piece] = fault
        return failures

    def _dispose(self, organ: Organ, piece: Piece) -> None:
        subject = find_subject(self._context, organ, piece.subject)
        if subject.standing.disposed:
            self._finish(piece)
            return
        if not subject.standing.begun:
            subject = self._begin(organ, piece, subject)  # 1
        request = subject.standing.request
        if not subject.standing.begun or request is None:
            _log.warning("disposal_void", capture=piece.subject)
            self._finish(piece)
            return
        gone = _Gone()
        for kept in subject.parts:
            self._destroy_key(organ, subject, request, kept, gone)  # 2
        for kept in subject.parts:
            self._remove_object(subject, kept, gone)  # 3
        copies = self._remove_copies(organ, subject)  # 4
        self._state(organ, piece, subject, request, gone.method, copies)  # 5

    def _begin(self, organ: Organ, piece: Piece, subject: Subject) -> Subject:
        request = subject.standing.request
        if request is None:
            return subject
        body: JSONObject = {
            "event": "disposal_begun",
            "actor": "server",
            "request": request.statement,
        }
        about = About(statement=subject.capture, log=organ.origin, index=subject.index)
        made = organ.admission.make("custody", body, about, subject.previous)

        guard = StillAllowed(
            log=organ.log_id,
            capture=subject.capture,
            keep_until=subject.keep_until,
            lease=piece,
        )
        try:
            require_logged(organ.admission.submit_own([made], guard=guard).result())
        except Refusal as refusal:
            if refusal.code in {"lease_lost", "clock_behind"}:
                raise
            return find_subject(self._context, organ, subject.capture)
        return find_subject(self._context, organ, subject.capture)

    def _destroy_key(
        self, organ: Organ, subject: Subject, request: Act, kept: Kept, gone: _Gone
    ) -> None:
        if not kept.key:
            return
        self._context.keys.destroy_content(
            organ.origin,
            kept.key,
            at=self._context.clock(),
            by=" ".join(one.actor for one in subject.standing.approvals),
            reason=f"{request.reason} by request {request.statement}",
        )
        gone.keys += 1

    def _remove_object(self, subject: Subject, kept: Kept, gone: _Gone) -> None:
        """Ciphertext without its key may stay where it is locked; plain content may not."""
        objects = self._context.objects
        if not kept.key:
            with self._context.db.read() as connection:
                if is_named_elsewhere(connection, kept.name, subject.capture):
                    gone.shared += kept is subject.kept
                    return
        with suppress(StorageError):
            objects.hold(kept.name, kept.version, on=False)  # none runs, or it would not have begun
        try:
            objects.dispose(kept.name, kept.version, self._context.clock())
            self._remove_from_second(kept)
            gone.objects += 1
        except (Retained, Unavailable):
            if not kept.key:
                raise
            gone.left += 1

    def _remove_from_second(self, kept: Kept) -> None:
        """The store that damaged objects are mended from holds the same; else a mend undid it."""
        second = open_second(self._context.settings, self._context.clock)
        if second is not None:
            second.dispose(kept.name, None, self._context.clock())

    def _remove_copies(self, organ: Organ, subject: Subject) -> list[str]:
        """Other copies of the content in the clear; returns the digests of quarantined ones."""
        context, quarantined = self._context, list[str]()
        for aside in context.staging.quarantined():
            if aside.key == subject.capture:
                context.staging.drop_quarantined(aside)
                quarantined.append(aside.sha256)
        for key, sha256, size_bytes in _ways_in(subject):
            context.staging.waiting(key, sha256, size_bytes).consume()
        with context.db.read() as connection:
            packages = packages_with(connection, organ.log_id, subject.capture)
        for package in packages:
            packages_of(context).remove(package)
        if packages:
            with context.db.write() as connection:
                mark_expired(connection, [package.export for package in packages])
        return quarantined

    def _state(
        self,
        organ: Organ,
        piece: Piece,
        subject: Subject,
        request: Act,
        method: str,
        copies: Sequence[str],
    ) -> None:
        standing, kind = subject.standing, subject.kind
        parts = subject.parts
        contents = dict.fromkeys([*(one.sha256 for one in parts), *(one.name for one in parts)])
        authority = request.authority or ("" if kind is None else kind.source.cited)
        body: JSONObject = {
            "disposed": "content",
            "contents": [*dict.fromkeys([*contents, *copies])],
            "retention_class": NO_CLASS if kind is None else kind.name,
            "authority": authority,
            "approvals": [one.statement for one in standing.approvals],
            "expired_at": format_time(standing.expires_at or request.at),
            "method": method,
            "request": request.statement,
        }
        about = About(statement=subject.capture, log=organ.origin, index=subject.index)
        made = organ.admission.make("disposed", body, about, subject.previous)

        guard = StillLeased(pieces=(piece,))
        effects = Disposed(
            log=organ.log_id, capture=subject.capture, piece=piece, at=self._context.clock()
        )
        require_logged(organ.admission.submit_own([made], guard=guard, effects=effects).result())

    def _finish(self, piece: Piece) -> None:
        with self._context.db.write() as connection:
            finish_piece(connection, piece)


class Disposed(msgspec.Struct, frozen=True, kw_only=True, tag="disposed"):
    """The row and the work, in the transaction of the certificate.

    Attributes:
        log: id of the log.
        capture: whose content is gone.
        piece: as leased.
        at: when it was disposed of, UTC.
    """

    log: str
    capture: str
    piece: Piece
    at: datetime

    def __call__(self, connection: Connection, _appended: list[Appended], /) -> None:
        """Write both."""
        mark_disposed(connection, self.log, self.capture, self.at)
        finish_piece(connection, self.piece)
        drop_pieces(connection, self.log, self.capture)


def _ways_in(subject: Subject) -> Iterator[tuple[str, str, int]]:
    """Under which names a crash may have left content on its way: key, digest and length."""
    yield subject.capture, subject.sha256, subject.kept.size_bytes
    for kept in subject.outputs:
        yield OUTPUT_PREFIX + subject.capture, kept.sha256, kept.size_bytes
    for kept in subject.parts:
        if kept.key:
            yield sealed_key(kept.key), kept.name, sealed_size(kept.size_bytes)
