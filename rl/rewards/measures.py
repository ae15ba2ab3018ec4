"""How good a score is: does it tell success from failure, and does it grow as the task gets on?"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from policies.intervals import Interval

RESAMPLES = 1000
Values = Sequence[float] | Float[np.ndarray, " n"]


def auc(successes: Values, failures: Values) -> float:
    """The chance that a success scores above a failure, ties counting half: the area under the ROC curve.

    Mann and Whitney's U over the number of pairs (Hanley and McNeil 1982); NaN where either side is empty.
    """
    n, m = len(successes), len(failures)
    if not n or not m:
        return math.nan
    ranked = ranks(np.concatenate([np.asarray(successes, float), np.asarray(failures, float)]))
    return float((ranked[:n].sum() - n * (n + 1) / 2) / (n * m))


def auc_interval(successes: Values, failures: Values, seed: int = 0) -> Interval:
    """:func:`auc` with the 95 % percentile interval over resampled episodes, of either kind for itself."""
    won, lost = np.asarray(successes, float), np.asarray(failures, float)
    value = auc(won, lost)
    if math.isnan(value):
        return Interval(value=value, lo=0.0, hi=1.0)
    rng = np.random.default_rng(seed)
    drawn = [auc(rng.choice(won, len(won)), rng.choice(lost, len(lost))) for _ in range(RESAMPLES)]
    lo, hi = np.percentile(drawn, [2.5, 97.5])
    return Interval(value=value, lo=float(lo), hi=float(hi))


def spearman(x: Values, y: Values) -> float:
    """Spearman's rank correlation; NaN for fewer than two values and where one side is constant."""
    if len(x) != len(y):
        raise ValueError(f"expected as many values on both sides, got {len(x)} and {len(y)}")
    if len(x) < 2:
        return math.nan
    a, b = ranks(np.asarray(x, float)), ranks(np.asarray(y, float))
    a, b = a - a.mean(), b - b.mean()
    spread = math.sqrt(float((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread else math.nan


def ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """1 … n in ascending order, equal values sharing the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
