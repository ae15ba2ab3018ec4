"""Low-rank updates of a network's layers, and the pool that every sample chooses its own from."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from vla_inputs import random_observation, tiny_config

from vla.adapters.low_rank import Target, adapt, updated
from vla.adapters.pool import PoolConfig
from vla.adapters.targets import every_linear, modulated
from vla.heads.tokens import TokensConfig
from vla.saving import load_vla, save_vla


@torch.no_grad()
def disturb(layer):
    """Updates as if they had learned."""
    for parameter in (layer.up, layer.importance):
        if parameter is not None:
            parameter.copy_(torch.randn_like(parameter))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("target", [Target(name="0"), Target(name="0", of=3, parts=(0, 2))])
def test_every_sample_has_its_own_update_as_if_that_were_in_the_weights(target, weighted):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6))
    plain = (model[0].weight.detach().clone(), model[0].bias)
    choice = adapt(model, [target], rank=2, alpha=4, count=4, weighted=weighted)
    layer = updated(model)["0"]
    x = torch.randn(3, 7, 5)
    choice.index = torch.tensor([3, 0, 3])
    torch.testing.assert_close(model(x), nn.functional.linear(x, *plain))  # nothing has been learned yet
    disturb(layer)
    answer = model(x)
    for row, index in enumerate(choice.index.tolist()):
        change = layer.change(index)
        torch.testing.assert_close(answer[row], nn.functional.linear(x[row], plain[0] + change, plain[1]))
        untouched = [part for part in range(target.of) if part not in target.parts]
        assert all((change.unflatten(0, (target.of, -1))[part] == 0).all() for part in untouched)


def test_a_merged_update_is_in_the_weights_and_gone():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6))
    adapt(model, [Target(name="0")], rank=2, alpha=2, weighted=True)
    layer = updated(model)["0"]
    disturb(layer)
    x = torch.randn(4, 5)
    before = model(x)
    layer.merge()
    torch.testing.assert_close(model(x), before)
    torch.testing.assert_close(nn.functional.linear(x, layer.weight, layer.bias), before)
    assert not layer.change().any()


def modulated_network(**fields):
    torch.manual_seed(0)
    config = replace(tiny_config(), pool=PoolConfig(size=6, rank=2, **fields))
    return config.build()


def test_queries_values_and_the_feed_forwards_input_are_modulated_and_all_linear_layers_can_be_updated():
    network = tiny_config().build()
    parts = {target.name: (target.of, target.parts) for target in modulated(network)}
    assert parts["backbone.blocks.0.qkv"] == (3, (0, 2))
    assert parts["head.layers.0.query"] == (3, (0, 1, 2))
    assert parts["head.layers.0.raw_key_value"] == (2, (1,))
    assert {"backbone.blocks.0.feed_forward.1", "head.layers.0.feed_forward.1"} < set(parts)
    linear = {name for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    assert {target.name for target in every_linear(network)} == linear > set(parts)


def test_an_untaught_pool_changes_nothing_and_a_saved_one_acts_as_before(tmp_path):
    network = modulated_network().eval()
    observation = random_observation(network.backbone)
    plain = replace(network.config, pool=None).build().eval()
    plain.load_state_dict(network.state_dict(), strict=False)
    torch.testing.assert_close(network.act(observation), plain.act(observation))
    for layer in updated(network).values():
        disturb(layer)
    acted = network.act(observation)
    assert not torch.allclose(acted, plain.act(observation))
    save_vla(network, tmp_path)
    assert torch.equal(load_vla(tmp_path).act(observation), acted)


def test_a_pool_takes_other_updates_than_earlier_tasks_in_training_and_none_but_the_closest_in_evaluation():
    pool = modulated_network().pool
    cosine = torch.tensor([[0.9, 0.5, -0.1, 0.2, 0.0, 0.1]]).expand(3, -1)
    pool.train()
    assert pool.preferred(cosine).tolist() == [0, 0, 0]
    pool.present[0] = 3
    assert pool.preferred(cosine).tolist() == [0, 0, 0]  # what this task has chosen does not count yet
    pool.end_task()
    assert pool.earlier.tolist() == [3, 0, 0, 0, 0, 0]
    assert not pool.present.any()
    assert pool.preferred(cosine).tolist() == [1, 1, 1]  # 0.9 / 4 < 0.5
    pool.eval()
    assert pool.preferred(cosine).tolist() == [0, 0, 0]


def test_only_training_counts_choices_and_the_loss_pulls_keys_to_the_queries_that_chose_them():
    network = modulated_network(pull=0.5)
    observation = random_observation(network.backbone)
    network.eval().act(observation)
    assert not network.pool.present.any()
    network.train()
    cosine = network.pool.choose(network.backbone, observation)
    assert network.pool.present.sum() == 2
    (-cosine.mean()).backward()
    moved = [name for name, parameter in network.named_parameters() if parameter.grad is not None]
    assert moved == ["pool.keys"]
    query, chosen = network.pool.query(network.backbone, observation), network.pool.choice.index
    keys = network.pool.keys - 10 * network.pool.keys.grad
    closer = nn.functional.cosine_similarity(query, keys[chosen], dim=1)
    assert (closer > cosine).all()


def test_a_pool_needs_a_head_that_sees_one_pass_and_something_to_choose_from():
    with pytest.raises(ValueError, match="one pass, got TokensHead"):
        replace(tiny_config(TokensConfig(bins=16)), pool=PoolConfig()).build()
    with pytest.raises(ValueError, match="at least 1 modulator of rank 1, got 0 of rank 8"):
        PoolConfig(size=0)
