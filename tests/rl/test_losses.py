"""Losses against stable-baselines3's own training, closed forms and numbers by hand."""

import gymnasium
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import PPO
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from rl.losses import (
    decoupled_policy_loss,
    kl_k3,
    length_weights,
    mean_over,
    ppo_policy_loss,
    value_loss,
)
from rl.returns import normalized
from vla.objectives import Term

CLIP = {"clip_low": 0.2, "clip_high": 0.2}


def sb3_learner():
    """After a rollout, with a policy that has moved since, and at a rate at which training leaves it there."""
    settings = {"n_steps": 64, "batch_size": 64, "n_epochs": 1, "policy_kwargs": {"net_arch": [8]}, "device": "cpu"}
    limits = {"clip_range": 0.1, "clip_range_vf": 0.05, "ent_coef": 0.02, "max_grad_norm": 1e9}
    learner = PPO("MlpPolicy", gymnasium.make("Pendulum-v1"), learning_rate=0.0, seed=0, **settings, **limits)
    learner.learn(64)
    with torch.no_grad():
        for parameter in learner.policy.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    return learner


def test_losses_numbers_and_gradient_are_those_of_stable_baselines3():
    learner = sb3_learner()
    learner.train()
    told = learner.logger.name_to_value
    theirs = {name: p.grad.clone() for name, p in learner.policy.named_parameters() if p.grad is not None}
    rollout = next(learner.rollout_buffer.get(64))
    learner.policy.zero_grad()
    values, log_prob, entropy = learner.policy.evaluate_actions(rollout.observations, rollout.actions)
    everything = torch.ones(64, dtype=torch.bool)
    policy = ppo_policy_loss(
        log_prob[:, None],
        rollout.old_log_prob[:, None],
        normalized(rollout.advantages, everything),
        everything[:, None],
        clip_low=0.1,
        clip_high=0.1,
    )
    value = value_loss(values[:, 0], rollout.old_values, rollout.returns, everything, clip=0.05, pessimistic=False)
    entropy = mean_over(entropy[:, None], everything[:, None])
    (policy.loss.mean - 0.02 * entropy.mean + 2 * 0.5 * value.loss.mean).backward()

    assert 0 < told["train/clip_fraction"] < 1 and 0 < float(value.clip_fraction.mean) < 1
    for ours, name, factor in (
        (policy.loss, "policy_gradient_loss", 1),
        (policy.clip_fraction, "clip_fraction", 1),
        (policy.approx_kl, "approx_kl", 1),
        (value.loss, "value_loss", 2),
        (entropy, "entropy_loss", -1),
    ):
        assert factor * float(ours.mean.detach()) == pytest.approx(told[f"train/{name}"], rel=1e-4, abs=1e-6), name
    for name, parameter in learner.policy.named_parameters():
        if name in theirs:
            torch.testing.assert_close(parameter.grad, theirs[name], rtol=1e-3, atol=1e-5)


def one(ratio, advantage, **limits):
    """Loss and gradient by the log-probability, of one part."""
    log_prob = torch.tensor([[ratio]]).log().requires_grad_()
    found = ppo_policy_loss(
        log_prob, torch.zeros(1, 1), torch.tensor([advantage]), torch.ones(1, 1, dtype=torch.bool), **limits
    )
    found.loss.mean.backward()
    return float(found.loss.mean.detach()), float(log_prob.grad), float(found.clip_fraction.mean)


def test_clipping_by_hand():
    limits = {"clip_low": 0.2, "clip_high": 0.28}
    assert one(1.0, 2.0, **limits) == pytest.approx((-2.0, -2.0, 0.0))
    assert one(1.5, 2.0, **limits) == pytest.approx((-2.56, 0.0, 1.0))
    assert one(1.25, 2.0, **limits) == pytest.approx((-2.5, -2.5, 0.0))
    assert one(0.5, 2.0, **limits) == pytest.approx((-1.0, -1.0, 1.0))
    assert one(0.5, -2.0, **limits) == pytest.approx((1.6, 0.0, 1.0))
    assert one(1.5, -2.0, **limits) == pytest.approx((3.0, 3.0, 1.0))
    assert one(5.0, -2.0, dual_clip=3.0, **limits) == pytest.approx((6.0, 0.0, 1.0))
    assert one(2.0, -2.0, dual_clip=3.0, **limits) == pytest.approx((4.0, 4.0, 1.0))
    assert one(5.0, 2.0, dual_clip=3.0, **limits) == pytest.approx((-2.56, 0.0, 1.0))
    assert one(5.0, -2.0, log_ratio_limit=0.5, **limits) == pytest.approx((2 * 0.5**-0.5 * 1.1658, 0.0, 1.0), rel=1e-3)
    for wrong in ({"clip_low": 0.0}, {"clip_high": 0.0}, {"dual_clip": 1.0}, {"log_ratio_limit": -1.0}):
        with pytest.raises(ValueError, match="expected clip_low above 0"):
            one(1.0, 1.0, **{**limits, **wrong})


