"""What S3 says of one version of an object, and the lock that is on it.

Does: shapes, and the reading of HEAD's headers: the SDK's own parser refuses the nanoseconds that
Ceph sends. Refuses to take a lock that it cannot read for no lock.
"""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from minio.commonconfig import COMPLIANCE, GOVERNANCE
from minio.retention import Retention

from storage.errors import Unavailable

_FRACTION = re.compile(r"\.\d+")


class LockMode(enum.Enum):
    """How firmly an object is locked; the words of S3."""

    GOVERNANCE = GOVERNANCE
    COMPLIANCE = COMPLIANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A retention: until when, UTC and whole seconds, and how firmly."""

    mode: LockMode
    until: datetime

    def holds(self, asked: "Lock") -> bool:
        """Whether this protects at least as well and as long as what was asked."""
        firm = self.mode is asked.mode or self.mode is LockMode.COMPLIANCE
        return firm and self.until >= asked.until

    def retention(self) -> Retention:
        """For the SDK."""
        return Retention(self.mode.value, self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One version of one key, as the server describes it.

    Attributes:
        key: its key.
        version: its version id.
        size_bytes: its length.
        lock: its retention, if it has one.
        on_hold: whether a legal hold is on it.
        told_at: the server's clock when it answered, if it said.
    """

    key: str
    version: str
    size_bytes: int
    lock: Lock | None
    on_hold: bool
    told_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One line of a listing: a version, or a delete marker that hides those before it."""

    key: str
    version: str
    size_bytes: int
    is_marker: bool


def in_seconds(moment: datetime) -> datetime:
    """A moment as S3 keeps it: UTC, whole seconds, never earlier."""
    exact = moment.astimezone(UTC)
    return exact.replace(microsecond=0) + timedelta(seconds=bool(exact.microsecond))


def read_headers(key: str, told: Mapping[str, str]) -> Held:
    """What the headers of HEAD or GET say of a version.

    Raises:
        Unavailable: they name no version, or a lock that cannot be read.
    """
    headers = {name.lower(): value for name, value in told.items()}
    version = headers.get("x-amz-version-id", "null")
    if version == "null":
        raise Unavailable("the object store gave no version id: the bucket keeps no versions")
    return Held(
        key=key,
        version=version,
        size_bytes=int(headers.get("content-length", "0")),
        lock=_lock(headers),
        on_hold=headers.get("x-amz-object-lock-legal-hold", "").upper() == "ON",
        told_at=_server_time(headers.get("date")),
    )


def _lock(headers: dict[str, str]) -> Lock | None:
    mode = headers.get("x-amz-object-lock-mode", "").upper()
    until = headers.get("x-amz-object-lock-retain-until-date", "")
    if not mode or not until:
        return None
    try:
        moment = datetime.fromisoformat(_FRACTION.sub("", until))
        return Lock(mode=LockMode(mode), until=moment.astimezone(UTC))
    except ValueError as error:
        raise Unavailable("the object store describes a lock that cannot be read") from error


def _server_time(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
