"""A network that starts from a backbone: what is taken over means the same, and what does not fit is named."""

import json
from dataclasses import replace

import pytest
import torch
from vla_inputs import random_observation, tiny_config

from vla.adopting import adopt
from vla.base import Base, BaseConfig, load_base, save_base
from vla.scaling import StateScale

NAMES = ("x", "y", "z", "gap", "angle")
THERE = StateScale(offset=(0.4, 0.0, 0.3, 0.02, 1.0), scale=(0.1, 0.2, 0.05, 0.01, 0.7))
NOW = StateScale(offset=(0.5, -0.1, 0.2, 0.04, 0.0), scale=(0.02, 0.3, 0.1, 0.0004, 1.5))
DIMS = (0, 1, 2)
LEARNED = (
    "map_position",
    "camera_embedding",
    "view_embedding",
    "time_embedding",
    "cell_embedding",
    "keypoint_embedding",
    "look_embedding",
    "role_embedding",
    "text_encoder",
    "image_encoder",
    "patch_encoder",
    "keypoint_encoder",
    "state_encoder",
    "second_question",
    "second_look",
    "waypoint",
    "blocks",
)


def network_config(**fields):
    backbone = {name: fields.pop(name) for name in ("max_text_tokens", "channels") if name in fields}
    return replace(tiny_config(**{"max_text_tokens": 16, **backbone}), waypoint_dims=DIMS, **fields)


def base(**fields):
    """A backbone whose weights differ from any fresh one's."""
    torch.manual_seed(7)
    config = network_config(**fields)
    meaning = BaseConfig(
        backbone=config.backbone,
        vocabulary=config.build().backbone.vocabulary,
        cameras=config.cameras,
        image_size_px=config.image_size_px,
        state_names=NAMES,
        state=THERE,
        waypoint_dims=DIMS,
    )
    backbone = meaning.build()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    weights = {n: p.detach() for n, p in backbone.named_parameters() if n.partition(".")[0] in LEARNED}
    return Base(config=meaning, weights=weights, sha256="abc"), backbone


def test_the_same_pictures_and_words_lead_to_the_same_place_in_metres():
    """Whatever the scales of the state: the waypoint's mapper is rewritten."""
    given, teacher = base()
    vla = network_config(max_text_tokens=16).build()
    before = {name: p.detach().clone() for name, p in vla.backbone.named_parameters()}
    adoption = adopt(vla, given, NAMES, NOW)
    assert set(adoption.taken) == set(LEARNED) and adoption.left == {}

    raw = torch.tensor(THERE.offset) + torch.tensor(THERE.scale) * torch.randn(2, 5)
    observation = random_observation(teacher)

    def place_m(backbone, scale):
        offset, factor = torch.tensor(scale.offset), torch.tensor(scale.scale)
        waypoint = backbone.locate(replace(observation, state=(raw - offset) / factor))
        return waypoint * factor[list(DIMS)] + offset[list(DIMS)]

    torch.testing.assert_close(place_m(vla.backbone, NOW), place_m(teacher, THERE), rtol=1e-4, atol=1e-5)
    for name, parameter in vla.backbone.named_parameters():
        assert torch.equal(before[name], parameter) == (name.partition(".")[0] not in LEARNED), name


@pytest.mark.parametrize("window", [8, 16, 40])
def test_a_text_window_is_cut_or_keeps_fresh_rows_beyond(window):
    given, _ = base()
    vla = network_config(max_text_tokens=window).build()
    fresh = vla.backbone.text_encoder.position.detach().clone()
    assert "text_encoder" in adopt(vla, given, NAMES, NOW).taken
    rows = min(window, 16)
    position = vla.backbone.text_encoder.position
    assert torch.equal(position[:rows], given.weights["text_encoder.position"][:rows])
    assert torch.equal(position[rows:], fresh[rows:]) and len(position) == window


def test_sentences_read_alike_in_any_window_that_holds_them():
    given, teacher = base()
    vla = network_config(max_text_tokens=40).build()
    adopt(vla, given, NAMES, THERE)
    observation = random_observation(teacher)
    torch.testing.assert_close(vla.backbone.locate(observation), teacher.locate(observation), rtol=1e-4, atol=1e-5)


