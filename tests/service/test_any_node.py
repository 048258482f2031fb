"""What one node received, another node stores: PostgreSQL, buckets, and a kill -9 in between."""

import base64
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from evidence.report import Outcome
from evidence.statement import to_wire
from evidence.verify import verify_package
from service.app import create_app
from service.captures import transfers
from service.captures.transfers import Transfers
from service.cli import run
from service.context import system_clock
from service.doctor import examine
from service.fsck import check_logs
from service.settings import Settings, SettingsInvalid, read_settings
from service.stores import open_staging, open_tiles
from storage.db.engine import Database
from storage.objects.bucket import BucketAddress
from storage.s3 import Files
from storage.tiles.s3 import S3Tiles
from tests.postgres import PostgresServer
from tests.service.deployment_maker import PHOTO, Made, make_deployment
from tests.service.test_captures import custody, get, seal, send, wait_until_stored
from tests.service.test_exports import ask, fetch, known_keys
from tests.service.test_s3_service import s3_settings
from tests.stores.weed import Weed, new_bucket
from tests.tools import ROOT

VIDEO = os.urandom(1 << 20) * 12
LEASE_S = 4.0


def in_buckets(address: BucketAddress) -> dict[str, Any]:
    """The settings of a node that keeps nothing of others on its disk."""
    return {
        **s3_settings(address),
        "tiles": "s3",
        "staging": "s3",
        "s3_tiles_bucket": f"{address.bucket}-tiles",
        "s3_staging_bucket": f"{address.bucket}-staging",
    }


@pytest.fixture
def address(weed: Weed) -> BucketAddress:
    """Names of buckets that nobody has used."""
    return weed.address(new_bucket())


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    """A migrated database that all nodes share."""
    with postgres.database() as name:
        yield postgres.url(name)


@pytest.fixture
def made(url: str, tmp_path: Path, address: BucketAddress) -> Made:
    """A deployment whose rows, objects, tiles and uploads are on servers."""
    return make_deployment(tmp_path / "one", database_url=url, **in_buckets(address))


def environment(settings: Settings, address: BucketAddress) -> dict[str, str]:
    """What a child needs to be a node of the deployment."""
    secrets = {"s3_access_key": address.access_key, "s3_secret_key": address.secret_key}
    given = {**in_buckets(address), **secrets, "folder": settings.folder, "disk_reserve_bytes": 0}
    return {
        **{name: value for name, value in os.environ.items() if name[:7] != "FENGNI_"},
        **{f"FENGNI_{name.upper()}": str(value) for name, value in given.items()},
        "PYTHONPATH": str(ROOT),
    }


def require_empty(folder: Path) -> None:
    """Nothing that belongs into a bucket lies on a node's disk."""
    for name in ("objects", "staging", "tiles"):
        assert not (folder / name).exists() or list((folder / name).iterdir()) == []


def other_node(made: Made, folder: Path) -> Made:
    """A node with the deployment's keys and nothing else of the first one's disk."""
    shutil.copytree(made.settings.folder, folder)
    require_empty(folder)
    settings = msgspec.structs.replace(made.settings, folder=folder)
    return Made(
        settings=settings,
        deployment=made.deployment,
        parties=made.parties,
        tokens=made.tokens,
    )


