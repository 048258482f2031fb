"""Retention where the stores are others: originals in S3, rows and keys on two servers."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service.settings import SettingsInvalid
from storage.db.engine import Database
from storage.errors import Unavailable
from storage.keys.tables import prepare
from storage.keys.wrapping import FileWrapper
from storage.objects.bucket import Bucket
from storage.sealing import SEGMENT_BYTES, TAG_BYTES
from tests.postgres import OWNER, SERVICE, PostgresServer
from tests.service.deployment_maker import PHOTO
from tests.service.retention_maker import (
    Clock,
    ask,
    bytes_below,
    clocked,
    code_of,
    dispose,
    keep,
    make,
    sealed_capture,
    serve,
)
from tests.service.test_s3_service import s3_settings, stated
from tests.stores.weed import Weed, new_bucket


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """A clock that goes by what the test wants."""
    with clocked(monkeypatch) as set_clock:
        yield set_clock


def key_of(name: str) -> str:
    """An object's key in a bucket."""
    return f"sha256/{name[:2]}/{name[2:4]}/{name}"


def test_sealed_content_in_s3(
    tmp_path: Path, weed: Weed, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A jump into a video asks the store for one segment; locks and holds are the store's own.

    Its lock still runs when its key is destroyed: the ciphertext stays, and nobody opens it.
    """
    address = weed.address(new_bucket())
    made = make(tmp_path / "deployment", **s3_settings(address))
    video = b"\0\0\0\x18ftypmp42" + bytes(2 * SEGMENT_BYTES + 1000)
    asked: list[tuple[int, int]] = []
    real = Bucket.read

    def watched(self: Bucket, key: str, version: str, first: int, count: int) -> bytes:
        """Note the range that is asked for."""
        if key.startswith("sha256/"):
            asked.append((first, count))
        return real(self, key, version, first, count)

    with serve(made) as client:
        capture = sealed_capture(client, made, video, kind="video/mp4")
        monkeypatch.setattr(Bucket, "read", watched)
        path = f"/v1/captures/{capture}"
        start = SEGMENT_BYTES + 10
        headers = {"range": f"bytes={start}-{start + 99}"}
        token = made.tokens["head@county-a"]
        part = client.get(f"{path}/content", headers=headers | {"Authorization": f"Bearer {token}"})
        assert (part.status_code, part.content) == (206, video[start : start + 100])
        assert asked == [(32 + SEGMENT_BYTES + TAG_BYTES, SEGMENT_BYTES + TAG_BYTES)]
        assert ask(client, made, "head", "GET", f"{path}/content").content == video
        [stored] = stated(made, "stored")
        lies: Any = stored.body["object"]
        bucket, key = Bucket(address), key_of(lies["name"])
        keep(client, made, "jurist", capture, action="hold", reference="h")
        assert bucket.head(key, lies["version"]).on_hold
        keep(client, made, "jurist", capture, action="release", reference="h")
        held = bucket.head(key, lies["version"])
        assert (held.on_hold, held.lock is not None) == (False, True)
        case = keep(client, made, "jurist", capture, action="extend", until="2026-12-30T00:00:00Z")
        locked = bucket.head(key, lies["version"]).lock
        assert locked is not None
        assert locked.until.isoformat() == "2026-12-30T00:00:00+00:00"
        assert case.json()["locked_until"] == "2026-12-30T00:00:00Z"
        clock.ahead = timedelta(days=60)
        dispose(client, made, capture)
        assert code_of(ask(client, made, "head", "GET", f"{path}/content")) == (410, "disposed")
    [certificate] = stated(made, "disposed")
    assert certificate.body["method"] == "key_destroyed"
    assert bucket.head(key, lies["version"]).size_bytes == lies["size_bytes"]


@pytest.fixture
def keys_url(other_postgres: PostgresServer) -> Iterator[str]:
    """A key database on another server."""
    name = other_postgres.empty()
    owner = Database(other_postgres.url(name, OWNER))
    prepare(owner, service_role=SERVICE)
    owner.close()
    yield other_postgres.url(name)
    other_postgres.drop(name)


def test_rows_and_keys_on_two_servers(
    tmp_path: Path, postgres: PostgresServer, keys_url: str, clock: Clock
) -> None:
    """Texts and contents are sealed with keys that no folder of this machine holds."""
    FileWrapper.create(tmp_path / "kek")
    with postgres.database() as name:
        made = make(
            tmp_path / "deployment",
            database_url=postgres.url(name),
            keys_url=keys_url,
            kek_file=tmp_path / "kek",
        )
        with serve(made) as client:
            capture = sealed_capture(client, made, PHOTO)
            other = sealed_capture(client, made, PHOTO, mode="import")
            path = f"/v1/captures/{capture}/content"
            assert ask(client, made, "head", "GET", path).content == PHOTO
            clock.ahead = timedelta(days=31)
            dispose(client, made, capture)
            dispose(client, made, other)
            assert code_of(ask(client, made, "head", "GET", path)) == (410, "disposed")
        assert PHOTO[4:-2] not in bytes_below(made)


def test_keys_on_the_database_s_own_server_are_refused(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    """One restored disk would put back what was destroyed; and a server's keys must be wrapped."""
    keys = postgres.empty()
    owner = Database(postgres.url(keys, OWNER))
    prepare(owner, service_role=SERVICE)
    owner.close()
    FileWrapper.create(tmp_path / "kek")
    with postgres.database() as name:
        common = {"database_url": postgres.url(name), "keys_url": postgres.url(keys)}
        with pytest.raises(SettingsInvalid, match="wrapped"):
            make(tmp_path / "plain", **common)
        with pytest.raises(Unavailable, match="of their own"):
            make(tmp_path / "same", **common, kek_file=tmp_path / "kek")
    postgres.drop(keys)
