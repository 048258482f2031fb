"""A deployment whose originals lie in S3: a photo's whole way, and what happens on a bad store."""

import io
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from litestar.testing import TestClient

from evidence.report import Outcome
from evidence.statement import Statement, parse_statement
from evidence.verify import verify_package
from service.app import create_app
from service.cli import run
from service.context import system_clock
from service.deployment_file import Places
from service.doctor import examine
from service.objects import StoreUnproven, make_objects, open_objects
from service.production import find_unsafe
from service.settings import Secret, Settings, SettingsInvalid, read_settings
from storage import records
from storage.db.engine import Database
from storage.errors import Unavailable
from storage.objects.bucket import Bucket, BucketAddress
from tests.service.deployment_maker import Made, make_deployment
from tests.service.test_captures import get, seal
from tests.service.test_exports import ask, fetch, known_keys
from tests.service.test_inspection import inspections, picture
from tests.stores.moto_server import running_moto
from tests.stores.weed import SECRET_KEY, Weed, new_bucket

Client = TestClient[Any]


def s3_settings(address: BucketAddress) -> dict[str, Any]:
    """The settings that name a bucket."""
    return {
        "objects": "s3",
        "s3_endpoint": address.endpoint,
        "s3_bucket": address.bucket,
        "s3_access_key": Secret(address.access_key),
        "s3_secret_key": Secret(address.secret_key),
        "intake_days": 1,
    }


@pytest.fixture
def address(weed: Weed) -> BucketAddress:
    """A bucket of its own."""
    return weed.address(new_bucket())


def stated(made: Made, kind: str, organ: int = 0) -> list[Statement]:
    """Every statement of a kind in an organ's log."""
    log = made.deployment.organs[organ].log.id
    db = Database(Places(made.settings.folder).database_url)
    try:
        with db.read() as connection:
            found = records.records_of_kind(connection, log, kind, limit=1000)
            return [
                parse_statement(records.text_at(connection, log, one.index) or b"") for one in found
            ]
    finally:
        db.close()


def results(statement: Statement) -> Mapping[str, str]:
    """What a `check` statement says, by code."""
    given = cast("list[dict[str, str]]", statement.body["results"])
    return {one["code"]: one["outcome"] for one in given}


def test_a_photo_goes_through_s3_and_its_package_is_believed(
    tmp_path: Path, address: BucketAddress
) -> None:
    """Sealed, read whole and in part, inspected, previewed, exported, verified."""
    made = make_deployment(tmp_path / "deployment", inspect_workers=1, **s3_settings(address))
    photo = picture()
    with TestClient(create_app(made.settings)) as client:
        capture = seal(client, made, photo)
        whole = get(client, made, f"/v1/captures/{capture}/content")
        headers = {"range": "bytes=2-9", **dict(whole.request.headers)}
        part = client.get(f"/v1/captures/{capture}/content", headers=headers)
        [opinion] = inspections(client, made, capture)
        preview = get(client, made, f"/v1/captures/{capture}/content?as=preview")
        package = fetch(client, made, ask(client, made, capture).headers["location"])
        ready = client.get("/readyz")
    assert (whole.status_code, whole.content) == (200, photo)
    assert (part.status_code, part.content) == (206, photo[2:10])
    assert (opinion["outcome"], bool(opinion["tools"])) == ("ok", True)
    assert (preview.status_code, preview.content[:2]) == (200, b"\xff\xd8")
    assert ready.status_code == 200
    report = verify_package(io.BytesIO(package), known_keys(made), datetime.now(UTC))
    assert {one.name for one in report.checks if one.outcome is Outcome.CHANGED} == set()
    [rung] = [one for one in report.captures[0].rungs if one.name == "stored"]
    assert rung.outcome is Outcome.PASS
    assert "s3-object-lock-compliance, locked until 2" in rung.detail


