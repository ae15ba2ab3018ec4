"""Intervals at 95 % for what an evaluation measures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

Z_95 = 1.959963984540054
"""The 0.975 quantile of the standard normal distribution."""

_T_95 = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
    *(2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423),
)
"""The 0.975 quantiles of Student's t for 1…30 degrees of freedom."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    lo: float
    hi: float


@dataclass(frozen=True, kw_only=True)
class PairedDifference(Interval):
    """Success rate of A minus that of B on the same seeds, in [−1, 1]; ``p_value`` is two-sided."""

    only_a: int
    only_b: int
    p_value: float

    @property
    def decided(self) -> bool:
        """Whether it can be said which is better: the interval does not hold 0, and the exact test's p is below 5 %.

        Where few seeds differ, the interval may leave 0 out and the test decide nothing.
        """
        return (self.lo > 0 or self.hi < 0) and self.p_value < 0.05


def wilson(successes: int, trials: int) -> Interval:
    """Wilson's score interval of a success rate (J. Am. Stat. Assoc. 22, 1927); no trials give [0, 1]."""
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must lie in 0…{trials} (the trials), got {successes}")
    if trials == 0:
        return Interval(value=math.nan, lo=0.0, hi=1.0)
    rate, z2 = successes / trials, Z_95**2
    centre = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z_95 / (1 + z2 / trials) * math.sqrt(rate * (1 - rate) / trials + z2 / (4 * trials**2))
    lo = 0.0 if successes == 0 else centre - half
    hi = 1.0 if successes == trials else centre + half
    return Interval(value=rate, lo=lo, hi=hi)


def paired_difference(a: Sequence[bool], b: Sequence[bool]) -> PairedDifference:
    """Compare two policies on the same seeds, in the same order.

    The interval is Newcombe's hybrid score interval for paired proportions (Stat. Med. 17, 2635, 1998,
    method 10, without continuity correction); the p value is McNemar's exact test on the seeds where the
    two differ.
    """
    if len(a) != len(b) or not a:
        raise ValueError(f"paired outcomes need the same seeds on both sides, got {len(a)} and {len(b)}")
    n = len(a)
    both = sum(x and y for x, y in zip(a, b, strict=True))
    only_a, only_b = sum(a) - both, sum(b) - both
    neither = n - both - only_a - only_b

    rate_a, rate_b = wilson(sum(a), n), wilson(sum(b), n)
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    phi = (both * neither - only_a * only_b) / math.sqrt(margins) if margins else 0.0
    difference = rate_a.value - rate_b.value
    below = _combine(rate_a.value - rate_a.lo, rate_b.hi - rate_b.value, phi)
    above = _combine(rate_a.hi - rate_a.value, rate_b.value - rate_b.lo, phi)
    return PairedDifference(
        value=difference,
        lo=difference - below,
        hi=difference + above,
        only_a=only_a,
        only_b=only_b,
        p_value=_mcnemar_exact(only_a, only_b),
    )


def paired_episodes(difference: float, discordant: float, power: float = 0.9) -> int:
    """How many paired episodes it takes to find a difference of success rates with probability ``power``.

    ``discordant`` is the share of episodes in which one succeeds and the other does not: at least the difference. Two
    policies whose successes are independent have p (1 − q) + q (1 − p) of them; the more alike they are, the fewer.
    For a two-sided test at 5 % (Connor, Biometrics 43, 207, 1987).
    """
    if not 0 < abs(difference) <= discordant <= 1 or not 0.5 <= power < 1:
        raise ValueError(f"expected 0 < difference ≤ discordant ≤ 1, power of 0.5 … 1, got {difference}, {discordant}")
    spread = Z_95 * math.sqrt(discordant) + NormalDist().inv_cdf(power) * math.sqrt(discordant - difference**2)
    return math.ceil((spread / difference) ** 2)


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean of independent values, such as one per training seed, with Student's t interval.

    A single value says nothing of its spread: its interval is infinite.
    """
    if not values:
        raise ValueError("the mean of no values is undefined")
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(value=mean, lo=-math.inf, hi=math.inf)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = _t_95(n - 1) * spread / math.sqrt(n)
    return Interval(value=mean, lo=mean - half, hi=mean + half)


def _combine(first: float, second: float, phi: float) -> float:
    """Root of the sum of two squared half-widths whose errors correlate by ``phi``."""
    return math.sqrt(max(0.0, first**2 - 2 * phi * first * second + second**2))


def _mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided binomial test that either side wins a discordant seed with probability one half."""
    n, k = only_a + only_b, min(only_a, only_b)
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)


def _t_95(degrees: int) -> float:
    """The 0.975 quantile of Student's t: from the table, beyond it Fisher's expansion around the normal's."""
    if degrees <= len(_T_95):
        return _T_95[degrees - 1]
    z = Z_95
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
