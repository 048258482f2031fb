"""`fengni scrub` re-hashes the oldest first, tells and mends what is bad, and logs the result."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient
from minio.deleteobjects import DeleteObject

from service.app import create_app
from service.cli import NO, OK, UNDECIDED, run
from service.context import open_context, system_clock
from service.deployment_file import Places
from service.objects import make_objects, open_unproven
from service.scrub import Bounds, Scrubbed, scrub_once
from service.settings import Settings
from service.truth.rebuild import rebuild_database
from storage.objects.bucket import Bucket, BucketAddress
from storage.staging.folder import StagingFolder
from tests.service.deployment_maker import Made, make_deployment
from tests.service.server_process import ServerProcess
from tests.service.test_captures import custody, get, seal
from tests.service.test_s3_service import s3_settings, stated
from tests.stores.weed import Weed, new_bucket

ALL = Bounds(size_bytes=2**40)
CONTENTS = (b"one", b"two", b"three", b"four")


@pytest.fixture
def sealed(made: Made) -> list[str]:
    """Four captures of county-a whose contents are stored."""
    with TestClient(create_app(made.settings)) as client:
        return [seal(client, made, content) for content in CONTENTS]


def scrubbed(settings: Settings, bounds: Bounds = ALL) -> Scrubbed:
    """One run; what it found for county-a."""
    context = open_context(settings)
    try:
        return scrub_once(context, bounds)[0]
    finally:
        context.close()


def object_of(settings: Settings, content: bytes) -> Path:
    """Where a content lies."""
    name = hashlib.sha256(content).hexdigest()
    return Places(settings.folder).objects / "sha256" / name[:2] / name[2:4] / name


def damage(path: Path) -> None:
    """Other bytes of the same length under the same name."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    path.chmod(0o400)


def check(made: Made) -> dict[str, Any]:
    """The last scrub's statement, its results by code."""
    [*_, last] = [one for one in stated(made, "check") if one.body["check"] == "scrub"]
    body = json.loads(json.dumps(last.body))
    return {"outcome": body["outcome"]} | {one["code"]: one["count"] for one in body["results"]}


def second_of(made: Made) -> Settings:
    """The same deployment with a second store beside it that has everything."""
    second = made.settings.folder.parent / "second"
    shutil.copytree(Places(made.settings.folder).objects, second)
    return msgspec.structs.replace(made.settings, second_folder=second)


@pytest.mark.usefixtures("sealed")
def test_a_sound_store_is_stated_with_its_bound(made: Made) -> None:
    """All were looked at: nothing else can be bad. A part: the others can."""
    assert scrubbed(made.settings).outcomes == {"ok": 4}
    assert check(made) == {
        "outcome": "pass",
        "scrub_population": 4,
        "scrub_sample": 4,
        "scrub_rest_bad_at_most_95": 0,
        "scrub_damaged": 0,
        "scrub_missing": 0,
        "scrub_repaired": 0,
    }
    part = scrubbed(made.settings, Bounds(size_bytes=2**40, count=1))
    assert (part.population, len(part.looked_at)) == (5, 1)  # the first run's report is kept too
    assert check(made)["scrub_rest_bad_at_most_95"] == part.bad_at_most == 4


@pytest.mark.usefixtures("sealed")
def test_the_oldest_come_first(made: Made) -> None:
    """One at a time: nobody comes twice before everybody came once, over restarts and a rebuild."""
    one = Bounds(size_bytes=2**40, count=1)
    seen = [scrubbed(made.settings, one).looked_at[0][0] for _ in range(2)]
    db = Places(made.settings.folder).folder / "db"
    shutil.rmtree(db)
    db.mkdir()
    rebuild_database(made.settings, system_clock())
    seen += [scrubbed(made.settings, one).looked_at[0][0] for _ in range(6)]
    contents = [each.object for each in seen if each.kind == "stored"]
    assert len(set(contents)) == 4
    assert [each.checked_at for each in seen] == sorted(each.checked_at for each in seen)


@pytest.mark.parametrize("how", [damage, Path.unlink])
def test_a_bad_object_is_told(made: Made, sealed: list[str], how: Callable[[Path], None]) -> None:
    """By exit status, count and statements that name the capture."""
    how(object_of(made.settings, b"two"))
    assert run(["scrub", str(made.settings.folder)]) == NO
    word = "damaged" if how is damage else "missing"
    assert (check(made)["outcome"], check(made)[f"scrub_{word}"]) == ("fail", 1)
    with TestClient(create_app(made.settings)) as client:
        assert custody(client, made, sealed[1]) == ["rehashed"]
        assert custody(client, made, sealed[0]) == []
    [told] = [one for one in stated(made, "custody") if one.body["event"] == "rehashed"]
    assert told.body["reason"] == f"object_{word}"


