"""Every published recipe is a complete config that builds and learns on a small checkpoint of its architecture."""

from dataclasses import replace

import pytest
import torch
from tiny_checkpoints import checkpoints, tiny_pair

from configs.known import KNOWN
from configs.presets import PRESETS
from vla.config import VLAConfig
from vla.observation import ActionChunk, Observation

WHAT_LEARNS = {
    "vla-adapter": ("fused", {"updates", "connector"}),
    "openvla-oft": ("fused", {"updates", "connector"}),
    "smolvla": ("smolvlm", set()),
    "pi0": ("paligemma", {"connector", "other"}),
    "bridge-qwen0.5b": ("llava", {"updates", "connector"}),
}
"""The architecture of each, and what of the model learns."""
SIDE_PX, STATE_DIM, ACTION_DIM = 32, 5, 3


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    of_family = checkpoints(tmp_path_factory)
    pair = tiny_pair(tmp_path_factory.mktemp("pair"))
    return lambda name: pair if name == "fused" else of_family(name)


def built(config, folder):
    """The recipe's network as it is, but for the checkpoint and the size of pictures that goes with it."""
    return VLAConfig(
        backbone=replace(config.backbone, checkpoint=str(folder), side_px=None),
        head=config.head,
        cameras=("front", "wrist"),
        image_size_px=(SIDE_PX, SIDE_PX),
        state_dim=STATE_DIM,
        action_dim=ACTION_DIM,
        horizon=config.horizon,
    ).build()


def kind_of(name):
    if ".lora_" in name:
        return "updates"
    return "connector" if "multi_modal_projector" in name else "other"


def test_every_recipe_is_a_preset_of_its_name():
    assert set(WHAT_LEARNS) == set(KNOWN) <= set(PRESETS)
    assert all(PRESETS[name]().name == name for name in KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_it_builds_and_learns(folders, name):
    pytest.importorskip("peft")
    config, (family, expected) = PRESETS[name](), WHAT_LEARNS[name]
    model = built(config, folders(family))
    text, text_mask = model.backbone.tokenize(["lift the red cube", "go"])
    observation = Observation(
        images=torch.rand(2, 1, 2, 3, SIDE_PX, SIDE_PX),
        view_mask=torch.ones(2, 1, 2, dtype=torch.bool),
        text=text,
        text_mask=text_mask,
        state=torch.randn(2, STATE_DIM),
    )
    actions = torch.randn(2, config.horizon, ACTION_DIM)
    valid = torch.ones(2, config.horizon, dtype=torch.bool)
    loss, _ = model.loss(observation, ActionChunk(actions=actions, valid=valid))
    loss.backward()
    assert loss.isfinite() and model.act(observation).shape == actions.shape
    learning = {key for key, p in model.named_parameters() if p.requires_grad}
    assert {kind_of(key) for key in learning if key.startswith("backbone.model.")} == expected
    updated = {key.split(".")[2] for key in learning if ".lora_" in key}
    assert updated in (set(), {"language_model"}, {"language_model", "vision_tower", "second_vision_tower"})
    assert ("second_vision_tower" in updated) == (family == "fused")


@pytest.mark.parametrize("name", KNOWN)
def test_it_says_paper_sizes_memory_and_departures(name):
    said = KNOWN[name].__doc__
    assert "arXiv" in said and all(word in said for word in ("Sizes:", "Memory:", "Departures"))
