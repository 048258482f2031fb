"""Disposal and the tools that compare: what is gone by authority is missed by none of them."""

import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from service.context import open_context
from service.deployment_file import Places
from service.doctor import examine
from service.retention.disposing import Disposing
from service.scrub import Bounds, Scrubbed, scrub_once
from service.settings import Settings
from service.truth.rebuild import rebuild_database
from service.work.queue import Piece
from service.work.worker import Failures
from storage.db.engine import Database
from storage.db.tables import outbox, uploads
from storage.errors import Unavailable
from storage.objects.local import LocalObjects
from tests.service.deployment_maker import PHOTO, Made
from tests.service.retention_maker import (
    Client,
    Clock,
    approve,
    bytes_below,
    clocked,
    dispose,
    give_tokens,
    make,
    request,
    sealed_capture,
    serve,
    wait_for,
)
from tests.service.test_inspection import picture
from tests.service.test_s3_service import stated
from tests.service.truth_maker import differences

ALL = Bounds(size_bytes=2**40)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """A clock that goes by what the test wants."""
    with clocked(monkeypatch) as set_clock:
        yield set_clock


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A deployment with a second store that holds whatever the first one holds."""
    return make(tmp_path / "deployment", inspect_workers=1)


def rows(settings: Settings) -> dict[str, str]:
    """How far each content has come, as the work tables say."""
    db = Database(Places(settings.folder).database_url)
    try:
        with db.read() as connection:
            return {row.id: row.state for row in connection.execute(uploads.select())}
    finally:
        db.close()


def work(settings: Settings) -> set[tuple[str, str]]:
    """What is left to do."""
    db = Database(Places(settings.folder).database_url)
    try:
        with db.read() as connection:
            return {(row.kind, row.subject) for row in connection.execute(outbox.select())}
    finally:
        db.close()


def scrubbed(settings: Settings) -> Scrubbed:
    """One run of everything; what it found for county-a."""
    context = open_context(settings)
    try:
        return scrub_once(context, ALL)[0]
    finally:
        context.close()


def rebuild(settings: Settings) -> None:
    """Lose the database and make another one of log and store."""
    db = settings.folder / "db"
    shutil.rmtree(db)
    db.mkdir()
    rebuild_database(settings, datetime.now(UTC))


def used(client: Client, made: Made, clock: Clock) -> tuple[str, str, str]:
    """One sealed capture and one that is not are disposed of, one sealed capture is kept."""
    gone = sealed_capture(client, made, picture())
    plain = sealed_capture(client, made, PHOTO + b" in the open", mode="import")
    kept = sealed_capture(client, made, PHOTO)
    while len(stated(made, "inspected")) < 3:
        wait_for(client, made, kept, "stored")
    clock.ahead = timedelta(days=31)
    dispose(client, made, gone)
    dispose(client, made, plain)
    return gone, plain, kept


def test_what_was_disposed_of_is_no_difference(made: Made, clock: Clock) -> None:
    """Neither to `db verify`, the doctor and a scrub, nor to a database made anew of the log."""
    with serve(made) as client:
        gone, plain, kept = used(client, made, clock)
    states = {gone: "disposed", plain: "disposed", kept: "stored"}
    for _ in range(2):
        assert rows(made.settings) == states
        assert {one for one in work(made.settings) if one[1] in states} == set()
        assert differences(made.settings) == []
        told = examine(made.settings, clock())
        names = ("obj", "capt", "work", "log")
        wrong = [one for one in told if one.answer == "fail" and one.name.startswith(names)]
        assert wrong == []
        found = scrubbed(made.settings)
        assert set(found.outcomes) == {"ok", "disposed"}
        rebuild(made.settings)


def unavailable(_: Disposing, pieces: Sequence[Piece]) -> Failures:
    """As when the object store does not answer."""
    return {piece: Unavailable("not now") for piece in pieces}


def test_an_approved_disposal_outlives_the_database(
    made: Made, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its work is left again by the rebuild, and done."""
    with serve(made) as client:
        capture = sealed_capture(client, made, PHOTO)
        clock.ahead = timedelta(days=31)
        asked = request(client, made, "clerk", capture).json()["request"]
        assert approve(client, made, "head", capture, asked).status_code == 200
    rebuild(made.settings)
    give_tokens(made)
    assert ("dispose", capture) not in work(made.settings)
    with monkeypatch.context() as patch:
        patch.setattr(Disposing, "dispose", unavailable)
        with serve(made) as client:
            assert approve(client, made, "jurist", capture, asked).status_code == 200
    rebuild(made.settings)
    give_tokens(made)
    assert ("dispose", capture) in work(made.settings)
    assert differences(made.settings) == []
    with serve(made) as client:
        wait_for(client, made, capture, "disposed")


def test_a_mend_does_not_bring_back_what_was_disposed_of(made: Made, clock: Clock) -> None:
    """The second store is reached too, and so is what was damaged and set aside."""
    second = made.settings.folder.parent / "second"
    with serve(made) as client:
        capture = sealed_capture(client, made, PHOTO, mode="import")
    objects = Places(made.settings.folder).objects
    shutil.copytree(objects, second)
    settings = msgspec.structs.replace(made.settings, second_folder=second)
    [name] = LocalObjects(objects).names()
    path = objects / "sha256" / name[:2] / name[2:4] / name
    path.chmod(0o600)
    path.write_bytes(PHOTO[:-1] + b"?")
    assert scrubbed(settings).outcomes == {"repaired": 1}
    assert [one.name for one in (objects / "damaged").iterdir()] == [f"{name}.1"]
    made.settings = settings
    with serve(made) as client:
        clock.ahead = timedelta(days=11)
        dispose(client, made, capture)
    assert name not in set(LocalObjects(objects).names())
    assert list(LocalObjects(second).names()) == []
    assert PHOTO[4:-2] not in bytes_below(made)
    assert set(scrubbed(settings).outcomes) <= {"ok", "disposed"}
    assert PHOTO[4:-2] not in bytes_below(made)
