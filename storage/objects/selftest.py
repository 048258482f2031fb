"""The store's self-test: does this bucket, with these credentials, keep what Object Lock promises?

Does: puts canaries into the bucket under `fengni/selftest/`, tries on them everything that must be
refused, and says what happened. A server that merely answers "locked" fails: each refusal is
followed by a look at whether the canary is still what it was. Refuses to assume: what could not
be tried is a failure where it must hold, and a note where it need not.

    1. the bucket: versions, Object Lock, the server's clock
    2. a locked canary: locked as asked, gives its bytes back
    3. everything that must be refused: delete, shorten, suspend; with COMPLIANCE also bypass and
       downgrade; and delete under a legal hold
    4. the canary after all that: readable by its version, lock and bytes unchanged, extensible
    5. worth knowing: checksums, create-once, copies, the bucket's default, what this account may do
    6. canaries whose lock has ended are removed, as far as this account may

The locked canary can be removed two minutes later; the next self-test tries to.
"""

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Literal

from minio.commonconfig import ENABLED, CopySource
from minio.deleteobjects import DeleteObject
from minio.error import S3Error
from minio.objectlockconfig import ObjectLockConfig
from minio.versioningconfig import SUSPENDED, VersioningConfig

from storage.errors import NotFound, StorageError
from storage.objects.bucket import Bucket, store_errors
from storage.objects.locks import Held, Lock, LockMode, in_seconds

CANARIES = "fengni/selftest/"
"""Every key of the self-test begins with it."""

_CANARY = CANARIES + "canary"
_BYTES = b"fengni self-test: these bytes must stay\n"
_SHA256 = hashlib.sha256(_BYTES).hexdigest()
_WRONG_SHA256 = hashlib.sha256(b"others").hexdigest()
_LOCKED = timedelta(seconds=120)
_SHORTER = timedelta(seconds=-60)
_LONGER = timedelta(seconds=10)
_MOST_SKEW = timedelta(seconds=60)
_MOST_REMOVED = 100

