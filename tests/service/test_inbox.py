"""The inbox itself: what no client can time from outside."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from evidence.statement import to_wire
from service.app import Running, start
from service.captures.announce import hand_in
from service.captures.arrivals import Noted
from service.captures.queries import find_upload
from service.captures.uploads import Transfer
from service.law.permissions import Holder, Scope
from service.metrics import Metrics
from tests.service.deployment_maker import Made

PHOTO = b"\xff\xd8 a photo \xff\xd9"


@pytest.fixture
def running(made: Made) -> Iterator[Running]:
    """A deployment at work, without a server."""
    one = start(made.settings, Metrics())
    yield one
    one.close()


async def body() -> AsyncIterator[bytes]:
    """The photo in two pieces."""
    yield PHOTO[:5]
    yield PHOTO[5:]


def test_a_row_that_was_read_too_early_stages_nothing(made: Made, running: Running) -> None:
    """Who read the row before another transfer ended is told so, and leaves no second file."""
    context = running.context
    organ = context.organs["county-a"]
    capture = made.parties["county-a"].capture(PHOTO)
    [receipt] = hand_in(organ, [to_wire(capture)]).result()
    assert not isinstance(receipt, Exception)
    with context.db.read() as connection:
        row = find_upload(connection, organ.log_id, capture.id)
    assert row is not None
    holder = Holder(name="officer", organ="county-a", scopes=frozenset(Scope))
    early = Transfer(organ=organ, holder=holder, upload=row, length=None, digest=None)

    async def one_after_the_other() -> tuple[Noted, Noted]:
        """Both believe that nothing is here yet."""
        return (
            await running.inbox.receive(early, body()),
            await running.inbox.receive(early, body()),
        )

    first, second = asyncio.run(one_after_the_other())

    assert (first.first, second.first) == (True, False)
    assert first.upload.received_at == second.upload.received_at
    assert row.sha256 == hashlib.sha256(PHOTO).hexdigest()
    deadline = time.monotonic() + 10
    while list((context.places.staging / "waiting").iterdir()):
        assert time.monotonic() < deadline, "a second file was staged, and nobody takes it"
        time.sleep(0.05)
