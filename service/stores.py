"""Where logs' public files and uploads on their way lie: this machine, or buckets for many nodes.

Does: opens or makes the tile store of a log and the staging area, as the settings say. Refuses to
stage in a bucket for objects that lie on one machine: no other node could make them.
"""

from collections.abc import Callable
from datetime import datetime

from service.deployment_file import Places
from service.objects import s3_address
from service.settings import Settings, SettingsInvalid
from storage.objects import ObjectStore
from storage.objects.s3 import S3Objects
from storage.s3 import Files
from storage.staging import Staging
from storage.staging.bucket import StagingBucket
from storage.staging.folder import StagingFolder
from storage.tiles import LocalTiles, TileStore
from storage.tiles.s3 import S3Tiles

PACKAGE_PREFIX = "package-"
"""Staged under such a key lie packages for people; no upload is one, and nobody adopts them."""


def open_tiles(settings: Settings, log: str) -> TileStore:
    """Open the tile store that `make_tiles` made.

    Args:
        settings: which, and where.
        log: id of the log.

    Raises:
        SettingsInvalid: a setting of it is missing or malformed.
        StorageError: it is not there, or does not answer.
    """
    if settings.tiles == "local":
        return LocalTiles(Places(settings.folder).tiles(log))
    return S3Tiles(_tiles_bucket(settings), log)


def make_tiles(settings: Settings, log: str) -> None:
    """Make the tile store of a log, or leave the one that is there.

    Raises:
        SettingsInvalid, StorageError: as `open_tiles`.
    """
    if settings.tiles == "local":
        LocalTiles.create(Places(settings.folder).tiles(log))
    else:
        S3Tiles.create(_tiles_bucket(settings), log)


def open_staging(
    settings: Settings, clock: Callable[[], datetime], objects: ObjectStore | None
) -> Staging:
    """Open the staging area that `make_staging` made.

    Args:
        settings: which, and where.
        clock: now, UTC.
        objects: where an upload of one piece goes straight, if that can be; None to keep all of
            it in staging.

    Raises:
        SettingsInvalid: a setting of it is missing or malformed.
        StorageError: it is not there, or does not answer.
    """
    if settings.staging == "local":
        staging = Places(settings.folder).staging
        return StagingFolder(staging, reserve_bytes=settings.disk_reserve_bytes)
    straight = objects.place if isinstance(objects, S3Objects) else None
    return StagingBucket(_staging_bucket(settings), clock, straight=straight)


def make_staging(settings: Settings, clock: Callable[[], datetime]) -> None:
    """Make the staging area, or leave the one that is there.

    Raises:
        SettingsInvalid, StorageError: as `open_staging`.
    """
    if settings.staging == "local":
        staging = Places(settings.folder).staging
        StagingFolder.create(staging, reserve_bytes=settings.disk_reserve_bytes)
    else:
        StagingBucket.create(_staging_bucket(settings), clock)


def _tiles_bucket(settings: Settings) -> Files:
    return _files(settings, settings.s3_tiles_bucket, "TILES")


def _staging_bucket(settings: Settings) -> Files:
    if settings.objects != "s3":
        raise SettingsInvalid("FENGNI_STAGING=s3 needs FENGNI_OBJECTS=s3: objects on one machine.")
    return _files(settings, settings.s3_staging_bucket, "STAGING")


def _files(settings: Settings, bucket: str | None, which: str) -> Files:
    named = [settings.s3_bucket, settings.s3_tiles_bucket, settings.s3_staging_bucket]
    if not bucket or named.count(bucket) > 1:
        raise SettingsInvalid(
            f"FENGNI_{which}=s3 needs FENGNI_S3_{which}_BUCKET, a bucket for nothing else."
        )
    return Files(s3_address(settings, bucket))
