"""Keeping the demo's authority and witnesses at work.

Does: notices which of them ended, says so, and starts them again where they listened, later each
time. Refuses to go on for ever with one that does not stay: it is left alone, and that is said.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.setup.children import Children

MOST_FALLS = 5
"""So often in a row a child is started again."""

SOUND_S = 60.0
"""A child that ran for so long starts with a clean slate."""

_FIRST_PAUSE_S = 1.0


@dataclass(slots=True)
class _Life:
    """One child's: since when it runs, how often it fell in a row, when it is started again."""

    since: float
    falls: int = 0
    due: float | None = None
    returning: bool = False


class Tending:
    """Looks after some of the children."""

    def __init__(
        self,
        children: Children,
        names: Sequence[str],
        say: Callable[[str], None],
        now: float,
        *,
        others: str = "the server goes on",
    ) -> None:
        """Look after children that run.

        Args:
            children: all of them.
            names: of those that are started again.
            say: tells the person at the console one sentence.
            now: seconds on a clock that only goes forward.
            others: what is said of everybody else when one of them fell.
        """
        self._others = others
        self._children = children
        self._say = say
        self._lives = {name: _Life(since=now) for name in names}

    def look(self, now: float) -> None:
        """Look at each child once, and do what is due; never waits.

        Args:
            now: on the same clock as before.
        """
        for name, life in self._lives.items():
            if life.due is not None:
                self._return(name, life, now)
            elif life.falls <= MOST_FALLS:
                self._check(name, life, now)

    def _return(self, name: str, life: _Life, now: float) -> None:
        if life.due is not None and now >= life.due:
            life.due, life.since, life.returning = None, now, True
            self._children.restart(name)

    def _check(self, name: str, life: _Life, now: float) -> None:
        end = self._children.end_of(name)
        if end is None:
            if life.returning and self._children.is_ready(name):
                life.returning = False
                self._say(f"{name} runs again.")
            return
        if now - life.since >= SOUND_S:
            life.falls = 0
        life.falls += 1
        if life.falls > MOST_FALLS:
            self._say(f"{end} It does not stay and is left alone; what needs it waits.")
            return
        pause_s = _FIRST_PAUSE_S * 2 ** (life.falls - 1)
        life.due = now + pause_s
        self._say(f"{end} It is started again in {pause_s:g} s; {self._others}.")
