"""What acting waits for, which decides whether a CUDA graph can be recorded of it; and the graph itself, on a GPU."""

import pytest
import torch
from torch import nn

from policies.cuda_graph import GraphedAct, check_cuda_graph, waits
from vla.backbones.nano import NanoConfig
from vla.config import VLAConfig
from vla.heads.bridge import BridgeConfig
from vla.heads.flow import FlowConfig
from vla.heads.gaussian import GaussianConfig
from vla.heads.mlp import MLPConfig
from vla.heads.tokens import TokensConfig
from vla.model import VLA
from vla.observation import Observation

HEADS = {
    "bridge": BridgeConfig(heads=2),
    "mlp": MLPConfig(),
    "gaussian": GaussianConfig(heads=2),
    "flow": FlowConfig(width=32, heads=2, steps=3),
    "parallel tokens": TokensConfig(decoding="parallel"),
}


def tiny_config(head=None, **fields):
    sizes = {"width": 32, "depth": 2, "heads": 2, "n_queries": 4, "channels": 8, "blocks": 1, "keypoints": 2}
    return VLAConfig(
        backbone=NanoConfig(weights="fresh", **sizes, keypoints_per_token=1, **{"patch_px": 16, **fields}),
        head=head or BridgeConfig(heads=2),
        cameras=("front", "wrist"),
        image_size_px=(32, 48),
        state_dim=5,
        action_dim=3,
        horizon=4,
    )


def random_observation(backbone, texts=("pick up the red cube", "put the blue block into the green bin")):
    text, text_mask = backbone.tokenize(texts)
    images, state = torch.rand(len(texts), 1, 2, 3, 32, 48), torch.randn(len(texts), 5)
    there = torch.ones(len(texts), 1, 2, dtype=torch.bool)
    return Observation(images=images, view_mask=there, text=text, text_mask=text_mask, state=state)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("fields", [{}, {"patch_px": 8, "merged_tokens": 5}])
def test_a_chunk_of_nano_waits_for_nothing_once_its_layout_is_known(head, fields):
    vla = VLA(tiny_config(HEADS[head], **fields)).eval()
    observation = random_observation(vla.backbone)
    vla.act(observation)
    assert waits(lambda: vla.act(observation)) == []


def test_what_waits_is_named():
    x = torch.randn(4)
    assert waits(lambda: x[x > 0]) == ["aten::index by a mask"]
    assert waits(lambda: float(x.sum())) == ["aten::_local_scalar_dense"]
    assert waits(lambda: (x > 0).nonzero()) == ["aten::nonzero"]
    assert waits(lambda: nn.functional.gelu(x[torch.tensor([0, 2])])) == []


def test_a_cpu_has_no_cuda_graphs():
    vla = VLA(tiny_config()).eval()
    with pytest.raises(ValueError, match="a CUDA graph needs a network on a CUDA device, this one is on cpu"):
        GraphedAct(vla.act, random_observation(vla.backbone))
    check_cuda_graph("cuda:0")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("head", HEADS)
def test_a_graph_acts_like_the_network(head):
    vla = VLA(tiny_config(HEADS[head])).cuda().eval()
    first, second = (random_observation(vla.backbone) for _ in range(2))
    first, second = (type(x)(**{k: v.cuda() for k, v in vars(x).items() if v is not None}) for x in (first, second))
    graphed = GraphedAct(vla.act, first)
    for observation in (first, second):
        torch.testing.assert_close(graphed(observation), vla.act(observation), atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="expected an observation of the shapes that were recorded"):
        graphed(random_observation(vla.backbone, ("lift",)))
