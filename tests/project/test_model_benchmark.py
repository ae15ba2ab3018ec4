"""``vla bench model``: the plain networks give what ours give, and what cannot be measured is refused at once."""

import argparse
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parents[1]
FOLDERS = [str(TESTS.parent / "benchmarks"), str(TESTS), str(TESTS / "vla")]
sys.path[:0] = FOLDERS

import model  # noqa: E402
from model_peers import plain_peer  # noqa: E402
from model_shapes import BACKBONES, NANO, parameters_of, write_tokenizer  # noqa: E402
from tiny_checkpoints import checkpoints  # noqa: E402
from vla_inputs import random_observation, tiny_config  # noqa: E402
from vlm_inputs import vlm_policy_config  # noqa: E402

del sys.path[: len(FOLDERS)]

from vla.backbones.vlm.config import PROMPT  # noqa: E402
from vla.backbones.vlm.words import PromptTokenizer  # noqa: E402
from vla.config import VLAConfig  # noqa: E402
from vla.heads.bridge import BridgeConfig  # noqa: E402
from vla.heads.gaussian import GaussianConfig  # noqa: E402
from vla.heads.mlp import MLPConfig  # noqa: E402
from vla.model import VLA  # noqa: E402


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return checkpoints(tmp_path_factory)


def stirred(vla):
    """Weights that are zero at first, such as gates and queries, get a say."""
    with torch.no_grad():
        for parameter in vla.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return vla.eval()


@pytest.mark.parametrize("head", [BridgeConfig(heads=2), MLPConfig()])
@pytest.mark.parametrize("waypoint", [(), (0, 1)])
def test_the_plain_small_network_is_the_same(head, waypoint):
    config = tiny_config(head)
    vla = stirred(VLA(VLAConfig(**{**vars(config), "waypoint_dims": waypoint})))
    observation = random_observation(vla.backbone, ["lift the red cube"] * 3)
    torch.testing.assert_close(plain_peer(vla)(observation), vla.act(observation), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["smolvlm", "llava"])
@pytest.mark.parametrize("head", [BridgeConfig(heads=2), MLPConfig()])
def test_transformers_own_forward_with_a_head_is_the_same(checkpoint, family, head):
    config = vlm_policy_config(checkpoint(family), head)
    side = VLA(config).backbone.side_px
    vla = stirred(VLA(VLAConfig(**{**vars(config), "image_size_px": (side, side)})))
    observation = random_observation(vla.backbone, ["lift the red cube"] * 2)
    observation.images.mul_(255).round_().div_(255)
    torch.testing.assert_close(plain_peer(vla)(observation), vla.act(observation), atol=1e-4, rtol=1e-3)


def test_nobody_wrote_the_others():
    assert plain_peer(VLA(tiny_config(GaussianConfig(heads=2)))) is None
    assert plain_peer(VLA(tiny_config(BridgeConfig(heads=2, layers="last")))) is None


def test_the_shapes_have_the_published_sizes():
    published = {
        "smolvlm-256m": 228e6, "smolvlm-500m": 460e6, "siglip-qwen0.5b": 582e6, "dino-siglip-qwen0.5b": 1239e6,
        "paligemma-3b": 2923e6,
    }  # fmt: skip
    assert set(published) == set(BACKBONES) - {NANO}
    for name, count in published.items():
        assert parameters_of(name) == pytest.approx(count, rel=0.02), name


def test_a_word_is_about_a_token(tmp_path):
    write_tokenizer(tmp_path)
    ids, mask = PromptTokenizer(tmp_path, PROMPT).encode([model.SENTENCE])
    words = len(PROMPT.format(instruction=model.SENTENCE).split())
    assert mask.all() and words <= ids.shape[1] < 1.5 * words


def test_a_row_says_what_a_chunk_costs():
    row = {"device": "cpu", "dtype": "float32", "int8": False, "compile": False, "cuda_graph": False, "threads": 1}
    found = model.measure(
        backbone=NANO, head="mlp", batch=2, seconds=0.0, by_processor=True, settings={}, peer=True, **row
    )
    assert found["chunks_per_s"] == pytest.approx(2e3 / found["cpu_ms"])
    assert found["actions_per_s"] == pytest.approx(2e3 * 16 / found["cpu_ms"])
    assert found["p95_ms"] >= found["ms"] and found["calls"] >= 5 and found["parameters_m"] < 10
    assert found["differs"] < 1e-5 and found["plain_over_ours"] > 0
    rounded = model.measure(
        backbone=NANO, head="mlp", batch=1, seconds=0.0, by_processor=True, settings={"merged_tokens": 2},
        peer=False, **row | {"int8": True},
    )  # fmt: skip
    assert "plain_ms" not in rounded


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cuda_graph": True}, "a CUDA graph needs a network on a CUDA device, this one is on cpu"),
        ({"int8": True, "compile": True}, "--int8 goes alone"),
        ({"set": ["merged_tokens"]}, "expected FIELD=NUMBER, got 'merged_tokens'"),
        ({"set": ["merge_per_layer=2"]}, r"nano has no field \['merge_per_layer'\]; its fields are \['blocks'"),
    ],
)
def test_what_cannot_be_measured_is_refused(settings, message):
    options = {
        "backbones": [NANO], "heads": ["mlp"], "batch": [1], "device": "cpu", "dtype": "float32", "int8": False,
        "compile": False, "cuda_graph": False, "set": [], "threads": 1, "seconds": 1.0, "by_processor": False,
        "no_peers": False, **settings,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        model.planned(argparse.Namespace(**options))


def test_a_model_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(model, "free_bytes", lambda: 2.0 * 2**30)
    with pytest.raises(ValueError, match=r"paligemma-3b needs about 14\.\d GiB on cpu, of which 2\.0 GiB are free"):
        model.check_memory("paligemma-3b", "cpu")
    model.check_memory(NANO, "cpu")
