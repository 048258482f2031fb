"""What an earlier run or another node left half done, brought to an end.

    1. a finished upload whose arrival was not noted, and that is what was announced: noted and
       stated as `recovered`, in one transaction
    2. one that is not what was announced: quarantined, as it would have been
    3. one that was noted already: left to the ingest that its row releases
    4. one that no capture of ours announced: quarantined and logged
    5. quarantined bytes without their custody statement: stated now

It happens before an organ takes anything; where several nodes stage in one bucket, again every few
minutes, because the node that left something need not start again. What a live node is just
receiving is claimed by it (`service.captures.transfers`) and is left alone; what is taken up here
is claimed first, and looked at again. What was made on the way to an object (`sealed-`, `facts-`)
goes: its work makes it again, the same or a newer one. Where other nodes work, it goes only while
nobody has leased that work.

Refuses to remove any content that is not an object, and to state or move anything of an organ whose
log is not confirmed: next to an old copy of the database all the newer content looks unknown. 4
waits for a start at which every log is.
"""

import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime

import msgspec
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
from service.captures.transfers import Transfers
from service.captures.uploads import Inbox
from service.contents import kept_by
from service.context import Context, Organ
from service.custody import Deed, log_custody, require_logged
from service.logs import get_logger
from service.stores import PACKAGE_PREFIX
from service.work.queue import is_leased, release_pieces
from storage import records
from storage.errors import IntegrityAlarm, NotFound
from storage.log import Appended
from storage.objects import Staged
from storage.staging import QuarantinedFile

AGAIN_S = 300.0
"""How often a node looks for what others left."""

_ACTOR = "server"
_log = get_logger("adopting")


