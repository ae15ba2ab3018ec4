"""Measures of scores against their definitions and against scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from rl.rewards.measures import auc, auc_interval, spearman


@pytest.mark.parametrize("seed", range(4))
def test_the_auc_is_the_share_of_pairs_in_order(seed):
    rng = np.random.default_rng(seed)
    won, lost = rng.integers(0, 6, 9) + 1.0, rng.integers(0, 6, 14) * 1.0  # with ties
    pairs = [(w > x) + 0.5 * (w == x) for w in won for x in lost]
    assert auc(won, lost) == pytest.approx(np.mean(pairs))
    assert auc(-won, -lost) == pytest.approx(1 - np.mean(pairs))


def test_the_interval_of_the_auc_covers_as_often_as_it_says():
    """Normal scores one standard deviation apart have an AUC of Φ(1/√2)."""
    truth, rng = stats.norm.cdf(1 / math.sqrt(2)), np.random.default_rng(0)
    covered = 0
    for seed in range(25):
        interval = auc_interval(rng.normal(1, 1, 30), rng.normal(0, 1, 40), seed)
        covered += interval.lo <= truth <= interval.hi
        assert interval.lo <= interval.value <= interval.hi
    assert covered >= 21
    assert math.isnan(auc([], [1.0])) and auc_interval([], [1.0]).hi == 1.0


def test_rank_correlation_is_scipys():
    rng = np.random.default_rng(1)
    for _ in range(5):
        x, y = rng.integers(0, 9, 20) * 1.0, rng.normal(size=20)
        assert spearman(x, x + 2 * y) == pytest.approx(stats.spearmanr(x, x + 2 * y).statistic)
    assert math.isnan(spearman([1.0, 1.0], [0.0, 1.0])) and math.isnan(spearman([1.0], [0.0]))
    with pytest.raises(ValueError, match="as many values"):
        spearman([1.0], [])
