"""Curricula: both formulas, what episodes change, and what is written down of them."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl.curriculum import CurriculumConfig

TASKS = ("reach", "stack", "push")


def successful(config, rates):
    """One that has seen so many of 1,000 episodes of each task succeed."""
    return config.build(TASKS).after(torch.tensor([[1000, round(1000 * rate)] for rate in rates]))


@pytest.mark.parametrize(
    ("rule", "formula"),
    [("half", lambda s: math.exp(-abs(s - 0.5) / 0.3)), ("published", lambda s: math.exp((0.5 - s) / 0.3))],
)
def test_weights_are_those_of_the_formula(rule, formula):
    curriculum = successful(CurriculumConfig(rule=rule, temperature=0.3), (0.1, 0.5, 0.9))
    expected = [formula(s) for s in curriculum.success]
    assert curriculum.success == pytest.approx((0.1, 0.5, 0.9), abs=1e-3)
    assert curriculum.weights == pytest.approx([each / sum(expected) for each in expected])


def test_half_prefers_what_succeeds_every_other_time_and_published_what_never_does():
    half, published = (successful(CurriculumConfig(rule=rule), (0.0, 0.5, 1.0)) for rule in ("half", "published"))
    assert half.weights[1] == max(half.weights) and half.weights[0] == pytest.approx(half.weights[2], rel=1e-2)
    assert published.weights[0] > published.weights[1] > published.weights[2]


def test_a_small_temperature_overflows_nothing():
    for rule in ("half", "published"):
        weights = successful(CurriculumConfig(rule=rule, temperature=1e-6), (0.0, 0.1, 0.2)).weights
        assert sum(weights) == pytest.approx(1) and max(weights) > 0.999


def test_estimates_are_means_at_first_and_follow_later():
    config = CurriculumConfig(rate=0.1, start=0.5)
    few = config.build(TASKS).after(torch.tensor([[3, 3], [0, 0], [4, 1]]))
    assert few.success == pytest.approx((3.5 / 4, 0.5, 1.5 / 5)) and few.episodes == (3, 0, 4)
    many = successful(config, (1.0, 1.0, 1.0)).after(torch.tensor([[1, 0], [0, 0], [2, 0]]))
    assert many.success == pytest.approx((0.9, 1.0, 0.81), abs=1e-3) and many.episodes == (1001, 1000, 1002)


def test_tallies_of_several_processes_add_up():
    curriculum = CurriculumConfig().build(TASKS)
    task, success = torch.tensor([0, 2, 2, 0, 0]), torch.tensor([True, False, True, True, False])
    whole = curriculum.tally(task, success)
    assert whole.tolist() == [[3, 2], [0, 0], [2, 1]]
    assert whole.equal(curriculum.tally(task[:2], success[:2]) + curriculum.tally(task[2:], success[2:]))


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1)), min_size=3, max_size=3), st.floats(0.001, 1))
def test_estimates_are_rates_and_come_back_to_the_last_bit(outcomes, rate):
    curriculum = CurriculumConfig(rate=rate).build(TASKS)
    tally = torch.tensor([[n, round(n * share)] for n, share in outcomes])
    later = curriculum.after(tally).after(tally)
    assert all(0 <= s <= 1 for s in later.success) and sum(later.weights) == pytest.approx(1)
    assert curriculum.recall(json.loads(json.dumps(later.memory(), allow_nan=False))) == later


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="rule out of half, published, got 'hard'"):
        CurriculumConfig(rule="hard")
    with pytest.raises(ValueError, match="temperature above 0"):
        CurriculumConfig(temperature=0.0)
    with pytest.raises(ValueError, match="needs different tasks"):
        CurriculumConfig().build(("reach", "reach"))
    memory = CurriculumConfig().build(("reach", "pour")).memory()
    with pytest.raises(ValueError, match="pour"):
        CurriculumConfig().build(TASKS).recall(memory)
