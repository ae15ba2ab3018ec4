"""What is learned from reward, by each algorithm, in a world that is simple enough to know the answer."""

import pytest
import torch
from following import FollowingEnv

from envs.specs import STATE_KEY
from policies.state_policy import StateNetworkConfig, StatePolicy
from rl.background import Order
from rl.config import CriticConfig, RLConfig
from rl.learner import RLLearner
from rl.rollout import Stopwatch
from rl.state_agent import StateAgent, fresh_policy


def learner(env=None, horizon=1, std=0.5, rewards=(), **fields):
    env = env or FollowingEnv(16)
    torch.manual_seed(0)
    agent = StateAgent(fresh_policy(StateNetworkConfig(horizon=horizon, width=32, std=std), env))
    settings = {
        "num_envs": env.num_envs,
        "decisions": 16,
        "minibatches": 4,
        "lr": 1e-2,
        "discount": 0.5,
        "target_kl": None,
        "critic": CriticConfig(width=32, warmup=1, lr=1e-2),
        **fields,
    }
    return RLLearner(RLConfig(**settings), agent, env, rewards=rewards)


def error(policy, env=None):
    """How far the policy's mean is from what the state says, per number; a policy of zeros has 0.5."""
    state = torch.rand(500, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return float((policy.predict_chunk({STATE_KEY: state})[:, 0] - state).abs().mean())


@pytest.mark.parametrize("horizon", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_ppo_learns_to_follow(horizon, tmp_path):
    env = FollowingEnv(16) if horizon == 1 else FollowingEnv(16, length=1)
    learning = learner(env, horizon)
    assert error(learning.agent.policy) > 0.4
    found = [learning.step(step) for step in range(30)]
    assert error(learning.agent.policy) < 0.2
    assert found[-1]["explained_variance"] == found[-1]["explained_variance"] <= 1
    learning.save(tmp_path)
    assert error(StatePolicy.load(tmp_path)) == pytest.approx(error(learning.agent.policy))


@pytest.mark.parametrize("advantages", ["grpo", pytest.param("rloo", marks=pytest.mark.slow)])
def test_groups_learn_to_follow(advantages):
    learning = learner(FollowingEnv(32, length=1), advantages=advantages, group_size=8)
    for step in range(40):
        learning.step(step)
    assert learning.critic is None
    assert error(learning.agent.policy) < 0.25


def test_its_own_successes_are_imitated():
    learning = learner(FollowingEnv(64, length=1, near=0.7), advantages="none", imitate=1.0)
    for step in range(30):
        found = learning.step(step)
    assert found["chosen"] == found["success/all"] * 64
    assert error(learning.agent.policy) < 0.25


def test_the_policy_waits_while_the_critic_warms_up():
    learning = learner(critic=CriticConfig(width=32, warmup=2, lr=1e-2))
    before = [p.clone() for p in learning.agent.parameters()]
    values = learning.critic.layers[1].weight.clone()
    learning.step(0)
    learning.step(1)
    assert all(torch.equal(old, new) for old, new in zip(before, learning.agent.parameters(), strict=True))
    assert not torch.equal(values, learning.critic.layers[1].weight)
    learning.step(2)
    assert not torch.equal(before[0], next(iter(learning.agent.parameters())))


def test_an_iteration_ends_when_an_epoch_has_moved_the_policy_far_enough(monkeypatch):
    """Not when a single minibatch says so; the rate follows."""
    fields = {"critic": CriticConfig(width=32, warmup=0), "epochs": 8}
    learning, moved = learner(target_kl=None, **fields), []
    update = learning._update
    monkeypatch.setattr(learning, "_update", lambda *args: moved.append(found := update(*args)) or found)
    assert learning.step(0)["updates"] == 8 * 4
    moved = torch.tensor([each["approx_kl"] for each in moved]).view(8, 4)
    furthest = float(moved.mean(dim=1).max())
    assert (moved > 1.1 * furthest).any()
    found = learner(target_kl=1.1 * furthest, **fields).step(0)
    assert (found["updates"], found["stopped"], found["pace"]) == (8 * 4, 0, 1)
    beyond = (moved.cumsum(dim=1) / 4 > 0.6 * furthest).flatten().nonzero()[:, 0]
    found = learner(target_kl=0.6 * furthest, **fields).step(0)
    assert found["updates"] == int(beyond[0]) + 1 < 8 * 4
    assert found["stopped"] == 1 and found["pace"] == pytest.approx(1 / 1.5) and found["approx_kl"] > 0.6 * furthest


def test_a_policy_that_is_not_the_one_that_acted_is_noticed(monkeypatch):
    learning = learner(critic=CriticConfig(width=32, warmup=0))
    assert 0 <= learning.step(0)["first_deviation"] < 1e-5
    collect = learning.collector.collect

    def changed_since(*args):
        rollout = collect(*args)
        with torch.no_grad():
            learning.agent.network.spread += 1e-3
        return rollout

    monkeypatch.setattr(learning.collector, "collect", changed_since)
    with pytest.raises(RuntimeError, match="gives other probabilities than the one that acted"):
        learning.step(1)


def test_a_reference_scales_what_it_sees_as_it_did_at_first_after_a_resume_too():
    learning = learner(reference_kl=0.1)
    for step in range(2):
        learning.step(step)
    first = dict(learning.reference.named_buffers())
    assert not torch.equal(first["network.mean"], learning.agent.network.mean)
    again = learner(reference_kl=0.1)
    again.agent.network.mean += 5.0
    again.reference.network.mean += 5.0
    again.take_back(learning.carried())
    for name, value in again.reference.named_buffers():
        assert torch.equal(value, first[name]), name


def test_neighbours_of_a_group_share_their_start():
    env = FollowingEnv(8)
    learning = learner(env, advantages="grpo", group_size=4)
    seeds = []
    for step in range(3):
        learning.step(step)
        seeds.append(env.seed.tolist())
    assert all(row == [row[0]] * 4 + [row[4]] * 4 for row in seeds)
    assert len({seed for row in seeds for seed in row}) == 6


def test_values_after_a_truncation_are_of_the_last_observation():
    """The environment is stepped again by hand, with the actions of the rollout."""
    env = FollowingEnv(4, length=3, near=0.3)
    learning = learner(env, horizon=2, decisions=5)
    rollout = learning._collect(0, Order(0, {}, None), Stopwatch(env.device)).rollout
    again = FollowingEnv(4, length=3, near=0.3)
    seed, next_seed = torch.arange(4) + 4, torch.arange(4) + 8  # the learner looked at the first ones when it was made
    observation = again.reset(seed - 4)
    with torch.no_grad():
        value = lambda seen: learning.critic(learning.agent.see(learning.agent.look(seen)))  # noqa: E731
        for t in range(5):
            torch.testing.assert_close(rollout.values[t], value(observation))
            moved = again.step_chunk(learning.agent.executable(rollout.actions[t]))
            gamma = torch.tensor([1.0, 0.5])
            torch.testing.assert_close(rollout.rewards[t], (moved.rewards * gamma).sum(1))
            assert torch.equal(rollout.steps[t], moved.steps) and moved.steps.tolist() == [2 - t % 2] * 4
            torch.testing.assert_close(rollout.next_values[t], value(moved.observation))
            observation = moved.observation
            assert rollout.ended[t].all() == (t % 2 == 1)
            if moved.ended:
                assert torch.equal(rollout.terminated[t], moved.success)
                observation = again.reset(seed if t == 1 else next_seed)


def test_what_does_not_fit_is_refused():
    env = FollowingEnv(6)
    with pytest.raises(ValueError, match=r"num_envs 6 does not divide into groups of 4"):
        learner(env, advantages="grpo", group_size=4)
    with pytest.raises(ValueError, match=r"num_envs 6 cannot be shared out to 4 shards"):
        learner(env, shards=4)
    with pytest.raises(ValueError, match=r"expected worlds of the stream 'learn', got 'evaluate'"):
        learner(FollowingEnv(6, stream="evaluate"))
    with pytest.raises(ValueError, match="imitation alone"):
        learner(env, advantages="none")
    with pytest.raises(ValueError, match="expected 8 worlds in this process, got 6"):
        learner(env, num_envs=8)
    with pytest.raises(ValueError, match="to weigh tasks, there must be several"):
        learner(env, weigh_tasks=True)