Outcome = Literal["pass", "fail", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One answer.

    Attributes:
        code: stable, such as `delete_refused`.
        outcome: `fail` is a must-have that does not hold; `note` is true and worth knowing.
        detail: one sentence without host, key or account.
    """

    code: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the self-test found; `passed` if every must-have holds."""

    findings: tuple[Finding, ...]

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The must-haves that do not hold."""
        return tuple(one for one in self.findings if one.outcome == "fail")

    @property
    def passed(self) -> bool:
        """Whether every must-have holds."""
        return not self.failed


def examine_bucket(bucket: Bucket, mode: LockMode, clock: Callable[[], datetime]) -> Verdict:
    """Do the module's procedure.

    Args:
        bucket: with the credentials that objects will be put with.
        mode: how firmly objects will be locked.
        clock: now, UTC.

    Raises:
        Unavailable: nobody answers.
    """
    bucket.keeps_versions()  # a server that is away has not failed
    trial = _Trial(bucket, mode, clock)
    return Verdict(findings=tuple(trial.run()))


class _Trial:
    """One run of the self-test."""

    def __init__(self, bucket: Bucket, mode: LockMode, clock: Callable[[], datetime]) -> None:
        self._bucket = bucket
        self._mode = mode
        self._clock = clock

    def run(self) -> Iterator[Finding]:
        """Every finding, in the order of the module's procedure."""
        yield self._must("versioning", "The bucket keeps versions.", self._bucket.keeps_versions)
        yield self._must("lock_configured", "The bucket can lock.", self._can_lock)
        yield self._must("clock", "The server's clock agrees with ours.", self._clocks_agree)
        lock = Lock(mode=self._mode, until=in_seconds(self._clock() + _LOCKED))
        try:
            canary = self._bucket.head(_CANARY, self._put(_CANARY, lock))
        except StorageError as error:
            yield Finding(code="lock_kept", outcome="fail", detail=f"No canary: {error.detail}.")
            return
        yield self._must(
            "lock_visible",
            "A new object is locked as asked.",
            lambda: canary.lock is not None and canary.lock.holds(lock),
        )
        yield from self._refusals(canary, lock)
        yield self._must("hold_refused", "A held object cannot be deleted.", self._hold_refuses)
        yield self._must(
            "marker_harmless",
            "A delete marker hides nothing from who names the version.",
            lambda: self._survives_marker(canary),
        )
        yield self._must(
            "lock_kept",
            "After all that the canary has its bytes and its lock.",
            lambda: self._is_kept(canary, lock),
        )
        longer = Lock(mode=self._mode, until=lock.until + _LONGER)
        yield self._must(
            "extend_allowed", "A lock can be extended.", lambda: self._extends(canary, longer)
        )
        yield from self._notes(lock)
        self._remove_canaries()

    def _refusals(self, canary: Held, lock: Lock) -> Iterator[Finding]:
        """Everything that must be refused for a locked version (3)."""
        client, name, version = self._bucket.client, self._bucket.name, canary.version

        def retain(changed: Lock) -> None:
            client.set_object_retention(name, _CANARY, changed.retention(), version_id=version)

        shorter = Lock(mode=self._mode, until=lock.until + _SHORTER)
        weaker = Lock(mode=LockMode.GOVERNANCE, until=lock.until)
        tried: list[tuple[str, str, Callable[[], bool]]] = [
            (
                "delete_refused",
                "A locked object cannot be deleted.",
                lambda: _refused(lambda: client.remove_object(name, _CANARY, version_id=version)),
            ),
            (
                "shorten_refused",
                "A lock cannot be shortened.",
                lambda: _refused(lambda: retain(shorter)),
            ),
            ("suspend_refused", "Versioning cannot be switched off.", self._refuses_suspension),
        ]
        if self._mode is LockMode.COMPLIANCE:
            tried += [
                (
                    "bypass_refused",
                    "A locked object cannot be deleted by a bypass.",
                    lambda: self._refuses_bypass(_CANARY, version),
                ),
                (
                    "downgrade_refused",
                    "A lock cannot be weakened.",
                    lambda: _refused(lambda: retain(weaker)),
                ),
            ]
        for code, detail, refuses in tried:
            yield self._must(
                code,
                detail,
                lambda refuses=refuses: refuses() and self._is_kept(canary, lock),
            )

    def _notes(self, lock: Lock) -> Iterator[Finding]:
        """What need not hold and is worth knowing (5)."""
        yield self._may(
            "checksum",
            "The server refuses bytes that are not what their SHA-256 says.",
            "The server takes bytes that are not what their SHA-256 says; reading back finds it.",
            lambda: _refused(lambda: self._put("checksum", lock, sha256=_WRONG_SHA256)),
        )
        yield self._may(
            "create_once",
            "The server refuses a second version where it is asked to.",
            "The server makes a second version also where it is asked not to.",
            self._creates_once,
        )
        yield self._may(
            "copy_locked",
            "A copy that the server makes is locked as asked.",
            "A copy that the server makes loses its lock; nothing is copied here.",
            lambda: self._copies_lock(lock),
        )
        yield self._may(
            "default_retention",
            "The bucket locks also what is put without a lock.",
            "The bucket locks nothing by itself; each object is locked by its own request.",
            lambda: self._lock_config().duration is not None,
        )
        yield self._may(
            "cannot_delete",
            "This account cannot delete versions.",
            "This account may delete versions that are not locked (s3:DeleteObjectVersion).",
            lambda: self._refuses_deletion(lock=None),
        )
        yield self._may(
            "cannot_bypass",
            "This account cannot bypass a GOVERNANCE lock.",
            "This account may bypass GOVERNANCE locks (s3:BypassGovernanceRetention).",
            lambda: self._refuses_deletion(lock=Lock(mode=LockMode.GOVERNANCE, until=lock.until)),
        )
        yield self._may(
            "cannot_configure",
            "This account cannot change the bucket's Object Lock.",
            "This account may change the bucket's Object Lock configuration.",
            lambda: _refused(
                lambda: self._bucket.client.set_object_lock_config(
                    self._bucket.name, self._lock_config()
                )
            ),
        )

    def _must(self, code: str, detail: str, holds: Callable[[], bool]) -> Finding:
        """A must-have: whatever keeps it from being seen is a failure."""
        try:
            with store_errors("trying the object store"):
                held = holds()
        except StorageError as error:
            return Finding(code=code, outcome="fail", detail=f"Not so: {error.detail}.")
        told = detail if held else f"Not so: {detail}"
        return Finding(code=code, outcome="pass" if held else "fail", detail=told)

    def _may(self, code: str, good: str, other: str, holds: Callable[[], bool]) -> Finding:
        """Worth knowing: never a failure."""
        try:
            with store_errors("trying the object store"):
                held = holds()
        except StorageError as error:
            return Finding(code=code, outcome="note", detail=f"Not tried: {error.detail}.")
        return Finding(
            code=code, outcome="pass" if held else "note", detail=good if held else other
        )

    def _put(
        self, key: str, lock: Lock | None, *, sha256: str = _SHA256, on_hold: bool = False
    ) -> str:
        key = key if key.startswith(CANARIES) else CANARIES + key
        data = io.BytesIO(_BYTES)
        return self._bucket.put(key, data, len(_BYTES), sha256=sha256, lock=lock, on_hold=on_hold)

    def _can_lock(self) -> bool:
        self._bucket.require_locking()
        return True

    def _lock_config(self) -> ObjectLockConfig:
        return self._bucket.client.get_object_lock_config(self._bucket.name)

    def _clocks_agree(self) -> bool:
        told_at = self._bucket.head(_CANARY, self._put(_CANARY, None)).told_at
        return told_at is not None and abs(told_at - self._clock()) < _MOST_SKEW

    def _is_kept(self, canary: Held, lock: Lock) -> bool:
        """Whether the canary is there, byte for byte, and locked as it was."""
        try:
            now = self._bucket.head(_CANARY, canary.version)
            measured = self._bucket.measure(_CANARY, canary.version)
        except NotFound:
            return False
        same = measured == (_SHA256, len(_BYTES))
        return same and now.lock is not None and now.lock.holds(lock)

    def _extends(self, canary: Held, longer: Lock) -> bool:
        self._bucket.lock(_CANARY, canary.version, longer)
        return self._is_kept(canary, longer)

    def _refuses_suspension(self) -> bool:
        client, name = self._bucket.client, self._bucket.name
        if _refused(lambda: client.set_bucket_versioning(name, VersioningConfig(SUSPENDED))):
            return self._bucket.keeps_versions()
        client.set_bucket_versioning(name, VersioningConfig(ENABLED))
        return False

    def _hold_refuses(self) -> bool:
        client, name, key = self._bucket.client, self._bucket.name, CANARIES + "held"
        version = self._put(key, None, on_hold=True)
        refused = self._bucket.head(key, version).on_hold
        refused = refused and _refused(lambda: client.remove_object(name, key, version_id=version))
        try:
            refused = refused and self._bucket.measure(key, version)[0] == _SHA256
            client.disable_object_legal_hold(name, key, version_id=version)
        except NotFound:
            return False
        return refused

    def _survives_marker(self, canary: Held) -> bool:
        client, name = self._bucket.client, self._bucket.name
        _refused(lambda: client.remove_object(name, _CANARY))
        return self._bucket.measure(_CANARY, canary.version)[0] == _SHA256

    def _creates_once(self) -> bool:
        self._put("once", None)
        return not self._bucket.put_if_absent(CANARIES + "once", _BYTES)

    def _copies_lock(self, lock: Lock) -> bool:
        """Copy what is not locked, as one would from a place where uploads wait."""
        version = self._put("loose", None)
        source = CopySource(self._bucket.name, CANARIES + "loose", version_id=version)
        key = CANARIES + "copied"
        self._bucket.client.copy_object(self._bucket.name, key, source, retention=lock.retention())
        copied = self._bucket.head(key)
        shown = copied.lock is not None and copied.lock.holds(lock)
        return shown and _refused(
            lambda: self._bucket.client.remove_object(
                self._bucket.name, key, version_id=copied.version
            )
        )

    def _refuses_deletion(self, lock: Lock | None) -> bool:
        """Whether this account is kept from deleting what nothing, or GOVERNANCE, protects."""
        version = self._put("loose", lock)
        return self._refuses_bypass(CANARIES + "loose", version)

    def _refuses_bypass(self, key: str, version: str) -> bool:
        """Whether deleting is refused also with the header that bypasses GOVERNANCE."""
        client, name = self._bucket.client, self._bucket.name
        told: list[object] = []

        def delete() -> None:
            """Ask, and keep what is refused of it; an account may also be refused to ask."""
            asked = [DeleteObject(key, version)]
            told.extend(client.remove_objects(name, asked, bypass_governance_mode=True))

        return _refused(delete) or bool(told)

    def _remove_canaries(self) -> None:
        """Remove what earlier runs left and nothing locks any more (6); refusals are normal."""
        client, name = self._bucket.client, self._bucket.name
        with store_errors("removing canaries"):
            for one in islice(self._bucket.versions(CANARIES), _MOST_REMOVED):
                with contextlib.suppress(S3Error):
                    client.remove_object(name, one.key, version_id=one.version)


def _refused(attempt: Callable[[], object]) -> bool:
    """Whether the server refuses; only its own firm word counts.

    Raises:
        S3Error, StorageError: it failed or did not answer.
    """
    try:
        attempt()
    except (S3Error, StorageError) as error:
        cause = error if isinstance(error, S3Error) else error.__cause__
        if isinstance(cause, S3Error) and 400 <= cause.response.status < 500:
            return True
        raise
    return False
