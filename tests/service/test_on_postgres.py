"""The service with its rows on PostgreSQL: a photo's whole course, its checks, its beginning."""

import io
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from litestar.testing import TestClient

from evidence.report import Outcome
from evidence.verify import verify_package
from service.app import create_app
from service.cli import run
from service.context import open_context
from service.deployment_file import Places, read_deployment
from service.doctor import examine
from service.doctor.diagnosis import Answer
from service.fsck import check_logs
from service.settings import SettingsInvalid, read_settings
from storage.db.engine import Database, migrate
from storage.errors import Unavailable
from storage.log import Log
from storage.log.shared_heads import SharedHead
from tests.postgres import OWNER, PostgresServer
from tests.service.deployment_maker import PHOTO, Made, bearer, make_deployment, wire
from tests.service.server_process import ServerProcess
from tests.service.test_captures import announce, custody, get, seal
from tests.service.test_exports import ask, fetch, known_keys

Client = TestClient[Any]


@pytest.fixture
def name(postgres: PostgresServer) -> Iterator[str]:
    """A migrated database."""
    with postgres.database() as name:
        yield name


@pytest.fixture
def made(postgres: PostgresServer, name: str, tmp_path: Path) -> Made:
    """A deployment of two organs whose rows are on the server."""
    return make_deployment(tmp_path / "deployment", database_url=postgres.url(name))


@pytest.fixture
def client(made: Made) -> Iterator[Client]:
    """A client of the running application."""
    with TestClient(create_app(made.settings)) as running:
        yield running


def test_a_photo_goes_its_whole_course(client: Client, made: Made) -> None:
    """Announced, received, stored, read, exported, and verified by a stranger."""
    capture = seal(client, made)
    content = get(client, made, f"/v1/captures/{capture}/content")
    assert (content.status_code, content.content) == (200, PHOTO)
    package = fetch(client, made, ask(client, made, capture).headers["location"])
    report = verify_package(io.BytesIO(package), known_keys(made), datetime.now(UTC))
    changed = [check.name for check in report.checks if check.outcome is Outcome.CHANGED]
    assert changed == []
    assert [one.id for one in report.captures] == [capture]
    assert custody(client, made, capture) == ["viewed", "exported"]
    ready = client.get("/readyz").json()
    assert (ready["status"], ready["failed"]) == ("ready", [])
    assert [one["leads"] for one in ready["logs"]] == [True, True]
    assert b"fengni_" in client.get("/metrics").content
    listed = get(client, made, "/v1/captures").json()
    assert [one["id"] for one in listed["items"]] == [capture]


def test_a_repeat_gets_the_same_bytes_after_a_new_start(made: Made) -> None:
    """The receipt of a statement is the same for ever, whichever process answers."""
    signed = made.parties["county-a"].capture()
    with TestClient(create_app(made.settings)) as first:
        answered = announce(first, made, signed)
    with TestClient(create_app(made.settings)) as second:
        assert announce(second, made, signed).content == answered.content
    assert answered.status_code == 200


def test_a_worker_does_what_a_server_left(made: Made) -> None:
    """The server takes content and seals none; the worker seals it once and can be watched."""
    party, headers = made.parties["county-a"], bearer(made.tokens["county-a"])
    signed = party.capture()
    folder = made.settings.folder
    with ServerProcess(folder, inspect_workers=0) as server, httpx.Client(headers=headers) as http:
        server.start()
        place = f"{server.url}/v1/captures"
        http.post(place, json=wire(signed)).raise_for_status()
        http.put(f"{place}/{signed.id}/content", content=PHOTO).raise_for_status()
        time.sleep(1.5)
        [work] = http.get(f"{place}/{signed.id}").json()["work"]
        assert (work["kind"], work["state"]) == ("store", "waiting")
        assert http.get(f"{server.url}/readyz").json()["failed"] == ["workers"]
        server.stop()
        with ServerProcess(folder, run="work", inspect_workers=0) as worker:
            worker.start()
            end = time.monotonic() + 60
            counted = ""
            while 'fengni_work_total{kind="store",outcome="done"} 1.0' not in counted:
                assert time.monotonic() < end
                counted = http.get(f"{worker.url}/metrics").text
            assert 'fengni_nodes{kind="worker"} 1.0' in counted
            assert http.get(f"{worker.url}/v1/captures").status_code == 404
            worker.stop()
        server.start()
        kinds = [one["kind"] for one in http.get(f"{place}/{signed.id}/statements").json()["items"]]
    assert kinds == ["capture", "stored"]


