"""RLCF: a policy that learns from a score while it acts, and forgets it when the episode is over."""

import pytest
import torch
from demonstrations import TINY_HEADS, tiny_policy
from point_mass import PointMassEnv
from tiny_rewards import Nearness

from envs.specs import DETERMINISTIC, STATE_KEY
from policies.evaluation import evaluate
from policies.execution import Execution
from rl.feedback.config import FeedbackConfig
from rl.feedback.learning import Candidates, HeadLearner, repeated
from rl.feedback.policy import FeedbackPolicy
from rl.feedback.trying import Rehearsal
from rl.vla_agent import VLAAgent, with_distribution

SETTINGS = {"reward": "nearness", "lr": 1e-2, "candidates": 6, "steps": 3, "std": 0.5}


def feedback(env, **fields):
    config = FeedbackConfig(**{**SETTINGS, **fields})
    agent = VLAAgent(with_distribution(tiny_policy(head=TINY_HEADS["bridge"]), config.std))
    return FeedbackPolicy(agent, Nearness(env), config, env)


def first_actions(policy, env, seeds):
    """Two decisions of each episode from its beginning."""
    observation, execution = env.reset(seeds), Execution(policy, env.num_envs)
    taken = []
    for _ in range(2):
        execution.plan(observation)
        taken.append(execution.advance())
        observation = env.step_chunk(taken[-1]).observation
    return torch.cat(taken, dim=1)


@pytest.mark.parametrize("tried", ["worlds", "past"])
def test_nothing_of_an_episode_is_left_in_the_next(tried):
    env = PointMassEnv(3, max_episode_steps=8)
    policy = feedback(env, tried=tried, candidates=2, steps=1)
    own = {name: weight.clone() for name, weight in policy._agent.vla.state_dict().items()}
    first = evaluate(env, policy, [1, 2, 3], show_progress=False)
    again = evaluate(env, policy, [1, 2, 3], show_progress=False)
    assert [(e.steps, e.reward) for e in first.episodes] == [(e.steps, e.reward) for e in again.episodes]
    actions = first_actions(policy, env, [4, 5, 6])
    assert torch.equal(first_actions(policy, env, [4, 5, 6]), actions)
    assert torch.equal(first_actions(feedback(env, tried=tried, candidates=2, steps=1), env, [4, 5, 6]), actions)
    after = policy._agent.vla.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in own.items())


def test_what_is_planned_leaves_what_was_remembered_as_it_was():
    env = PointMassEnv(2)
    policy = feedback(env)
    observation, everywhere, begun = env.reset([1, 2]), torch.ones(2, dtype=torch.bool), policy.start(2)
    state, plan = policy.plan(begun, observation, everywhere)
    assert begun == policy.start(2) and all(world.learned is not None for world in state)
    assert torch.equal(policy.plan(begun, observation, everywhere)[1].actions, plan.actions)
    only, half = policy.plan(begun, observation, torch.tensor([True, False]))
    assert only[1] is begun[1] and not half.actions[1].any()
    torch.testing.assert_close(half.actions[0], plan.actions[0])


def test_worlds_are_put_back_and_scores_are_those_of_carrying_it_out():
    env = PointMassEnv(3)
    observation = env.reset([1, 2, 3])
    goals, mask = list(observation["task"]), torch.tensor([True, False, True])
    chunks = torch.rand(2, 2, 2, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    before = env.snapshot().tensors
    scores = Rehearsal(env, Nearness(env))(chunks, torch.tensor([True, True, False]), goals[:2])
    assert all(torch.equal(env.snapshot().tensors[name], value) for name, value in before.items())
    with pytest.raises(ValueError, match="at least one chunk"):
        Rehearsal(env, Nearness(env))(chunks[:0], mask, goals[:2])
    moved = env.step_chunk(torch.cat([chunks[1], torch.zeros(1, 2, 2)]))
    assert torch.equal(scores[:, 1], Nearness(env)(moved.observation, goals)[:2])


def test_a_step_follows_the_gradient_of_reinforce_with_the_mean_as_baseline():
    agent = VLAAgent(with_distribution(tiny_policy(head=TINY_HEADS["bridge"]), 0.5))
    config = FeedbackConfig(reward="x", lr=1e-3, weight_decay=0.0)
    learner = HeadLearner(agent, config)
    looked = repeated(agent.look(PointMassEnv(1).reset([1])), 0, 3)
    sample = learner.draw(None, looked, torch.Generator().manual_seed(0))
    reward = torch.tensor([1.0, 0.0, -0.5])
    learned = learner.improve(None, Candidates(looked=looked, latent=sample.latent, reward=reward))
    assert learned is not None
    head = with_distribution(tiny_policy(head=TINY_HEADS["bridge"]), 0.5).vla.head
    parts = head.distribution(agent.see(looked).by_the_head).log_prob(sample.latent)[:, : agent.execute]
    (-((reward - reward.mean()) * parts.sum(dim=(1, 2))).mean()).backward()
    for name, weight in learned.head.named_parameters():
        start, gradient = head.get_parameter(name), head.get_parameter(name).grad
        if gradient is not None:
            stepped = start - 1e-3 * gradient / (gradient.abs() + 1e-8)  # AdamW's first step
            torch.testing.assert_close(weight, stepped.detach())
    same = Candidates(looked=looked, latent=sample.latent, reward=torch.ones(3))
    assert learner.improve(learned, same) is learned


@pytest.mark.slow
@pytest.mark.parametrize("tried", ["worlds", "past"])
def test_a_true_score_brings_an_untaught_policy_nearer(tried):
    """By the end of an episode, over 12 of them."""
    env, seeds = PointMassEnv(12), list(range(12))
    policy = feedback(env, tried=tried, candidates=6 if tried == "worlds" else 2)

    def distance(acting):
        observation, execution = env.reset(seeds), Execution(acting, 12)
        goals = list(observation["task"])
        for _ in range(8):
            execution.plan(observation)
            observation = env.step_chunk(execution.advance()).observation
        return -Nearness(env)(observation, goals).mean()

    plain = VLAAgent(with_distribution(tiny_policy(head=TINY_HEADS["bridge"]), 0.5)).acting()
    assert distance(policy) < distance(plain) - 0.1


def test_what_cannot_be_is_refused():
    env = PointMassEnv(1)
    env.capabilities = frozenset({DETERMINISTIC})
    with pytest.raises(ValueError, match="learn from the past instead"):
        feedback(env)
    assert STATE_KEY in env.reset([0]) and feedback(env, tried="past").start(1)
    for wrong in ({"candidates": 1}, {"steps": 0}, {"lr": 0.0}, {"tried": "never"}):
        with pytest.raises(ValueError):
            FeedbackConfig(**wrong)
