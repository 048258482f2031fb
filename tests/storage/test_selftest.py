"""The store's self-test: passes on servers whose locks hold, and fails on one that pretends."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage.errors import Unavailable
from storage.objects.bucket import Bucket
from storage.objects.locks import LockMode
from storage.objects.selftest import CANARIES, Verdict, examine_bucket
from tests.stores.ceph import Ceph
from tests.stores.faulty import Act, Fault, Faulty
from tests.stores.moto_server import running_moto
from tests.stores.weed import PLAIN_ACCESS_KEY, PLAIN_SECRET_KEY, Weed, new_bucket

MUST_HAVE = frozenset(
    {
        "versioning",
        "lock_configured",
        "clock",
        "lock_visible",
        "delete_refused",
        "shorten_refused",
        "suspend_refused",
        "hold_refused",
        "marker_harmless",
        "lock_kept",
        "extend_allowed",
    }
)
ONLY_COMPLIANCE = frozenset({"bypass_refused", "downgrade_refused"})
ADMINISTRATOR = frozenset({"cannot_delete", "cannot_bypass", "cannot_configure"})
"""What the account of these servers may do; one for production may not."""


def clock() -> datetime:
    """Now, UTC."""
    return datetime.now(UTC)


def made(bucket: Bucket) -> Bucket:
    """The bucket, made."""
    bucket.make()
    return bucket


def codes(verdict: Verdict, outcome: str) -> set[str]:
    """The codes of the findings with this outcome."""
    return {one.code for one in verdict.findings if one.outcome == outcome}


@pytest.mark.parametrize(
    ("mode", "must"),
    [(LockMode.COMPLIANCE, MUST_HAVE | ONLY_COMPLIANCE), (LockMode.GOVERNANCE, MUST_HAVE)],
    ids=["compliance", "governance"],
)
def test_seaweedfs_passes(weed: Weed, mode: LockMode, must: frozenset[str]) -> None:
    """Every must-have holds; its copies lose their lock, and that is noted."""
    verdict = examine_bucket(made(Bucket(weed.address(new_bucket()))), mode, clock)
    assert verdict.passed
    assert codes(verdict, "pass") == must | {"checksum", "create_once"}
    assert codes(verdict, "note") == ADMINISTRATOR | {"copy_locked", "default_retention"}


def test_an_account_of_its_own_suffices_and_may_do_less(weed: Weed) -> None:
    """An account that can neither bypass nor configure passes, and is told so."""
    address = weed.address(new_bucket())
    made(Bucket(address))
    plain = replace(address, access_key=PLAIN_ACCESS_KEY, secret_key=PLAIN_SECRET_KEY)
    verdict = examine_bucket(Bucket(plain), LockMode.COMPLIANCE, clock)
    assert verdict.passed
    assert {"cannot_bypass", "cannot_configure"} <= codes(verdict, "pass")


@pytest.mark.ceph
def test_ceph_passes(ceph: Ceph) -> None:
    """Every must-have holds; it compares no SHA-256 and ignores `If-None-Match`."""
    bucket = made(Bucket(ceph.address(new_bucket())))
    verdict = examine_bucket(bucket, LockMode.COMPLIANCE, clock)
    assert verdict.passed
    assert codes(verdict, "pass") == MUST_HAVE | ONLY_COMPLIANCE
    assert codes(verdict, "note") == ADMINISTRATOR | {
        "checksum",
        "create_once",
        "copy_locked",
        "default_retention",
    }


def test_a_mock_whose_locks_do_not_hold_fails(tmp_path: Path) -> None:
    """Moto answers "locked" to everybody; that its locks can be shortened is found out."""
    with running_moto(tmp_path, new_bucket()) as address:
        verdict = examine_bucket(made(Bucket(address)), LockMode.COMPLIANCE, clock)
    assert not verdict.passed
    assert codes(verdict, "fail") == {
        "shorten_refused",
        "suspend_refused",
        "bypass_refused",
        "downgrade_refused",
        "lock_kept",
    }


def test_a_bucket_without_object_lock_fails(weed: Weed) -> None:
    """A bucket that was made without locks fails at once, and is left as it is."""
    bucket = Bucket(weed.address(new_bucket()))
    bucket.client.make_bucket(bucket.name)
    verdict = examine_bucket(bucket, LockMode.COMPLIANCE, clock)
    assert {"versioning", "lock_configured", "lock_kept"} <= codes(verdict, "fail")
    assert not bucket.keeps_versions()


def test_a_clock_that_is_wrong_fails(weed: Weed) -> None:
    """Ours runs an hour behind: a lock would end an hour early."""
    bucket = made(Bucket(weed.address(new_bucket())))
    verdict = examine_bucket(
        bucket, LockMode.COMPLIANCE, lambda: datetime.now(UTC) - timedelta(hours=1)
    )
    assert "clock" in codes(verdict, "fail")


def test_a_server_that_is_away_has_not_failed(weed: Weed) -> None:
    """No verdict is given about whom nobody could ask."""
    faulty = Faulty(weed.port)
    bucket = Bucket(faulty.before(weed.address(new_bucket()), 0.5))
    with faulty.doing(Fault(Act.SILENCE, "GET")), pytest.raises(Unavailable):
        examine_bucket(bucket, LockMode.COMPLIANCE, clock)
    faulty.close()


def test_a_lock_that_is_not_shown_fails(weed: Weed) -> None:
    """A server that takes a lock and does not tell of it cannot be relied on."""
    faulty = Faulty(weed.port)
    bucket = made(Bucket(faulty.before(weed.address(new_bucket()))))
    with faulty.doing(Fault(Act.UNLOCK, "HEAD")):
        verdict = examine_bucket(bucket, LockMode.COMPLIANCE, clock)
    assert {"lock_visible", "lock_kept"} <= codes(verdict, "fail")
    faulty.close()


def test_what_is_not_locked_any_more_is_removed(weed: Weed) -> None:
    """Only the canary whose lock still runs stays behind."""
    bucket = made(Bucket(weed.address(new_bucket())))
    for _ in range(2):
        examine_bucket(bucket, LockMode.COMPLIANCE, clock)
    left: Mapping[str, int] = {
        name: sum(one.key == CANARIES + name for one in bucket.versions(CANARIES))
        for name in ("canary", "held", "loose", "once", "copied")
    }
    assert left == {"canary": 2, "held": 0, "loose": 0, "once": 0, "copied": 0}