@pytest.mark.parametrize("how", [damage, Path.unlink])
def test_it_is_mended_from_the_second_store(
    made: Made, sealed: list[str], how: Callable[[Path], None]
) -> None:
    """The right bytes lie there again, the wrong ones beside, and both are stated."""
    settings = second_of(made)
    how(object_of(settings, b"two"))
    found = scrubbed(settings)
    assert found.outcomes == {"ok": 3, "repaired": 1}
    assert object_of(settings, b"two").read_bytes() == b"two"
    aside = list((Places(settings.folder).objects / "damaged").glob("*"))
    assert [path.read_bytes() for path in aside] == ([b"uwo"] if how is damage else [])
    assert check(made)["outcome"] == "degraded"
    with TestClient(create_app(settings)) as client:
        assert custody(client, made, sealed[1]) == ["rehashed", "recovered"]
        assert get(client, made, f"/v1/captures/{sealed[1]}/content").content == b"two"
    assert scrubbed(settings).outcomes["ok"] == 5


@pytest.mark.usefixtures("sealed")
def test_a_second_store_with_other_bytes_mends_nothing(made: Made) -> None:
    """What is wrong on both sides stays told, and nothing is put there."""
    settings = second_of(made)
    damage(object_of(settings, b"two"))
    name = object_of(settings, b"two").name
    damage(Path(str(settings.second_folder)) / "sha256" / name[:2] / name[2:4] / name)
    assert scrubbed(settings).outcomes == {"ok": 3, "damaged": 1}
    assert object_of(settings, b"two").read_bytes() == b"uwo"


@pytest.mark.usefixtures("sealed")
def test_a_log_that_another_process_leads_is_not_scrubbed(made: Made) -> None:
    """The command beside a running server: undecided, and nothing is changed."""
    with ServerProcess(made.settings.folder) as server:
        server.start()
        assert run(["scrub", str(made.settings.folder)]) == UNDECIDED
        server.stop()
    assert run(["scrub", str(made.settings.folder)]) == OK


def test_a_bucket_gets_a_new_version(tmp_path: Path, weed: Weed) -> None:
    """A content that is gone from the bucket comes back under a version that is stated."""
    address = weed.address(new_bucket())
    options: dict[str, Any] = {**s3_settings(address), "s3_lock_mode": "governance"}
    made = make_deployment(tmp_path / "deployment", **options)
    other = weed.address(new_bucket())
    for word, key in (("access", other.access_key), ("secret", other.secret_key)):
        (tmp_path / word).write_text(key)
    settings = msgspec.structs.replace(
        made.settings,
        second_s3_endpoint=other.endpoint,
        second_s3_bucket=other.bucket,
        second_s3_access_key_file=tmp_path / "access",
        second_s3_secret_key_file=tmp_path / "secret",
    )
    with TestClient(create_app(settings)) as client:
        capture = seal(client, made, b"one")
    fill_second(settings, other)
    lose_every_version(address)
    found = scrubbed(settings)
    assert found.outcomes == {"repaired": 1}
    first, again = [one.body["object"] for one in stated(made, "stored")]
    assert isinstance(first, dict)
    assert isinstance(again, dict)
    assert first["version"] != again["version"]
    with TestClient(create_app(settings)) as client:
        assert get(client, made, f"/v1/captures/{capture}/content").content == b"one"
    assert scrubbed(settings).bad == 0


def fill_second(settings: Settings, other: BucketAddress) -> None:
    """Make the second store and give it what the first one has."""
    second = msgspec.structs.replace(settings, s3_bucket=other.bucket)
    store = make_objects(second, system_clock, "second")
    first = open_unproven(settings, system_clock)
    staging = StagingFolder(Places(settings.folder).staging, reserve_bytes=0)
    for number, name in enumerate(first.names()):
        with first.open(name) as stream:
            data = stream.read()
        with staging.begin(f"copy-{number}", len(data)) as writer:
            writer.write(data)
            store.put_once(writer.finish())


def lose_every_version(address: BucketAddress) -> None:
    """What an account that may bypass GOVERNANCE can do."""
    bucket = Bucket(address)
    for one in list(bucket.versions("sha256/")):
        asked = [DeleteObject(one.key, one.version)]
        told = list(bucket.client.remove_objects(bucket.name, asked, bypass_governance_mode=True))
        assert told == []


def test_json_is_for_programs(made: Made) -> None:
    """`--json` gives what a program reads; there is nothing to look at yet."""
    assert run(["scrub", str(made.settings.folder), "--json", "--count", "1"]) == OK
