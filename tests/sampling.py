"""Some of many like cases in each run, another choice each time; all of them with `SAMPLE=all`.

Where one test is repeated over every column, file or step and each time costs a second, `make test`
takes a few at random and `make test-long` takes all. The choice follows from a seed that every run
shows in its header; `SAMPLE_SEED` repeats it. What is left out is not collected, so a run that took
a sample never looks like one that took everything.
"""

import os
import random
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
ALL = os.environ.get("SAMPLE") == "all"
SEED = os.environ.setdefault("SAMPLE_SEED", str(random.SystemRandom().randrange(10**9)))
"""Set for processes that pytest starts as well: all of one run choose alike."""


def sampled(
    names: str,
    cases: Sequence[Any],
    *,
    count: int,
    ids: Sequence[str] | None = None,
    group: Callable[[Any], Hashable] = lambda _: None,
) -> pytest.MarkDecorator:
    """Parametrise a test over some of the cases, in their order, and mark it as `sampled`.

    Args:
        names: of the parameters, as for `pytest.mark.parametrize`.
        cases: all of them.
        count: how many are taken of each group.
        ids: of all cases, in their order.
        group: what a case belongs to; something is taken of every group.
    """
    groups: dict[Hashable, list[int]] = {}
    for number, case in enumerate(cases):
        groups.setdefault(group(case), []).append(number)
    chosen = {number for members in groups.values() for number in some(members, count)}
    return pytest.mark.parametrize(
        names,
        [
            pytest.param(
                *(case if isinstance(case, tuple) else (case,)),
                id=None if ids is None else ids[number],
                marks=pytest.mark.sampled,
            )
            for number, case in enumerate(cases)
            if number in chosen
        ],
    )


def some(cases: Sequence[T], count: int) -> list[T]:
    """Some of the cases of a test that goes through them itself, and is marked `sampled`.

    Args:
        cases: all of them.
        count: how many are taken, in their order.
    """
    if ALL or count >= len(cases):
        return list(cases)
    chance = random.Random(f"{SEED} {len(cases)} {cases[0]}")
    return [cases[number] for number in sorted(chance.sample(range(len(cases)), count))]


def described() -> str:
    """What the header of a run says."""
    taken = "all cases" if ALL else f"some cases of each sampled test, SAMPLE_SEED={SEED}"
    return f"sampling: {taken}"
