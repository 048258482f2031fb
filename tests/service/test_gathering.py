"""Announcements that arrive together: opened in one go, each answered with its own."""

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from evidence.errors import EvidenceError
from evidence.statement import SignedStatement, to_wire
from service.captures.gathering import INLINE_ITEMS, ITEMS_A_TURN, Announcing
from service.context import Context, open_context
from storage.errors import StorageError
from storage.log import Outcome, Receipt
from tests.service.deployment_maker import Made

ORGANS = ("county-a", "county-b")


@pytest.fixture
def context(made: Made) -> Iterator[Context]:
    """Everything open, without a server."""
    opened = open_context(made.settings)
    yield opened
    opened.close()


@pytest.fixture
def announcing() -> Iterator[Announcing]:
    """Takes announcements in."""
    one = Announcing()
    yield one
    one.close()


async def announce_all(
    announcing: Announcing, context: Context, requests: Sequence[tuple[str, Sequence[object]]]
) -> list[list[Outcome] | BaseException]:
    """Send requests at once; what each is answered, or raises."""
    calls = [announcing.announce(context.organs[organ], items) for organ, items in requests]
    return await asyncio.gather(*calls, return_exceptions=True)


def receipts(answer: list[Outcome] | BaseException) -> list[Receipt]:
    """The receipts of one answer, all of which must be there."""
    assert isinstance(answer, list)
    found = [one for one in answer if isinstance(one, Receipt)]
    assert len(found) == len(answer)
    return found


def test_every_request_gets_its_own(made: Made, context: Context, announcing: Announcing) -> None:
    """Requests of one to many items, of two organs, at once: each is answered for its items."""
    sizes = [1] * (ITEMS_A_TURN + 3) + [INLINE_ITEMS, INLINE_ITEMS + 1, 2]
    sent: list[tuple[str, list[SignedStatement]]] = []
    for number, size in enumerate(sizes):
        organ = ORGANS[number % 2]
        party = made.parties[organ]
        captures = [party.capture(bytes([number, one])) for one in range(size)]
        sent.append((organ, captures))
    requests = [(organ, [to_wire(one) for one in captures]) for organ, captures in sent]
    answers = asyncio.run(announce_all(announcing, context, requests))
    for (_, captures), answer in zip(sent, answers, strict=True):
        assert [one.id for one in captures] == [one.statement_id for one in receipts(answer)]


def test_what_comes_together_is_committed_together(
    made: Made, context: Context, announcing: Announcing
) -> None:
    """One turn of the event loop is one batch: its receipts lead into one checkpoint."""
    party = made.parties["county-a"]
    requests = [("county-a", [to_wire(party.capture(bytes([n])))]) for n in range(8)]
    answers = asyncio.run(announce_all(announcing, context, requests))
    assert len({receipts(answer)[0].size for answer in answers}) == 1


def test_a_bad_neighbour_changes_nothing(
    made: Made, context: Context, announcing: Announcing
) -> None:
    """What is wrong with one request is told to that request alone."""
    party = made.parties["county-a"]
    good = [to_wire(party.capture(bytes([n]))) for n in range(2)]
    forged = {**to_wire(party.capture(b"other")), "signature": good[0]["signature"]}
    requests = [("county-a", [one]) for one in (good[0], {"statement": 7}, forged, good[1])]
    answers = asyncio.run(announce_all(announcing, context, requests))
    told = [answer[0] for answer in answers if isinstance(answer, list)]
    assert [isinstance(one, Receipt) for one in told] == [True, False, False, True]
    assert all(isinstance(one, Receipt | EvidenceError) for one in told)


def test_a_closed_log_is_told_to_everybody(
    made: Made, context: Context, announcing: Announcing
) -> None:
    """Nobody waits for ever when the log takes nothing more."""
    party = made.parties["county-a"]
    context.organs["county-a"].log.close()
    requests = [("county-a", [to_wire(party.capture(bytes([n])))]) for n in range(3)]
    answers = asyncio.run(announce_all(announcing, context, requests))
    assert [isinstance(answer, StorageError) for answer in answers] == [True] * 3


def test_who_has_gone_holds_nobody_up(made: Made, context: Context, announcing: Announcing) -> None:
    """A request that was given up is logged all the same, and its neighbour is answered."""
    party = made.parties["county-a"]
    left, stayed = (party.capture(bytes([n])) for n in range(2))
    organ = context.organs["county-a"]

    async def both() -> list[Outcome]:
        """Give one up as soon as it is waiting."""
        gone = asyncio.ensure_future(announcing.announce(organ, [to_wire(left)]))
        answered = asyncio.ensure_future(announcing.announce(organ, [to_wire(stayed)]))
        await asyncio.sleep(0)
        gone.cancel()
        return await answered

    assert [stayed.id] == [one.statement_id for one in receipts(asyncio.run(both()))]
    assert organ.log.receipt(left.id, left.key_id).statement_id == left.id
