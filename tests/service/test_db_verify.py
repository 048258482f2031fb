"""`fengni db verify` names what somebody changed in the database, and believes who proves it."""

import threading
from pathlib import Path

import pytest
from litestar.testing import TestClient

from service.app import create_app
from service.cli import NO, OK, USAGE, run
from service.tamper import Target, tamper
from tests.postgres import PostgresServer
from tests.service.deployment_maker import Made, make_deployment
from tests.service.kept_deployment import LOG, Kept
from tests.service.test_captures import announce, seal
from tests.service.truth_maker import differences, told

pytestmark = pytest.mark.slow


def test_a_sound_database_agrees(original: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing differs, and what only the database has is counted."""
    assert differences(original.settings) == []
    assert run(["db", "verify", str(original.settings.folder)]) == OK
    said = capsys.readouterr().out
    assert "Only the database has" in said
    assert "tokens" in said


EDITS = {
    # SQL behind the triggers' back, and what is told of it.
    "UPDATE records SET kind = 'policy' WHERE log = ?1 AND idx = 2": "records kind differs log",
    "UPDATE records SET organ = 'county-b' WHERE log = ?1 AND idx = 2": "records organ differs log",
    "UPDATE records SET received_at = received_at + 1 WHERE log = ?1 AND idx = 2": (
        "records received_at differs log"
    ),
    "UPDATE records SET committed_size = 4 WHERE log = ?1 AND idx = 2": (
        "records committed_size differs log"
    ),
    "UPDATE records SET signature = x'00' WHERE log = ?1 AND idx = 2": (
        "records signature differs log"
    ),
    "UPDATE records SET leaf_hash = zeroblob(32) WHERE log = ?1 AND idx = 2": (
        "records leaf_hash differs log"
    ),
    "UPDATE records SET subject = key_id WHERE log = ?1 AND idx = 2": "records subject differs log",
    "DELETE FROM records WHERE log = ?1 AND idx = 2": "records * missing log",
    "UPDATE records SET idx = 9000 WHERE log = ?1 AND idx = 2": "records * extra log",
    "UPDATE texts SET statement = x'7b7d' WHERE log = ?1 AND idx = 2": (
        "texts statement differs log"
    ),
    "DELETE FROM texts WHERE log = ?1 AND idx = 2": "texts * missing log",
    "INSERT INTO texts VALUES (?1, 'county-a', -1, x'7b7d')": "texts * extra log",
    "UPDATE public_keys SET spki = x'00' WHERE log = ?1": "public_keys spki differs log",
    "UPDATE public_keys SET organ = 'county-b' WHERE log = ?1": "public_keys organ differs log",
    "DELETE FROM public_keys WHERE log = ?1": "public_keys * missing log",
    "INSERT INTO public_keys VALUES (?1, 'county-a', 'ab', x'00')": "public_keys * extra log",
    "UPDATE checkpoints SET note = x'00' WHERE log = ?1 AND size = 3": (
        "checkpoints note differs log"
    ),
    "UPDATE checkpoints SET committed_at = committed_at + 1 WHERE log = ?1 AND size = 3": (
        "checkpoints committed_at differs log"
    ),
    "DELETE FROM checkpoints WHERE log = ?1 AND size = 3": "checkpoints * missing log",
    "INSERT INTO checkpoints SELECT log, organ, 1, root, note, committed_at FROM checkpoints"
    " WHERE log = ?1 AND size = 3": "checkpoints * extra log",
    "UPDATE cosignatures SET at_s = at_s + 1 WHERE log = ?1": "cosignatures * differs neither",
    "INSERT INTO cosignatures SELECT log, organ, 77, witness, witness_key, line, at_s, received_at"
    " FROM cosignatures WHERE log = ?1 LIMIT 1": "cosignatures * extra log",
    "UPDATE timestamps SET gen_time = gen_time + 1 WHERE log = ?1": "timestamps * differs neither",
    "INSERT INTO timestamps SELECT log, organ, subject_kind, 0, tsa, response, gen_time,"
    " received_at FROM timestamps WHERE log = ?1 LIMIT 1": "timestamps * differs neither",
    "UPDATE uploads SET state = 'announced' WHERE log = ?1 AND state = 'stored'": (
        "uploads state differs log"
    ),
    "UPDATE uploads SET size_bytes = 1 WHERE log = ?1": "uploads size_bytes differs log",
    "DELETE FROM uploads WHERE log = ?1": "uploads * missing log",
    "DELETE FROM outbox WHERE log = ?1": "outbox * missing log",
    "UPDATE logs SET created_at = 1 WHERE id = ?1": "logs created_at differs log",
    "UPDATE logs SET id = 'another' WHERE id = ?1": "logs * extra log",
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("sql", EDITS)
def test_a_changed_row_is_named(kept: Kept, sql: str) -> None:
    """By table, column and kind, with the side that is believed."""
    assert kept.edit(sql, LOG) >= 1
    assert EDITS[sql] in told(differences(kept.settings))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (Target.TILE, "files * damaged database"),
        (Target.TEXT, "files * damaged database"),
        (Target.STATEMENT, "texts statement differs log"),
        (Target.ROW, "records signature differs log"),
        (Target.CHECKPOINT, "checkpoints note differs log"),
        (Target.COSIGNATURE, "cosignatures * differs neither"),
        (Target.TOKEN, "timestamps * differs neither"),
    ],
)
def test_what_tamper_does_is_named(kept: Kept, target: Target, said: str) -> None:
    """A damaged file of the log is told as that, and the row that proves itself is believed."""
    tamper(kept.settings, target, kept.captures[0])
    found = differences(kept.settings)
    assert said in told(found)
    assert run(["db", "verify", str(kept.settings.folder)]) == NO


def test_a_lost_bundle_is_told_and_the_database_believed(kept: Kept) -> None:
    """Entries, texts and checkpoints each; the tiles still prove the rows."""
    root = kept.places.tiles(LOG)
    for folder in ("tile/entries", "texts", "checkpoints"):
        for path in (root / folder).rglob("*"):
            if path.is_file():
                path.unlink()
    found = differences(kept.settings)
    assert told(found) == {"files * damaged database"}
    assert {one.why.split(":")[0] for one in found} == {
        "entry_damaged",
        "text_missing",
        "checkpoint_missing",
    }


def test_a_database_that_was_put_back_is_named(kept: Kept) -> None:
    """The log's files, the head and the witness each know more."""
    kept.edit("DELETE FROM checkpoints WHERE log = ? AND size > 3", LOG)
    kept.edit("DELETE FROM records WHERE log = ? AND idx >= 3", LOG)
    kept.edit("DELETE FROM texts WHERE log = ? AND idx >= 3", LOG)
    found = differences(kept.settings)
    by = {one.believed for one in found if one.why.startswith("rolled_back")}
    assert by == {"log", "head", "witness"}
    assert "records * missing log" in told(found)


def test_a_running_server_is_no_difference(made: Made) -> None:
    """Beside a server that logs, stores and publishes: the unpublished second is tolerated."""
    with TestClient(create_app(made.settings)) as client:
        seal(client, made, b"zero")
        stop = threading.Event()

        def work() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                announce(client, made, made.parties["county-a"].capture(number.to_bytes(4)))

        thread = threading.Thread(target=work)
        thread.start()
        try:
            for _ in range(6):
                assert differences(made.settings) == []
        finally:
            stop.set()
            thread.join()


def test_a_changed_row_on_a_server_is_named(postgres: PostgresServer, tmp_path: Path) -> None:
    """The same on PostgreSQL: edited, deleted, added, and never mended by it."""
    with postgres.database() as name:
        made = make_deployment(tmp_path / "deployment", database_url=postgres.url(name))
        with TestClient(create_app(made.settings)) as client:
            seal(client, made)
        assert differences(made.settings) == []
        for table in ("records", "texts", "checkpoints", "public_keys"):
            postgres.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER", name)
        for order in (
            "UPDATE records SET received_at = received_at + 1 WHERE log = %s AND idx = 2",
            "DELETE FROM texts WHERE log = %s AND idx = 1",
            "UPDATE checkpoints SET note = note || 'x' WHERE log = %s AND size = 3",
            "INSERT INTO public_keys VALUES (%s, 'county-a', 'ab', 'x')",
            "UPDATE uploads SET state = 'announced' WHERE log = %s",
        ):
            postgres.execute(order, name, (LOG,))
        assert told(differences(made.settings)) == {
            "records received_at differs log",
            "texts * missing log",
            "checkpoints note differs log",
            "public_keys * extra log",
            "uploads state differs log",
        }


def test_only_one_organ_is_looked_at_where_it_is_named(kept: Kept) -> None:
    """The other organ's rows are left alone, and an unknown one is refused."""
    kept.edit("UPDATE records SET kind = 'policy' WHERE log = ? AND idx = 1", LOG)
    folder = str(kept.settings.folder)
    assert run(["db", "verify", folder, "--organ", "county-b"]) == OK
    assert run(["db", "verify", folder, "--organ", "county-a", "--json"]) == NO
    assert run(["db", "verify", folder, "--organ", "nobody"]) == USAGE
