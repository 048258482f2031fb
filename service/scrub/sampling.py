"""What a sample tells of the whole: how many more may be damaged, at 95 % confidence.

n of N contents were looked at and k of them were bad. D, the number of bad ones among all N, is
unknown. The chance to see at most k of them in a sample of n that was drawn without regard to
which are bad is the hypergeometric distribution's

    P(X ≤ k | D) = Σ_{j≤k} C(D, j) · C(N − D, n − j) / C(N, n)

The bound is the largest D for which that is still above 5 %: with any larger one we would have
seen more, in 19 of 20 samples. For k = 0 and a small sample it is near the rule of three, 3·N/n.

Does: integers only, so nothing is rounded. Refuses to call a sample of nothing a proof: its bound
is everything.
"""

from math import comb

_ONE_IN = 20
"""95 % confidence: what is rarer than one in twenty is not believed."""

_MOST_BAD = 50
"""Beyond so many bad ones nobody asks for a bound, and the sums would be long."""


def most_bad(population: int, sample: int, bad: int) -> int:
    """How many of the contents that were not looked at are bad at most, at 95 % confidence.

    Args:
        population: N ≥ 0.
        sample: n, 0 ≤ n ≤ N.
        bad: k, 0 ≤ k ≤ n.

    Returns:
        0 ≤ bound ≤ N − n; N − n itself where more than fifty were bad.

    Raises:
        ValueError: outside these bounds.

    Source: the exact (hypergeometric) upper confidence limit of acceptance sampling.
    """
    if not 0 <= bad <= sample <= population:
        raise ValueError("a sample is part of its population, and the bad ones part of the sample")
    rest = population - sample
    if bad > _MOST_BAD:
        return rest
    low, high = bad, bad + rest  # D is at least what was seen; P falls as D grows
    while low < high:
        middle = (low + high + 1) // 2
        if _is_believable(population, sample, bad, middle):
            low = middle
        else:
            high = middle - 1
    return low - bad


def _is_believable(population: int, sample: int, bad: int, all_bad: int) -> bool:
    """Whether P(X ≤ k | D) is above 5 %.

    The distribution is the same with sample and bad ones exchanged; the smaller one is cheaper.
    """
    small, large = sorted((sample, all_bad))
    seen = sum(
        comb(large, j) * comb(population - large, small - j) for j in range(min(bad, small) + 1)
    )
    return seen * _ONE_IN > comb(population, small)
