"""Potentials, sums of rewards, and what they keep of running episodes, in a real environment."""

import pytest
import torch
from point_mass import PointMassEnv
from tiny_rewards import Nearness, Rightness

from envs.specs import TASK_KEY
from rl.rewards.reward import Scored, Shaped, Weighed, merged

GAMMA = 0.9


def begin(env, reward, seeds):
    observation = env.reset(seeds)
    reward.start(observation, observation[TASK_KEY])
    return observation


def discounted(paid, steps):
    """As a learner sums it: what is paid at the last of ``k`` steps counts γᵏ⁻¹, on top of the steps before."""
    total, before = torch.zeros(len(steps[0])), torch.zeros(len(steps[0]))
    for reward, taken in zip(paid, steps, strict=True):
        total = total + torch.where(taken > 0, GAMMA ** (before + taken - 1) * reward, 0.0)
        before = before + taken
    return total


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_what_a_potential_pays_depends_on_begin_and_end_alone(chunk):
    """Over whole episodes, some of which terminate inside a chunk and some of which are cut short."""
    env = PointMassEnv(6, max_episode_steps=20)
    scorer = Nearness(env)
    reward = Shaped(scorer, GAMMA)
    observation = begin(env, reward, range(6))
    first, paid, steps, moved = scorer(observation, observation[TASK_KEY]), [], [], None
    torch.manual_seed(0)
    while not bool(env.done.all()):
        actions = env.expert_action()[:, None].repeat(1, chunk, 1) * 0.5
        actions[::2] += torch.randn(3, chunk, 2)
        moved = env.step_chunk(actions)
        paid.append(reward(observation, moved))
        steps.append(moved.steps)
        observation = moved.observation
    assert moved.terminated.any() and moved.truncated.any()
    length = torch.stack(steps).sum(dim=0)
    last = scorer(observation, observation[TASK_KEY]).masked_fill(moved.terminated, 0.0)
    torch.testing.assert_close(discounted(paid, steps), GAMMA**length * last - first, atol=1e-5, rtol=1e-5)
    assert reward(observation, env.step_chunk(actions)).tolist() == [0.0] * 6  # all stand still


def test_no_cycle_earns():
    env = PointMassEnv(1, max_episode_steps=100)
    reward = Shaped(Nearness(env), 1.0)
    observation, earned = begin(env, reward, [4]), []
    there = torch.tensor([[[0.3, 0.2], [0.1, -0.4]]])
    for actions in (there, -there) * 3:
        moved = env.step_chunk(actions)
        earned.append(float(reward(observation, moved)))
        observation = moved.observation
    assert max(map(abs, earned)) > 0.01
    assert sum(earned) == pytest.approx(0.0, abs=1e-5)


def test_episodes_begin_in_some_worlds_while_others_go_on():
    env = PointMassEnv(3, max_episode_steps=50)
    scorer = Nearness(env)
    reward = Shaped(scorer, GAMMA)
    observation = begin(env, reward, [0, 1, 2])
    moved = env.step_chunk(torch.full((3, 2, 2), 0.3))
    reward(observation, moved)
    anew = torch.tensor([False, True, False])
    observation = env.reset([0, 9, 2], anew)
    reward.start(observation, observation[TASK_KEY], anew)
    torch.testing.assert_close(reward.memory()["potential"], scorer(observation, observation[TASK_KEY]))


def test_what_is_remembered_goes_on_as_if_nothing_had_been():
    paid = []
    for broken in (False, True):
        env = PointMassEnv(2, max_episode_steps=50)
        reward = Weighed([(2.0, Shaped(Nearness(env), GAMMA)), (-0.5, Scored(Rightness()))])
        observation = begin(env, reward, [3, 5])
        for step in range(4):
            if broken and step == 2:
                kept = {name: tensor.clone() for name, tensor in reward.memory().items()}
                reward = Weighed([(2.0, Shaped(Nearness(env), GAMMA)), (-0.5, Scored(Rightness()))])
                reward.remember(kept, observation[TASK_KEY])
            moved = env.step_chunk(torch.full((2, 2, 2), 0.1 * step))
            paid.append(reward(observation, moved))
            assert paid[-1].equal(sum(reward.parts.values())) and set(reward.parts) == {"nearness-shaped", "rightness"}
            torch.testing.assert_close(reward.parts["rightness"], -0.5 * moved.observation["observation.state"][:, 0])
            observation = moved.observation
    assert all(a.equal(b) for a, b in zip(paid[:4], paid[4:], strict=True))


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="a name of its own"):
        Weighed([(1.0, Scored(Rightness())), (1.0, Scored(Rightness()))])
    with pytest.raises(ValueError, match="the learner's own"):
        Shaped(Rightness(), 0.0)
    with pytest.raises(ValueError, match="goals of 2 worlds"):
        merged(["a", "b"], ["c"], torch.tensor([True]))
