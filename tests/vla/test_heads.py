"""The heads that regress against the head contract, and the bridge head against its equation."""

import math
from dataclasses import replace

import pytest
import torch
from head_contract import HeadContract
from vla_inputs import ACTION_DIM, HORIZON, STATE_DIM, random_observation, random_target, tiny_nano

from vla.config import HEADS, untagged
from vla.features import TokenRole
from vla.heads.bridge import BridgeConfig, BridgeLayer
from vla.heads.mapper import MapperConfig
from vla.heads.mlp import MLPConfig


class RegressionContract(HeadContract):
    """What heads promise whose loss is L1."""

    def test_loss_is_the_mean_error_over_valid_steps(self):
        backbone, head = self.make()
        features, target = backbone(random_observation(backbone)), random_target(2)
        target.valid[0, 2:] = False
        loss, metrics = head.loss(features, target)
        error = (head.act(features) - target.actions).abs()
        expected = torch.cat([error[0, :2], error[1]]).mean()
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(metrics["l1"], expected.detach())
        torch.testing.assert_close(metrics["l1_first"], error[:, 0].mean().detach())

    def test_there_is_no_distribution(self):
        backbone, head = self.make()
        with pytest.raises(TypeError, match=f"{type(head).__name__} knows one chunk and no distribution .* gaussian"):
            head.distribution(backbone(random_observation(backbone)))


class TestMLPHead(RegressionContract):
    config = MLPConfig(width=16)


class TestMapperHead(RegressionContract):
    config = MapperConfig(width=16)

    def test_there_is_a_query_token_for_each_action(self):
        sizes = {"state_dim": STATE_DIM, "horizon": HORIZON + 1, "action_dim": ACTION_DIM}
        with pytest.raises(ValueError, match="query token for each of 5 actions, the backbone's n_queries is 4"):
            self.config.build(backbone=tiny_nano(), **sizes)


class TestBridgeHead(RegressionContract):
    config = BridgeConfig(heads=2)

    def open_gates(self, head):
        for layer in head.layers:
            torch.nn.init.constant_(layer.gate, 0.5)

    def test_there_is_one_layer_per_backbone_layer(self):
        backbone, head = self.make()
        assert len(head.layers) == backbone.depth

    def test_raw_tokens_have_no_influence_until_a_gate_opens(self):
        backbone, head = self.make()
        features = backbone(random_observation(backbone))
        hidden = features.hidden.clone()
        raw = features.layout.where(TokenRole.IMAGE, TokenRole.KEYPOINT)
        hidden[:, :, raw] += torch.randn_like(hidden[:, :, raw])
        disturbed = replace(features, hidden=hidden)
        assert head.act(features).equal(head.act(disturbed))
        self.open_gates(head)
        assert (head.act(features) - head.act(disturbed)).abs().max() > 1e-4

    def test_a_closed_gate_receives_gradient(self):
        backbone, head = self.make()
        loss, _ = head.loss(backbone(random_observation(backbone)), random_target(2))
        loss.backward()
        assert all(layer.gate == 0 and layer.gate.grad.abs() > 0 for layer in head.layers)

    def test_each_layer_reads_the_backbone_layer_of_its_depth(self):
        backbone, head = self.make()
        self.open_gates(head)
        features = backbone(random_observation(backbone))
        seen = []
        for layer in head.layers:
            layer.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
        head.act(features)
        raw, _ = features.select(TokenRole.IMAGE, TokenRole.KEYPOINT)
        assert len(seen) == len(raw) and all(a.equal(b) for a, b in zip(seen, raw, strict=True))

    def test_masked_raw_tokens_have_no_influence(self):
        backbone, head = self.make()
        self.open_gates(head)
        features = backbone(random_observation(backbone))
        features.mask[:, features.layout.view == 1] = False
        hidden = features.hidden.clone()
        other = hidden[:, :, features.layout.view == 1]
        hidden[:, :, features.layout.view == 1] = torch.randn_like(other)
        torch.testing.assert_close(head.act(features), head.act(replace(features, hidden=hidden)))