def test_what_is_stored_names_version_level_and_lock(
    tmp_path: Path, address: BucketAddress
) -> None:
    """The statement says what the server says of that very version, and nothing of where it is."""
    made = make_deployment(tmp_path / "deployment", **s3_settings(address))
    with TestClient(create_app(made.settings)) as client:
        seal(client, made)
    [one] = stated(made, "stored")
    kept = cast("dict[str, Any]", one.body["object"])
    key = f"sha256/{kept['name'][:2]}/{kept['name'][2:4]}/{kept['name']}"
    held = Bucket(address).head(key, kept["version"])
    assert held.lock is not None
    assert one.body["assurance"] == "s3-object-lock-compliance"
    assert one.body["locked_until"] == held.lock.until.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert kept["store"] == "s3-test"
    assert address.bucket not in str(one.body)


def test_each_start_states_the_self_test_in_every_log(
    tmp_path: Path, address: BucketAddress
) -> None:
    """Signed by the server of each organ, with every finding by its code."""
    made = make_deployment(tmp_path / "deployment", **s3_settings(address))
    for _ in range(2):
        with TestClient(create_app(made.settings)):
            pass
    for organ in (0, 1):
        first, second = stated(made, "check", organ)
        assert (first.body["check"], first.body["outcome"]) == ("doctor", "pass")
        assert results(first) == results(second)
    assert results(first)["objects_delete_refused"] == "pass"
    assert results(first)["objects_copy_locked"] == "note"


def test_the_doctor_tries_the_bucket_and_shows_what_was_stated(
    tmp_path: Path, address: BucketAddress
) -> None:
    """Findings of the self-test, the level, the bytes, and the newest entry that states it."""
    made = make_deployment(tmp_path / "deployment", **s3_settings(address))
    before = {one.name: one for one in examine(made.settings, system_clock())}
    assert before["objects.stated"].answer == "note"
    with TestClient(create_app(made.settings)) as client:
        seal(client, made)
        found = {one.name: one for one in examine(made.settings, system_clock())}
    answers = {name: one.answer.value for name, one in found.items() if name[:7] == "objects"}
    assert (answers["objects.delete_refused"], answers["objects.copy_locked"]) == ("pass", "note")
    assert (answers["objects.stated"], answers["objects.strangers"]) == ("pass", "pass")
    assert found["objects.bytes"].detail == "All 1 objects were re-hashed."
    assert "s3-object-lock-compliance" in found["objects.assurance"].detail


def test_a_store_that_fails_is_refused_and_that_is_stated(tmp_path: Path) -> None:
    """Neither made nor started on; what was found stands in the log."""
    with running_moto(tmp_path, new_bucket()) as address:
        settings = s3_settings(address)
        with pytest.raises(StoreUnproven, match="shorten_refused"):
            make_deployment(tmp_path / "never", **settings)
        made = make_deployment(tmp_path / "made", objects_unproven="state", **settings)
        refusing = msgspec.structs.replace(made.settings, objects_unproven="refuse")
        with (
            pytest.raises(StoreUnproven, match="fengni doctor"),
            TestClient(create_app(refusing)),
        ):
            pass
    [one] = stated(made, "check")
    assert one.body["outcome"] == "fail"
    assert results(one)["objects_shorten_refused"] == "fail"


def test_a_store_that_fails_may_be_taken_for_what_it_is(tmp_path: Path) -> None:
    """With the setting the server starts, and every `stored` statement names the lowest level."""
    with running_moto(tmp_path, new_bucket()) as address:
        made = make_deployment(tmp_path / "made", objects_unproven="state", **s3_settings(address))
        with TestClient(create_app(made.settings)) as client:
            seal(client, made)
        found = {one.name: one.answer.value for one in examine(made.settings, system_clock())}
    [one] = stated(made, "check")
    assert one.body["outcome"] == "degraded"
    assert [one.body["assurance"] for one in stated(made, "stored")] == ["s3-unproven"]
    assert found["objects.shorten_refused"] == "fail"


