"""What a killed process leaves half done is finished or kept aside by the next one."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import select, update

from service.law.refusals import LeaseLost
from service.settings import Places
from service.work.queue import (
    Piece,
    State,
    Terms,
    add_pieces,
    finish_piece,
    lease_pieces,
    pieces_of,
    retry_piece,
)
from storage.db.engine import Database
from storage.db.tables import outbox
from storage.staging.folder import StagingFolder
from tests.service.deployment_maker import PHOTO, Made
from tests.service.test_captures import announce, custody, get, send, wait_until_stored

Client = TestClient[Any]
AT = datetime(2026, 11, 23, 9, tzinfo=UTC)
TERMS = Terms(lease_s=60, attempts=3)


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


def test_an_expired_lease_is_work_for_the_next(made: Made, reopen: Callable[[], Client]) -> None:
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
            .values(
                state=State.LEASED.value, lease_owner="dead", lease_until=AT, attempts=1, due_at=AT
            )
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


def lease(db: Database, at: datetime, owner: str = "one") -> list[Piece]:
    """Lease up to ten pieces."""
    with db.write() as connection:
        return lease_pieces(connection, "store", owner, at, 10, TERMS)


def test_pieces_are_leased_once(db: Database) -> None:
    """Until the lease runs out; then alone, each by itself."""
    assert [piece.subject for piece in lease(db, AT)] == ["x", "y", "z"]
    assert lease(db, AT + timedelta(seconds=59), "two") == []
    assert len(lease(db, AT + timedelta(seconds=60), "two")) == 1


def test_work_of_a_log_that_waits_is_left_alone(db: Database) -> None:
    """It is neither taken nor counted as an attempt, however often somebody looks."""
    for logs in ((), ("b",)):
        with db.write() as connection:
            assert lease_pieces(connection, "store", "one", AT, 10, TERMS, logs=logs) == []
    with db.write() as connection:
        pieces = lease_pieces(connection, "store", "one", AT, 10, TERMS, logs=("a", "b"))
    assert [piece.attempts for piece in pieces] == [1, 1, 1]


def test_a_lost_lease_finishes_nothing(db: Database) -> None:
    """The first worker comes too late."""
    first = lease(db, AT)[0]
    lease(db, AT + timedelta(seconds=61), "two")
    with db.write() as connection, pytest.raises(LeaseLost):
        finish_piece(connection, first)


def test_failures_wait_longer_and_end(db: Database) -> None:
    """Three attempts, then failed; the good pieces beside it are finished."""
    at, states = AT, []
    for attempt in (1, 2, 3):
        pieces = lease(db, at)
        with db.write() as connection:
            for piece in pieces:
                if piece.subject == "x":
                    states.append(retry_piece(connection, piece, "unavailable", at, TERMS))
                else:
                    finish_piece(connection, piece)
        assert lease(db, at) == []
        at += timedelta(seconds=2**attempt)
    assert states == [State.WAITING, State.WAITING, State.FAILED]
    with db.read() as connection:
        assert pieces_of(connection, "a", "x") == {"store": (State.FAILED, "unavailable")}
        assert connection.execute(select(outbox.c.subject)).scalars().all() == ["x"]


def test_work_that_kills_its_process_ends_too(db: Database) -> None:
    """Attempts are counted when they begin: nobody has to survive to count them."""
    at = AT
    for _ in range(9):
        lease(db, at)
        at += timedelta(seconds=61)
    with db.read() as connection:
        states = {state for _, (state, _) in [*pieces_of(connection, "a", "x").items()]}
    assert states == {State.FAILED}
