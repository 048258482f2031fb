"""The bound of a sample, against counting every sample and against products of fractions."""

from fractions import Fraction
from itertools import combinations

import pytest

from service.scrub.sampling import most_bad


def counted(population: int, sample: int, bad: int) -> int:
    """The same by drawing every sample there is."""
    best = 0
    for all_bad in range(bad, population - sample + bad + 1):
        draws = list(combinations(range(population), sample))
        few = sum(sum(one < all_bad for one in draw) <= bad for draw in draws)
        if Fraction(few, len(draws)) > Fraction(1, 20):
            best = all_bad - bad
    return best


def multiplied(population: int, sample: int) -> int:
    """For no bad ones: one draw after the other, each of which must miss every bad one."""
    for all_bad in range(population - sample, -1, -1):
        chance = Fraction(1)
        for drawn in range(sample):
            chance *= Fraction(population - all_bad - drawn, population - drawn)
        if chance > Fraction(1, 20):
            return all_bad
    raise AssertionError


@pytest.mark.parametrize("population", range(1, 11))
def test_small_ones_are_counted_out(population: int) -> None:
    """Every sample size and every number of bad ones."""
    for sample in range(population + 1):
        for bad in range(sample + 1):
            assert most_bad(population, sample, bad) == counted(population, sample, bad)


@pytest.mark.parametrize(("population", "sample"), [(200, 20), (500, 59), (1000, 100), (97, 60)])
def test_no_bad_ones_in_larger_samples(population: int, sample: int) -> None:
    """One factor for each draw gives the same."""
    assert most_bad(population, sample, 0) == multiplied(population, sample)


def test_it_is_near_the_rule_of_three() -> None:
    """A small sample of many without a bad one: about three in n."""
    bound = most_bad(1_000_000, 1000, 0)
    assert 0.97 * 3000 < bound < 3000


def test_all_and_nothing() -> None:
    """Who looked at all knows all; who looked at nothing knows nothing."""
    assert (most_bad(10, 10, 0), most_bad(10, 10, 3), most_bad(10, 0, 0)) == (0, 0, 10)
    assert most_bad(0, 0, 0) == 0
    assert most_bad(1000, 100, 60) == 900
    with pytest.raises(ValueError, match="part of"):
        most_bad(5, 6, 0)
