"""The workflow engine over the outbox: nothing is lost or done twice, on both databases."""

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select, text

from service.work.engine import QUEUE, enqueue, open_client
from service.work.nodes import DEAD_AFTER_S, HEARTBEAT_S, seen_nodes
from service.work.queue import State, add_pieces, hand_over
from service.work.sweeping import SWEEP_S
from storage.db.engine import Database
from storage.db.tables import outbox
from storage.db.workflows import SCHEMA, open_workflows
from tests.service.work_process import ATTEMPTS, KIND, WorkProcess, effects, make_engine
from tests.tools import ROOT

PATIENCE_S = 60
AT = datetime(2026, 11, 23, 9, tzinfo=UTC)


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """A fresh database."""
    database = Database(database_url)
    yield database
    database.close()


def leave_work(db: Database, *subjects: str) -> None:
    """As the log's transactions do."""
    with db.write() as connection:
        add_pieces(connection, log="a", organ="a", kind=KIND, subjects=subjects, at=AT)


def rows(db: Database, columns: str = "*") -> list[tuple[object, ...]]:
    """The engine's own rows."""
    schema = "" if db.path else f"{SCHEMA}."
    with db.read() as connection:
        query = text(f"SELECT {columns} FROM {schema}workflow_status")  # noqa: S608 - ours
        return [tuple(row) for row in connection.execute(query)]


def states(db: Database) -> dict[str, tuple[str, int]]:
    """State and attempts by subject."""
    with db.read() as connection:
        query = select(outbox.c.subject, outbox.c.state, outbox.c.attempts)
        return {row.subject: (row.state, row.attempts) for row in connection.execute(query)}


