"""The alarm rings when the reward is had without success, and keeps still while both rise."""

import numpy as np
import pytest

from rl.rewards.alarm import AlarmConfig, DivergenceAlarm


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


def test_what_is_no_number_is_refused():
    with pytest.raises(ValueError, match="finite"):
        DivergenceAlarm().finished(float("nan"), True)
    with pytest.raises(ValueError, match="at least 8"):
        AlarmConfig(window=4)
