"""What a deployment holds itself: database, log, objects, disk.

Does: reads, and tries the store: a directory on a scratch copy, a bucket on canaries beside the
objects. Refuses to write to what it examines.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from evidence.statement import parse_statement
from evidence.tlog.checkpoint import open_checkpoint
from service.deployment_file import OrganSettings, Places
from service.doctor.diagnosis import Findings, failed, noted, passed
from service.key_files import log_signer
from service.objects import open_s3
from service.settings import Settings
from storage import records
from storage.db.engine import Database, quick_faults, unprotected
from storage.db.grants import excess
from storage.db.tables import EVIDENCE
from storage.errors import IntegrityAlarm
from storage.log import LogStores
from storage.log.tree import LogTree
from storage.objects import AssuranceLevel, StagedFile
from storage.objects.local import LocalObjects
from storage.objects.s3 import S3Objects
from storage.staging.folder import StagingFolder
from storage.tiles.s3 import S3Tiles

_MOST_CHECKS = 1_000_000
_CANARY = b"fengni doctor: the first bytes under this name\n"
_OTHER = b"fengni doctor: other bytes for the same name\n"


def check_database(db: Database) -> Findings:
    """Schema, integrity, and evidence rows that refuse to be changed."""
    db.require_schema()
    with db.read() as connection:
        faults = quick_faults(connection)
        open_tables = unprotected(connection, EVIDENCE)
        too_much = excess(connection)
    for fault in faults:
        yield failed("database.integrity", f"The database is not sound: {fault}.")
    if not faults:
        yield passed("database.integrity", "The schema serves this version and no damage is found.")
    if too_much:
        tables = ", ".join(too_much)
        yield noted("database.grants", f"Only triggers keep this role from changing {tables}.")
    if open_tables:
        tables = ", ".join(open_tables)
        yield failed("database.append_only", f"Rows of these tables can be changed: {tables}.")
    elif not _refuses_update(db):
        yield failed("database.append_only", "A first record could be changed.")
    else:
        yield passed("database.append_only", "Evidence rows refuse UPDATE and DELETE.")


def _refuses_update(db: Database) -> bool:
    """Try to change the first record, and take it back should that go through."""
    try:
        with db.write() as connection:
            connection.execute(text("UPDATE records SET log = log WHERE idx = 0"))
            raise _TakenBackError
    except DBAPIError:
        return True
    except _TakenBackError:
        return False


class _TakenBackError(Exception):
    """A change that should have been refused went through and is rolled back."""


def check_heads(settings: Settings, organ: OrganSettings, stores: LogStores) -> Findings:
    """Database, head store and tiles: the memories here of how far the log was signed."""
    keys = log_signer(settings, organ.log).verifier_keys
    published = stores.tiles.checkpoint()
    head = stores.heads.read()
    with stores.db.read() as connection:
        newest = records.newest_checkpoint(connection, stores.log_id)
    if newest is None:
        yield failed("log.head", "The database knows no checkpoint of the log.")
        return
    open_checkpoint(newest.note, keys)
    if (head.size, head.root) != (newest.size, newest.root) and head.size >= newest.size:
        said = f"The head store says {head.size} entries, the database {newest.size}"
        behind = head.size > newest.size
        yield failed("log.head", f"{said}{': it was put back' if behind else ', another root'}.")
    else:
        yield passed("log.head", f"Database and head store agree on {newest.size} entries.")
    if published is None:
        yield noted("log.published", "Nothing is published yet.")
        return
    shown = open_checkpoint(published, keys).checkpoint
    with stores.db.read() as connection:
        same = records.checkpoints_of(connection, stores.log_id, [shown.size])
    if shown.size not in same or same[shown.size].root != shown.root:
        yield failed("log.published", "The published checkpoint is none that the database knows.")
    else:
        yield passed("log.published", f"{shown.size} entries are published under a known root.")
    LogTree.load(stores.tiles, shown.size, shown.root)
    yield passed("log.tiles", f"The tiles lead to the root of {shown.size} entries.")


def check_tiles(stores: LogStores) -> Findings:
    """What the tile store's server compares when it is asked to, tried on a canary."""
    if not isinstance(stores.tiles, S3Tiles):
        return
    found = stores.tiles.conditions()
    if found.replaces_known:
        told = "The server lets no deposed node replace a newer published checkpoint."
        yield passed("tiles.conditions", told)
    else:
        yield noted(
            "tiles.conditions",
            "The server ignores If-Match: a node that was deposed in the middle of a publication"
            " may show an older checkpoint until the leader's next one.",
        )


