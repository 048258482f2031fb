"""For those who watch: health, readiness, counters, pages; and logs that tell nothing personal."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import update

from service.app import create_app
from service.deployment_file import Places
from storage.db.engine import Database
from storage.db.tables import views
from tests.service.deployment_maker import Made, bearer, make_deployment
from tests.service.test_captures import custody, get, seal

Client = TestClient[Any]


def test_a_sound_service_is_alive_and_ready(client: Client) -> None:
    """Both answers need no token."""
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready", "failed": []}


def test_what_was_done_is_counted(client: Client, made: Made) -> None:
    """Requests by route template, uploads by outcome, nothing by id."""
    capture = seal(client, made)
    text = client.get("/metrics").text
    assert 'fengni_uploads_total{outcome="received"} 1.0' in text
    assert 'route="/v1/captures/{capture}/content"' in text
    assert capture not in text


def test_pages_for_people_are_there(client: Client) -> None:
    """The front page leads to the API, a problem's type to its line."""
    assert "/docs" in client.get("/").text
    assert client.get("/problems/digest_mismatch").json()["status"] == 422
    assert client.get("/problems/made_up").status_code == 404


def test_logs_tell_nothing_personal(
    capsys: pytest.CaptureFixture[str], client: Client, made: Made
) -> None:
    """Neither tokens nor claims nor query strings appear in what is logged."""
    seal(client, made)
    get(client, made, "/v1/captures?limit=3")
    told = capsys.readouterr().err
    assert '"event":"request"' in told
    for secret in (made.tokens["county-a"], "captured_at", "limit=3", "county-a"):
        assert secret not in told.replace("organ county-a has", "")


def test_the_quarter_of_an_hour_ends(client: Client, made: Made) -> None:
    """A reading after the window is another event."""
    capture = seal(client, made)
    get(client, made, f"/v1/captures/{capture}/content")
    db = Database(Places(made.settings.folder).database_url)
    with db.write() as connection:
        connection.execute(update(views).values(until=datetime(2026, 1, 1, tzinfo=UTC)))
    db.close()
    get(client, made, f"/v1/captures/{capture}/content")
    get(client, made, f"/v1/captures/{capture}/content")
    assert custody(client, made, capture) == ["viewed", "viewed"]
    assert timedelta(seconds=made.settings.view_window_s) == timedelta(minutes=15)


def test_an_organ_may_keep_its_tiles_to_itself(tmp_path: Path) -> None:
    """Then its log is read with its own token only."""
    made = make_deployment(tmp_path / "deployment", public_tiles=False)
    path = "/logs/county-a-2026/checkpoint"
    with TestClient(create_app(made.settings)) as client:
        seal(client, made)
        nobody = client.get(path)
        stranger = client.get(path, headers=bearer(made.tokens["county-b"]))
        logs = get(client, made, "/v1/logs").json()
        time.sleep(1.5)  # a publication a second
        own = get(client, made, path)
    assert (nobody.status_code, stranger.status_code, own.status_code) == (401, 404, 200)
    assert [one["checkpoint"] for one in logs] == [path]