class Adopting:
    """Takes up what is left, one organ after the other as their logs may sign."""

    def __init__(self, context: Context, inbox: Inbox, transfers: Transfers) -> None:
        """Look what there is, before the first upload; nothing is stated yet.

        Args:
            context: everything that is open.
            inbox: knows how to quarantine.
            transfers: knows what is being received.
        """
        self._context = context
        self._inbox = inbox
        self._transfers = transfers
        self._adopted: list[Organ] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="adopting", daemon=True)
        self._left, self._unknown = self._sweep()

    def adopt(self, organ: Organ) -> None:
        """Do the module's procedure for one organ that takes no content yet; blocks.

        Raises:
            StorageError: the log takes nothing now, or a store is at fault.
        """
        for staged in self._left.get(organ.id, ()):
            self._take_up(organ, staged)
        _state_quarantined(self._context, self._inbox, organ)
        self._adopted.append(organ)

    def put_unknown_aside(self) -> None:
        """Quarantine what no capture of ours announced; before the first request."""
        for staged in self._unknown:
            self._context.staging.quarantine(staged, "unknown_capture")
            _log.warning("leftover_unknown", capture=staged.key)

    def start(self) -> None:
        """Look again every few minutes, where other nodes stage in the same place."""
        if self._context.staging.shared:
            self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def adopt_again(self) -> None:
        """What other nodes left of the organs that have begun here.

        Raises:
            StorageError: a log takes nothing now, or a store is at fault.
        """
        self._transfers.forget_dead()
        left, _ = self._sweep()
        for organ in tuple(self._adopted):
            for staged in left.get(organ.id, ()):
                self._take_up(organ, staged)

    def _run(self) -> None:
        while not self._closing.wait(AGAIN_S):
            try:
                self.adopt_again()
            except Exception as error:  # noqa: BLE001 - told, and tried again
                _log.error("adopting_stalled", exc_info=error)

    def _sweep(self) -> tuple[dict[str, list[Staged]], list[Staged]]:
        """What lies in staging by organ, and what is of none of them."""
        context = self._context
        left: dict[str, list[Staged]] = {}
        unknown: list[Staged] = []
        leftovers = context.staging.sweep(self._transfers.is_live)
        if leftovers.dropped or leftovers.strangers:
            _log.warning(
                "staging_swept", dropped=leftovers.dropped, strangers=len(leftovers.strangers)
            )
        for staged in leftovers.finished:
            if staged.key.startswith(PACKAGE_PREFIX):
                continue  # they are removed when they expire
            if staged.key.startswith((OUTPUT_PREFIX, SEALED_PREFIX)):
                if not self._is_being_made(staged.key):
                    let_go(staged)
                continue
            organ, _ = _owner(context, staged.key)
            if organ is None:
                unknown.append(staged)
            else:
                left.setdefault(organ.id, []).append(staged)
        return left, unknown

    def _take_up(self, organ: Organ, staged: Staged) -> None:
        """Steps 1 to 3 for one upload, unless somebody is receiving it."""
        if not self._transfers.claim(organ.log_id, staged.key):
            return
        try:
            with self._context.db.read() as connection:
                upload = find_upload(connection, organ.log_id, staged.key)
            if upload is None:
                return
            if (staged.sha256, staged.size_bytes) != (upload.sha256, upload.size_bytes):
                short = staged.size_bytes < upload.size_bytes
                code = "content_truncated" if short else "digest_mismatch"
                with suppress(NotFound):  # another node was quicker
                    self._inbox.quarantine(organ, _ACTOR, staged, code)
            elif upload.state is ContentState.ANNOUNCED:
                _adopt(self._context, organ, upload)
            elif upload.state is ContentState.STORED:
                self._drop(organ, staged)  # killed between the object's name and the old one
            elif upload.state is ContentState.DISPOSED:
                let_go(staged)
        finally:
            self._transfers.release(organ.log_id, staged.key)

    def _drop(self, organ: Organ, staged: Staged) -> None:
        """Let go of what is an object already, once that is looked at again."""
        with self._context.db.read() as connection:
            about = statements_about(connection, organ.log_id, staged.key, kind="stored")
        if about and kept_by(about[-1].statement).key:
            let_go(staged)  # sealed: what lies here in the clear must not become an object
        else:
            self._context.objects.put_once(staged)

    def _is_being_made(self, key: str) -> bool:
        """Whether a worker of another node may be making this now.

        A worker who was taken for dead and comes back finds it gone, and his work is done again.
        On one machine nothing works before the sweep is over.
        """
        context = self._context
        if not context.staging.shared:
            return False
        capture = key.removeprefix(SEALED_PREFIX).removeprefix(OUTPUT_PREFIX).partition("-")[0]
        with context.db.read() as connection:
            return is_leased(connection, capture)


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
    require_logged(
        log_custody(
            organ.admission, deed, effects=Recovered(upload=upload, at=context.clock())
        ).result()
    )
    _log.warning("leftover_adopted", capture=upload.capture)


class Recovered(msgspec.Struct, frozen=True, kw_only=True, tag="recovered"):
    """Noted if and only if it is stated: a kill in between would hush the recovery up.

    Attributes:
        upload: as its row was.
        at: when it was found, UTC.
    """

    upload: Upload
    at: datetime

    def __call__(self, connection: Connection, _appended: list[Appended], /) -> None:
        """Note the arrival and let the ingest begin."""
        mark_received(connection, [(self.upload, self.at)])
        of = (self.upload.log, self.upload.capture)
        release_pieces(connection, STORE, [of], self.at)


def _state_quarantined(context: Context, inbox: Inbox, organ: Organ) -> None:
    """A kill between taking bytes aside and saying so leaves a file without its statement."""
    for kept in context.staging.quarantined():
        with context.db.read() as connection:
            if find_upload(connection, organ.log_id, kept.key) is None:
                continue
            stated = custody_of(connection, organ.log_id, kept.key, "quarantined")
        if not any(_names(body, kept) for body in stated):
            staged = context.staging.waiting(kept.key, kept.sha256, kept.size_bytes)
            inbox.quarantine(organ, _ACTOR, staged, kept.reason)


def _names(body: Mapping[str, JSONValue], kept: QuarantinedFile) -> bool:
    """Whether a custody statement is about this very file."""
    content = body.get("content")
    same = isinstance(content, dict) and content["sha256"] == kept.sha256
    return same and body.get("reason") == kept.reason
