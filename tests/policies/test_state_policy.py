"""A policy of numbers: its spread, and what is read of files that older versions wrote."""

import json
import math

import pytest
import torch
from point_mass import point_mass_embodiment
from safetensors.torch import load_file, save_file

from envs.specs import STATE_KEY
from policies.state_policy import POLICY_FILE, WEIGHTS_FILE, StateNetwork, StateNetworkConfig, StatePolicy


def policy(**fields):
    embodiment = point_mass_embodiment(cameras=())
    network = StateNetwork(StateNetworkConfig(**fields), 2, embodiment.action_dim)
    return StatePolicy(network, [STATE_KEY], embodiment)


def log_std(network):
    return network.distribution(torch.zeros(1, network.size)).log_std


@pytest.mark.parametrize("std", [0.01, 0.6, 2.6])
def test_the_spread_can_go_either_way_from_wherever_it_is(std):
    network = policy(std=std).network
    assert float(log_std(network).exp().mean()) == pytest.approx(std, rel=1e-4)
    log_std(network).sum().backward()
    assert (network.spread.grad > 0.01).all()
    with torch.no_grad():
        network.spread.fill_(12.0)
    network.spread.grad = None
    log_std(network).sum().backward()
    assert (network.spread.grad > 0).all() and (log_std(network) < 1).all()


@pytest.mark.parametrize("std", [0.0, 0.006, 3.0, math.inf, math.nan])
def test_a_spread_that_it_cannot_have_is_refused(std):
    with pytest.raises(ValueError, match=r"std of a Gaussian between 0\.0067 and 2\.7183"):
        StateNetworkConfig(std=std)


def test_a_file_that_keeps_the_logarithm_of_the_spread_is_read(tmp_path):
    first = policy(std=0.25)
    first.save(tmp_path)
    weights = load_file(tmp_path / WEIGHTS_FILE)
    weights["log_std"] = log_std(first.network)[0].detach().clone()
    del weights["spread"]
    save_file(weights, tmp_path / WEIGHTS_FILE)
    content = json.loads((tmp_path / POLICY_FILE).read_text())
    (tmp_path / POLICY_FILE).write_text(json.dumps(content | {"format_version": 1}))
    again = StatePolicy.load(tmp_path)
    torch.testing.assert_close(log_std(again.network), log_std(first.network))
