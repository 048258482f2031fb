"""`fengni db rebuild`: the database is gone, and log and store give another one."""

import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient
from sqlalchemy import text

from service.access.tokens import issue_token
from service.app import create_app
from service.cli import NO, OK, USAGE, run
from service.context import system_clock
from service.law.permissions import Scope
from service.settings import Settings
from service.truth.rebuild import rebuild_database
from storage.db.engine import Database
from storage.errors import IntegrityAlarm, LogRolledBack
from tests.postgres import OWNER, PostgresServer
from tests.service.attested_maker import Attested
from tests.service.deployment_maker import bearer, make_deployment, wire
from tests.service.kept_deployment import LOG, Kept
from tests.service.test_captures import announce
from tests.service.truth_maker import differences

pytestmark = pytest.mark.slow
Client = TestClient[Any]


EVIDENCE = ("records", "texts", "public_keys", "checkpoints")


def dump(url: str, *tables: str) -> dict[str, list[tuple[object, ...]]]:
    """Every row of these tables, the same on both sorts of database."""
    db = Database(url)
    try:
        with db.read() as connection:
            return {
                table: sorted(
                    (
                        tuple(bytes(v) if isinstance(v, memoryview) else v for v in row)
                        for row in connection.execute(text(f"SELECT * FROM {table}"))  # noqa: S608
                    ),
                    key=repr,
                )
                for table in tables
            }
    finally:
        db.close()


def lose(kept: Kept) -> Path:
    """Put the database elsewhere, out of the deployment's sight."""
    gone = kept.settings.folder.parent / "gone"
    shutil.move(kept.database.parent, gone)
    kept.database.parent.mkdir()
    return gone / "fengni.db"


def token_for(settings: Settings) -> str:
    """A new token, as an operator issues it after a rebuild."""
    db = Database(settings.database_url or f"sqlite:///{settings.folder}/db/fengni.db")
    with db.write() as connection:
        issued = issue_token(
            connection,
            organ="county-a",
            holder="officer-new",
            scopes=Scope,
            lifetime_s=600,
            at=system_clock(),
        )
    db.close()
    return issued.secret


