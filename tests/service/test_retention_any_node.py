"""Retention where nodes share staging: nothing of a class lies in a bucket in the clear."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from evidence.schema import parse_time
from evidence.statement import Statement
from service.context import open_context
from storage.db.tables import outbox
from storage.objects.bucket import Bucket, BucketAddress
from storage.s3 import Files
from tests.service.deployment_maker import PHOTO, Made, wire
from tests.service.retention_maker import (
    Client,
    Clock,
    ask,
    clocked,
    dispose,
    make,
    sealed_capture,
    serve,
    wait_for,
)
from tests.service.test_inspection import picture
from tests.service.test_s3_service import s3_settings, stated
from tests.stores.weed import Weed, new_bucket

OPEN_PHOTO = PHOTO + b" that no class keeps"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """A clock that goes by what the test wants."""
    with clocked(monkeypatch) as set_clock:
        yield set_clock


@pytest.fixture
def address(weed: Weed) -> BucketAddress:
    """The bucket of the objects; the one of uploads is named after it."""
    return weed.address(new_bucket())


@pytest.fixture
def made(tmp_path: Path, address: BucketAddress) -> Made:
    """A deployment that another node could share."""
    shared: dict[str, Any] = {"staging": "s3", "s3_staging_bucket": f"{address.bucket}-staging"}
    given = {**s3_settings(address), **shared, "inspect_workers": 1, "intake_days": 3}
    return make(tmp_path / "deployment", **given)


def in_the_bucket(address: BucketAddress) -> dict[str, list[bytes]]:
    """What every version of every key of the objects' bucket holds."""
    bucket = Bucket(address)
    found: dict[str, list[bytes]] = {}
    for one in bucket.versions(""):
        if not one.is_marker:
            size = one.size_bytes
            data = bucket.read(one.key, one.version, 0, size) if size else b""
            found.setdefault(one.key, []).append(data)
    return found


def staging_of(address: BucketAddress) -> Files:
    """The bucket of uploads."""
    return Files(replace(address, bucket=f"{address.bucket}-staging"))


def in_staging(address: BucketAddress) -> dict[str, bytes]:
    """What lies in the bucket of uploads."""
    files = staging_of(address)
    return {one.key: files.read(one.key) for one in list(files.list(""))}


def announced(client: Client, made: Made, content: bytes, mode: str) -> str:
    """Announce a capture of a mode and send nothing; returns its id."""
    party = made.parties["county-a"]
    body = msgspec.json.decode(party.capture(content).raw)["body"]
    signed = party.sign("capture", {**body, "mode": mode})
    assert ask(client, made, "clerk", "POST", "/v1/captures", json=wire(signed)).status_code == 200
    return signed.id


def send(client: Client, made: Made, capture: str, content: bytes) -> int:
    """Send content; returns the status."""
    path = f"/v1/captures/{capture}/content"
    return ask(client, made, "clerk", "PUT", path, content=content).status_code


def test_content_of_a_class_never_goes_straight(
    made: Made, address: BucketAddress, clock: Clock
) -> None:
    """A photo of one piece that no class keeps goes straight into the locked bucket.

    One that is sealed lies in no version of any key there, and in the end in no bucket at all; nor
    does what was read in it, nor a transfer of it that was quarantined, once it is disposed of.
    """
    photo = picture()
    wrong = photo[:-2] + b"!!"
    with serve(made) as client:
        plain = announced(client, made, OPEN_PHOTO, "attended")
        assert send(client, made, plain, OPEN_PHOTO) == 201
        wait_for(client, made, plain, "stored")
        capture = announced(client, made, photo, "automated")
        assert send(client, made, capture, wrong) == 422
        quarantined = [key for key, data in in_staging(address).items() if wrong in data]
        assert len(quarantined) == 1
        assert send(client, made, capture, photo) == 201
        wait_for(client, made, capture, "stored")
        inspected(client, made, capture)
        lying = in_the_bucket(address)
        assert lying[object_key(OPEN_PHOTO)] == [OPEN_PHOTO]
        assert object_key(photo) not in lying
        assert not any(photo[100:200] in data for each in lying.values() for data in each)
        left = in_staging(address)
        assert [key for key, data in left.items() if photo[100:200] in data] == quarantined
        clock.ahead = timedelta(days=31)
        dispose(client, made, capture)
    assert not any(photo[100:200] in data for data in in_staging(address).values())
    outputs = [one for one in stated(made, "inspected") if about(one) == capture]
    assert [("output_object" in one.body) for one in outputs] == [True]
    [certificate] = stated(made, "disposed")
    other = hashlib.sha256(wrong).hexdigest()
    assert {hashlib.sha256(photo).hexdigest(), other} <= set(as_list(certificate.body["contents"]))


def test_a_lock_of_a_class_is_the_class_s(made: Made, address: BucketAddress) -> None:
    """Content that is not sealed waits in staging too: straight, it would get the store's lock."""
    with serve(made) as client:
        sealed_capture(client, made, PHOTO, mode="import")
    [stored] = stated(made, "stored")
    locked = parse_time(str(stored.body["locked_until"]))
    received = parse_time(str(stored.body["received_at"]))
    assert timedelta(days=1) <= locked - received < timedelta(days=1, seconds=2)
    assert in_the_bucket(address)[object_key(PHOTO)] == [PHOTO]


def test_what_a_crash_left_on_its_way_goes_unless_it_is_being_made(
    made: Made, address: BucketAddress
) -> None:
    """What a live worker of another node is just sealing is left to him; the rest goes."""
    with serve(made) as client:
        capture = announced(client, made, PHOTO, "automated")
    leftovers = {f"facts-{capture}": b"what was read", f"sealed-{capture}-facts": b"sealed"}
    context = open_context(made.settings)
    try:
        for key, data in leftovers.items():
            with context.staging.begin(key, len(data)) as writer:
                writer.write(data)
                writer.finish()
        work = outbox.update().where(outbox.c.subject == capture)
        with context.db.write() as connection:
            connection.execute(work.values(state="leased", lease_owner="of web-2"))
    finally:
        context.close()
    with serve(made):
        kept = in_staging(address)
    assert sum("waiting/" in key for key in kept) == len(leftovers)
    context = open_context(made.settings)
    try:
        with context.db.write() as connection:
            connection.execute(work.values(state="waiting", lease_owner=None))
    finally:
        context.close()
    with serve(made):
        kept = in_staging(address)
    assert [key for key in kept if "waiting/" in key] == []


def object_key(content: bytes) -> str:
    """Where content lies in the bucket where it is not sealed."""
    name = hashlib.sha256(content).hexdigest()
    return f"sha256/{name[:2]}/{name[2:4]}/{name}"


def inspected(client: Client, made: Made, capture: str) -> None:
    """Wait until the server stated what it read."""
    for _ in range(600):
        if any(about(one) == capture for one in stated(made, "inspected")):
            return
        shown = ask(client, made, "clerk", "GET", f"/v1/captures/{capture}").json()
        assert shown["content"]["state"] == "stored"
        time.sleep(0.05)
    raise AssertionError("it was never inspected")


def about(statement: Statement) -> str:
    """The capture that a statement is about."""
    assert statement.about is not None
    return statement.about.statement


def as_list(value: Any) -> list[str]:  # noqa: ANN401  of a statement
    """A member that is a list of texts."""
    assert isinstance(value, list)
    return [str(one) for one in value]