def test_what_a_killed_node_received_is_stored_by_another(
    made: Made, tmp_path: Path, address: BucketAddress
) -> None:
    """Answered content is stored and read; the transfer that was cut is taken again, once."""
    contents = [PHOTO, VIDEO, VIDEO[::-1]]
    signed = [made.parties["county-a"].capture(content) for content in contents]
    order = {
        "statements": [to_wire(one) for one in signed],
        "contents": [base64.b64encode(content).decode() for content in contents],
        "stall": 11 << 20,
        "lease_s": LEASE_S,
    }
    with subprocess.Popen(
        [sys.executable, "-m", "tests.service.receiving_process"],
        env=environment(made.settings, address),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as node:
        assert node.stdin is not None
        assert node.stdout is not None
        node.stdin.write(json.dumps(order) + "\n")
        node.stdin.flush()
        said = [node.stdout.readline().strip() for _ in range(3)]
        node.kill()
    assert said == [f"received {signed[0].id}", f"received {signed[1].id}", "stalled"]
    staging = Files(replace(address, bucket=f"{address.bucket}-staging"))
    assert len(list(staging.list("pieces/"))) == 4  # of the video, and of what was cut

    other = other_node(made, tmp_path / "two")
    with TestClient(create_app(other.settings)) as client:
        for one, content in zip(signed[:2], contents, strict=False):
            wait_until_stored(client, other, one.id)
            answer = get(client, other, f"/v1/captures/{one.id}/content")
            assert (answer.status_code, answer.content) == (200, content)
        deadline = time.monotonic() + 3 * LEASE_S
        while (answer := send(client, other, signed[2].id, contents[2])).status_code == 409:
            assert answer.json()["code"] == "upload_in_progress"
            assert time.monotonic() < deadline, "the dead node's transfer was never given up"
            time.sleep(0.2)
        assert answer.status_code == 201
        wait_until_stored(client, other, signed[2].id)
        assert custody(client, other, signed[0].id) == ["viewed"]
        assert {one.code for log in check_logs(other.settings) for one in log.findings} == set()
    assert [one.key for one in staging.list("waiting/")] == []
    assert len(list(staging.list("pieces/"))) == 2  # the dead transfer's, until they are old


def test_a_photo_goes_its_whole_course_through_buckets(made: Made) -> None:
    """Sealed, served with its tiles, exported, verified; quarantine keeps what was wrong."""
    with TestClient(create_app(made.settings)) as client:
        capture = seal(client, made)
        wrong = made.parties["county-a"].capture(b"announced")
        client.post(
            "/v1/captures",
            json={"statements": [to_wire(wrong)]},
            headers={"Authorization": f"Bearer {made.tokens['county-a']}"},
        )
        assert send(client, made, wrong.id, b"different").status_code == 422
        package = fetch(client, made, ask(client, made, capture).headers["location"])
        log = made.deployment.organs[0].log.id
        tile = client.get(f"/logs/{log}/tile/0/000.p/2")
        assert (tile.status_code, len(tile.content)) == (200, 64)
        assert tile.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert client.get(f"/logs/{log}/tile/0/000").status_code == 404
        found = {one.name: one for one in examine(made.settings, system_clock())}
    report = verify_package(io.BytesIO(package), known_keys(made), datetime.now(UTC))
    assert {one.name for one in report.checks if one.outcome is Outcome.CHANGED} == set()
    [aside] = open_staging(made.settings, system_clock, None).quarantined()
    assert (aside.key, aside.size_bytes, aside.reason) == (wrong.id, 9, "digest_mismatch")
    assert found["objects.present"].answer == "pass"
    assert found["captures.content"].answer == "pass"
    assert found["tiles.conditions"].answer == "pass"
    require_empty(made.settings.folder)


def test_what_another_node_left_is_taken_up(made: Made) -> None:
    """Finished and not noted: the next start states that; bytes that nobody announced go aside."""
    signed = made.parties["county-a"].capture(VIDEO)
    with TestClient(create_app(made.settings)) as client:
        client.post(
            "/v1/captures",
            json={"statements": [to_wire(signed)]},
            headers={"Authorization": f"Bearer {made.tokens['county-a']}"},
        )
    staging = open_staging(made.settings, system_clock, None)
    for key, content in ((signed.id, VIDEO), ("f" * 64, PHOTO)):
        with staging.begin(key, len(content)) as writer:
            writer.write(content)
            writer.finish()
    with TestClient(create_app(made.settings)) as client:
        wait_until_stored(client, made, signed.id)
        assert custody(client, made, signed.id) == ["recovered"]
    assert [one.reason for one in staging.quarantined()] == ["unknown_capture"]


def test_a_capture_is_claimed_once_over_all_nodes(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many that try one gets it; who is dead is followed after his time, who lives is not."""
    monkeypatch.setattr(transfers, "LEASE_S", 1.0)
    dbs = [Database(url) for _ in range(4)]
    nodes = [Transfers(db, f"node-{number}", "one") for number, db in enumerate(dbs)]
    for node in nodes[:2]:
        node.start()
    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(lambda node: node.claim("log", "capture"), nodes))
    assert won.count(True) == 1
    holder = nodes[won.index(True)]
    holder.release("log", "capture")
    assert not any(node.is_live("capture") for node in nodes)
    assert nodes[0].claim("log", "capture")
    time.sleep(1.5)
    assert all(node.is_live("capture") for node in nodes)
    assert not nodes[1].claim("log", "capture")
    assert nodes[3].claim("log", "other")  # never kept: its thread does not run
    assert not nodes[1].claim("log", "other")
    time.sleep(1.2)
    assert nodes[1].claim("log", "other")
    nodes[3].release("log", "other")
    assert nodes[1].is_live("other")
    for node, db in zip(nodes, dbs, strict=True):
        node.close()
        db.close()


def test_a_node_that_starts_again_lets_go_of_its_claims(url: str) -> None:
    """Whoever was cut off by its end tries again at once; what another node receives is not."""
    db = Database(url)
    dead, other = Transfers(db, "node-1", "before"), Transfers(db, "node-10", "one")
    assert dead.claim("log", "cut off")
    assert other.claim("log", "of another")
    again = Transfers(db, "node-1", "after")
    again.start()
    assert again.claim("log", "cut off")
    assert not again.claim("log", "of another")
    again.close()
    db.close()


def test_a_deployment_is_made_on_buckets(
    tmp_path: Path, address: BucketAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`fengni init` makes all three, and no folder for what lies there."""
    folder = tmp_path / "made"
    named = environment(Settings(folder=folder), address)
    for name, value in named.items():
        if name.startswith("FENGNI_") and name != "FENGNI_FOLDER":
            monkeypatch.setenv(name, value)
    assert run(["init", str(folder), "--organ", "county", "--origin", "example.org/log"]) == 0
    settings = read_settings({**os.environ, "FENGNI_FOLDER": str(folder)})
    [log] = check_logs(settings)
    assert log.findings == ()
    assert isinstance(open_tiles(settings, log.log), S3Tiles)
    require_empty(folder)


@pytest.mark.parametrize(
    ("opened", "change", "told"),
    [
        ("tiles", {"s3_tiles_bucket": None}, "FENGNI_S3_TILES_BUCKET"),
        ("staging", {"s3_staging_bucket": None}, "FENGNI_S3_STAGING_BUCKET"),
        ("staging", {"s3_staging_bucket": "one", "s3_tiles_bucket": "one"}, "nothing else"),
        ("staging", {"objects": "local"}, "FENGNI_OBJECTS"),
    ],
)
def test_buckets_are_named_apart(
    tmp_path: Path, address: BucketAddress, opened: str, change: dict[str, Any], told: str
) -> None:
    """What is replaced and removed lies in no bucket of something else."""
    settings = Settings(folder=tmp_path, **{**in_buckets(address), **change})
    openers: dict[str, Callable[[], object]] = {
        "tiles": lambda: open_tiles(settings, "log"),
        "staging": lambda: open_staging(settings, system_clock, None),
    }
    with pytest.raises(SettingsInvalid, match=told):
        openers[opened]()
