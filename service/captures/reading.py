"""Content on its way out: the reading is logged before the first byte leaves.

Does: finds the object that the server stated it stored, states who reads it (once for each reader,
object and quarter of an hour), and gives the bytes, hashed as they pass. Refuses to let the last
bytes of damaged content out as if nothing were wrong: the answer breaks off instead.
"""

import hashlib
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import UnsupportedOperation
from tempfile import TemporaryFile
from typing import BinaryIO, cast

import msgspec
from sqlalchemy import Connection

from evidence.media.findings import Finding
from evidence.statement import Statement
from service.captures.queries import (
    ContentState,
    find_upload,
    newest_about,
    note_view,
    statements_about,
    viewed_until,
)
from service.captures.sandbox import Sandbox, SandboxUnavailable
from service.contents import Kept, Vault, kept_by
from service.context import Context, Organ
from service.custody import Deed, Event, log_custody, require_logged
from service.law.permissions import Holder
from service.law.refusals import AlreadyDone
from service.logs import get_logger
from service.outgoing import Pieces
from service.problems import Problem
from storage import records
from storage.durable import disk_errors
from storage.errors import DiskReserveReached, IntegrityAlarm
from storage.log import Appended

PIECE_BYTES = 256 * 1024
_RETRY_S = 1
_LOCKS = 1024
_log = get_logger("reading")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Content that is in the object store.

    Attributes:
        capture: the capture's id.
        index: the capture's index.
        sha256: of the content, 64 hex digits.
        size_bytes: of the content.
        media_type: as announced.
        origin: of the log that says where it lies.
        kept: where it lies.
    """

    capture: str
    index: int
    sha256: str
    size_bytes: int
    media_type: str
    origin: str
    kept: Kept


class Reading:
    """Lets content be read, and states it. Threads may share it."""

    def __init__(self, context: Context, sandbox: Sandbox) -> None:
        """Prepare.

        Args:
            context: stores and organs.
            sandbox: makes previews.
        """
        self._context = context
        self._sandbox = sandbox
        self._turn = threading.Lock()
        self._locks: OrderedDict[tuple[str, str], threading.Lock] = OrderedDict()

    def find(self, organ: Organ, capture: str) -> Held:
        """The stored content of a capture.

        Raises:
            Problem: `capture_unknown`, `content_unknown` or `content_pending`.
            IntegrityAlarm: the server stated that it stored it, and it is not there.
        """
        with self._context.db.read() as connection:
            upload = find_upload(connection, organ.log_id, capture)
            record = records.find_record(connection, organ.log_id, capture)
            about = statements_about(connection, organ.log_id, capture, kind="stored")
        if upload is None or record is None:
            raise Problem("capture_unknown", "This organ's log holds no such capture.")
        if upload.state is ContentState.DISPOSED:
            raise self._disposed(organ, capture)
        if upload.state is ContentState.ANNOUNCED:
            raise Problem("content_unknown", "The content was announced and has not arrived.")
        if not about:
            raise Problem(
                "content_pending",
                "The content has arrived and is being put into the store.",
                retry_after_s=_RETRY_S,
            )
        return Held(
            capture=capture,
            index=record.index,
            sha256=upload.sha256,
            size_bytes=upload.size_bytes,
            media_type=upload.media_type,
            origin=organ.origin,
            kept=kept_by(about[-1].statement),
        )

    def _disposed(self, organ: Organ, capture: str) -> Problem:
        with self._context.db.read() as connection:
            certificates = statements_about(connection, organ.log_id, capture, kind="disposed")
        named = ", ".join(one.statement.id for one in certificates)
        return Problem("disposed", f"The content was disposed of; its certificate is {named}.")

    def open(self, held: Held) -> BinaryIO:
        """The content's bytes from the start; the caller closes them.

        Raises:
            KeyDestroyed: it was disposed of.
            IntegrityAlarm: the object is gone.
        """
        vault = Vault(objects=self._context.objects, keys=self._context.keys)
        return vault.open(held.origin, held.kept)

    @contextmanager
    def as_file(self, held: Held) -> Generator[int]:
        """The content as an open file of this machine, for who reads it by its descriptor.

        Where the store is elsewhere it is a copy without a name, hashed on its way.

        Raises:
            IntegrityAlarm: the object is gone, or holds other bytes.
            DiskReserveReached: there is no room for a copy.
            Unavailable: the store or the disk refuses.
        """
        with self.open(held) as stream, ExitStack() as copied:
            try:
                descriptor = stream.fileno()
            except UnsupportedOperation:
                descriptor = copied.enter_context(self._copy(held, stream)).fileno()
            yield descriptor

    def _copy(self, held: Held, stream: BinaryIO) -> BinaryIO:
        folder = self._context.places.exports
        reserve_bytes = self._context.settings.disk_reserve_bytes
        with ExitStack() as made, disk_errors("copying content"):
            if shutil.disk_usage(folder).free - held.size_bytes < reserve_bytes:
                raise DiskReserveReached("a copy of this content would eat into the disk reserve")
            copy = made.enter_context(TemporaryFile(dir=folder))
            for piece in pieces(stream, 0, held.size_bytes, held.sha256, held.size_bytes):
                copy.write(piece)
            copy.flush()
            made.pop_all()
        return cast("BinaryIO", copy)

    def state(self, organ: Organ, holder: Holder, held: Held, event: Event) -> None:
        """Log that somebody reads, unless that is logged already; blocks until it is.

        Args:
            organ: whose capture it is.
            holder: who reads.
            held: what is read.
            event: `viewed` or `previewed`.

        Raises:
            Exception: the log does not take it; then nothing may be read.
        """
        subject = window_subject(held.capture, event)
        with self._lock(holder.name, subject):
            at = self._context.clock()
            with self._context.db.read() as connection:
                until = viewed_until(connection, organ.log_id, holder.name, subject)
                previous = newest_about(connection, organ.log_id, held.capture)
            if until is not None and at < until:
                return
            deed = Deed(
                capture=held.capture,
                index=held.index,
                event=event,
                actor=holder.name,
                previous=previous,
                content={
                    "sha256": held.sha256,
                    "size_bytes": held.size_bytes,
                    "media_type": held.media_type,
                },
            )
            window = Window(
                log=organ.log_id,
                organ=organ.id,
                reader=holder.name,
                subject=subject,
                at=at,
                until=at + timedelta(seconds=self._context.settings.view_window_s),
            )
            try:
                logged = log_custody(
                    organ.admission, deed, guard=NotYetViewed(window=window), effects=window
                )
                require_logged(logged.result())
            except AlreadyDone:
                return

    def preview(self, held: Held) -> bytes:
        """A small JPEG, decoded and encoded anew in the sandbox; blocks.

        Raises:
            Problem: `preview_unavailable`, or `busy` where no sandbox comes up.
        """
        try:
            with self.as_file(held) as file:
                made = self._sandbox.preview(file)
        except SandboxUnavailable as error:
            raise Problem("busy", "No preview can be made now.", retry_after_s=_RETRY_S) from error
        if isinstance(made, Finding):
            raise Problem("preview_unavailable", made.detail)
        return made

    def _lock(self, reader: str, subject: str) -> threading.Lock:
        """One lock for each reader and subject, the most recent ones kept."""
        with self._turn:
            lock = self._locks.setdefault((reader, subject), threading.Lock())
            self._locks.move_to_end((reader, subject))
            while len(self._locks) > _LOCKS:
                self._locks.popitem(last=False)
            return lock


class Window(msgspec.Struct, frozen=True, kw_only=True, tag="window"):
    """The quarter of an hour that begins with the statement of a reading.

    Attributes:
        log: id of the log.
        organ: the organ.
        reader: who reads.
        subject: what is read.
        at: from when, UTC.
        until: how long the same reading is not stated again, UTC.
    """

    log: str
    organ: str
    reader: str
    subject: str
    at: datetime
    until: datetime

    def __call__(self, connection: Connection, _appended: list[Appended], /) -> None:
        """Note it."""
        note_view(
            connection,
            log=self.log,
            organ=self.organ,
            reader=self.reader,
            subject=self.subject,
            until=self.until,
        )


class NotYetViewed(msgspec.Struct, frozen=True, kw_only=True, tag="not_yet_viewed"):
    """Another process of this deployment may have stated the same reading meanwhile.

    Attributes:
        window: that would begin.
    """

    window: Window

    def check(self, connection: Connection, _at: datetime, /) -> Callable[[Statement], None]:
        """Look once."""
        window = self.window
        noted = viewed_until(connection, window.log, window.reader, window.subject)

        def check(_statement: Statement) -> None:
            """Refuse to state it twice."""
            if noted is not None and window.at < noted:
                raise AlreadyDone("This reading is logged already.")

        return check


def pieces(stream: BinaryIO, first: int, end: int, sha256: str, size_bytes: int) -> Pieces:
    """The bytes with first ≤ position < end, in pieces.

    Content that is read whole is hashed on its way, and its last piece is held back until the
    digest is right.

    Args:
        stream: seekable, at any position.
        first: the first position.
        end: one beyond the last.
        sha256: what the whole content must hash to.
        size_bytes: how long the whole content is.

    Raises:
        IntegrityAlarm: other bytes, or fewer, lie there.
    """
    whole = first == 0 and end == size_bytes
    digest = hashlib.sha256()
    stream.seek(first)
    left = end - first
    while left:
        piece = stream.read(min(PIECE_BYTES, left))
        left -= len(piece)
        digest.update(piece)
        if not piece or (whole and not left and digest.hexdigest() != sha256):
            _log.error("content_damaged", sha256=sha256)
            raise IntegrityAlarm("the stored bytes are not what their name says")
        yield piece


def window_subject(capture: str, event: str) -> str:
    """A view and a preview of one capture are two things to have been seen."""
    if event == "viewed":
        return capture
    return hashlib.sha256(f"{event} {capture}".encode()).hexdigest()
