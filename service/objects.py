"""The object store that the settings name: a directory of this deployment, or an S3 bucket.

Does: opens or makes it, and has an S3 bucket try its self-test before anything is put there.
Refuses to choose by itself, and to keep a key longer than it takes to open the store: no secret
is shown, logged or stated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from service.deployment_file import Places
from service.settings import Secret, Settings, SettingsInvalid
from storage.objects import ObjectStore
from storage.objects.bucket import Bucket
from storage.objects.local import LocalObjects
from storage.objects.locks import LockMode
from storage.objects.s3 import Intake, S3Objects
from storage.objects.selftest import Verdict
from storage.s3 import BucketAddress, is_endpoint


class StoreUnproven(Exception):
    """The object store did not pass its self-test, and the settings demand that it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedObjects:
    """An open object store.

    Attributes:
        store: it.
        verdict: of its self-test; None for a directory, which has none.
    """

    store: ObjectStore
    verdict: Verdict | None


def open_objects(
    settings: Settings, clock: Callable[[], datetime], store_id: str | None = None
) -> OpenedObjects:
    """Open the store that `make_objects` made, and do its self-test if it has one.

    Args:
        settings: which, and where.
        clock: now, UTC.
        store_id: of the store that the deployment file names, if it names one.

    Raises:
        SettingsInvalid: a setting of it is missing or malformed, or names another store.
        StorageError: it is not there, or does not answer.
    """
    store = open_unproven(settings, clock)
    verdict = store.prove() if isinstance(store, S3Objects) else None
    if store_id not in (None, store.store_id):
        raise SettingsInvalid("The settings name another object store than `fengni init` did.")
    return OpenedObjects(store=store, verdict=verdict)


def open_unproven(settings: Settings, clock: Callable[[], datetime]) -> LocalObjects | S3Objects:
    """Open the store that the settings name; nothing is tried.

    Raises:
        SettingsInvalid, StorageError: see `open_objects`.
    """
    if settings.objects == "local":
        return LocalObjects(Places(settings.folder).objects)
    return open_s3(settings, clock)


def open_second(
    settings: Settings, clock: Callable[[], datetime]
) -> LocalObjects | S3Objects | None:
    """Open the second store, from which damaged objects are repaired; None where none is named.

    Raises:
        SettingsInvalid: two are named, or a setting of it is missing or malformed.
        StorageError: it is not there, or does not answer.
    """
    folder, bucket = settings.second_folder, settings.second_s3_bucket
    if folder is not None and bucket is not None:
        raise SettingsInvalid(
            "FENGNI_SECOND_FOLDER and FENGNI_SECOND_S3_BUCKET exclude each other."
        )
    if folder is not None:
        return LocalObjects(folder)
    if bucket is None:
        return None
    second = msgspec.structs.replace(
        settings,
        s3_endpoint=settings.second_s3_endpoint,
        s3_bucket=bucket,
        s3_access_key=None,
        s3_secret_key=None,
        s3_access_key_file=settings.second_s3_access_key_file,
        s3_secret_key_file=settings.second_s3_secret_key_file,
    )
    return open_s3(second, clock)


def open_s3(settings: Settings, clock: Callable[[], datetime]) -> S3Objects:
    """Open the bucket; nothing is tried yet.

    Raises:
        SettingsInvalid, StorageError: see `open_objects`.
    """
    return S3Objects(_bucket(settings), _intake(settings), clock)


def make_objects(settings: Settings, clock: Callable[[], datetime], fresh: str) -> ObjectStore:
    """Make the store that the settings name; a bucket that is there must be able to lock.

    Args:
        settings: which, and where.
        clock: now, UTC.
        fresh: makes its id one of its own.

    Raises:
        SettingsInvalid: a setting of it is missing or malformed, or the bucket holds another store.
        StoreUnproven: it does not pass its self-test, and must.
        StorageError: it could not be made.
    """
    if settings.objects == "local":
        return LocalObjects.create(Places(settings.folder).objects, store_id=f"local-{fresh}")
    bucket, intake = _bucket(settings), _intake(settings)
    try:
        store = S3Objects.create(bucket, intake, clock, store_id=f"s3-{fresh}")
    except ValueError as error:
        raise SettingsInvalid("The bucket holds another store; name an empty one.") from error
    require_proven(settings, store.prove())
    return store


def require_proven(settings: Settings, verdict: Verdict | None) -> None:
    """Hold a store to its self-test, unless the settings take less and have that stated.

    Raises:
        StoreUnproven: a must-have does not hold.
    """
    if verdict is None or verdict.passed or settings.objects_unproven == "state":
        return
    codes = ", ".join(one.code for one in verdict.failed)
    raise StoreUnproven(
        f"The object store does not keep what Object Lock promises ({codes}); see `fengni doctor`."
        " FENGNI_OBJECTS_UNPROVEN=state takes it all the same and says so in every statement."
    )


def _intake(settings: Settings) -> Intake:
    return Intake(mode=LockMode[settings.s3_lock_mode.upper()], days=settings.intake_days)


def s3_address(settings: Settings, bucket: str | None) -> BucketAddress:
    """Where a bucket is, and who asks.

    Raises:
        SettingsInvalid: a setting of it is missing or malformed.
    """
    if not settings.s3_endpoint or not bucket:
        raise SettingsInvalid("A store in S3 needs FENGNI_S3_ENDPOINT and FENGNI_S3_BUCKET.")
    address = BucketAddress(
        endpoint=settings.s3_endpoint,
        bucket=bucket,
        region=settings.s3_region,
        access_key=_secret(settings.s3_access_key, settings.s3_access_key_file, "ACCESS"),
        secret_key=_secret(settings.s3_secret_key, settings.s3_secret_key_file, "SECRET"),
        ca_file=settings.s3_ca_file and str(settings.s3_ca_file),
        timeout_s=settings.s3_timeout_s,
    )
    if not is_endpoint(address.endpoint):
        raise SettingsInvalid("FENGNI_S3_ENDPOINT is https://host or https://host:port.")
    return address


def _bucket(settings: Settings) -> Bucket:
    return Bucket(s3_address(settings, settings.s3_bucket))


def _secret(given: Secret | None, file: Path | None, which: str) -> str:
    """A key from its variable, or from the file that another variable names."""
    if (given is None) == (file is None):
        raise SettingsInvalid(
            f"FENGNI_S3_{which}_KEY or FENGNI_S3_{which}_KEY_FILE gives the key, and only one."
        )
    if given is not None:
        return given.reveal()
    try:
        return Path(str(file)).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"FENGNI_S3_{which}_KEY_FILE cannot be read.") from error
