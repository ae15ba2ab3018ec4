"""The simulation of many GPUs is what arithmetic says where there is nothing to wait for."""

import importlib
import json
from dataclasses import replace

import numpy as np
import pytest


@pytest.fixture(scope="module")
def scale(benchmarks):
    return importlib.import_module("scale")


@pytest.fixture
def times(scale):
    return scale.Times(decisions=1000, collect_s=6.0, learn_s=2.0, minibatches=4, parameters=1e6, spread=0.0)


def cluster(scale, gpus, **fields):
    free = {"per_machine": 8, "within_gb_s": np.inf, "between_gb_s": np.inf, "latency_s": 0.0}
    return scale.Cluster(gpus=gpus, **free | fields)


@pytest.mark.parametrize("gpus", [1, 8, 64])
def test_what_costs_nothing_to_share_grows_with_the_gpus(scale, times, gpus):
    found = scale.together(times, cluster(scale, gpus), np.random.default_rng(0))
    assert found.decisions_per_s == pytest.approx(gpus * 1000 / 8)
    assert (found.acting, found.learning, found.waiting) == pytest.approx((0.75, 0.25, 0))


def test_acting_and_learning_apart_lose_nothing_but_the_first_iteration(scale, times):
    """Of 8 GPUs 6 act and 2 learn: both take 8 s, side by side."""
    found = scale.apart(times, cluster(scale, 8), 1, np.random.default_rng(0))
    assert found.plan == "apart, 6 act and 2 learn"
    assert found.decisions_per_s == pytest.approx(1000 * 8 / 8 * scale.ITERATIONS / (scale.ITERATIONS + 1))


def test_who_acts_waits_for_weights_that_are_new_enough(scale, times):
    rates = [
        scale.apart(times, cluster(scale, 8), staleness, np.random.default_rng(0)).decisions_per_s
        for staleness in (0, 1)
    ]
    assert rates[0] < 0.6 * rates[1]


def test_a_sum_takes_what_a_ring_takes(scale):
    """Of 8 GB at 1 GB/s: 7/8 of it twice within a machine; between two of them half of an eighth of it, twice."""
    slow = cluster(scale, 16, within_gb_s=1.0, between_gb_s=1.0, latency_s=0.001)
    assert slow.summed_s(8, 8e9) == pytest.approx(14 + 14 * 0.001)
    assert slow.summed_s(16, 8e9) == pytest.approx(14 + 14 * 0.001 + 1 + 2 * 0.001)
    assert slow.summed_s(1, 8e9) == 0


def test_rollouts_that_differ_keep_the_others_waiting(scale, times):
    varied = replace(times, spread=0.2)
    waits = [scale.together(varied, cluster(scale, n), np.random.default_rng(0)).waiting for n in (1, 8, 64)]
    assert waits[0] == pytest.approx(0) and waits[0] < waits[1] < waits[2]


def test_a_larger_network_takes_longer_to_act_and_to_learn(scale, times):
    larger = times.with_parameters(2e6, act_share=0.5)
    assert (larger.collect_s, larger.learn_s) == (9.0, 4.0)


def test_times_are_those_of_the_benchmark(scale, tmp_path):
    shares = {"share_simulate": 0.25, "share_act": 0.25, "share_reward": 0.0, "share_update": 0.5}
    row = {"preset": "nano-ppo", "worlds": 64, "decisions_per_s": 100.0, "iteration_s": 10.0, **shares}
    (tmp_path / "rl.json").write_text(json.dumps({"figures": {"vla": [row]}}))
    gpu = {"faster": 5.0, "faster_worlds": 2.5, "spread": 0.1, "minibatches": 8, "parameters": 1e6}
    found, act_share = scale.supposed(scale.measured(tmp_path / "rl.json"), **gpu)
    assert (found.decisions, found.collect_s, found.learn_s) == (1000, 1.5, 1.0)
    assert act_share == pytest.approx(1 / 3)
    (tmp_path / "other.json").write_text(json.dumps({"figures": {}}))
    with pytest.raises(ValueError, match=r"other\.json: expected what vla bench rl"):
        scale.measured(tmp_path / "other.json")
