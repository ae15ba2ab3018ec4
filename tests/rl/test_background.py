"""Acting while learning: how old what acts may be, that it learns all the same, and that its end is noticed."""

import threading
import time

import pytest
import rl_crews
import torch
from following import FollowingEnv
from stopping import stopped_before
from test_rl_learning import error, learner

from policies.training.metrics import read_metrics
from rl.background import BackgroundCollector, CollectorError, Order
from rl.config import CriticConfig
from rl.learner import RLLearner

WARM = {"staleness": 1, "critic": CriticConfig(width=32, warmup=0, lr=1e-2), "iterations": 12, "lr": 4e-3}


def test_a_policy_that_acts_while_it_learns_learns_to_follow():
    learning = learner(**WARM)
    assert error(learning.agent.policy) > 0.4
    found = [learning.step(step) for step in range(12)]
    assert error(learning.agent.policy) < 0.2
    assert [each["staleness"] for each in found] == [0.0] + [1.0] * 11
    assert all(each["first_deviation"] < 1e-5 for each in found)
    assert any(abs(each["weight"] - 1) > 1e-3 for each in found[1:])
    assert learning.timings()["share_wait"] >= 0
    learning.close()
    with pytest.raises(CollectorError, match="has collected all 12 iterations"):
        learning.step(12)


def background(collect, **more):
    settings = {"first": 0, "end": 6, "staleness": 2, "patience_s": 5.0, "device": torch.device("cpu"), "name": "it"}
    return BackgroundCollector(collect, **{**settings, **more})


def test_nothing_is_collected_by_a_policy_older_than_it_may_be():
    ages, standing = [], threading.Event()

    def collect(step, order, watch):
        assert not standing.is_set()
        ages.append(step - order.version)
        time.sleep(0.005)
        return step

    collector = background(collect)
    for version in range(6):
        collector.order(Order(version, {}, None))
        collector.rest()
        standing.set()
        assert len(ages) == min(6, version + 3)
        time.sleep(0.01)
        standing.clear()
        assert collector.take() == version
    assert max(ages) == 2 and ages[0] == 0
    collector.close()


class FailingEnv(FollowingEnv):
    """Breaks in one of its steps, or stands still there until ``go`` is set."""

    def __init__(self, num_envs, at, go=None):
        super().__init__(num_envs)
        self.at, self.go = at, go

    def step_chunk(self, actions):
        self.at -= 1
        if self.at < 0 and self.go is None:
            raise OSError("the renderer was killed")
        if self.at < 0:
            self.go.wait(20)
        return super().step_chunk(actions)


def test_a_collector_that_dies_is_named_and_not_waited_for():
    learning = learner(FailingEnv(16, at=16 * 3), **WARM)
    with pytest.raises(CollectorError, match=r"collector of rank 0, in iteration 4, failed: OSError: the renderer was"):
        for step in range(12):
            learning.step(step)
    assert step <= 3
    with pytest.raises(CollectorError, match="the renderer was killed"):
        learning.carried()
    learning.close()


def test_a_collector_that_hangs_is_named_and_not_waited_for():
    go = threading.Event()
    learning = learner(FailingEnv(16, at=20, go=go), patience_s=0.4, **WARM)
    with pytest.raises(CollectorError, match="in iteration 2, has given no sign of life"):
        for step in range(12):
            learning.step(step)
    go.set()
    learning.close()


def test_a_run_that_acts_while_it_learns_is_gone_on_with(tmp_path):
    with stopped_before(3, RLLearner):
        rl_crews.run(tmp_path, staleness=1)
    summary = rl_crews.run(tmp_path, resume=True, staleness=1)
    assert summary.resumed_from == 2 and summary.steps == 4
    assert [line["staleness"] for line in read_metrics(tmp_path)] == [0, 1, 0, 1]
    assert not [thread for thread in threading.enumerate() if "collector" in thread.name]
