"""Intervals against published values, exact sums and simulation."""

import math

import numpy as np
import pytest

from policies.intervals import mean_interval, paired_difference, paired_episodes, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "lo", "hi"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe, Stat. Med. 17, 857 (1998), table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_agrees_with_newcombes_table(successes, trials, lo, hi):
    interval = wilson(successes, trials)
    assert interval.value == successes / trials
    assert interval.lo == pytest.approx(lo, abs=5e-5)
    assert interval.hi == pytest.approx(hi, abs=5e-5)


def test_wilson_at_the_edges():
    assert wilson(50, 50).hi == 1.0
    assert (wilson(0, 0).lo, wilson(0, 0).hi) == (0.0, 1.0)
    with pytest.raises(ValueError, match="0…5"):
        wilson(6, 5)


def test_paired_p_value_is_the_exact_binomial_tail():
    a = [True] * 9 + [False] * 1 + [True] * 20
    b = [False] * 9 + [True] * 1 + [True] * 20
    result = paired_difference(a, b)
    assert (result.only_a, result.only_b) == (9, 1)
    assert result.p_value == pytest.approx(2 * (1 + 10) / 1024)
    assert result.value == pytest.approx(8 / 30)
    assert result.lo < result.value < result.hi


def test_what_the_exact_test_leaves_open_is_not_decided():
    def of_fifty(only_a, only_b):
        rest = [True] * 11 + [False] * (39 - only_a - only_b)
        won_a = [True] * only_a + [False] * only_b + rest
        return paired_difference(won_a, [False] * only_a + [True] * only_b + rest)

    unclear, clear = of_fifty(10, 3), of_fifty(11, 2)
    assert unclear.lo > 0 and unclear.p_value == pytest.approx(0.0923, abs=5e-5) and not unclear.decided
    assert clear.lo > 0 and clear.p_value < 0.05 and clear.decided and of_fifty(2, 11).decided


def test_paired_interval_covers_the_truth_in_95_of_100():
    rng = np.random.default_rng(0)
    # joint probabilities of (both, only a, only b, neither): the true difference is 0.15
    outcomes = rng.choice(4, size=(2000, 50), p=[0.6, 0.2, 0.05, 0.15])
    intervals = [paired_difference(list(row < 2), list((row == 0) | (row == 2))) for row in outcomes]
    covered = np.mean([interval.lo <= 0.15 <= interval.hi for interval in intervals])
    assert 0.93 <= covered <= 0.98


def test_paired_difference_of_equal_outcomes_is_zero_but_not_certain():
    result = paired_difference([True] * 50, [True] * 50)
    assert result.value == 0 and result.p_value == 1
    assert -0.1 < result.lo < 0 < result.hi < 0.1
    with pytest.raises(ValueError, match="same seeds"):
        paired_difference([True], [True, False])


@pytest.mark.parametrize("n", [2, 3, 10, 31, 32, 60])
def test_mean_interval_agrees_with_scipy(n):
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(n).normal(size=n).tolist()
    lo, hi = stats.t.interval(0.95, n - 1, loc=np.mean(values), scale=stats.sem(values))
    interval = mean_interval(values)
    assert (interval.lo, interval.hi) == (pytest.approx(lo, abs=2e-4), pytest.approx(hi, abs=2e-4))


def test_mean_of_one_value_has_no_bounds():
    assert mean_interval([0.9]).hi == math.inf
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


@pytest.mark.parametrize(("difference", "discordant"), [(0.1, 0.26), (0.1, 0.5), (0.2, 0.3)])
def test_so_many_episodes_find_the_difference_in_nine_of_ten_evaluations(difference, discordant):
    n, only_a = paired_episodes(difference, discordant), (discordant + difference) / 2
    joint = [(1 - discordant) / 2, only_a, discordant - only_a, (1 - discordant) / 2]
    kinds = np.random.default_rng(1).choice(4, size=(1000, n), p=joint)
    drawn = [paired_difference((row < 2).tolist(), ((row == 0) | (row == 2)).tolist()) for row in kinds]
    assert 0.87 <= np.mean([each.decided and each.value > 0 for each in drawn]) <= 0.94
    with pytest.raises(ValueError, match="difference ≤ discordant"):
        paired_episodes(0.3, 0.2)
