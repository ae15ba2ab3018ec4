"""The alarm rings when the reward is had without success, and keeps still while both rise."""

import logging

import numpy as np
import pytest
import torch
from following import FollowingEnv
from test_rl_learning import learner

from envs.specs import STATE_KEY
from rl.config import CriticConfig
from rl.rewards.alarm import AlarmConfig, DivergenceAlarm
from rl.rewards.reward import Shaped, Weighed


def told(alarm, episodes):
    """The number of the episode at which it first rang, or None, and what it said."""
    for number, (reward, success) in enumerate(episodes):
        if (found := alarm.finished(reward, success)) is not None:
            return number, found
    return None, None


def honest(seed, episodes=1000):
    """Success rises from 0 to 1 and pays; the learned reward also has noise, and rises a little before that."""
    rng = np.random.default_rng(seed)
    for number in range(episodes):
        success = rng.random() < max(0.0, number / episodes - 0.2) / 0.6
        yield success * 1.0 + 0.5 * number / episodes + rng.normal(0, 0.5), bool(success)


def hacked(seed, episodes=1000, begins=500):
    """Honest for a while; then what the reward likes more and more is no success, and success fades."""
    rng = np.random.default_rng(seed)
    for number, (reward, success) in enumerate(honest(seed, episodes)):
        if number < begins:
            yield reward, success
            continue
        fooled = rng.random() < min(1.0, (number - begins) / 200)
        yield (3.0 + rng.normal(0, 0.3), False) if fooled else (reward, success)


def test_it_rings_when_the_reward_is_hacked_and_soon():
    for seed in range(3):
        number, found = told(DivergenceAlarm(), hacked(seed))
        assert number is not None and 500 < number < 750
        assert found.reward_now > found.reward_before and found.success_now < found.success_before
        assert "the learned reward rises from" in str(found) and "correlation" in str(found)


def test_it_keeps_still_while_both_rise():
    assert [told(DivergenceAlarm(), honest(seed))[0] for seed in range(6)].count(None) == 6


def test_it_rings_when_success_is_gone_altogether():
    rng = np.random.default_rng(0)
    early = [(rng.normal(0, 0.1) + won, bool(won)) for won in rng.random(100) < 0.3]
    jump = [(5 + 0.05 * number + rng.normal(0, 0.1), False) for number in range(150)]
    number, found = told(DivergenceAlarm(AlarmConfig(window=50)), early + jump)
    assert number is not None and found.success_now == 0
    nothing_yet = [(0.05 * number + rng.normal(0, 0.1), False) for number in range(300)]
    assert told(DivergenceAlarm(AlarmConfig(window=50)), nothing_yet)[0] is None


def test_it_goes_on_where_it_was():
    episodes = list(hacked(2))
    whole, _ = told(DivergenceAlarm(), episodes)
    first, second = DivergenceAlarm(), DivergenceAlarm()
    assert told(first, episodes[:300])[0] is None
    second.load_state_dict(first.state_dict())
    assert told(second, episodes[300:])[0] == whole - 300


class Easier:
    """Likes whatever it sees more and more."""

    name = "easier"

    def __init__(self):
        self.calls = 0

    def __call__(self, observation, goals):
        self.calls += 1
        return 0.2 * self.calls + observation[STATE_KEY][:, 0]


@pytest.mark.parametrize("staleness", [0, 1])
def test_a_run_says_when_its_learned_reward_has_parted_from_success(staleness, caplog):
    env, scorer = FollowingEnv(16, length=1, near=0.9), Easier()
    fields = {"decisions": 4, "staleness": staleness, "critic": CriticConfig(width=8, warmup=50), "epochs": 1}
    learning = learner(env, rewards=[Weighed([(2.0, Shaped(scorer, 0.5))])], **fields)
    found = [learning.step(step) for step in range(2)]
    assert 0 < found[0]["success/all"] < 1
    env.near = -1.0  # from now on nothing succeeds
    with caplog.at_level(logging.WARNING):
        found += [learning.step(step) for step in range(2, 7)]
    learning.close()
    assert [each["diverged"] for each in found[:2]] == [0, 0] and found[-1]["diverged"] == 1
    assert caplog.text.count("do not trust the learned reward any more: after") == 1
    again = learner(FollowingEnv(16), rewards=[Shaped(Easier(), 0.5)], **fields)
    again.recall(learning.memory())
    assert again.alarm.state_dict() == learning.alarm.state_dict()


def test_scores_are_what_was_thought_of_the_end_whatever_was_paid():
    env, shaped = FollowingEnv(4, length=1, near=5.0), Shaped(Easier(), 0.9)
    shaped.start(env.reset([0, 1, 2, 3]), env.goals)
    moved = env.step(torch.zeros(4, 2))
    before = moved.observation
    assert moved.success.all() and not torch.equal(shaped(before, moved), shaped.scores)
    torch.testing.assert_close(shaped.scores, 0.4 + moved.observation[STATE_KEY][:, 0])


def test_what_is_no_number_is_refused():
    with pytest.raises(ValueError, match="finite"):
        DivergenceAlarm().finished(float("nan"), True)
    with pytest.raises(ValueError, match="at least 8"):
        AlarmConfig(window=4)
