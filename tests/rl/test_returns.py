"""Advantages against stable-baselines3's buffer, and against what they stand for."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.buffers import RolloutBuffer

from rl.returns import discounted, discounts, gae, group_advantages, informative, moments, normalized

GAMMA, LAM = 0.97, 0.9


def numbers(t, n, seed=0):
    """Rewards, values, values of what comes next, and where episodes terminate and are truncated."""
    rng = torch.Generator().manual_seed(seed)
    rewards, values, finals = (torch.randn(t, n, generator=rng) for _ in range(3))
    ends = torch.rand(t, n, generator=rng)
    terminated, truncated = ends < 0.1, ends > 0.85
    following = torch.cat([values[1:], torch.randn(1, n, generator=rng)])
    return rewards, values, torch.where(terminated | truncated, finals, following), terminated, truncated


def sb3(rewards, values, next_values, terminated, truncated):
    """As stable-baselines3 collects: what a truncated episode was still worth goes into its last reward."""
    t, n = rewards.shape
    space = Box(-1, 1, (1,))
    buffer = RolloutBuffer(t, space, space, device="cpu", gae_lambda=LAM, gamma=GAMMA, n_envs=n)
    rewards = rewards + GAMMA * next_values * truncated
    ended = terminated | truncated
    starts = torch.cat([torch.ones(1, n, dtype=torch.bool), ended[:-1]])
    nothing = np.zeros((n, 1), dtype=np.float32)
    for i in range(t):
        buffer.add(nothing, nothing, rewards[i].numpy(), starts[i].numpy(), values[i], torch.zeros(n))
    buffer.compute_returns_and_advantage(next_values[-1], ended[-1].numpy())
    return torch.from_numpy(buffer.advantages), torch.from_numpy(buffer.returns)


@pytest.mark.parametrize("seed", range(5))
def test_advantages_and_returns_are_those_of_stable_baselines3(seed):
    rewards, values, next_values, terminated, truncated = numbers(60, 4, seed)
    assert terminated.any() and truncated.any() and not (terminated & truncated).any()
    discount = torch.full_like(rewards, GAMMA)
    found = gae(rewards, values, next_values, terminated, terminated | truncated, discount, LAM)
    advantages, returns = sb3(rewards, values, next_values, terminated, truncated)
    torch.testing.assert_close(found.advantages, advantages, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.returns, returns, rtol=1e-5, atol=1e-5)


def test_nothing_comes_after_an_episode_that_terminated():
    rewards, values, next_values, terminated, truncated = numbers(30, 3)
    discount = torch.full_like(rewards, GAMMA)
    ended = terminated | truncated
    found = gae(rewards, values, next_values, terminated, ended, discount, LAM)
    unknown = next_values.masked_fill(terminated, float("nan"))
    again = gae(rewards, values, unknown, terminated, ended, discount, LAM)
    assert again.advantages.equal(found.advantages)
    first = int(ended[:, 0].nonzero()[0, 0])
    later = rewards.clone()
    later[first + 1 :, 0] += 1
    changed = gae(later, values, next_values, terminated, ended, discount, LAM).advantages != found.advantages
    assert not changed[: first + 1].any() and not changed[:, 1:].any() and changed[first + 1, 0]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(0, 2**31), st.booleans())
def test_decisions_return_what_their_control_steps_do(steps, seed, terminates):
    """With λ = 1 the return is the discounted sum of all rewards, however many steps each decision took."""
    rng = torch.Generator().manual_seed(seed)
    taken, k = torch.tensor(steps)[:, None], 4
    rewards = torch.randn(len(steps), 1, k, generator=rng)
    values, last = torch.randn(len(steps), 1, generator=rng), torch.randn((), generator=rng)
    next_values = torch.cat([values[1:], last[None, None]])
    ended = torch.zeros_like(taken, dtype=torch.bool)
    ended[-1] = True
    found = gae(
        discounted(rewards, taken, GAMMA),
        values,
        next_values,
        ended & terminates,
        ended,
        discounts(taken, GAMMA),
        lam=1.0,
    )
    flat = [r for row, m in zip(rewards[:, 0].tolist(), steps, strict=True) for r in row[:m]]
    expected = sum(GAMMA**i * r for i, r in enumerate(flat)) + (0 if terminates else GAMMA ** len(flat) * float(last))
    assert float(found.returns[0, 0]) == pytest.approx(expected, abs=1e-4)


def test_rewards_after_the_last_step_of_a_decision_do_not_count():
    rewards = torch.tensor([[1.0, 2.0, 4.0], [1.0, float("nan"), float("inf")], [float("nan")] * 3])
    assert discounted(rewards, torch.tensor([3, 1, 0]), 0.5).tolist() == [3.0, 1.0, 0.0]
    assert discounts(torch.tensor([0, 1, 3]), 0.5).tolist() == [1.0, 0.5, 0.125]


def test_groups_by_hand():
    returns = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 3.0, 0.0, 0.0], [0.1, 0.1, 0.1, 0.1]])
    grpo = group_advantages(returns, std=True, leave_one_out=False)
    torch.testing.assert_close(grpo[0], torch.tensor([0.5, -0.5, -0.5, 0.5]) / (1 / 3) ** 0.5)
    torch.testing.assert_close(grpo[1], torch.tensor([-0.5, 1.5, -0.5, -0.5]))
    rloo = group_advantages(returns, std=False, leave_one_out=True)
    torch.testing.assert_close(rloo[0], torch.tensor([2 / 3, -2 / 3, -2 / 3, 2 / 3]))
    torch.testing.assert_close(rloo[1], torch.tensor([-1.0, 3.0, -1.0, -1.0]))
    assert grpo[2].tolist() == rloo[2].tolist() == [0.0] * 4
    assert informative(returns).tolist() == [True, True, False]
    assert informative(returns, low=0.1, high=0.6).tolist() == [True, False, False]
    with pytest.raises(ValueError, match="at least 2 episodes to compare, got 3 of 1"):
        group_advantages(returns[:, :1], std=True, leave_one_out=False)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 6), st.integers(0, 2**31), st.booleans(), st.booleans())
def test_advantages_of_a_group_cancel_and_keep_its_order(m, seed, std, leave_one_out):
    returns = torch.randn(3, m, generator=torch.Generator().manual_seed(seed))
    advantages = group_advantages(returns, std=std, leave_one_out=leave_one_out)
    assert advantages.sum(dim=1).abs().max() < 1e-4
    assert advantages.argsort(dim=1).equal(returns.argsort(dim=1))
    if not std and leave_one_out:
        others = (returns.sum(dim=1, keepdim=True) - returns) / (m - 1)
        torch.testing.assert_close(advantages, returns - others, rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(0, 2**31), st.floats(-1e3, 1e3), st.floats(1e-2, 1e2))
def test_values_are_normalised_over_those_that_count(size, seed, mean, std):
    rng = torch.Generator().manual_seed(seed)
    values, mask = mean + std * torch.randn(size, generator=rng), torch.rand(size, generator=rng) < 0.7
    found = normalized(values.masked_fill(~mask, float("nan")), mask)
    assert not found[~mask].any()
    valid = values[mask].double()
    expected = (valid - valid.mean()) / (valid.std() + 1e-8) if len(valid) > 1 else valid
    torch.testing.assert_close(found[mask].double(), expected, rtol=1e-3, atol=1e-2)


def test_parts_are_normalised_as_the_whole():
    values, mask = torch.randn(20), torch.rand(20) < 0.7
    whole = sum(moments(values[part], mask[part]) for part in (slice(0, 6), slice(6, 20)))
    found = torch.cat([normalized(values[part], mask[part], whole) for part in (slice(0, 6), slice(6, 20))])
    torch.testing.assert_close(found, normalized(values, mask))
