"""Content becomes an object: as it came, or sealed under a key of its own where its class says so.

    1. the key is made, durable before the first byte that it seals
    2. the content is sealed into staging, compared with its digest on the way
    3. what was sealed goes into the object store, locked as the class says

Does: all three again after a crash, with the same bytes: the key is the same, and sealing is a
function of key and content. Refuses to remove the staged content: that goes once the log says that
it is stored, because only then does anybody know where it lies. Content of a class is never
sent straight to its object's place: nobody could take it back from there.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from service.captures.queries import with_text
from service.context import Context, Organ
from service.deployment_file import OrganSettings
from service.retention_classes import RetentionClass
from storage import records
from storage.errors import IntegrityAlarm, NotFound
from storage.objects import Staged, StoredObject
from storage.sealing import seal, sealed_size

SEALED_PREFIX = "sealed-"
"""Staging keys of sealed content begin with it."""

_DEFAULT = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An object, and whether it is sealed."""

    stored: StoredObject
    sealed: bool


def class_for(context: Context, organ: OrganSettings, mode: str) -> RetentionClass | None:
    """The class of retention of what was captured in a mode; None where the organ names none."""
    name = organ.retention.get(mode, organ.retention.get(_DEFAULT))
    return next((one for one in context.deployment.retention_classes if one.name == name), None)


def class_of(context: Context, organ: Organ, capture: str) -> RetentionClass | None:
    """The class of retention of a capture that is announced, by the mode that its device signed.

    Raises:
        Unavailable: the database does not answer.
    """
    if not organ.settings.retention:
        return None
    with context.db.read() as connection:
        record = records.find_record(connection, organ.log_id, capture)
        if record is None:
            return None
        mode = str(with_text(connection, record).statement.body["mode"])
    return class_for(context, organ.settings, mode)


def digest_for_staging(sha256: str, kind: RetentionClass | None) -> str | None:
    """What `Staging.begin` may hear of content that comes in.

    With its digest, content that fits one piece may be sent straight to its object's place, as it
    is and under the store's own lock. Of a class it is kept back: it may have to be sealed first,
    and how long it is locked is the class's to say.
    """
    return sha256 if kind is None else None


def place(
    context: Context,
    origin: str,
    name: str,
    staged: Staged,
    kind: RetentionClass | None,
    received_at: datetime,
) -> Placed:
    """Make an object of a staged file; see the module's procedure.

    Args:
        context: stores and keys.
        origin: of the log that will say where it lies.
        name: of the key, where the class seals.
        staged: the content, as it came.
        kind: its class; None for the store's own locks.
        received_at: when it came, UTC; the class's days count from then.

    Raises:
        StorageError, EvidenceError: see `ObjectStore.put_once`; the content is still staged.
    """
    if kind is None:
        return Placed(stored=context.objects.put_once(staged), sealed=False)
    until = received_at + timedelta(days=kind.intake_lock_days)
    if not kind.seals:
        return Placed(stored=context.objects.put_once(staged, until=until), sealed=False)
    key = context.keys.provide_content(origin, name)  # 1
    try:
        sealed = _sealed(context, key, name, staged)  # 2
    except NotFound:  # it came before its class began to seal, and went straight to its place
        return Placed(stored=context.objects.put_once(staged, until=until), sealed=False)
    return Placed(stored=context.objects.put_once(sealed, until=until), sealed=True)  # 3


def let_go(staged: Staged) -> None:
    """Remove the staged content of a sealed object, once that is logged.

    Raises:
        Unavailable: the staging area does not answer; a later sweep finds it.
    """
    staged.consume()


def sealed_key(name: str) -> str:
    """Under which staging key content is sealed.

    Args:
        name: of the key that it is sealed with.
    """
    return SEALED_PREFIX + name.replace("/", "-")


def _sealed(context: Context, key: bytes, name: str, staged: Staged) -> Staged:
    size = sealed_size(staged.size_bytes)
    with (
        staged.open() as content,
        context.staging.begin(sealed_key(name), size) as writer,
    ):
        seal(key, staged.sha256, staged.size_bytes, content, writer.write)
        made = writer.finish()
    if made.size_bytes != size:
        raise IntegrityAlarm("sealing gave another length than it should")
    return made