def policies(b=6, p=3, seed=0):
    """Log-probabilities of three policies, advantages, and which parts count."""
    rng = torch.Generator().manual_seed(seed)
    behaviour = torch.randn(b, p, generator=rng)
    proximal, new = (behaviour + scale * torch.randn(b, p, generator=rng) for scale in (0.3, 0.5))
    return new, proximal, behaviour, torch.randn(b, generator=rng), torch.rand(b, p, generator=rng) < 0.8


def test_a_policy_that_has_not_moved_has_ratio_one_and_the_policy_gradient():
    new, *_, advantages, mask = policies()
    log_prob = new.clone().requires_grad_()
    found = ppo_policy_loss(log_prob, new, advantages, mask, **CLIP, dual_clip=3.0, log_ratio_limit=5.0)
    found.loss.sum.backward()
    torch.testing.assert_close(log_prob.grad, -advantages[:, None] * mask)
    assert float(found.ratio.mean) == 1 and float(found.deviation.sum) == float(found.approx_kl.sum) == 0
    assert set(found.numbers) == {"ratio", "deviation", "clip_fraction", "approx_kl"}


@pytest.mark.parametrize("over", ["parts", "decisions"])
def test_the_decoupled_loss_is_ppos_where_the_proximal_policy_has_acted(over):
    new, proximal, _, advantages, mask = policies()
    log_probs = new.clone().requires_grad_(), new.clone().requires_grad_()
    extra = {**CLIP, "dual_clip": 3.0, "over": over}
    plain = ppo_policy_loss(log_probs[0], proximal, advantages, mask, **extra)
    decoupled = decoupled_policy_loss(log_probs[1], proximal, proximal, advantages, mask, weight_limit=2.0, **extra)
    for found in (plain, decoupled):
        found.loss.mean.backward()
    assert decoupled.loss == plain.loss and log_probs[0].grad.equal(log_probs[1].grad)
    assert {name: decoupled.numbers[name] for name in plain.numbers} == plain.numbers
    assert float(decoupled.weight.mean) == 1 and float(decoupled.dropped.sum) == 0


def test_the_decoupled_loss_by_hand():
    behaviour = torch.tensor([[0.5, 0.2, 0.1]]).log()
    proximal = torch.tensor([[0.25, 0.3, 0.4]]).log()
    log_prob = torch.tensor([[0.275, 0.6, 0.4]]).log().requires_grad_()
    advantages, mask = torch.tensor([2.0]), torch.ones(1, 3, dtype=torch.bool)
    found = decoupled_policy_loss(log_prob, proximal, behaviour, advantages, mask, **CLIP, weight_limit=2.0)
    found.loss.sum.backward()
    assert (
        float(found.loss.sum.detach()) == pytest.approx(-(0.5 * 1.1 * 2 + 1.5 * 1.2 * 2)) and int(found.loss.count) == 2
    )
    assert log_prob.grad[0].tolist() == pytest.approx([-0.5 * 1.1 * 2, 0.0, 0.0])
    assert float(found.weight.mean) == pytest.approx(1.0) and float(found.dropped.mean) == pytest.approx(1 / 3)
    whole = decoupled_policy_loss(log_prob, proximal, behaviour, advantages, mask, **CLIP)
    assert int(whole.loss.count) == 3 and float(whole.weight.sum) == pytest.approx(0.5 + 1.5 + 4.0)


def losses(new, proximal, behaviour, advantages, mask, over, weights=None):
    """Every loss of a policy."""
    shared = {"over": over, "weights": weights}
    return {
        "ppo": ppo_policy_loss(new, behaviour, advantages, mask, **CLIP, **shared).loss,
        "decoupled": decoupled_policy_loss(
            new, proximal, behaviour, advantages, mask, **CLIP, weight_limit=1.3, **shared
        ).loss,
        "kl": kl_k3(new, behaviour, mask, **shared),
    }


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 5), st.sampled_from(["parts", "decisions"]))
def test_pieces_add_up_to_the_whole(seed, cut, over):
    given_of = (*policies(seed=seed), torch.rand(6, generator=torch.Generator().manual_seed(seed)))
    whole = losses(*given_of[:5], over, given_of[5])
    pieces = [losses(*(x[part] for x in given_of[:5]), over, given_of[5][part]) for part in (slice(cut), slice(cut, 6))]
    for name, term in whole.items():
        together = Term.together([piece[name] for piece in pieces])
        torch.testing.assert_close(together.sum, term.sum, rtol=1e-4, atol=1e-5)
        assert together.count == term.count


