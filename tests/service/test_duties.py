"""What the workers do again and again: scrub once in a period, and clear away what is past."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from litestar.testing import TestClient
from sqlalchemy import Connection, select, update

from service import duties, scrub
from service.app import create_app
from service.captures.uploads import Inbox
from service.client.failures import ServerRefused
from service.context import Context, open_context
from service.deployment_file import Places
from service.doctor import examine
from service.duties import Duties
from service.scrub import Bounds
from service.scrub.holdings import Holding, note
from service.scrub.last import SCRUB
from service.webhooks.deliveries import DELIVERED, PENDING, WEBHOOK, purge_deliveries
from service.work.queue import Piece, State, add_pieces, hand_over, take
from storage.db.engine import Database
from storage.db.tables import deliveries, exports, outbox
from tests.service.deployment_maker import Made
from tests.service.retention_maker import Clock, clocked
from tests.service.server_process import ServerProcess
from tests.service.test_captures import announce, seal, send
from tests.service.test_exports import ask, fetch
from tests.service.test_s3_service import stated
from tests.service.test_scrub import scrubbed

LOG = "county-a-2026"
PATIENCE_S = 30


def runs(made: Made) -> int:
    """How many scrubs the log states."""
    return sum(one.body["check"] == "scrub" for one in stated(made, "check"))


def wait_until(holds: Callable[[], bool], pause_s: float = 0.05) -> None:
    """In bounded time."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(pause_s)


def begin(context: Context) -> Piece:
    """What a worker would take."""
    with context.db.write() as connection:
        assert hand_over(connection, SCRUB, "batch", context.clock(), 1, 8) == 1
        [piece] = take(connection, "batch", context.clock())
    return piece