def test_the_new_database_is_the_old_one(kept: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    """Every evidence row of the log byte for byte; then nothing differs, and the server starts."""
    old = lose(kept)
    before = dump(f"sqlite:///{old}", *EVIDENCE, "logs")
    assert run(["db", "rebuild", str(kept.settings.folder)]) == OK
    assert "fengni token issue" in capsys.readouterr().out
    after = dump(f"sqlite:///{kept.database}", *EVIDENCE, "logs")
    assert after == before
    assert differences(kept.settings) == []
    assert kept.fsck() == []
    with TestClient(create_app(kept.settings)) as client:
        headers = bearer(token_for(kept.settings))
        answer = client.get(f"/v1/captures/{kept.captures[0]}/content", headers=headers)
        assert (answer.status_code, answer.content) == (200, b"one")
        assert client.get("/readyz").json()["failed"] == []


def test_a_repeated_announcement_gets_its_receipt(tmp_path: Path) -> None:
    """The same bytes as before the database was lost."""
    made = make_deployment(tmp_path / "deployment")
    signed = [made.parties["county-a"].capture(bytes([n])) for n in range(5)]
    with TestClient(create_app(made.settings)) as client:
        answers = [announce(client, made, one).content for one in signed]
    shutil.rmtree(made.settings.folder / "db")
    (made.settings.folder / "db").mkdir()
    rebuild_database(made.settings, system_clock())
    headers = bearer(token_for(made.settings))
    with TestClient(create_app(made.settings)) as client:
        again = [client.post("/v1/captures", json=wire(one), headers=headers) for one in signed]
    assert [one.content for one in again] == answers


def test_a_database_that_is_there_is_left_alone(kept: Kept) -> None:
    """Neither the deployment's own nor another one that holds anything."""
    before = kept.database.read_bytes()
    assert run(["db", "rebuild", str(kept.settings.folder)]) == USAGE
    assert kept.database.read_bytes() == before


def test_what_only_the_old_one_had_is_salvaged(kept: Kept) -> None:
    """Cosignatures and tokens that hold are taken over; one that does not is left."""
    kept.edit("UPDATE timestamps SET gen_time = gen_time + 1 WHERE rowid = 1")
    old = lose(kept)
    alone = ("cosignatures", "timestamps")
    before = dump(f"sqlite:///{old}", *alone)
    made = rebuild_database(kept.settings, system_clock(), salvage=f"sqlite:///{old}")
    after = dump(f"sqlite:///{kept.database}", *alone)
    assert after["cosignatures"] == before["cosignatures"]
    assert len(after["timestamps"]) == len(before["timestamps"]) - 1
    assert sum(one.timestamps for one in made) == len(after["timestamps"])
    assert differences(kept.settings) == []


def test_without_the_old_one_they_are_asked_again(kept: Kept, attested: Attested) -> None:
    """Witness and authority answer for the newest checkpoint; older ones stay without."""
    del attested
    lose(kept)
    rebuild_database(kept.settings, system_clock())
    with TestClient(create_app(kept.settings)):
        kept_until(kept, "SELECT 1 FROM cosignatures WHERE log = ?")
        kept_until(kept, "SELECT 1 FROM timestamps WHERE subject_kind = 'signature' AND log = ?")
    assert differences(kept.settings) == []


def kept_until(kept: Kept, sql: str) -> None:
    """Wait for a row."""
    deadline = time.monotonic() + 60
    while not kept.rows(sql, LOG):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_unpublished_second_is_told_as_lost(
    kept: Kept, attested: Attested, tmp_path: Path
) -> None:
    """The head knows of answers that are nowhere: told, and refused; the old database has them."""
    tiles, before = kept.settings.folder / "tiles", tmp_path / "tiles-before"
    shutil.copytree(tiles, before)
    with TestClient(create_app(kept.settings)) as client:
        for content in (b"five", b"six"):
            signed = attested.made.parties["county-a"].capture(content)
            assert announce(client, attested.made, signed).status_code == 200
    shutil.rmtree(tiles)
    shutil.move(before, tiles)
    old = lose(kept)
    assert run(["db", "rebuild", str(kept.settings.folder)]) == NO
    with pytest.raises(LogRolledBack), TestClient(create_app(kept.settings)):
        pass
    shutil.rmtree(kept.database.parent)
    kept.database.parent.mkdir()
    words = ["db", "rebuild", str(kept.settings.folder), "--salvage", f"sqlite:///{old}"]
    assert run(words) == OK
    assert dump(f"sqlite:///{kept.database}", *EVIDENCE) == dump(f"sqlite:///{old}", *EVIDENCE)
    assert differences(kept.settings) == []
    [size] = kept.rows("SELECT max(idx) FROM records WHERE log = ?", LOG)
    kept.edit("UPDATE records SET kind = 'policy' WHERE log = ? AND idx = ?", LOG, size[0])
    assert "kind" in {one.column for one in differences(kept.settings)}


def test_a_lost_text_is_refused_and_salvaged(kept: Kept) -> None:
    """Nothing is left out in silence; the old database has it."""
    for path in (kept.places.tiles(LOG) / "texts").rglob("*"):
        if path.is_file():
            path.unlink()
    old = lose(kept)
    with pytest.raises(IntegrityAlarm, match="nowhere whole"):
        rebuild_database(kept.settings, system_clock())
    rebuild_database(kept.settings, system_clock(), salvage=f"sqlite:///{old}")
    after = dump(f"sqlite:///{kept.database}", *EVIDENCE)
    assert after == dump(f"sqlite:///{old}", *EVIDENCE)


def test_from_a_file_to_a_server_and_back(
    postgres: PostgresServer, kept: Kept, tmp_path: Path
) -> None:
    """The rows are the same on both; the service's role can work with them."""
    before = dump(f"sqlite:///{kept.database}", *EVIDENCE, "logs")
    name = postgres.empty()
    url = postgres.url(name)
    rebuild_database(kept.settings, system_clock(), url=url, owner_url=postgres.url(name, OWNER))
    assert dump(url, *EVIDENCE, "logs") == before
    on_server = msgspec.structs.replace(kept.settings, database_url=url)
    assert differences(on_server) == []
    with TestClient(create_app(on_server)) as client:
        headers = bearer(token_for(on_server))
        listed = client.get("/v1/captures", headers=headers).json()
        assert {one["id"] for one in listed["items"]} == set(kept.captures)
    back = f"sqlite:///{tmp_path / 'back.db'}"
    rebuild_database(on_server, system_clock(), url=back)
    assert differences(on_server, back) == []
    postgres.drop(name)