def bridge(backbone, **settings):
    torch.manual_seed(0)
    sizes = {"state_dim": STATE_DIM, "horizon": HORIZON, "action_dim": ACTION_DIM}
    head = BridgeConfig(heads=2, **settings).build(backbone=backbone, **sizes)
    for name, parameter in head.named_parameters():
        if name.endswith("gate"):
            torch.nn.init.constant_(parameter, 0.5)
    return head


@torch.no_grad()
def influence(backbone, head, layer, *roles):
    """By how much actions change where these tokens of one layer do."""
    features = backbone(random_observation(backbone))
    hidden = features.hidden.clone()
    hidden[layer][:, features.layout.where(*roles)] += 1.0 + torch.randn(hidden.shape[-1])
    return float((head.act(features) - head.act(replace(features, hidden=hidden))).abs().max())


@pytest.mark.parametrize("layers", ["all", "last"])
@pytest.mark.parametrize("conditions", ["both", "raw", "queries"])
def test_a_bridge_looks_at_its_conditions_alone(conditions, layers):
    backbone = tiny_nano()
    head = bridge(backbone, conditions=conditions, layers=layers)
    raw, queries = (TokenRole.IMAGE, TokenRole.KEYPOINT), (TokenRole.QUERY,)
    for name, roles in (("raw", raw), ("queries", queries)):
        for layer in range(backbone.depth):
            heeded = conditions in ("both", name) and (layers == "all" or layer == backbone.depth - 1)
            changed = influence(backbone, head, layer, *roles)
            assert changed > 1e-5 if heeded else changed == 0, (name, layer)
    loss, _ = head.loss(backbone(random_observation(backbone)), random_target(2))
    loss.backward()
    assert [name for name, p in head.named_parameters() if p.grad is None or not p.grad.abs().max()] == []


def test_a_bridge_looks_at_nothing_unheard_of():
    with pytest.raises(ValueError, match="expected layers of the bridge head out of all, last, got 'first'"):
        BridgeConfig(layers="first")


def test_a_bridge_saved_before_it_had_a_choice_has_all():
    before = {"type": "bridge", "heads": 2}
    assert untagged("head", before, HEADS) == BridgeConfig(heads=2, conditions="both", layers="all")


@pytest.mark.parametrize("gate", [0.0, 0.7])
def test_a_layer_computes_equation_1(gate):
    """Against the equation written out with plain softmaxes, one head at a time."""
    b, h, m, q, d = 2, 3, 6, 4, 8
    layer = BridgeLayer(d, heads=2)
    torch.nn.init.constant_(layer.gate, gate)
    x, raw, queries, proprio = (torch.randn(b, n, d) for n in (h, m, q, 1))

    def attention(query, key_value):
        key, value = key_value.chunk(2, dim=-1)
        parts = [slice(0, d // 2), slice(d // 2, d)]
        weights = [(query[..., p] @ key[..., p].mT / math.sqrt(d // 2)).softmax(-1) for p in parts]
        return torch.cat([w @ value[..., p] for w, p in zip(weights, parts, strict=True)], dim=-1)

    y = layer.norm(x)
    to_raw, to_queries, to_self = layer.query(y).chunk(3, dim=-1)
    condition = layer.query_norm(torch.cat([queries, proprio], dim=1))
    joined = torch.cat(
        [
            attention(to_raw, layer.raw_key_value(layer.raw_norm(raw))) * math.tanh(gate),
            attention(to_queries, layer.query_key_value(condition)),
            attention(to_self, layer.self_key_value(y)),
        ],
        dim=-1,
    )
    expected = x + layer.out(joined)
    expected = expected + layer.feed_forward(expected)
    given = layer(x, raw, torch.zeros(b, 1, 1, m), queries, proprio)
    torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-4)
