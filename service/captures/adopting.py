"""What an earlier run left half done, brought to an end before its organ takes anything.

    1. a finished upload whose arrival was not noted, and that is what was announced: noted and
       stated as `recovered`, in one transaction
    2. one that is not what was announced: quarantined, as it would have been
    3. one that was noted already: left to the ingest that its row releases
    4. one that no capture of ours announced: quarantined and logged
    5. quarantined bytes without their custody statement: stated now

Refuses to remove anything but what is made again, and to state or move anything of an organ whose
log is not confirmed: next to an old copy of the database all the newer content looks unknown. 4
waits for a start at which every log is.
"""

from collections.abc import Mapping

from sqlalchemy import Connection

from evidence.canonical import JSONValue
from service.captures.arrivals import STORE
from service.captures.inspection import OUTPUT_PREFIX
from service.captures.queries import (
    ContentState,
    Upload,
    custody_of,
    find_upload,
    mark_received,
    newest_about,
    statements_about,
)
from service.captures.sealing import SEALED_PREFIX, let_go
from service.captures.uploads import Inbox
from service.contents import kept_by
from service.context import Context, Organ
from service.custody import Deed, log_custody, require_logged
from service.logs import get_logger
from service.work.queue import release_pieces
from storage import records
from storage.errors import IntegrityAlarm
from storage.log import Appended
from storage.objects import StagedFile
from storage.staging import QuarantinedFile

_ACTOR = "server"
_log = get_logger("adopting")


class Adopting:
    """Takes up what is left, one organ after the other as their logs may sign."""

    def __init__(self, context: Context, inbox: Inbox) -> None:
        """Look what there is, before the first upload; nothing is stated yet.

        Args:
            context: everything that is open.
            inbox: knows how to quarantine.
        """
        self._context = context
        self._inbox = inbox
        self._left: dict[str, list[tuple[StagedFile, Upload]]] = {}
        self._unknown: list[StagedFile] = []
        leftovers = context.staging.sweep()
        if leftovers.dropped or leftovers.strangers:
            _log.warning(
                "staging_swept", dropped=leftovers.dropped, strangers=len(leftovers.strangers)
            )
        for staged in leftovers.finished:
            if staged.key.startswith((OUTPUT_PREFIX, SEALED_PREFIX)):
                let_go(staged)  # made again by the work that made it, the same or a newer one
                continue
            organ, upload = _owner(context, staged.key)
            if organ is None or upload is None:
                self._unknown.append(staged)
            else:
                self._left.setdefault(organ.id, []).append((staged, upload))

    def adopt(self, organ: Organ) -> None:
        """Do the module's procedure for one organ that takes no content yet; blocks.

        Raises:
            StorageError: the log takes nothing now, or a store is at fault.
        """
        context = self._context
        for staged, upload in self._left.get(organ.id, ()):
            if (staged.sha256, staged.size_bytes) != (upload.sha256, upload.size_bytes):
                short = staged.size_bytes < upload.size_bytes
                code = "content_truncated" if short else "digest_mismatch"
                self._inbox.quarantine(organ, _ACTOR, staged, code)
            elif upload.state is ContentState.ANNOUNCED:
                _adopt(context, organ, upload)
            elif upload.state is ContentState.STORED:
                self._drop(organ, staged)  # killed between the object's name and the old one
        _state_quarantined(context, self._inbox, organ)

    def _drop(self, organ: Organ, staged: StagedFile) -> None:
        """Let go of what is an object already, once that is looked at again."""
        with self._context.db.read() as connection:
            about = statements_about(connection, organ.log_id, staged.key, kind="stored")
        if about and kept_by(about[0].statement).key:
            let_go(staged)  # sealed: what lies here in the clear must not become an object
        else:
            self._context.objects.put_once(staged)

    def put_unknown_aside(self) -> None:
        """Quarantine what no capture of ours announced; before the first request."""
        for staged in self._unknown:
            self._context.staging.quarantine(staged, "unknown_capture")
            _log.warning("leftover_unknown", capture=staged.key)


def _owner(context: Context, capture: str) -> tuple[Organ | None, Upload | None]:
    with context.db.read() as connection:
        for organ in context.organs.values():
            upload = find_upload(connection, organ.log_id, capture)
            if upload is not None:
                return organ, upload
    return None, None


def _adopt(context: Context, organ: Organ, upload: Upload) -> None:
    with context.db.read() as connection:
        record = records.find_record(connection, organ.log_id, upload.capture)
        previous = newest_about(connection, organ.log_id, upload.capture)
    if record is None:
        raise IntegrityAlarm("an announced capture has lost its record")
    at = context.clock()

    def effects(connection: Connection, _appended: list[Appended]) -> None:
        """Noted if and only if it is stated: a kill in between would hush the recovery up."""
        mark_received(connection, [(upload, at)])
        release_pieces(connection, STORE, [(upload.log, upload.capture)], at)

    deed = Deed(
        capture=upload.capture,
        index=record.index,
        event="recovered",
        actor=_ACTOR,
        previous=previous,
        content={
            "sha256": upload.sha256,
            "size_bytes": upload.size_bytes,
            "media_type": upload.media_type,
        },
    )
    require_logged(log_custody(organ.admission, deed, effects=effects).result())
    _log.warning("leftover_adopted", capture=upload.capture)


def _state_quarantined(context: Context, inbox: Inbox, organ: Organ) -> None:
    """A kill between taking bytes aside and saying so leaves a file without its statement."""
    for kept in context.staging.quarantined():
        with context.db.read() as connection:
            if find_upload(connection, organ.log_id, kept.key) is None:
                continue
            stated = custody_of(connection, organ.log_id, kept.key, "quarantined")
        if not any(_names(body, kept) for body in stated):
            staged = StagedFile(
                key=kept.key, path=kept.path, sha256=kept.sha256, size_bytes=kept.size_bytes
            )
            inbox.quarantine(organ, _ACTOR, staged, kept.reason)


def _names(body: Mapping[str, JSONValue], kept: QuarantinedFile) -> bool:
    """Whether a custody statement is about this very file."""
    content = body.get("content")
    same = isinstance(content, dict) and content["sha256"] == kept.sha256
    return same and body.get("reason") == kept.reason
