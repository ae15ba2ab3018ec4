"""The gaussian head against the contract, and its numbers against torch's distributions."""

import math

import pytest
import torch
from head_contract import DistributionContract
from torch import distributions
from vla_inputs import random_observation

from vla.heads.gaussian import LOG_STD_MAX, LOG_STD_MIN, GaussianChunks, GaussianConfig


def open_bridge(head):
    for layer in head.mean.layers:
        torch.nn.init.constant_(layer.gate, 0.5)


class TestGaussianBridge(DistributionContract):
    config = GaussianConfig(heads=2)

    def open_gates(self, head):
        open_bridge(head)


class TestSquashedGaussianWhoseSpreadDependsOnTheState(DistributionContract):
    within = 0.3  # the spread it learns along makes its last steps restless

    config = GaussianConfig(mean="mlp", width=16, spread="state", squash=True)


class TestGaussianThatRegresses(DistributionContract):
    config = GaussianConfig(mean="mlp", width=16, loss="l1")
    unused = ("spread",)


def chunks(squash, std=(0.3, 1.5)):
    mean = torch.randn(2, 4, 2)
    return GaussianChunks(mean, torch.tensor(std).log(), squash=squash), distributions.Normal(mean, torch.tensor(std))


def test_log_probability_and_entropy_are_those_of_the_normal_distribution():
    ours, theirs = chunks(squash=False)
    latent = ours.sample().latent
    log_prob, entropy = ours.evaluate(latent)
    torch.testing.assert_close(log_prob, theirs.log_prob(latent))
    torch.testing.assert_close(entropy, theirs.entropy().expand_as(entropy))


def test_squashed_log_probability_is_that_of_the_transformed_distribution():
    ours, normal = chunks(squash=True)
    theirs = distributions.TransformedDistribution(normal, distributions.TanhTransform())
    sample = ours.sample()
    assert sample.actions.equal(sample.latent.tanh())
    inside = sample.latent.abs() < 3
    torch.testing.assert_close(
        ours.log_prob(sample.latent)[inside], theirs.log_prob(sample.actions)[inside], atol=1e-4, rtol=1e-4
    )
    assert ours.log_prob(torch.full((2, 4, 2), 50.0)).isfinite().all()


def test_squashed_entropy_is_the_integral_over_actions():
    ours, normal = chunks(squash=True)
    theirs = distributions.TransformedDistribution(normal, distributions.TanhTransform())
    latent = torch.linspace(-12, 12, 4001)
    action = latent.double().tanh()
    log_p = theirs.log_prob(action[:, None, None, None].float().clamp(-1 + 1e-7, 1 - 1e-7))
    slope = (1 - action.square())[:, None, None, None]
    expected = -(log_p.exp() * log_p * slope).nan_to_num().sum(0) * float(latent[1] - latent[0])
    torch.testing.assert_close(ours.entropy(ours.mean).double(), expected, atol=2e-2, rtol=1e-2)


@torch.no_grad()
def test_the_spread_starts_where_it_is_told_to_and_stays_within_bounds():
    backbone, head = TestGaussianBridge().make()
    features = backbone(random_observation(backbone))
    assert head.distribution(features).log_std.exp().mean() == pytest.approx(0.3)
    head.spread += 1e4
    assert head.distribution(features).log_std.max() <= LOG_STD_MAX
    head.spread -= 2e4
    assert head.distribution(features).log_std.min() >= LOG_STD_MIN


def test_samples_have_the_mean_and_spread_they_are_said_to_have():
    ours = GaussianChunks(torch.full((20000, 1, 1), 0.5), torch.tensor([math.log(0.2)]), squash=False)
    drawn = ours.sample(torch.Generator().manual_seed(0)).actions
    assert drawn.mean() == pytest.approx(0.5, abs=0.01) and drawn.std() == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"mean": "cnn"}, "expected mean .* bridge, mlp, got 'cnn'"), ({"std": 20.0}, "std .* between 0.0067 and 2.7183")],
)
def test_settings_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        GaussianConfig(**fields)