@pytest.mark.parametrize("over", ["parts", "decisions"])
def test_parts_that_do_not_count_have_no_influence(over):
    new, proximal, behaviour, advantages, mask = policies()
    mask[0] = False
    unknown = [x.masked_fill(~mask, bad) for x, bad in ((new, float("nan")), (proximal, 1e9), (behaviour, -1e9))]
    log_prob = unknown[0].requires_grad_()
    found = losses(log_prob, *unknown[1:], advantages, mask, over)
    assert found == losses(new, proximal, behaviour, advantages, mask, over)
    sum(term.mean for term in found.values()).backward()
    assert log_prob.grad[mask].isfinite().all() and not log_prob.grad[~mask].any()


def test_the_mean_over_decisions_is_first_one_over_parts():
    values = torch.tensor([[1.0, 3.0, 9.0], [5.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
    mask = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    assert float(mean_over(values, mask).mean) == 3.0
    assert float(mean_over(values, mask, over="decisions").mean) == 3.5
    weighted = mean_over(values, mask, over="decisions", weights=torch.tensor([2.0, 1.0, 1.0]))
    assert float(weighted.mean) == 4.5 and int(weighted.count) == 2


def test_weights_by_length_make_the_mean_one_over_episodes():
    lengths = torch.tensor([2, 5, 3])
    episodes = [torch.randn(int(n)) for n in lengths]
    weights = length_weights(lengths, float(lengths.float().mean())).repeat_interleave(lengths)
    found = mean_over(torch.cat(episodes)[:, None], torch.ones(10, 1, dtype=torch.bool), weights=weights)
    torch.testing.assert_close(found.mean, torch.stack([each.mean() for each in episodes]).mean())
    assert length_weights(torch.tensor([0, 4]), 8.0).tolist() == [0.0, 2.0]


def test_k3_is_the_divergence_in_the_mean_and_never_negative():
    policy, reference = Normal(torch.tensor(0.1), torch.tensor(0.9)), Normal(torch.tensor(0.0), torch.tensor(1.0))
    torch.manual_seed(0)
    sample = policy.sample((200_000, 1))
    mask = torch.ones(sample.shape, dtype=torch.bool)
    term = kl_k3(policy.log_prob(sample), reference.log_prob(sample), mask)
    assert float(term.mean) == pytest.approx(float(kl_divergence(policy, reference)), rel=0.02)
    new, _, behaviour, *_ = policies(50)
    single = torch.ones(1, 1, dtype=torch.bool)
    assert all(
        kl_k3(a.view(1, 1), b.view(1, 1), single).sum >= 0
        for a, b in zip(new.flatten(), behaviour.flatten(), strict=True)
    )


def test_value_loss_by_hand():
    values, old = torch.tensor([1.0, 0.1, 5.0, 1.0]).requires_grad_(), torch.tensor([0.0, 0.0, 0.0, 0.0])
    returns, mask = torch.tensor([2.0, 1.0, 9.0, -1.0]), torch.tensor([True, True, False, True])
    plain = value_loss(values, old, returns, mask)
    assert float(plain.loss.sum.detach()) == pytest.approx(0.5 * (1 + 0.81 + 4)) and int(plain.loss.count) == 3
    assert float(plain.clip_fraction.sum) == 0
    clipped = value_loss(values, old, returns, mask, clip=0.2)
    assert float(clipped.loss.sum.detach()) == pytest.approx(0.5 * (1.8**2 + 0.81 + 4))
    assert float(clipped.clip_fraction.mean) == pytest.approx(2 / 3)
    clipped.loss.sum.backward()
    assert values.grad.tolist() == pytest.approx([0.0, -0.9, 0.0, 2.0])
    assert float(
        value_loss(values, old, returns, mask, clip=0.2, pessimistic=False).loss.sum.detach()
    ) == pytest.approx(0.5 * (1.8**2 + 0.81 + 1.2**2))


def test_huber_is_torchs_and_the_square_far_out():
    values, returns = torch.randn(50), 3 * torch.randn(50)
    everything = torch.ones(50, dtype=torch.bool)
    found = value_loss(values, values, returns, everything, huber=1.0)
    torch.testing.assert_close(found.loss.mean, functional.huber_loss(values, returns, delta=1.0))
    wide = value_loss(values, values, returns, everything, huber=1e3)
    torch.testing.assert_close(wide.loss.mean, 0.5 * functional.mse_loss(values, returns))


def test_half_precision_is_compared_in_full():
    new, _, behaviour, advantages, mask = policies()
    found = ppo_policy_loss(new.bfloat16(), behaviour.bfloat16(), advantages.bfloat16(), mask, **CLIP)
    assert found.loss.sum.dtype == torch.float32
