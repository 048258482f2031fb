"""What follows when a content is gone or holds other bytes: it is told, and mended if it can be.

Does: states the finding about the capture, takes the right bytes from the second store, has the
first one keep them beside what was damaged, and states that too. Refuses bytes whose digest is not
the object's name, wherever they come from.
"""

from typing import cast

from evidence.canonical import JSONObject, JSONValue
from evidence.errors import EvidenceError
from evidence.schema import format_time, parse_time
from evidence.statement import About, SignedStatement, parse_statement
from service.captures.queries import newest_about
from service.captures.workflow import ASSURANCE
from service.context import Context, Organ
from service.custody import require_logged
from service.logs import get_logger
from service.scrub.holdings import Holding
from storage import records
from storage.errors import IntegrityAlarm, StorageError
from storage.objects import ObjectStore, Staged, StoredObject

_PIECE_BYTES = 1024 * 1024
_log = get_logger("scrub")


def tell(organ: Organ, one: Holding, found: str) -> None:
    """Say at once that a content is `missing` or `damaged`, and state it about its capture.

    Raises:
        StorageError: the log takes nothing now.
    """
    _log.error(
        "object_bad",
        organ=organ.id,
        found=found,
        object=one.object,
        version=one.version,
        log=one.log,
        index=one.index,
    )
    if one.capture is not None:
        _state(organ, [_custody(organ, one, "rehashed", f"object_{found}")])


def mend(context: Context, organ: Organ, one: Holding, second: ObjectStore) -> bool:
    """Put the right bytes back from the second store, and state that.

    Returns:
        Whether they lie in the first store now.

    Raises:
        StorageError: the log takes nothing now.
    """
    try:
        stored = context.objects.mend(_fetch(context, one, second))
        stored = _locked_as_before(context, one, stored)
    except (StorageError, EvidenceError, OSError) as error:
        _log.error("object_not_mended", object=one.object, reason=type(error).__name__)
        return False
    if one.capture is not None:
        made = [_custody(organ, one, "recovered", "object_mended", stored.version)]
        if one.kind == "stored" and stored.version != one.version:
            made.append(_stored_again(context, organ, one, stored))
        _state(organ, made)
    _log.warning("object_mended", object=one.object, version=stored.version)
    return True


def _fetch(context: Context, one: Holding, second: ObjectStore) -> Staged:
    """The bytes of the second store, staged; others than the right ones are refused."""
    with (
        second.open(one.object) as stream,
        context.staging.begin(f"mend-{context.new_id()}", one.size_bytes) as writer,
    ):
        while piece := stream.read(_PIECE_BYTES):
            writer.write(piece)
        if writer.sha256 != one.object:
            raise IntegrityAlarm("the second store holds other bytes as well")
        return writer.finish()


def _locked_as_before(context: Context, one: Holding, stored: StoredObject) -> StoredObject:
    """A new version, locked and held as what was stated and done about the content demands.

    Raises:
        StorageError: the store did not lock it so.
    """
    if one.capture is None:
        return stored
    with context.db.read() as connection:
        about = records.records_about(connection, one.log, one.capture)
        said = [
            parse_statement(records.text_at(connection, one.log, r.index) or b"") for r in about
        ]
    until, holds = stored.locked_until, set[str]()
    for body in (each.body for each in said):
        event, reference = body.get("event"), str(body.get("reference"))
        told = body.get("locked_until", body.get("until") if event == "retained" else None)
        if told is not None:
            asked = parse_time(str(told))
            until = asked if until is None else max(until, asked)
        if event == "held":
            holds.add(reference)
        elif event == "released":
            holds.discard(reference)
    if until is not None:
        stored = context.objects.retain(stored.name, stored.version, until)
    if holds:
        context.objects.hold(stored.name, stored.version, on=True)
    return stored


def _custody(
    organ: Organ, one: Holding, event: str, reason: str, version: str | None = None
) -> SignedStatement:
    body: dict[str, JSONValue] = {
        "event": event,
        "actor": "server",
        "content": {
            "sha256": one.object,
            "size_bytes": one.size_bytes,
            "media_type": one.media_type,
        },
        "reason": reason,
    }
    named = one.version if version is None else version
    if named is not None and _is_name(named):
        body["reference"] = named
    return organ.admission.make("custody", body, _about(organ, one))


def _stored_again(
    context: Context, organ: Organ, one: Holding, stored: StoredObject
) -> SignedStatement:
    """The `stored` statement of the new version: the first one's words, another place."""
    with context.db.read() as connection:
        raw = records.text_at(connection, one.log, one.index)
        previous = newest_about(connection, one.log, one.capture or "")
    body: JSONObject = dict(parse_statement(raw or b"").body)
    kept = dict(cast("JSONObject", body["object"]))
    body["object"] = {**kept, "version": stored.version}
    body["assurance"] = ASSURANCE[stored.level]
    body.pop("locked_until", None)
    if stored.locked_until is not None:
        body["locked_until"] = format_time(stored.locked_until)
    return organ.admission.make("stored", body, _about(organ, one), previous)


def _about(organ: Organ, one: Holding) -> About:
    """The capture; its index only where it stands in the log that the statement goes to."""
    here = one.log == organ.log_id
    index = one.capture_index if here else None
    origin = next(log.origin for log in organ.settings.logs if log.id == one.log)
    return About(statement=one.capture or "", log=origin, index=index)


def _is_name(text: str) -> bool:
    """Whether a version id fits into a statement's member for names."""
    return len(text) <= 64 and text.islower() and text.replace("-", "").replace(".", "").isalnum()


def _state(organ: Organ, made: list[SignedStatement]) -> None:
    require_logged(organ.admission.submit_own(made).result())