def wait_for(what: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_three_workers_share_the_work(db: Database, database_url: str, tmp_path: Path) -> None:
    """Each piece is done once, by whichever process has it."""
    subjects = [f"piece-{number:02}" for number in range(40)]
    with (
        WorkProcess(database_url, tmp_path) as one,
        WorkProcess(database_url, tmp_path) as two,
        WorkProcess(database_url, tmp_path) as three,
    ):
        wait_for(lambda: all("working" in each.said() for each in (one, two, three)))
        leave_work(db, *subjects)
        wait_for(lambda: len(effects(db)) >= len(subjects) and not states(db))
        with db.read() as connection:
            assert [seen.alive for seen in seen_nodes(connection)] == [True] * 3
    assert [subject for subject, _ in effects(db)] == subjects


def test_a_killed_worker_s_batch_is_finished_by_another(
    db: Database, database_url: str, tmp_path: Path
) -> None:
    """What it had done stays done; the rest is picked up within two heartbeats, and done once."""
    leave_work(db, "before", "slow", "after")
    with WorkProcess(database_url, tmp_path) as doomed:
        wait_for((tmp_path / "began-slow-1").exists)
        with WorkProcess(database_url, tmp_path) as other:
            wait_for(lambda: "working" in other.said())
            dead = str(doomed.process.pid)
            killed_at = time.time()
            doomed.kill()
            wait_for(lambda: not states(db))
            picked_up_s = (tmp_path / "began-slow-2").stat().st_mtime - killed_at
    print(f"picked up after {picked_up_s:.1f} s")  # noqa: T201  the promise, measured
    assert picked_up_s < 2 * HEARTBEAT_S
    done = effects(db)
    assert [subject for subject, _ in done] == ["after", "before", "slow"]
    assert [process for subject, process in done if subject == "before"] == [dead]
    assert DEAD_AFTER_S + SWEEP_S < 2 * HEARTBEAT_S


def test_a_batch_that_was_handed_over_outlives_whoever_did(
    db: Database, database_url: str, tmp_path: Path
) -> None:
    """Killed between the hand-over and the run: the next process that works does it."""
    leave_work(db, "one", "two")
    connections = open_workflows(database_url)
    client = open_client(connections)
    with db.write() as connection:
        assert hand_over(connection, KIND, "the batch", AT, 10, ATTEMPTS) == 2
        enqueue(client, connection, KIND, "the batch")
    assert {state for state, _ in states(db).values()} == {State.HANDED}
    with WorkProcess(database_url, tmp_path):
        wait_for(lambda: len(effects(db)) == 2 and not states(db))
    client.destroy()
    connections.dispose()


def test_what_is_rolled_back_leaves_neither_lease_nor_workflow(
    db: Database, database_url: str
) -> None:
    """A hand-over whose transaction fails has not happened."""
    leave_work(db, "one")
    connections = open_workflows(database_url)
    client = open_client(connections)
    with db.write() as connection:
        assert hand_over(connection, KIND, "the batch", AT, 10, ATTEMPTS) == 1
        enqueue(client, connection, KIND, "the batch")
        connection.rollback()
    assert states(db) == {"one": (State.WAITING, 0)}
    assert rows(db) == []
    client.destroy()
    connections.dispose()


def test_arguments_are_json_and_no_pickle(db: Database, database_url: str) -> None:
    """Whoever can write the database cannot have code run by it."""
    leave_work(db, "one")
    connections = open_workflows(database_url)
    client = open_client(connections)
    with db.write() as connection:
        hand_over(connection, KIND, "the batch", AT, 10, ATTEMPTS)
        enqueue(client, connection, KIND, "the batch")
    [(name, queue, serialization)] = rows(db, "name, queue_name, serialization")
    assert (name, queue) == ("batch", QUEUE)
    schema = "" if db.path else f"{SCHEMA}."
    with db.read() as connection:
        given = connection.execute(text(f"SELECT inputs FROM {schema}workflow_input"))  # noqa: S608
        [inputs] = given.scalars()
    assert serialization in {None, "portable_json"}
    assert json.loads(inputs) in (
        {"args": [KIND], "kwargs": {}},
        {"positionalArgs": [KIND], "namedArgs": {}},
    )
    client.destroy()
    connections.dispose()


def test_work_that_kills_its_process_ends_and_harms_no_other(
    db: Database, database_url: str, tmp_path: Path
) -> None:
    """It is counted when it begins, goes alone the next time, and is shown as failed."""
    leave_work(db, "good", "poison", "other")
    for _ in range(ATTEMPTS):
        with WorkProcess(database_url, tmp_path, alone=True) as doomed:
            wait_for(lambda: doomed.process.poll() is not None)
    with WorkProcess(database_url, tmp_path, alone=True):
        wait_for(lambda: states(db).get("poison") == (State.FAILED, ATTEMPTS))
        wait_for(lambda: len(states(db)) == 1)
    assert [subject for subject, _ in effects(db)] == ["good", "other"]


def test_one_that_fails_sinks_no_batch(db: Database, database_url: str, tmp_path: Path) -> None:
    """It waits longer each time and is failed in the end; the others are done at once."""
    leave_work(db, "fails", "good")
    with WorkProcess(database_url, tmp_path):
        wait_for(lambda: [subject for subject, _ in effects(db)] == ["good"])
        wait_for(lambda: states(db).get("fails") == (State.FAILED, ATTEMPTS))


def test_a_worker_that_is_stopped_finishes_its_batch(
    db: Database, database_url: str, tmp_path: Path
) -> None:
    """SIGTERM: what runs is done, nothing new is begun, and its row goes."""
    leave_work(db, "slow")
    with WorkProcess(database_url, tmp_path) as worker:
        wait_for((tmp_path / "began-slow-1").exists)
        worker.process.terminate()
        time.sleep(0.5)
        assert worker.process.poll() is None
        (tmp_path / "let-go").touch()
        worker.process.wait(60)
        assert "drained" in worker.said()
    assert [subject for subject, _ in effects(db)] == ["slow"]
    with db.read() as connection:
        assert seen_nodes(connection) == []


def test_workflows_that_ended_are_purged(db: Database, database_url: str, tmp_path: Path) -> None:
    """After the time that the settings say, and not before."""
    leave_work(db, "one")
    with WorkProcess(database_url, tmp_path):
        wait_for(lambda: [status for (status,) in rows(db, "status")] == ["SUCCESS"])
    with WorkProcess(database_url, tmp_path, kept_s=3600) as worker:
        wait_for(lambda: "working" in worker.said())
        time.sleep(2 * SWEEP_S)
        assert len(rows(db)) == 1
    with WorkProcess(database_url, tmp_path, kept_s=0):
        wait_for(lambda: rows(db) == [])


def test_a_process_has_one_engine(db: Database, database_url: str, tmp_path: Path) -> None:
    """A second one would be the first one's, silently."""
    engine = make_engine(database_url, db, tmp_path, 60, alone=False)
    other = make_engine(database_url, db, tmp_path, 60, alone=False)
    engine.start()
    try:
        with pytest.raises(RuntimeError, match="already"):
            other.start()
    finally:
        engine.close()


def test_nothing_of_dbos_that_is_not_free_is_installed() -> None:
    """Neither a lock file nor the project's own demands name the enterprise package or extra."""
    for name in ("requirements.lock", "deploy/requirements-server.lock", "pyproject.toml"):
        said = (ROOT / name).read_text()
        assert "dbos" in said
        assert not re.search(r"dbos[-_]enterprise|dbos\[", said)
