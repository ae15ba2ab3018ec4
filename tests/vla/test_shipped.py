"""The backbone that comes with the package: who starts from it, who does not need it, and what is refused."""

import json
from dataclasses import replace

import pytest
import torch
from test_adopting import LEARNED, NAMES, NOW, base, network_config
from vla_inputs import random_observation

from vla import shipped
from vla.backbones.nano_config import DEFAULT_WEIGHTS, NanoConfig, Weights
from vla.base import load_base, save_base
from vla.checkpoint import CheckpointError
from vla.config import VLAConfig
from vla.model import VLA
from vla.saving import load_vla, save_vla
from vla.shipped import shipped_base, shipped_for

LARGEST_BYTES = 12e6


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A package whose backbone is the tests' own, of their sizes."""
    given, _ = base()
    save_base(given.config, given.weights, tmp_path / "nano")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "nano")
    return tmp_path / "nano"


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    """A package without weights."""
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "nothing")


def config(weights: Weights = "shipped", **fields):
    config = network_config(**fields)
    return replace(config, backbone=replace(config.backbone, weights=weights))


def test_a_network_that_is_built_looks_as_the_shipped_one(folder):
    given = load_base(folder)
    vla = config(cameras=("top", "wrist")).build()
    weights = dict(vla.backbone.named_parameters())
    for name in ("image_encoder.layers.0.weight", "keypoint_encoder.log_sharpness", "text_encoder.token.weight"):
        assert torch.equal(weights[name], given.weights[name]), name
    assert torch.equal(weights["camera_embedding"][1], given.weights["camera_embedding"][1])
    assert not torch.equal(weights["camera_embedding"][0], given.weights["camera_embedding"][0])
    assert not torch.equal(weights["waypoint.0.weight"], given.weights["waypoint.0.weight"])


def test_a_bare_backbone_takes_words_pictures_and_heatmaps_for_any_cameras(folder):
    given = load_base(folder)
    backbone = config().backbone.build(state_dim=9, views=3, image_size_px=given.config.image_size_px)
    weights = dict(backbone.named_parameters())
    taken = {name for name in given.weights if name in weights and torch.equal(weights[name], given.weights[name])}
    depends = ("camera_embedding", "look_embedding", "view_embedding", "state_encoder", "waypoint")
    assert taken == {name for name in given.weights if not name.startswith(depends)}
    assert {name.partition(".")[0] for name in taken} == set(LEARNED) - set(depends)


def test_nobody_else_needs_it(nothing, tmp_path):
    """Neither a saved network, nor one of a saved config, nor the architecture, nor fresh weights."""
    torch.manual_seed(3)
    vla = VLA(config())
    torch.manual_seed(3)
    fresh = config("fresh").build()
    for (name, a), b in zip(vla.state_dict().items(), fresh.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    save_vla(vla, tmp_path / "saved")
    loaded = load_vla(tmp_path / "saved")
    assert loaded.config == vla.config and loaded.config.build().backbone.config.weights == "fresh"
    observation = random_observation(loaded.backbone)
    torch.testing.assert_close(loaded.act(observation), vla.eval().act(observation))


def test_a_saved_config_does_not_say_it():
    written = json.loads(json.dumps(config().to_dict()))
    assert "weights" not in written["backbone"]
    assert VLAConfig.from_dict(written) == config() and VLAConfig.from_dict(written).backbone.weights == "fresh"


def test_a_package_that_lacks_its_weights_says_so_when_they_are_asked_for(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r'lacks its pre-trained .* no model.safetensors in .*\nset weights="fresh"'
    ):
        config().build()
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no config.json and no model.safetensors in"):
        config().backbone.build(state_dim=5, views=2, image_size_px=(32, 48))


def test_other_sizes_are_told_with_what_to_set(folder):
    with pytest.raises(
        ValueError, match=r"cannot start from the shipped .*\n  channels: 16 there, 8 now\n.*--backbone.weights fresh"
    ):
        config(channels=8).build()
    with pytest.raises(ValueError, match="  channels: 16 there, 8 now"):
        config(channels=8).backbone.build(state_dim=5, views=2, image_size_px=(32, 48))
    assert config("fresh", channels=8).build().backbone.config.channels == 8


def change(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_what_is_damaged_swapped_newer_or_of_other_words_is_refused(folder, tmp_path):
    written = json.loads((folder / "config.json").read_text())["sha256"]
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(CheckpointError, match=rf"is damaged: its hash is (?!{written})\w{{64}}, {written} was written"):
        config().build()
    given, _ = base()
    other = {name: weight + 1 for name, weight in given.weights.items()}
    swapped = save_base(given.config, other, tmp_path / "other")
    (tmp_path / "other/model.safetensors").rename(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"its hash is {swapped}, {written} was written"):
        config().build()
    save_base(given.config, given.weights, folder)
    change(folder, format_version=2)
    with pytest.raises(CheckpointError, match="expected a backbone of format 1, got format 2"):
        config().build()
    change(folder, format_version=1, vocabulary="f" * 64)
    with pytest.raises(ValueError, match="vocabulary: 'fff"):
        config().build()
    with pytest.raises(CheckpointError, match="learned with the vocabulary ffffffffffff…"):
        load_base(folder).build()


def test_a_base_comes_to_life_as_it_was(folder):
    given, teacher = base()
    backbone = load_base(folder).build()
    observation = random_observation(backbone)
    torch.testing.assert_close(backbone.locate(observation), teacher.eval().locate(observation))
    unknown = replace(given, weights={**given.weights, "ear.weight": torch.zeros(2)})
    with pytest.raises(CheckpointError, match=r"ear.weight has shape \(2,\), its network no such weights"):
        unknown.build()


def test_what_is_shipped_is_whole_small_and_of_the_default_sizes():
    if DEFAULT_WEIGHTS == "fresh" and not shipped.FOLDER.exists():
        pytest.skip("the package holds no weights yet")
    assert sum(path.stat().st_size for path in shipped.FOLDER.iterdir()) <= LARGEST_BYTES
    backbone = NanoConfig(weights="shipped").build(state_dim=17, views=2, image_size_px=(64, 64), waypoint_dim=3)
    assert shipped_for(backbone.config, backbone.vocabulary).build().vocabulary == backbone.vocabulary


def test_adoption_without_a_state_leaves_the_waypoint(folder):
    from vla.adopting import adopt

    vla = VLA(config())
    reason = "the scale of the robot's state is not known"
    assert adopt(vla, shipped_base()).left == {"waypoint": reason, "state_encoder": reason}
    assert adopt(vla, shipped_base(), NAMES, NOW).left == {}
