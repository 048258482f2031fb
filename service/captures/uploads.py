"""Content on its way in: streamed, hashed while it is written, durable before it is answered.

Does: takes the bytes of an announced capture, at most one transfer of each at a time, and compares
them with what the device signed. What differs is quarantined: the bytes stay, a custody statement
says so, the sender is told. Refuses, before a byte is taken: more than was announced, a second
transfer beside the first, transfers that failed too often, anything that would eat into the disk
reserve, and everything while the organ's log may not sign.

This is the one module of the service that is async below its route: the bytes pass through here.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn, ParamSpec, TypeVar

from litestar.exceptions import HTTPException

from evidence.errors import FieldInvalid
from evidence.schema import decode_base64
from service.captures.arrivals import Arrival, Arrivals, Noted
from service.captures.queries import ContentState, Upload, count_events, find_upload, newest_about
from service.captures.sealing import class_of, digest_for_staging
from service.captures.transfers import Transfers
from service.context import Context, Organ
from service.custody import Deed, log_custody, require_logged
from service.law.permissions import Holder
from service.logs import get_logger
from service.problems import Problem
from storage import records
from storage.errors import NotBegun, Unavailable
from storage.objects import Staged
from storage.staging import StagedWriter

PIECE_BYTES = 1024 * 1024
"""Bytes handed to a thread at once: hashing and writing them leaves the interpreter free."""

_THREADS = 24
_BUSY_RETRY_S = 2
_DIGEST = re.compile(r"([a-z][a-z0-9_.*-]*)\s*=\s*:([A-Za-z0-9+/=]*):\s*(?:;.*)?")
_WRONG = {
    "content_too_large": "More bytes came than were announced",
    "content_truncated": "Fewer bytes came than were announced",
    "digest_mismatch": "Other bytes came than were announced",
    "request_timeout": "The transfer stalled, begin again; some bytes came",
}
_log = get_logger("uploads")
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One transfer of one capture's content.

    Attributes:
        organ: whose capture it is.
        holder: who sends.
        upload: what was announced.
        length: Content-Length, where the sender told it.
        digest: SHA-256 in hex from Content-Digest, where the sender told it.
    """

    organ: Organ
    holder: Holder
    upload: Upload
    length: int | None
    digest: str | None


@dataclass(slots=True)
class _Taken:
    """What came so far and why it ended early.

    One piece is written by a thread while the next one is coming in.
    """

    size_bytes: int = 0
    pieces: list[bytes] = field(default_factory=list[bytes])
    waiting_bytes: int = 0
    writing: "asyncio.Future[None] | None" = None
    ended: str = ""


