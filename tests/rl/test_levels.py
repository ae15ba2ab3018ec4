"""Log-probabilities summed to numbers, actions and chunks, of what was executed alone."""

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rl.levels import Level, at_level, check_level, evaluate
from vla.heads.flow_field import FlowPaths
from vla.heads.gaussian import GaussianChunks

B, S, H, A = 3, 2, 4, 2
LEVELS = get_args(Level)


def gaussian():
    mean = torch.randn(B, H, A, requires_grad=True)
    return GaussianChunks(mean, torch.zeros(A), squash=False), mean


def flow():
    """Whose velocities are of each number by itself."""
    pull = torch.randn(B, H, A, requires_grad=True)
    return FlowPaths(lambda x, time: pull - x, torch.zeros(B, H, A), steps=S, level=0.5), pull


@pytest.mark.parametrize(("given_of", "parts"), [(gaussian, H * A), (flow, S * H * A)])
def test_sums_are_of_numbers_actions_and_the_chunk(given_of, parts):
    torch.manual_seed(0)
    distribution, _ = given_of()
    latent = distribution.sample().latent
    all_of_it = torch.full((B,), H)
    number, action, chunk = (evaluate(distribution, latent, level, all_of_it) for level in LEVELS)
    assert number.log_prob.shape == number.entropy.shape == number.mask.shape == (B, parts)
    assert action.log_prob.shape == (B, H) and chunk.log_prob.shape == (B, 1)
    assert number.mask.all() and action.mask.all() and chunk.mask.all()
    log_prob, entropy = distribution.evaluate(latent)
    by_action = log_prob.sum(dim=-1) if log_prob.ndim == 3 else log_prob.sum(dim=(1, 3))
    torch.testing.assert_close(action.log_prob, by_action)
    torch.testing.assert_close(chunk.log_prob[:, 0], log_prob.flatten(1).sum(dim=1))
    torch.testing.assert_close(chunk.entropy[:, 0], entropy.flatten(1).sum(dim=1))
    assert sorted(number.log_prob[0].tolist()) == sorted(log_prob[0].flatten().tolist())


EXECUTED = torch.tensor([0, 1, 3])


def evaluated(given_of, level, **which):
    """A distribution, its parameter with the gradient of log-probabilities, a latent of it, and what is said of it."""
    torch.manual_seed(0)
    distribution, parameter = given_of()
    latent = distribution.sample().latent
    found = evaluate(distribution, latent, level, EXECUTED, **which)
    found.log_prob.square().sum().backward()
    return distribution, parameter, latent, found


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("given_of", [gaussian, flow])
def test_actions_that_were_not_executed_have_no_influence(given_of, level):
    distribution, parameter, latent, found = evaluated(given_of, level)
    reached = parameter.grad.abs().sum(dim=-1) > 0
    assert reached.equal(torch.arange(H) < EXECUTED[:, None])
    unexecuted = (torch.arange(H) >= EXECUTED[:, None])[..., None]
    other = latent + 10 * (unexecuted if latent.ndim == 3 else unexecuted[:, None])
    again = evaluate(distribution, other, level, EXECUTED)
    assert again.log_prob.equal(found.log_prob) and again.mask.equal(found.mask)
    assert not found.log_prob[~found.mask].any() and not found.mask[0].any()


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**31), st.data())
def test_every_level_adds_up_to_the_same(h, a, seed, data):
    executed = torch.tensor(data.draw(st.lists(st.integers(0, h), min_size=2, max_size=2)))
    parts = torch.randn(2, 3, h, a, generator=torch.Generator().manual_seed(seed))
    expected = torch.stack([row[:, :k].sum() for row, k in zip(parts, executed.tolist(), strict=True)])
    for level, share in zip(LEVELS, (3 * a, 1, 0), strict=True):
        values, mask = at_level(parts, level, executed, action_axis=2)
        torch.testing.assert_close(values.sum(dim=1), expected, rtol=1e-4, atol=1e-5)
        assert mask.sum(dim=1).equal(share * executed if share else (executed > 0).long())


def test_tokens_of_the_chunk_as_a_whole_have_its_level_alone():
    parts = torch.tensor([[1.0, 2.0, 0.0], [4.0, 5.0, 6.0]])
    values, mask = at_level(parts, "chunk", torch.tensor([2, 0]), action_axis=None)
    assert values.tolist() == [[3.0], [0.0]] and mask.tolist() == [[True], [False]]
    for level in ("number", "action"):
        with pytest.raises(ValueError, match=f"expected level 'chunk' .* FAST's tokens are, got '{level}'"):
            at_level(parts, level, torch.tensor([2, 0]), action_axis=None)
    check_level("number", 1)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("given_of", [gaussian, flow])
def test_numbers_that_do_not_move_have_no_influence(given_of, level):
    moving = torch.tensor([True, False])
    distribution, parameter, latent, found = evaluated(given_of, level, moving=moving)
    assert (parameter.grad != 0).equal((torch.arange(H) < EXECUTED[:, None])[..., None] & moving)
    other = torch.where(moving, latent, latent + 10)
    again = evaluate(distribution, other, level, EXECUTED, moving)
    assert again.log_prob.equal(found.log_prob) and again.entropy.equal(found.entropy)
    log_prob, _ = distribution.evaluate(latent)
    alone = at_level(log_prob[..., :1], level, EXECUTED, distribution.action_axis)[0]
    assert found.log_prob.sum(dim=1).allclose(alone.sum(dim=1))
    whole = evaluate(distribution, latent, level, EXECUTED)
    assert int(found.mask.sum()) == int(whole.mask.sum()) // (2 if level == "number" else 1)