def test_another_bucket_than_the_deployment_s_is_refused(
    tmp_path: Path, address: BucketAddress
) -> None:
    """A server that is pointed at another store does not start."""
    made = make_deployment(tmp_path / "deployment", **s3_settings(address))
    other = msgspec.structs.replace(made.settings, s3_bucket=new_bucket())
    with pytest.raises(Unavailable, match="versioning"):
        open_objects(other, system_clock)
    make_objects(other, system_clock, "other")
    document = msgspec.json.decode((made.settings.folder / "deployment.json").read_bytes())
    fixed = msgspec.json.encode({**document, "object_store": "s3-test"})
    (made.settings.folder / "deployment.json").write_bytes(fixed)
    with (
        pytest.raises(SettingsInvalid, match="another object store"),
        TestClient(create_app(other)),
    ):
        pass
    with pytest.raises(SettingsInvalid, match="another store"):
        make_objects(other, system_clock, "third")


def test_a_deployment_is_made_on_a_bucket(
    tmp_path: Path, address: BucketAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`fengni init` makes the bucket, enrols the server, and fixes the store's id."""
    for name, value in s3_settings(address).items():
        told = value.reveal() if isinstance(value, Secret) else str(value)
        monkeypatch.setenv(f"FENGNI_{name.upper()}", told)
    folder = tmp_path / "made"
    arguments = ["init", str(folder), "--organ", "county", "--origin", "example.org/log"]
    assert run(arguments) == 0
    document = msgspec.json.decode((folder / "deployment.json").read_bytes())
    settings = read_settings({**os.environ, "FENGNI_FOLDER": str(folder)})
    assert document["object_store"] == open_objects(settings, system_clock).store.store_id
    assert not (folder / "objects").exists()


def test_production_refuses_a_store_without_tls(tmp_path: Path, address: BucketAddress) -> None:
    """What is spoken in the clear can be read and changed on its way."""
    made = make_deployment(tmp_path / "deployment", **s3_settings(address))
    found = find_unsafe(made.settings, made.deployment)
    assert "store_without_tls" in {one.code for one in found}


def test_keys_come_from_files_and_are_never_shown(tmp_path: Path, address: BucketAddress) -> None:
    """A file or a variable, not both and not neither; the settings show neither."""
    (tmp_path / "access").write_text(address.access_key + "\n")
    (tmp_path / "secret").write_text(address.secret_key + "\n")
    environment = {
        "FENGNI_FOLDER": str(tmp_path),
        "FENGNI_OBJECTS": "s3",
        "FENGNI_S3_ENDPOINT": address.endpoint,
        "FENGNI_S3_BUCKET": address.bucket,
        "FENGNI_S3_ACCESS_KEY_FILE": str(tmp_path / "access"),
        "FENGNI_S3_SECRET_KEY_FILE": str(tmp_path / "secret"),
    }
    make_objects(read_settings(environment), system_clock, "files")
    both = read_settings({**environment, "FENGNI_S3_SECRET_KEY": SECRET_KEY})
    assert SECRET_KEY not in repr(both)
    for wrong in (
        both,
        msgspec.structs.replace(both, s3_secret_key=None, s3_secret_key_file=None),
        msgspec.structs.replace(both, s3_secret_key=None, s3_secret_key_file=tmp_path / "none"),
    ):
        with pytest.raises(SettingsInvalid, match="FENGNI_S3_SECRET_KEY") as caught:
            open_objects(wrong, system_clock)
        assert SECRET_KEY not in str(caught.value)


@pytest.mark.parametrize("change", [{"s3_endpoint": ""}, {"s3_bucket": ""}, {"s3_endpoint": "x"}])
def test_a_bucket_must_be_named(
    tmp_path: Path, address: BucketAddress, change: dict[str, str]
) -> None:
    """Which server and which bucket is not guessed."""
    settings = Settings(folder=tmp_path, **{**s3_settings(address), **change})  # type: ignore[arg-type]
    with pytest.raises(SettingsInvalid, match="FENGNI_S3_ENDPOINT"):
        open_objects(settings, system_clock)


def test_a_wrong_account_is_named_without_its_key(tmp_path: Path, address: BucketAddress) -> None:
    """The server's refusal is told by its code."""
    wrong = replace(address, secret_key="wrong-secret")  # noqa: S106  that is the point
    settings = Settings(folder=tmp_path, **s3_settings(wrong))
    with pytest.raises(Unavailable) as caught:
        make_objects(settings, system_clock, "wrong")
    assert "wrong-secret" not in caught.value.detail
