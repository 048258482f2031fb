"""Gathering: announcements that arrive together are opened together.

A small statement costs less to verify than to reach: by the time the framework has carried the
next request in, the code that opens statements has left the processor's caches. So whatever came
in one turn of the event loop is opened in one go, handed to the log as one submission, and
answered with one wake-up. There is no timer: a lone announcement is opened in the turn it came.

Does: gathers, and gives every request its own outcomes. Refuses to hold the event loop up: a turn
opens a limited number of statements, and a long request is opened in a thread. There is one such
thread, because several only take the interpreter from each other.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from service.captures.announce import hand_in
from service.context import Organ
from storage.log import Outcome

INLINE_ITEMS = 4
"""So many statements of one request are opened on the event loop."""

ITEMS_A_TURN = 32
"""So many statements are opened before the event loop looks after others again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    organ: Organ
    items: Sequence[object]
    answer: "asyncio.Future[list[Outcome]]"


class Announcing:
    """Takes announcements in. Its state belongs to the event loop's thread."""

    def __init__(self) -> None:
        """Begin with nothing waiting."""
        self._waiting: deque[_Waiting] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="announcing")

    def close(self) -> None:
        """Let go of the thread."""
        self._thread.shutdown(wait=True)

    async def announce(self, organ: Organ, items: Sequence[object]) -> list[Outcome]:
        """Hand statements in and wait until the log has answered.

        Args:
            organ: for which the sender acts.
            items: 1 to 200 in the wire form, not yet read.

        Returns:
            One outcome for each, in their order.

        Raises:
            StorageError: the log takes nothing now.
        """
        loop = asyncio.get_running_loop()
        if len(items) > INLINE_ITEMS:
            submitted = await loop.run_in_executor(self._thread, hand_in, organ, items)
            return await asyncio.wrap_future(submitted)
        answer: asyncio.Future[list[Outcome]] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._open, loop)
        self._waiting.append(_Waiting(organ=organ, items=items, answer=answer))
        return await answer

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Open what waits, together for each organ."""
        together: dict[str, list[_Waiting]] = {}
        opened = 0
        while self._waiting and opened < ITEMS_A_TURN:
            one = self._waiting.popleft()
            opened += len(one.items)
            together.setdefault(one.organ.id, []).append(one)
        if self._waiting:
            loop.call_soon(self._open, loop)
        for waiting in together.values():
            _submit(loop, waiting)


def _submit(loop: asyncio.AbstractEventLoop, waiting: Sequence[_Waiting]) -> None:
    try:
        submitted = hand_in(waiting[0].organ, [item for one in waiting for item in one.items])
    except Exception as error:  # noqa: BLE001 - whatever it is: untold, a sender waits for ever
        submitted = Future[list[Outcome]]()
        submitted.set_exception(error)

    def answered(done: "Future[list[Outcome]]") -> None:
        """Runs in the log's thread."""
        loop.call_soon_threadsafe(_deliver, waiting, done)

    submitted.add_done_callback(answered)


def _deliver(waiting: Sequence[_Waiting], done: "Future[list[Outcome]]") -> None:
    """Give every request what is its own; one that has gone meanwhile may ask again."""
    fault = done.exception()
    outcomes = [] if fault else done.result()
    start = 0
    for one in waiting:
        mine = outcomes[start : start + len(one.items)]
        start += len(one.items)
        if one.answer.done():
            continue
        if fault is None:
            one.answer.set_result(mine)
        else:
            one.answer.set_exception(fault)
