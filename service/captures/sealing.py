"""Content becomes an object: as it came, or sealed under a key of its own where its class says so.

    1. the key is made, durable before the first byte that it seals
    2. the content is sealed into staging, compared with its digest on the way
    3. what was sealed goes into the object store, locked as the class says

Does: all three again after a crash, with the same bytes: the key is the same, and sealing is a
function of key and content. Refuses to remove the staged content: that goes once the log says that
it is stored, because only then does anybody know where it lies.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from service.context import Context
from service.retention_classes import RetentionClass
from service.settings import OrganSettings
from storage.durable import disk_errors
from storage.errors import IntegrityAlarm
from storage.objects import StagedFile, StoredObject
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


def place(
    context: Context,
    origin: str,
    name: str,
    staged: StagedFile,
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
    sealed = _sealed(context, key, name, staged)  # 2
    return Placed(stored=context.objects.put_once(sealed, until=until), sealed=True)  # 3


def let_go(staged: StagedFile) -> None:
    """Remove the staged content of a sealed object, once that is logged."""
    with disk_errors("letting go of staged content"), suppress(FileNotFoundError):
        staged.path.unlink()


def _sealed(context: Context, key: bytes, name: str, staged: StagedFile) -> StagedFile:
    size = sealed_size(staged.size_bytes)
    staging_key = SEALED_PREFIX + name.replace("/", "-")
    with (
        disk_errors("sealing content"),
        staged.path.open("rb") as content,
        context.staging.begin(staging_key, size) as writer,
    ):
        seal(key, staged.sha256, staged.size_bytes, content, writer.write)
        made = writer.finish()
    if made.size_bytes != size:
        raise IntegrityAlarm("sealing gave another length than it should")
    return made