def test_fsck_finds_a_changed_row(postgres: PostgresServer, name: str, made: Made) -> None:
    """Clean at first; whoever switches the triggers off is found by what he changed."""
    with TestClient(create_app(made.settings)) as client:
        seal(client, made)
    assert [one.findings for one in check_logs(made.settings)] == [(), ()]
    postgres.execute("ALTER TABLE records DISABLE TRIGGER USER", name)
    postgres.execute("UPDATE records SET kind = 'policy' WHERE idx = 2", name)
    found = {finding.code for one in check_logs(made.settings) for finding in one.findings}
    assert found == {"record_differs"}


def test_doctor_looks_at_the_server(postgres: PostgresServer, name: str, made: Made) -> None:
    """A server that may lose commits, a trigger that is off and a role that may too much."""

    def told() -> dict[str, Answer]:
        found = examine(made.settings, datetime.now(UTC))
        return {one.name: one.answer for one in found if one.name.startswith("database")}

    sound = {"database.integrity": Answer.PASS, "database.append_only": Answer.PASS}
    assert told() == sound | {"database.integrity": Answer.FAIL}  # tests run without fsync
    postgres.execute("ALTER SYSTEM SET fsync = on")
    postgres.execute("SELECT pg_reload_conf()")
    try:
        end = time.monotonic() + 10
        while told() != sound and time.monotonic() < end:
            time.sleep(0.1)
        assert told() == sound
        postgres.execute("GRANT ALL ON records TO fengni_service", name)
        assert told() == sound | {"database.grants": Answer.NOTE}
        postgres.execute("ALTER TABLE records DISABLE TRIGGER USER", name)
        assert told()["database.append_only"] is Answer.FAIL
    finally:
        postgres.execute("ALTER SYSTEM RESET fsync")
        postgres.execute("SELECT pg_reload_conf()")


def test_a_server_that_is_away_is_not_ready(
    postgres: PostgresServer, name: str, made: Made, client: Client
) -> None:
    """Requests are told to come again, readiness says why, and no address or row is told."""
    postgres.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
    postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", values=(name,)
    )
    answers = [  # each connection of the pool is found dead once
        announce(client, made, made.parties["county-a"].capture()) for _ in range(12)
    ]
    answer = answers[-1]
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "127.0.0.1" not in answer.text
    ready = client.get("/readyz")
    assert (ready.status_code, "database" in ready.json()["failed"]) == (503, True)
    postgres.execute(f"ALTER DATABASE {name} CONNECTION LIMIT -1")


def test_a_killed_server_starts_again(made: Made) -> None:
    """After kill -9 the next process waits for the leader that died, and gives the same receipt."""
    signed = made.parties["county-a"].capture()
    with ServerProcess(made.settings.folder, work="here") as server, httpx.Client() as http:

        def ask_again() -> bytes:
            url = f"{server.url}/v1/captures"
            token = made.tokens["county-a"]
            return http.post(url, json=wire(signed), headers=bearer(token)).content

        server.start()
        answered = ask_again()
        server.kill()
        server.start()
        assert ask_again() == answered
        server.stop()


