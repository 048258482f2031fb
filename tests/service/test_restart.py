"""What a killed process leaves half done is finished or kept aside by the next one."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import select, update

from service.deployment_file import Places
from service.law.refusals import LeaseLost
from service.work.counts import pieces_of
from service.work.queue import (
    Piece,
    State,
    add_pieces,
    finish_piece,
    hand_over,
    retry_piece,
    take,
    take_back,
)
from storage.db.engine import Database
from storage.db.tables import outbox
from storage.staging.folder import StagingFolder
from tests.service.deployment_maker import PHOTO, Made
from tests.service.test_captures import announce, custody, get, send, wait_until_stored

Client = TestClient[Any]
AT = datetime(2026, 11, 23, 9, tzinfo=UTC)
ATTEMPTS = 3


def test_a_finished_upload_without_its_row_is_adopted(
    made: Made, reopen: Callable[[], Client]
) -> None:
    """Killed between the file's name and the row: the next start takes it up and says so."""
    signed = made.parties["county-a"].capture()
    announce(reopen(), made, signed)
    reopen_folder = StagingFolder(Places(made.settings.folder).staging, reserve_bytes=0)
    with reopen_folder.begin(signed.id, len(PHOTO)) as writer:
        writer.write(PHOTO)
        writer.finish()
    client = reopen()
    wait_until_stored(client, made, signed.id)
    assert custody(client, made, signed.id) == ["recovered"]


def test_wrong_leftovers_are_quarantined(made: Made, reopen: Callable[[], Client]) -> None:
    """Bytes that were never compared are compared now; strangers are kept aside too."""
    signed = made.parties["county-a"].capture()
    announce(reopen(), made, signed)
    staging = StagingFolder(Places(made.settings.folder).staging, reserve_bytes=0)
    for key, data in ((signed.id, b"other bytes of any length"), ("00" * 32, b"nobody's")):
        with staging.begin(key, len(data)) as writer:
            writer.write(data)
            writer.finish()
    client = reopen()
    assert custody(client, made, signed.id) == ["quarantined"]
    assert sorted(kept.reason for kept in staging.quarantined()) == [
        "content_truncated",
        "unknown_capture",
    ]
    reopen()
    assert custody(reopen(), made, signed.id) == ["quarantined"]


def test_a_dead_worker_s_lease_is_work_for_the_next(
    made: Made, reopen: Callable[[], Client]
) -> None:
    """A worker that died with the lease in its hand delays the content and loses nothing."""
    client = reopen()
    signed = made.parties["county-a"].capture()
    announce(client, made, signed)
    reopen()  # the worker of the run before is gone
    db = Database(Places(made.settings.folder).database_url)
    with db.write() as connection:
        connection.execute(
            update(outbox)
            .where(outbox.c.subject == signed.id)
            .values(state=State.LEASED.value, lease_owner="dead", attempts=1, due_at=AT)
        )
    db.close()
    client = reopen()
    send(client, made, signed.id)
    wait_until_stored(client, made, signed.id)
    kinds = [
        one["kind"]
        for one in get(client, made, f"/v1/captures/{signed.id}/statements").json()["items"]
    ]
    assert kinds == ["capture", "stored"]


def test_content_that_cannot_be_stored_waits_where_people_see_it(
    made: Made, reopen: Callable[[], Client]
) -> None:
    """Other bytes lie under its name: the capture says so, and the right ones stay in staging."""
    signed = made.parties["county-a"].capture()
    client = reopen()
    announce(client, made, signed)
    name = hashlib.sha256(PHOTO).hexdigest()
    planted = made.settings.folder / "objects" / "sha256" / name[:2] / name[2:4] / name
    planted.parent.mkdir(exist_ok=True)
    planted.write_bytes(b"planted")
    planted.chmod(0o400)
    send(client, made, signed.id)
    problem = None
    while problem is None:
        work = get(client, made, f"/v1/captures/{signed.id}").json()["work"]
        [problem] = [one["problem"] for one in work if one["kind"] == "store"]
    kept = made.settings.folder / "staging" / "waiting"
    assert problem == "integrity_alarm"
    assert [path.read_bytes() for path in kept.iterdir()] == [PHOTO]


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """A fresh database with three pieces of work."""
    database = Database(database_url)
    with database.write() as connection:
        add_pieces(connection, log="a", organ="a", kind="store", subjects=["x", "y", "z"], at=AT)
    yield database
    database.close()


def lease(db: Database, at: datetime, batch: str = "one") -> list[Piece]:
    """Hand up to ten pieces to a workflow, and begin it."""
    with db.write() as connection:
        hand_over(connection, "store", batch, at, 10, ATTEMPTS)
    with db.write() as connection:
        return take(connection, batch, at)


def test_pieces_are_handed_over_once(db: Database) -> None:
    """Whoever has them, has them; a later run of the same workflow begins none of them again."""
    assert [piece.subject for piece in lease(db, AT)] == ["x", "y", "z"]
    assert lease(db, AT, "two") == []
    with db.write() as connection:
        assert take(connection, "one", AT) == []  # the first run is dead
    assert len(lease(db, AT, "two")) == 1  # tried before: alone, each by itself


def test_work_of_a_log_that_waits_is_left_alone(db: Database) -> None:
    """It is neither taken nor counted as an attempt, however often somebody looks."""
    for logs in ((), ("b",)):
        with db.write() as connection:
            assert hand_over(connection, "store", "one", AT, 10, ATTEMPTS, logs=logs) == 0
    with db.write() as connection:
        assert hand_over(connection, "store", "one", AT, 10, ATTEMPTS, logs=("a", "b")) == 3
    with db.write() as connection:  # where it runs, the log waits
        assert take(connection, "one", AT, logs=("b",)) == []
    pieces = lease(db, AT + timedelta(seconds=1), "two")
    assert [piece.attempts for piece in pieces] == [1, 1, 1]


def test_a_lost_lease_finishes_nothing(db: Database) -> None:
    """A worker that was taken for dead comes too late."""
    first = lease(db, AT)[0]
    with db.write() as connection:
        assert take_back(connection, ["one"], AT) == 3
    lease(db, AT, "two")
    with db.write() as connection, pytest.raises(LeaseLost):
        finish_piece(connection, first)


def test_failures_wait_longer_and_end(db: Database) -> None:
    """Three attempts, then failed; the good pieces beside it are finished."""
    at, states = AT, []
    for attempt in (1, 2, 3):
        pieces = lease(db, at, f"batch {attempt}")
        with db.write() as connection:
            for piece in pieces:
                if piece.subject == "x":
                    states.append(retry_piece(connection, piece, "unavailable", at, ATTEMPTS))
                else:
                    finish_piece(connection, piece)
        assert lease(db, at, f"early {attempt}") == []
        at += timedelta(seconds=2**attempt)
    assert states == [State.WAITING, State.WAITING, State.FAILED]
    with db.read() as connection:
        assert pieces_of(connection, "a", "x") == {"store": (State.FAILED, "unavailable")}
        assert connection.execute(select(outbox.c.subject)).scalars().all() == ["x"]


def test_work_that_kills_its_process_ends_too(db: Database) -> None:
    """Attempts are counted when they begin: nobody has to survive to count them."""
    for number in range(9):
        lease(db, AT, f"batch {number}")
        with db.write() as connection:
            take_back(connection, [f"batch {number}"], AT)
    lease(db, AT, "last")
    with db.read() as connection:
        states = {state for _, (state, _) in [*pieces_of(connection, "a", "x").items()]}
    assert states == {State.FAILED}
