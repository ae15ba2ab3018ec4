"""The bridge's released and Pro attention: against the equation, and a rotary embedding that is one."""

import math

import pytest
import torch
from head_contract import HeadContract
from torch.testing import assert_close

from vla.heads.bridge import BridgeConfig
from vla.heads.joint_bridge import JointBridgeLayer
from vla.heads.rotary import rotated


class TestReleasedBridge(HeadContract):
    config = BridgeConfig(heads=2, attention="released")

    def open_gates(self, head):
        for layer in head.layers:
            torch.nn.init.constant_(layer.gate, 0.5)


class TestProBridge(TestReleasedBridge):
    config = BridgeConfig(heads=2, attention="pro")


class TestProBridgeWithQueriesAlone(HeadContract):
    config = BridgeConfig(heads=2, attention="pro", conditions="queries")


def given(b=2, h=3, m=6, q=4, d=8):
    x, raw, queries, proprio = (torch.randn(b, n, d) for n in (h, m, q, 1))
    return x, raw, torch.zeros(b, 1, 1, m), queries, proprio


@pytest.mark.parametrize("gate", [0.0, 0.7])
@pytest.mark.parametrize("pro", [False, True])
def test_a_layer_is_one_softmax_with_gated_logits(pro, gate):
    """Written out for one head; Pro's rotation as a product of complex numbers."""
    d, layer = 8, JointBridgeLayer(8, heads=1, pro=pro)
    torch.nn.init.constant_(layer.gate, gate)
    x, raw, bias, queries, proprio = given()

    def turned(rows):
        if not pro:
            return rows
        number = torch.complex(rows[..., : d // 2], rows[..., d // 2 :])
        rate = torch.tensor([10_000.0 ** (-2 * k / d) for k in range(d // 2)])
        number = number * torch.exp(1j * torch.arange(rows.shape[1])[:, None] * rate)
        return torch.cat([number.real, number.imag], dim=-1)

    y = layer.norm(x)
    logits, values = [], []
    sources = (y, layer.query_norm(torch.cat([queries, proprio], dim=1)), layer.raw_norm(raw))
    for index, source in enumerate(sources):
        key, value = layer.key_values[index if pro else 0](source).chunk(2, dim=-1)
        scale = math.tanh(gate) if index == 2 else 1.0
        logits.append(turned(layer.query(y)) @ turned(key).mT / math.sqrt(d) * scale)
        values.append(value)
    expected = x + layer.out(torch.cat(logits, dim=-1).softmax(-1) @ torch.cat(values, dim=1))
    assert_close(layer(x, raw, bias, queries, proprio), expected + layer.feed_forward(expected), atol=1e-5, rtol=1e-4)


def test_raw_tokens_weigh_alike_while_the_gate_is_closed():
    layer = JointBridgeLayer(8, heads=2)
    x, raw, bias, queries, proprio = given()
    before = layer(x, raw, bias, queries, proprio)
    assert_close(layer(x, raw.flip(1), bias, queries, proprio), before)
    assert (layer(x, 2 * raw + torch.randn_like(raw), bias, queries, proprio) - before).abs().max() > 1e-4
    bias[..., 3:] = torch.finfo(torch.float32).min
    other = raw.clone()
    other[:, 3:] = torch.randn_like(other[:, 3:])
    assert_close(layer(x, raw, bias, queries, proprio), layer(x, other, bias, queries, proprio))


def test_a_rotation_keeps_norms_and_its_scores_depend_on_the_distance_alone():
    q, k = (torch.randn(1, 1, 1, 16).expand(1, 1, 40, 16) for _ in range(2))
    turned_q, turned_k = rotated(q), rotated(k)
    assert_close(turned_q.norm(dim=-1), q.norm(dim=-1))
    scores = (turned_q @ turned_k.mT)[0, 0]
    for distance in (0, 1, 7):
        along = scores.diagonal(distance)
        assert_close(along, along[:1].expand_as(along), atol=1e-4, rtol=1e-4)
    assert (scores.diagonal(1)[0] - scores.diagonal(7)[0]).abs() > 1e-3


def test_an_odd_head_cannot_turn():
    with pytest.raises(ValueError, match="heads of even width, got 2 heads of the width 6"):
        JointBridgeLayer(6, heads=2, pro=True)