class Inbox:
    """Takes content in. Its state belongs to the event loop's thread."""

    def __init__(self, context: Context, arrivals: Arrivals, transfers: Transfers) -> None:
        """Begin with no transfer.

        Args:
            context: stores, settings and organs.
            arrivals: notes what came whole.
            transfers: claims a capture for one transfer over all nodes.
        """
        self._context = context
        self._transfers = transfers
        self._arrivals = arrivals
        self._active: set[str] = set()
        self._begun: set[str] = set()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="upload")

    @property
    def busy(self) -> bool:
        """Whether content is coming in."""
        return bool(self._active)

    def close(self) -> None:
        """Let go of the threads; transfers that run are finished or interrupted."""
        self._pool.shutdown(wait=True)

    def begin(self, organ: Organ) -> None:
        """Take an organ's content from now on: its log signs, and its leftovers are taken up."""
        self._begun.add(organ.id)

    async def receive(self, transfer: Transfer, body: AsyncIterator[bytes]) -> Noted:
        """Take one transfer to its end.

        The row was read in this very turn of the event loop. So either another transfer of this
        content is in the inbox, or none has arrived since. Where other nodes receive too, it is
        read again once the capture is claimed.

        Returns:
            The row of the content, and whether this transfer was the one that brought it.

        Raises:
            Problem: `disposed`, `content_too_large`, `upload_in_progress`, `busy`,
            `request_timeout`,
                `content_truncated`, `digest_mismatch`.
            StorageError: the organ has not begun, the disk's reserve is reached, or it refused.
        """
        upload = transfer.upload
        if upload.state is ContentState.DISPOSED:
            raise Problem("disposed", "This content was disposed of by authority.")
        if upload.state is not ContentState.ANNOUNCED:
            return _repeated(transfer, upload)
        self._require_begun(transfer.organ)
        if transfer.length is not None and transfer.length > upload.size_bytes:
            raise Problem("content_too_large", "Content-Length is above the announced size.")
        self._require_free(upload.capture)
        self._active.add(upload.capture)
        try:
            if not await self._run(self._transfers.claim, upload.log, upload.capture):
                raise _in_progress()
            try:
                return await self._receive(transfer, body)
            finally:
                release = self._run(self._transfers.release, upload.log, upload.capture)
                await asyncio.shield(release)
        finally:
            self._active.discard(upload.capture)

    async def _receive(self, transfer: Transfer, body: AsyncIterator[bytes]) -> Noted:
        """Take a transfer whose capture is claimed."""
        upload = transfer.upload
        if self._transfers.shared:
            newest = await self._run(self._look, upload)
            if newest.state is not ContentState.ANNOUNCED:
                return _repeated(transfer, newest)
        with await self._run(self._begin, transfer) as writer:
            taken = await self._take(transfer, writer, body)
            code = taken.ended or _difference(transfer, writer)
            self._count(code, writer)
            if code and not await self._run(self._keeps_wrong, upload):
                raise Problem(code, f"{_WRONG[code]}; as many as are kept had come before.")
            staged = await self._run(writer.finish)
        return await self._settle(transfer, code, staged)

    def _begin(self, transfer: Transfer) -> StagedWriter:
        """Open the staged upload; of a class nothing may go straight to its object's place."""
        upload = transfer.upload
        kind = class_of(self._context, transfer.organ, upload.capture)
        digest = digest_for_staging(upload.sha256, kind)
        return self._context.staging.begin(upload.capture, upload.size_bytes, sha256=digest)

    def _look(self, upload: Upload) -> Upload:
        with self._context.db.read() as connection:
            newest = find_upload(connection, upload.log, upload.capture)
        if newest is None:
            raise Unavailable("an announced capture has lost its row")
        return newest

    def _require_begun(self, organ: Organ) -> None:
        if organ.id not in self._begun:
            organ.log.require_taking()
            raise NotBegun("what an earlier run left is being taken up")

    def _require_free(self, capture: str) -> None:
        if capture in self._active:
            raise _in_progress()
        if len(self._active) >= self._context.settings.max_uploads:
            raise Problem("busy", "Too many transfers are running.", retry_after_s=_BUSY_RETRY_S)

    def _keeps_wrong(self, upload: Upload) -> bool:
        """Whether bytes that do not fit are still kept.

        The right bytes are welcome however often wrong ones came: a bad line, or somebody who
        means harm, must not shut a capture out.
        """
        with self._context.db.read() as connection:
            failed = count_events(connection, upload.log, upload.capture, "quarantined")
        return failed < self._context.settings.max_quarantined

    async def _take(
        self, transfer: Transfer, writer: StagedWriter, body: AsyncIterator[bytes]
    ) -> _Taken:
        """Write what comes until it ends, exceeds the announcement, or takes too long."""
        settings = self._context.settings
        size_bytes = transfer.upload.size_bytes
        seconds = settings.upload_idle_s + size_bytes / settings.upload_min_bytes_per_s
        deadline = time.monotonic() + seconds
        taken = _Taken()
        while not taken.ended:
            idle_s = min(settings.upload_idle_s, max(0.0, deadline - time.monotonic()))
            try:
                async with asyncio.timeout(idle_s):
                    chunk = await anext(body, None)
            except TimeoutError:
                taken.ended = "request_timeout"
                break
            except HTTPException:  # what Litestar makes of a sender who hung up
                taken.ended = "content_truncated"
                break
            if chunk is None:
                break
            taken.size_bytes += len(chunk)
            if taken.size_bytes > size_bytes:
                taken.ended = "content_too_large"
                chunk = chunk[: len(chunk) - (taken.size_bytes - size_bytes)]
            taken.pieces.append(chunk)
            taken.waiting_bytes += len(chunk)
            if taken.waiting_bytes >= PIECE_BYTES:
                await self._flush(taken, writer)
        await self._flush(taken, writer)
        if taken.writing is not None:
            await taken.writing
        return taken

    async def _flush(self, taken: _Taken, writer: StagedWriter) -> None:
        if not taken.waiting_bytes:
            return
        if taken.writing is not None:
            await taken.writing
        pieces, taken.pieces, taken.waiting_bytes = taken.pieces, [], 0
        taken.writing = self._run(_write, writer, pieces)

    def _count(self, code: str, writer: StagedWriter) -> None:
        self._context.metrics.uploaded_bytes.inc(writer.size_bytes)
        self._context.metrics.uploads.labels(code or "received").inc()

    async def _settle(self, transfer: Transfer, code: str, staged: Staged) -> Noted:
        """Note what is as it was announced, or quarantine it and say so."""
        if code:
            await self._refuse(transfer, staged, code)
        at = self._context.clock()
        arrival = Arrival(upload=transfer.upload, received_at=at)
        return await asyncio.wrap_future(self._arrivals.note(arrival))

    async def _refuse(self, transfer: Transfer, staged: Staged, code: str) -> NoReturn:
        """Keep the bytes, state it, tell the sender."""
        await self._run(self.quarantine, transfer.organ, transfer.holder.name, staged, code)
        raise Problem(code, f"{_WRONG[code]}; they are kept aside.")

    def quarantine(self, organ: Organ, actor: str, staged: Staged, code: str) -> None:
        """Take bytes aside that are not what was announced, and state it; blocks.

        Args:
            organ: whose capture it is.
            actor: who sent them.
            staged: the bytes; the staging key is the capture's id.
            code: why.
        """
        kept = self._context.staging.quarantine(staged, code)
        with self._context.db.read() as connection:
            record = records.find_record(connection, organ.log_id, kept.key)
            upload = find_upload(connection, organ.log_id, kept.key)
            previous = newest_about(connection, organ.log_id, kept.key)
        if record is None or upload is None:
            _log.warning("quarantined_without_capture", capture=kept.key, code=code)
            return
        deed = Deed(
            capture=kept.key,
            index=record.index,
            event="quarantined",
            actor=actor,
            previous=previous,
            content={
                "sha256": kept.sha256,
                "size_bytes": kept.size_bytes,
                "media_type": upload.media_type,
            },
            reason=code,
        )
        require_logged(log_custody(organ.admission, deed).result())
        _log.warning("quarantined", capture=kept.key, code=code)

    def _run(
        self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> "asyncio.Future[R]":
        """Call something that blocks in one of the inbox's threads."""
        call = partial(function, *args, **kwargs)
        return asyncio.get_running_loop().run_in_executor(self._pool, call)


def read_digest(header: str) -> str | None:
    """The SHA-256 of a Content-Digest header in hex, or None where the header is empty.

    Digests by other algorithms are ignored beside it, as RFC 9530 allows; alone they are not,
    because their sender would believe in a check that nobody made.

    Raises:
        Problem: `bad_request`: it is malformed, or holds no SHA-256.

    Source: RFC 9530 section 2; RFC 9651 section 3.2 (the last of two members counts).
    """
    digests: dict[str, str] = {}
    for member in filter(None, map(str.strip, header.split(","))):
        found = _DIGEST.fullmatch(member)
        if found is None:
            raise Problem("bad_request", "The Content-Digest header is malformed.")
        digests[found[1]] = found[2]
    if not digests:
        return None
    if "sha-256" not in digests:
        raise Problem("bad_request", "Of Content-Digest only sha-256 is checked here.")
    try:
        digest = decode_base64(digests["sha-256"])
    except FieldInvalid as error:
        raise Problem("bad_request", "The Content-Digest header is malformed.") from error
    if len(digest) != 32:
        raise Problem("bad_request", "The Content-Digest header is malformed.")
    return digest.hex()


def _repeated(transfer: Transfer, upload: Upload) -> Noted:
    """The answer to a transfer of what is here already; its body is not read.

    Raises:
        Problem: what the sender says about its bytes does not fit those that are here.
    """
    length, size_bytes = transfer.length, upload.size_bytes
    code = ""
    if length is not None and length != size_bytes:
        code = "content_too_large" if length > size_bytes else "content_truncated"
    elif transfer.digest not in {None, upload.sha256}:
        code = "digest_mismatch"
    if code:
        raise Problem(code, "The content has arrived before; this is said to be another.")
    return Noted(upload=upload, first=False)


def _in_progress() -> Problem:
    told = "Another transfer of this content is running."
    return Problem("upload_in_progress", told, retry_after_s=_BUSY_RETRY_S)


def _write(writer: StagedWriter, pieces: Sequence[bytes]) -> None:
    # One piece, although joining copies: each hash and each write gives the interpreter away and
    # has to wait for it again.
    writer.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))


def _difference(transfer: Transfer, written: StagedWriter) -> str:
    """Why a transfer that came to its end is not the announced content, or nothing."""
    upload = transfer.upload
    if written.size_bytes < upload.size_bytes:
        return "content_truncated"
    if written.sha256 != upload.sha256 or transfer.digest not in {None, written.sha256}:
        return "digest_mismatch"
    return ""