def test_a_deployment_is_made_on_two_servers(
    postgres: PostgresServer,
    other_postgres: PostgresServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`fengni init`: tables of the owner, rows of the service, heads on another server; once."""
    monkeypatch.delenv("FENGNI_FOLDER", raising=False)
    name, heads = postgres.empty(), other_postgres.empty()
    options = {
        "--organ": "county-bureau",
        "--origin": "log.example/2026",
        "--database-url": postgres.url(name),
        "--owner-url": postgres.url(name, OWNER),
        "--heads-url": other_postgres.url(heads),
        "--heads-owner-url": other_postgres.url(heads, OWNER),
    }
    words = [word for pair in options.items() for word in pair]
    folder = tmp_path / "deployment"
    assert run(["init", str(folder), *words]) == 0
    assert run(["init", str(tmp_path / "second"), *words]) == 64
    assert not (tmp_path / "second").exists()
    owners = (
        "--owner-url",
        options["--owner-url"],
        "--heads-owner-url",
        options["--heads-owner-url"],
    )
    assert run(["migrate", str(folder), *owners]) == 0
    assert list((folder / "db").iterdir()) == []
    settings = read_settings({"FENGNI_FOLDER": str(folder), "FENGNI_DISK_RESERVE_BYTES": "0"})
    context = open_context(settings)
    stores = cast("Log", context.organs["county-bureau"].log)._stores
    assert isinstance(stores.heads, SharedHead)
    assert stores.heads.read().size == 1
    assert context.organs["county-bureau"].log.status().halted is None
    context.close()
    assert [one.findings for one in check_logs(settings)] == [()]
    for server, one in ((postgres, name), (other_postgres, heads)):
        server.drop(one)


def test_the_environment_names_the_database(
    postgres: PostgresServer, name: str, made: Made
) -> None:
    """A password need not stand in a file; the environment's word wins over the file's."""
    path = made.settings.folder / "deployment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"database_url": None}))
    at = {"FENGNI_FOLDER": str(made.settings.folder), "FENGNI_DISK_RESERVE_BYTES": "0"}
    with pytest.raises(Unavailable, match="does not exist"):
        open_context(read_settings(at))
    settings = read_settings(at | {"FENGNI_DATABASE_URL": postgres.url(name)})
    context = open_context(settings)
    assert context.organs["county-a"].log.latest().size == 2
    context.close()


@pytest.mark.parametrize(
    "url", ["postgresql://u:secret@h/d", "mysql://u:secret@h/d", "sqlite://", "secret"]
)
def test_other_databases_are_refused_by_name(made: Made, url: str) -> None:
    """Neither the environment nor the file may name a database that nobody tried; none is told."""
    at = {"FENGNI_FOLDER": str(made.settings.folder)}
    with pytest.raises(SettingsInvalid) as told:
        read_settings(at | {"FENGNI_DATABASE_URL": url})
    assert "secret" not in str(told.value)
    path = made.settings.folder / "deployment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"database_url": url}))
    with pytest.raises(SettingsInvalid):
        read_deployment(read_settings(at))


def test_an_older_file_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment on SQLite of an earlier version is refused until `fengni migrate` was given."""
    monkeypatch.delenv("FENGNI_FOLDER", raising=False)
    made = make_deployment(tmp_path / "deployment")
    step_back(made.settings.folder / "db" / "fengni.db", "0001")
    db = Database(Places(made.settings.folder).database_url)
    with pytest.raises(Unavailable, match="migrate"):
        db.require_schema()
    assert run(["migrate", str(made.settings.folder)]) == 0
    db.require_schema()
    db.close()
    assert [one.findings for one in check_logs(made.settings)] == [(), ()]


def step_back(path: Path, revision: str) -> None:
    """Make a database file one of an earlier revision, with the rows that it could hold."""
    newest = path.with_suffix(".newest")
    with closing(sqlite3.connect(path)) as file:
        file.execute("VACUUM INTO ?", (str(newest),))
    for one in path.parent.glob(f"{path.name}*"):
        one.unlink()
    migrate(f"sqlite:///{path}", revision=revision)
    with closing(sqlite3.connect(path)) as file:
        file.execute("ATTACH ? AS newest", (str(newest),))
        for (table,) in file.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'"):
            old, new = (
                [row[1] for row in file.execute(f"PRAGMA {where}.table_info({table})")]
                for where in ("main", "newest")
            )
            names = ", ".join(name for name in old if name in new)
            if names and table != "alembic_version":
                copied = f"SELECT {names} FROM newest.{table}"  # noqa: S608
                file.execute(f"INSERT INTO main.{table} ({names}) {copied}")
        file.commit()
