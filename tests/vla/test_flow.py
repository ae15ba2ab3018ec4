"""The flow head: its path, fields whose chunks are known in closed form, and paths whose probability is."""

import math
from dataclasses import replace

import pytest
import torch
from head_contract import DistributionContract
from torch import nn
from vla_inputs import HORIZON, random_observation, random_target

from vla.features import TokenRole
from vla.heads.flow import FlowConfig
from vla.heads.flow_field import FlowPaths, between, flow


class TestFlow(DistributionContract):
    config = FlowConfig(width=16, heads=2, steps=4)
    steps, copies, within = 150, 16, 0.35  # each step sees one noise and one time of each copy

    def check_mean(self, whole, expected):
        """Noise and times are drawn anew in every pass, so they agree in the mean only: see the test below."""

    def test_the_loss_is_the_mean_square_over_valid_actions(self, monkeypatch):
        backbone, head = self.make()
        features, target = backbone(random_observation(backbone)), random_target(2)
        target.valid[0, 2:] = False
        monkeypatch.setattr(head, "field", lambda seen: lambda x, time: torch.zeros_like(x))
        torch.manual_seed(0)
        loss, _ = head.loss(features, target)
        torch.manual_seed(0)
        torch.distributions.Beta(1.5, 1.0).sample((2,))
        actions = target.actions.clone()
        actions[0, 2:] = actions[0, 1]
        error = (actions - torch.randn(2, HORIZON, 3)).square()
        torch.testing.assert_close(loss, torch.cat([error[0, :2], error[1]]).mean())

    def test_what_is_seen_is_looked_at_once(self):
        backbone, head = self.make()
        looks = []
        for layer in head.expert.layers:
            layer.seen_key_value.register_forward_hook(lambda *_: looks.append(1))
        head.act(backbone(random_observation(backbone)))
        assert len(looks) == backbone.depth

    def test_each_layer_looks_at_the_layer_of_its_depth_and_not_at_padding(self):
        backbone, head = self.make()
        features = backbone(random_observation(backbone))
        text = features.layout.where(TokenRole.TEXT)
        for layer in range(backbone.depth):
            hidden = features.hidden.clone()
            hidden[layer, :, text[0]] = torch.randn(backbone.width)
            assert (head.act(features) - head.act(replace(features, hidden=hidden))).abs().max() > 1e-5
        features.mask[:, text[0]] = False
        hidden = features.hidden.clone()
        hidden[:, :, text[0]] = torch.randn(backbone.width)
        torch.testing.assert_close(head.act(features), head.act(replace(features, hidden=hidden)))


def gaussian_field(mean, std):
    """The exact field towards independent numbers of this mean and standard deviation."""

    def field(x, time):
        t = time[:, None, None]
        variance = t**2 * std**2 + (1 - t) ** 2
        return mean + (t * std**2 - (1 - t)) / variance * (x - t * mean)

    return field


def two_modes(x, time, std=0.05):
    """The exact field towards −1 and 1 with equal weight, each of standard deviation ``std``."""
    t = time[:, None, None]
    variance = t**2 * std**2 + (1 - t) ** 2
    log_weight = torch.stack([-0.5 * (x - t * mean) ** 2 / variance for mean in (-1.0, 1.0)])
    fields = torch.stack([gaussian_field(mean, std)(x, time) for mean in (-1.0, 1.0)])
    return (log_weight.softmax(dim=0) * fields).sum(dim=0)


def test_the_path_is_straight_and_has_its_ends():
    actions, noise = torch.randn(3, 2, 2), torch.randn(3, 2, 2)
    for time, expected in ((0.0, noise), (1.0, actions), (0.25, 0.25 * actions + 0.75 * noise)):
        x, velocity = between(actions, noise, torch.full((3,), time))
        torch.testing.assert_close(x, expected)
        torch.testing.assert_close(velocity, actions - noise)
    later, _ = between(actions, noise, torch.full((3,), 0.35))
    earlier, velocity = between(actions, noise, torch.full((3,), 0.25))
    torch.testing.assert_close((later - earlier) / 0.1, velocity, atol=1e-5, rtol=1e-5)


def test_one_step_is_exact_where_there_is_one_chunk_and_more_steps_come_nearer_elsewhere():
    noise = torch.randn(64, 2, 3)
    only = torch.full_like(noise, 0.4)
    torch.testing.assert_close(flow(lambda x, t: (only - x) / (1 - t[:, None, None]), noise, 1), only)
    mean, std = 0.3, 0.2  # the exact flow moves quantiles to quantiles
    errors = [
        (flow(gaussian_field(mean, std), noise, steps) - (mean + std * noise)).abs().max() for steps in (1, 4, 64)
    ]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.05


def test_the_exact_field_recovers_two_modes():
    found = flow(two_modes, torch.randn(4000, 1, 1, generator=torch.Generator().manual_seed(0)), 50)
    assert ((found.abs() - 1).abs() < 0.2).float().mean() > 0.97
    assert (found > 0).float().mean() == pytest.approx(0.5, abs=0.03)


def test_a_learned_field_recovers_two_modes():
    """Regression on pairs learns the same: no average of the modes is left."""
    network = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))

    def field(x, time):
        return network(torch.cat([x[:, :, 0], time[:, None]], dim=1))[..., None]

    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(600):
        actions = (torch.randint(2, (256, 1, 1)) * 2 - 1).float()
        x, velocity = between(actions, torch.randn_like(actions), time := torch.rand(256))
        optimiser.zero_grad()
        (field(x, time) - velocity).square().mean().backward()
        optimiser.step()
    with torch.no_grad():
        found = flow(field, torch.randn(1000, 1, 1), 20)
    assert ((found.abs() - 1).abs() < 0.3).float().mean() > 0.9
    assert (found > 0).float().mean() == pytest.approx(0.5, abs=0.1)


def test_noise_on_the_way_leaves_the_distribution_as_it_is():
    start = torch.zeros(20000, 1, 1)
    for level in (0.3, 1.0):
        paths = FlowPaths(gaussian_field(0.3, 0.5), start, steps=100, level=level)
        drawn = paths.sample(torch.Generator().manual_seed(0))
        assert drawn.actions.mean() == pytest.approx(0.3, abs=0.02)
        assert drawn.actions.std() == pytest.approx(0.5, abs=0.02)
        assert drawn.latent.shape == (20000, 101, 1, 1) and drawn.latent[:, -1].equal(drawn.actions)


def test_the_probability_of_a_path_integrates_to_one_and_its_entropy_is_its_mean_surprise():
    paths = FlowPaths(gaussian_field(0.3, 0.5), torch.zeros(4001, 1, 1), steps=2, level=0.7)
    end = torch.linspace(-6, 6, 4001)
    latent = torch.stack([torch.full_like(end, 0.2), end, torch.zeros_like(end)], dim=1)[..., None, None]
    log_prob, entropy = (x[..., 0, 0] for x in paths.evaluate(latent))
    density, width = log_prob[:, 0].exp(), float(end[1] - end[0])
    assert float(density.sum() * width) == pytest.approx(1, abs=1e-4)
    assert float(-(density * log_prob[:, 0]).sum() * width) == pytest.approx(float(entropy[0, 0]), abs=1e-4)
    assert math.exp(float(entropy[0, 1] - entropy[0, 0])) == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize("fields", [{"steps": 0}, {"level": 0.0}, {"alpha": -1.0}])
def test_settings_that_make_no_sense_are_refused(fields):
    with pytest.raises(ValueError, match="at least one step and positive alpha, beta and level"):
        FlowConfig(**fields)