def test_a_server_scrubs_by_itself(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A period after content came it is re-hashed and stated; metrics and doctor say when."""
    monkeypatch.setattr(duties, "LOOK_S", 0.2)
    settings = msgspec.structs.replace(made.settings, scrub_every_s=1)
    with TestClient(create_app(settings)) as client:
        seal(client, made, b"one")
        wait_until(lambda: runs(made) >= 1)
        wait_until(lambda: "fengni_scrub_last_seconds{" in client.get("/metrics").text)
    told = {one.name: one for one in examine(made.settings, datetime.now(UTC))}
    assert told["objects.scrubbed"].answer == "pass"
    late = examine(made.settings, datetime.now(UTC) + timedelta(days=3))
    assert {one.name: one.answer for one in late}["objects.scrubbed"] == "note"


def test_a_period_has_one_run_whoever_looks_and_dies(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes look: one piece. A run that stated its result and died is not done again."""
    with TestClient(create_app(made.settings)) as client:
        seal(client, made, b"one")
    with clocked(monkeypatch) as clock:
        check_one_run(made, monkeypatch, clock)


def check_one_run(made: Made, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """As of a clock that the test sets."""
    context = open_context(made.settings)
    try:
        nodes = [Duties(context), Duties(context)]
        assert [node.look() for node in nodes] == [0, 0]  # not due yet
        clock.ahead = timedelta(days=1, minutes=1)
        assert sum(node.look() for node in nodes) == 1
        piece = begin(context)

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(duties, "finish_piece", killed)
            with pytest.raises(KeyboardInterrupt):
                nodes[0].scrub([piece])
        assert runs(made) == 1
        nodes[1].scrub([piece])
        assert (runs(made), nodes[1].look()) == (1, 0)
        with context.db.read() as connection:
            assert connection.execute(select(outbox).where(outbox.c.kind == SCRUB)).all() == []
    finally:
        context.close()


def test_never_means_never(made: Made) -> None:
    """With a period of 0 nothing is asked for."""
    with TestClient(create_app(made.settings)) as client:
        seal(client, made, b"one")
    context = open_context(msgspec.structs.replace(made.settings, scrub_every_s=0))
    try:
        later = context.clock() + timedelta(days=400)
        object.__setattr__(context, "clock", lambda: later)
        assert Duties(context).look() == 0
    finally:
        context.close()


def test_a_run_that_a_bound_ends_notes_each_content_once(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three of four in pieces of two: the third ends the run, and the second is not noted again."""
    with TestClient(create_app(made.settings)) as client:
        for content in (b"one", b"two", b"three", b"four"):
            seal(client, made, content)
    noted: list[int] = []

    def count(
        connection: Connection, looked_at: Sequence[tuple[Holding, str]], at: datetime
    ) -> None:
        noted.extend(one.index for one, _ in looked_at)
        note(connection, looked_at, at)

    monkeypatch.setattr(scrub, "_BATCH", 2)
    monkeypatch.setattr(scrub, "note", count)
    assert len(scrubbed(made.settings, Bounds(size_bytes=10)).looked_at) == 3
    assert len(noted) == len(set(noted)) == 3


def test_a_package_goes_without_a_further_export(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time is over: its file is removed and its row says so."""
    monkeypatch.setattr(duties, "LOOK_S", 0.2)
    with TestClient(create_app(made.settings)) as client:
        location = ask(client, made, seal(client, made, b"one")).headers["location"]
        fetch(client, made, location)
        folder = Places(made.settings.folder).exports
        assert len(list(folder.glob("*.zip"))) == 1
        db = Database(Places(made.settings.folder).database_url)
        with db.write() as connection:
            past = datetime.now(UTC) - timedelta(seconds=1)
            connection.execute(update(exports).values(expires_at=past))
        wait_until(lambda: not list(folder.glob("*.zip")))
        wait_until(lambda: client.get("/readyz").status_code == 200)
        with db.read() as connection:
            assert connection.execute(select(exports.c.state)).scalars().all() == ["expired"]
        db.close()


def test_ended_deliveries_go_and_the_others_stay(made: Made) -> None:
    """Delivered and given up long ago: gone, with their work. Young, or still tried: kept."""
    old, at = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    rows = {
        "delivered-old": (DELIVERED, old, None),
        "delivered-new": (DELIVERED, at, None),
        "sent-again": (DELIVERED, old, State.WAITING),
        "given-up-old": (PENDING, None, State.FAILED),
        "tried": (PENDING, None, State.WAITING),
    }
    context = open_context(made.settings)
    try:
        with context.db.write() as connection:
            for name, (state, delivered, work) in rows.items():
                told = {"id": name, "log": LOG, "organ": "county-a", "webhook": "court"}
                told |= {"event": "capture.stored", "state": state}
                connection.execute(
                    deliveries.insert().values(
                        **told, body=b"{}", created_at=old, delivered_at=delivered
                    )
                )
                if work is not None:
                    add_pieces(
                        connection,
                        log=LOG,
                        organ="county-a",
                        kind=WEBHOOK,
                        subjects=[name],
                        at=old,
                        state=work,
                    )
            assert purge_deliveries(connection, at - timedelta(days=30)) == 2
            left = set(connection.execute(select(deliveries.c.id)).scalars())
            work_left = set(connection.execute(select(outbox.c.subject)).scalars())
    finally:
        context.close()
    assert left == {"delivered-new", "sent-again", "tried"}
    assert work_left == {"sent-again", "tried"}


def test_content_that_comes_too_early_is_answered_honestly(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an organ takes up what was left, no witness is blamed, and a client asks again."""
    with monkeypatch.context() as patched:
        patched.setattr(Inbox, "begin", lambda *_: None)
        with TestClient(create_app(made.settings)) as client:
            signed = made.parties["county-a"].capture()
            assert announce(client, made, signed).status_code == 200
            early = send(client, made, signed.id)
            assert (early.status_code, early.json()["code"]) == (503, "not_begun")
            assert early.headers["retry-after"] == "1"
    told = ServerRefused("", status=503, code="not_begun", retry_after_s=1.0)
    assert told.passing
    with TestClient(create_app(made.settings)) as client:
        assert send(client, made, signed.id).status_code == 201


def test_a_killed_scrub_is_made_by_the_next_process(made: Made) -> None:
    """Kill -9 while it runs: the next start makes the run, states it once, and leaves no work."""
    with TestClient(create_app(made.settings)) as client:
        for number in range(60):
            seal(client, made, b"content %d" % number)
    db = Database(Places(made.settings.folder).database_url)

    def state() -> str | None:
        query = select(outbox.c.state).where(outbox.c.kind == SCRUB, outbox.c.log == LOG)
        with db.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    time.sleep(1)
    with ServerProcess(made.settings.folder, scrub_every_s=1) as server:
        server.start()
        wait_until(lambda: state() == "leased", pause_s=0.002)
        server.kill()
        assert (runs(made), state()) == (0, "leased")
        server.start()
        wait_until(lambda: runs(made) > 0 and state() is None)
        assert runs(made) == 1
    db.close()