def test_cameras_are_known_by_their_names():
    given, _ = base()
    vla = network_config(cameras=("top", "front")).build()
    fresh = vla.backbone.camera_embedding.detach().clone()
    adoption = adopt(vla, given, NAMES, NOW)
    assert torch.equal(vla.backbone.camera_embedding[1], given.weights["camera_embedding"][0])
    assert torch.equal(vla.backbone.camera_embedding[0], fresh[0])
    assert adoption.left == {
        **{f"{name}_embedding of top": "its cameras are front, wrist" for name in ("camera", "view", "look")},
        "waypoint": "cameras ['front', 'wrist'] there, ['top', 'front'] now",
    }
    assert "not taken over: waypoint: cameras" in str(adoption)


def test_another_state_keeps_its_own_waypoint():
    given, _ = base()
    vla = network_config().build()
    before = vla.backbone.waypoint[0].weight.detach().clone()
    adoption = adopt(vla, given, ("x", "y", "z", "gap", "other"), NOW)
    assert "state ['x'" in adoption.left["waypoint"] and "waypoint" not in adoption.taken
    assert "state ['x'" in adoption.left["state_encoder"] and "state_encoder" not in adoption.taken
    assert torch.equal(vla.backbone.waypoint[0].weight, before)
    without = replace(network_config(), waypoint_dims=()).build()
    assert "waypoint [0, 1, 2] there, [] now" in adopt(without, given, NAMES, NOW).left["waypoint"]


def test_pictures_of_another_size_are_named():
    given, _ = base()
    vla = network_config(image_size_px=(64, 48)).build()
    adoption = adopt(vla, given, NAMES, NOW)
    assert adoption.left == {
        "size of things": "pictures of (32, 48) px there, (64, 48) now",
        "map_position": "shape (16, 8, 12) there, (16, 16, 12) now",
        "cell_embedding": "shape (6, 32) there, (12, 32) now",
    }


def test_a_backbone_of_another_kind_or_vocabulary_is_refused():
    given, _ = base()
    vla = network_config(channels=8).build()
    before = vla.backbone.camera_embedding.detach().clone()
    with pytest.raises(ValueError, match=r"is another one:\n  channels: 16 there, 8 now"):
        adopt(vla, given, NAMES, NOW)
    assert torch.equal(vla.backbone.camera_embedding, before)
    other = replace(given, config=replace(given.config, vocabulary="f" * 64))
    with pytest.raises(ValueError, match=r"vocabulary: 'ffff.* there"):
        adopt(network_config().build(), other, NAMES, NOW)


def test_a_saved_backbone_comes_back(tmp_path):
    given, _ = base()
    digest = save_base(given.config, given.weights, tmp_path)
    loaded = load_base(tmp_path)
    assert loaded.config == given.config and loaded.sha256 == digest
    assert loaded.weights.keys() == given.weights.keys()
    assert all(torch.equal(loaded.weights[name], weight) for name, weight in given.weights.items())
    assert json.loads((tmp_path / "config.json").read_text())["sha256"] == digest


def test_fewer_keypoints_are_the_first_ones_of_the_base():
    """They look where those looked; the way to the waypoint started from all and stays fresh."""
    given, teacher = base()
    config = network_config()
    vla = replace(config, backbone=replace(config.backbone, keypoints=2, weights="fresh")).build()
    fresh = vla.backbone.waypoint[0].weight.detach().clone()
    adoption = adopt(vla, given, NAMES, THERE)
    assert adoption.left == {"waypoint": "keypoints 3 there, 2 now"}
    assert set(adoption.taken) == set(LEARNED) - {"waypoint"}
    assert torch.equal(vla.backbone.waypoint[0].weight, fresh)
    observation = random_observation(teacher)
    few, all_of_them = (each._prefix(observation).position for each in (vla.backbone, teacher))
    torch.testing.assert_close(few, all_of_them[:, :, :2])
    more = replace(config, backbone=replace(config.backbone, keypoints=4, weights="fresh")).build()
    with pytest.raises(ValueError, match=r"is another one:\n  keypoints: 3 there, 4 now"):
        adopt(more, given, NAMES, NOW)


def test_what_saves_tokens_does_not_matter():
    given, _ = base()
    config = network_config()
    fields = {"image_budget": 8, "merged_tokens": 2, "position_prompt": True}
    vla = replace(config, backbone=replace(config.backbone, **fields)).build()
    adoption = adopt(vla, given, NAMES, NOW)
    assert set(adoption.taken) == set(LEARNED) and adoption.left == {}