def check_objects(settings: Settings, clock: Callable[[], datetime]) -> Findings:
    """What the store can do is tried beside what lies there, which is left alone."""
    if settings.objects == "s3":
        yield from _check_bucket(open_s3(settings, clock))
        return
    places = Places(settings.folder)
    objects = LocalObjects(places.objects)
    level = objects.level()
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=places.folder) as name:
        kept = _tries(Path(name))
    if not kept:
        yield failed("objects.create_once", "A name that was taken could be given other bytes.")
    else:
        yield passed("objects.create_once", "Objects are created once and never overwritten.")
    if level in (AssuranceLevel.DIRECTORY_MODE_BITS, AssuranceLevel.DIRECTORY_IMMUTABLE):
        who = "root" if os.geteuid() == 0 else "the account that runs this"
        yield noted(
            "objects.assurance",
            f"What protects an object here is {level.value}: {who} can get around it, and the"
            " next verification notices.",
        )


def _check_bucket(objects: S3Objects) -> Findings:
    """The self-test, and what protects an object by it."""
    say = {"pass": passed, "fail": failed, "note": noted}
    for one in objects.prove().findings:
        yield say[one.outcome](f"objects.{one.code}", one.detail)
    yield noted("objects.assurance", f"What protects an object here is {objects.level().value}.")


def check_stated(settings: Settings, organ: OrganSettings, db: Database) -> Findings:
    """The last self-test that the server stated in an organ's log."""
    if settings.objects != "s3":
        return
    with db.read() as connection:
        stated = records.records_of_kind(connection, organ.log.id, "check", limit=_MOST_CHECKS)
        for record in reversed(stated):
            raw = records.text_at(connection, organ.log.id, record.index)
            if raw is None:
                continue
            body = parse_statement(raw).body
            if body["check"] == "doctor":
                say = passed if body["outcome"] == "pass" else noted
                yield say(
                    "objects.stated",
                    f"Entry {record.index} of {record.received_at:%Y-%m-%d %H:%M:%S} states the"
                    f" store's self-test: {body['outcome']}.",
                )
                return
    yield noted("objects.stated", "No self-test of the store is stated in this log yet.")


def _tries(folder: Path) -> bool:
    """Whether a name once given keeps its bytes: the same again is fine, others are refused."""
    objects = LocalObjects.create(folder / "objects", store_id="doctor")
    staging = StagingFolder.create(folder / "staging", reserve_bytes=0)
    first = _stage(staging, "first", _CANARY)
    name = objects.put_once(first).name
    again = objects.put_once(_stage(staging, "again", _CANARY))
    other = replace(_stage(staging, "other", _OTHER), sha256=name)
    with contextlib.suppress(IntegrityAlarm):  # refusing is as good as keeping what was there
        objects.put_once(other)
    with objects.open(name) as stream:
        return again.name == name and stream.read() == _CANARY


def _stage(staging: StagingFolder, key: str, data: bytes) -> StagedFile:
    writer = staging.begin(key, len(data))
    writer.write(data)
    return writer.finish()


def check_disk(settings: Settings, places: Places) -> Findings:
    """Space above the reserve, at which content is refused."""
    free = shutil.disk_usage(places.folder).free
    spare = (free - settings.disk_reserve_bytes) // 2**20
    if spare < 0:
        yield failed("disk.reserve", "Less is free than the reserve: content is refused (507).")
    else:
        yield passed("disk.reserve", f"{spare:,} MiB are free above the reserve.")
