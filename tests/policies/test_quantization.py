"""Acting with 8-bit integers: close to the network it was made from, row by row, and on the CPU alone."""

import pytest
import torch
from demonstrations import tiny_policy
from point_mass import PointMassEnv
from torch import nn

from configs.acting import load_policy
from configs.commands import eval as evaluating
from configs.commands import serve
from policies.policy import seen_by
from policies.quantization import quantize_linears


def test_int8_acts_like_the_network_it_was_made_from_and_each_row_alone(tmp_path):
    tiny_policy().save(tmp_path)
    exact, rounded = load_policy(tmp_path, at_once=1), load_policy(tmp_path, at_once=8, int8=True)
    kinds = [type(module) for module in rounded.vla.modules()]
    assert nn.Linear not in kinds and torch.ao.nn.quantized.dynamic.Linear in kinds
    observation = PointMassEnv(5).reset(range(5))
    seen = exact._network_observation(observation)
    wanted, got = exact.vla.act(seen), rounded.vla.act(seen)
    assert 0 < (got - wanted).norm() < 0.1 * wanted.norm()
    found = rounded.predict_chunk(observation)
    assert rounded.rows_at_once == 1
    for world in range(5):
        alone = rounded.predict_chunk(seen_by(observation, torch.arange(5) == world))
        assert torch.equal(alone[0], found[world])


def test_each_linear_layer_is_one_matrix_of_integers():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(40, 30), nn.LayerNorm(30), nn.Linear(30, 20))
    x = torch.randn(1, 40)
    expected = network(x)
    assert quantize_linears(network) == 2
    assert network[0].weight().int_repr().dtype == torch.int8
    torch.testing.assert_close(network(x), expected, atol=0.1, rtol=0.1)


def test_int8_is_refused_where_it_cannot_be_or_changes_nothing():
    with pytest.raises(ValueError, match="on the CPU, this one is on meta"):
        quantize_linears(nn.Linear(2, 2, device="meta"))
    for make in (
        lambda: serve.Config(checkpoint="run", device="cuda", int8=True),
        lambda: evaluating.Config(policy="run", device="cuda", int8=True),
    ):
        with pytest.raises(ValueError, match="int8 is for the network on the CPU, got device 'cuda'"):
            make()
    for policy in ("expert", "ws://127.0.0.1:1"):
        with pytest.raises(ValueError, match="int8 changes nothing where"):
            evaluating.check(evaluating.Config(policy=policy, int8=True))
