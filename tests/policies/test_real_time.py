"""Real-time chunking: what is fixed comes out as it was, and the rest goes on from it."""

import math

import pytest
import torch
from demonstrations import TINY_HEADS, tiny_policy
from point_mass import PointMassEnv
from policy_contract import EVERY_WORLD

from policies.policy import Underway
from vla.heads.flow_field import flow
from vla.heads.real_time import flow_on, soft_mask
from vla.observation import Begun


def flow_policy():
    return tiny_policy(head=TINY_HEADS["flow"])


def smooth_field(x, time):
    """The exact field towards chunks that wander: each action is the one before and a small step, first and last ±1."""
    h, t = x.shape[1], time[0]
    index = torch.arange(h, dtype=x.dtype)
    covariance = torch.exp(-((index[:, None] - index) ** 2) / 8.0) + 1e-3 * torch.eye(h)
    total = t**2 * covariance + (1 - t) ** 2 * torch.eye(h)
    return (t * covariance - (1 - t) * torch.eye(h)) @ torch.linalg.solve(total, x)


def begun(fixed, known, horizon=8):
    actions = 0.8 * torch.cos(0.4 * torch.arange(horizon))[None, :, None].repeat(len(fixed), 1, 2)
    actions[:, max(known) :] = float("nan")
    return Begun(actions=actions, fixed=torch.tensor(fixed), known=torch.tensor(known))


def test_the_soft_mask_is_the_papers():
    weights = soft_mask(begun([2, 0, 3], [6, 5, 3]))
    expected = [(c * (math.exp(c) - 1) / (math.e - 1)) for c in ((6 - i) / 5 for i in range(2, 6))]
    torch.testing.assert_close(weights[0], torch.tensor([1, 1, *expected, 0, 0]))
    assert weights[1].diff().max() <= 0 and 0 < weights[1, 4] < weights[1, 0] < 1
    assert weights[2].tolist() == [1] * 3 + [0] * 5


def test_what_is_fixed_stays_and_the_rest_is_continuous():
    noise = torch.randn(64, 8, 2, generator=torch.Generator().manual_seed(0))
    old = begun([3] * 64, [6] * 64)
    found = flow_on(smooth_field, noise, 20, old)
    torch.testing.assert_close(found[:, :3], old.actions[:, :3], atol=1e-5, rtol=0)
    alone = flow(smooth_field, noise, 20)
    usual = alone.diff(dim=1).abs().mean()
    seam = (found[:, 3] - found[:, 2]).abs()
    pasted = (alone[:, 3] - old.actions[:, 2]).abs()
    assert seam.mean() < 1.3 * usual and seam.mean() < 0.6 * pasted.mean()
    unheeded = flow_on(smooth_field, noise, 20, begun([3] * 64, [3] * 64))
    heeded, free = ((chunks - old.actions)[:, 3:6].abs().mean(dim=(0, 2)) for chunks in (found, unheeded))
    assert (heeded < free).all() and heeded[0] < heeded[2], "it agrees with what was planned, the sooner the more"
    assert found[:, 6:].std(dim=0).mean() > 0.5, "and is free where nothing was"


def test_without_anything_begun_it_is_the_flow_itself():
    noise = torch.randn(5, 8, 2)
    torch.testing.assert_close(flow_on(smooth_field, noise, 10, begun([0] * 5, [0] * 5)), flow(smooth_field, noise, 10))


def test_impossible_wishes_are_refused():
    noise = torch.randn(1, 8, 2)
    for fixed, known in ((3, 2), (-1, 2), (1, 9)):
        with pytest.raises(ValueError, match=rf"0 ≤ fixed ≤ known ≤ 8 .* got fixed \[{fixed}\] and known \[{known}\]"):
            flow_on(smooth_field, noise, 2, begun([fixed], [known]))
    policy = tiny_policy()
    with pytest.raises(TypeError, match="MLPHead cannot go on from a chunk that is being executed: take a flow head"):
        policy.vla.head.go_on(None, begun([1], [2]))


def test_a_plan_begins_with_what_is_under_way():
    """In the robot's units; that of a world outside of the mask means nothing, and of nothing under way it is free."""
    env, policy = PointMassEnv(3), flow_policy()
    observation = env.reset([1, 2, 3])
    _, first = policy.plan(None, observation, EVERY_WORLD)
    left = first.actions[:, 2:]
    asked = torch.tensor([True, False, True])
    underway = Underway(actions=left, length=torch.tensor([2, 1, 0]), delay=torch.tensor([1, 1, 1]))
    _, plan = policy.plan_on(None, observation, asked, underway)
    torch.testing.assert_close(plan.actions[0, 0], left[0, 0], atol=1e-5, rtol=0)
    assert not torch.allclose(plan.actions[0], first.actions[0], atol=1e-3)
    torch.testing.assert_close(plan.actions[2], first.actions[2], atol=1e-4, rtol=0)
    assert plan.length.tolist() == [policy.replan_interval, 0, policy.replan_interval]
    assert policy.continues and not tiny_policy().continues


def test_a_policy_that_cannot_go_on_plans_anew():
    policy, observation = tiny_policy(), PointMassEnv(3).reset([1, 2, 3])
    underway = Underway(actions=torch.ones(3, 2, 2), length=torch.full((3,), 2), delay=torch.ones(3, dtype=torch.long))
    _, plan = policy.plan_on(None, observation, EVERY_WORLD, underway)
    torch.testing.assert_close(plan.actions, policy.plan(None, observation, EVERY_WORLD)[1].actions)
