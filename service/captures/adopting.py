"""What an earlier run left half done, brought to an end before the first request.

    1. a finished upload whose arrival was not noted, and that is what was announced: noted, and
       stated as `recovered`
    2. one that is not what was announced: quarantined, as it would have been
    3. one that was noted already: left to the ingest that its row releases
    4. one that no capture of ours announced: quarantined and logged
    5. quarantined bytes without their custody statement: stated now

Refuses to remove anything.
"""

from service.captures.arrivals import Arrival, Arrivals
from service.captures.inspection import OUTPUT_PREFIX
from service.captures.queries import ContentState, Upload, count_events, find_upload, newest_about
from service.captures.uploads import Inbox
from service.context import Context, Organ
from service.custody import Deed, log_custody, require_logged
from service.logs import get_logger
from storage import records
from storage.objects import StagedFile

_ACTOR = "server"
_log = get_logger("adopting")


def adopt_leftovers(context: Context, arrivals: Arrivals, inbox: Inbox) -> None:
    """Do the module's procedure; blocks.

    Args:
        context: everything that is open.
        arrivals: started.
        inbox: knows how to quarantine.
    """
    leftovers = context.staging.sweep()
    if leftovers.dropped or leftovers.strangers:
        _log.warning("staging_swept", dropped=leftovers.dropped, strangers=len(leftovers.strangers))
    for staged in leftovers.finished:
        if staged.key.startswith(OUTPUT_PREFIX):
            context.objects.put_once(staged)  # an inspection's output; its work begins again
            continue
        organ, upload = _owner(context, staged.key)
        if organ is None or upload is None:
            context.staging.quarantine(staged, "unknown_capture")
            _log.warning("leftover_unknown", capture=staged.key)
        elif (staged.sha256, staged.size_bytes) != (upload.sha256, upload.size_bytes):
            short = staged.size_bytes < upload.size_bytes
            code = "content_truncated" if short else "digest_mismatch"
            inbox.quarantine(organ, _ACTOR, staged, code)
        elif upload.state is ContentState.ANNOUNCED:
            _adopt(context, arrivals, organ, upload)
        elif upload.state is ContentState.STORED:
            context.objects.put_once(staged)  # killed between the object's name and the old one
    _state_quarantined(context, inbox)


def _owner(context: Context, capture: str) -> tuple[Organ | None, Upload | None]:
    with context.db.read() as connection:
        for organ in context.organs.values():
            upload = find_upload(connection, organ.log_id, capture)
            if upload is not None:
                return organ, upload
    return None, None


def _adopt(context: Context, arrivals: Arrivals, organ: Organ, upload: Upload) -> None:
    arrivals.note(Arrival(upload=upload, received_at=context.clock())).result()
    with context.db.read() as connection:
        record = records.find_record(connection, organ.log_id, upload.capture)
        previous = newest_about(connection, organ.log_id, upload.capture)
    _log.warning("leftover_adopted", capture=upload.capture)
    if record is None:
        return
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
    require_logged(log_custody(organ.admission, deed).result())


def _state_quarantined(context: Context, inbox: Inbox) -> None:
    """A kill between taking bytes aside and saying so leaves fewer statements than files."""
    aside: dict[str, list[tuple[StagedFile, str]]] = {}
    for kept in context.staging.quarantined():
        staged = StagedFile(
            key=kept.key, path=kept.path, sha256=kept.sha256, size_bytes=kept.size_bytes
        )
        aside.setdefault(kept.key, []).append((staged, kept.reason))
    for capture, files in aside.items():
        organ, upload = _owner(context, capture)
        if organ is None or upload is None:
            continue
        with context.db.read() as connection:
            stated = count_events(connection, organ.log_id, capture, "quarantined")
        if stated == 0:
            for staged, reason in files:
                inbox.quarantine(organ, _ACTOR, staged, reason)
