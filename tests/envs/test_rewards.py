"""The dense reward: potential-based, so that it changes what is learned quickly and not what is best."""

import pytest
import torch

from envs.vector import TaskEnv

GAMMA = 0.97


def shaped(task: str, worlds: int, **settings) -> TaskEnv:
    return TaskEnv(task, worlds, render=False, reward="dense", discount=GAMMA, **settings)


def test_what_an_episode_pays_is_its_success_less_where_it_began():
    """Σ γᵗ r telescopes to γᵀ·1[solved] − Φ(s₀) where the task is solved, whatever the way."""
    env = shaped("place", 6)
    env.reset(list(range(6)))
    start = env.task.potential(env.sense(), env.layout)
    paid, weight, steps = torch.zeros(6), torch.ones(6), torch.zeros(6)
    while True:
        moved = env.step(env.expert_action())
        paid += weight * moved.reward
        weight = torch.where(moved.steps > 0, weight * GAMMA, weight)
        steps += moved.steps
        if bool((moved.terminated | moved.truncated).all()):
            break
    assert bool(moved.success.all())
    assert torch.allclose(paid, GAMMA ** (steps - 1) - start, atol=1e-4)
    env.close()


def test_no_cycle_earns():
    """Going to and fro, back to where it was, costs (1 − γᵀ)Φ, and so does staying."""
    env = shaped("reach", 2, max_episode_steps=10**6)
    env.reset([0, 1])
    for _ in range(20):
        env.step(torch.zeros(2, 7))
    before = env.task.potential(env.sense(), env.layout)
    way = torch.zeros(2, 7)
    way[0, 1] = 0.02  # the second world stays
    paid, weight = torch.zeros(2), 1.0
    for sign in [1.0] * 8 + [-1.0] * 8 + [0.0] * 14:
        paid += weight * env.step(sign * way).reward
        weight *= GAMMA
    after = env.task.potential(env.sense(), env.layout)
    assert torch.allclose(before, after, atol=1e-3)
    assert torch.allclose(paid, (weight - 1) * before, atol=1e-3) and bool((paid < 0).all())
    env.close()


def test_a_chunk_pays_per_step_what_single_steps_pay():
    chunk, single = shaped("pick", 3), shaped("pick", 3)
    chunk.reset([0, 1, 2])
    single.reset([0, 1, 2])
    actions = 0.02 * torch.randn(3, 6, 7, generator=torch.Generator().manual_seed(0))
    whole = chunk.step_chunk(actions)
    steps = torch.stack([single.step(action).reward for action in actions.unbind(1)], 1)
    assert torch.equal(whole.rewards, steps) and torch.allclose(whole.reward, steps.sum(1))
    chunk.close()
    single.close()


@pytest.mark.parametrize("discount", [0.0, -0.1, 1.1])
def test_a_discount_out_of_range_is_refused(discount):
    with pytest.raises(ValueError, match="discount must lie in 0 … 1"):
        TaskEnv("reach", 1, render=False, reward="dense", discount=discount)
