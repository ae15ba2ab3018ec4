"""Backbones with fewer tokens of images: off is as it was, what is left says where it is, and nothing leaks."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from test_nano import BackboneContract
from tiny_checkpoints import checkpoints, tiny_pair
from vla_inputs import STATE_DIM, TINY, random_observation, random_target, tiny_config, tiny_nano
from vlm_inputs import vlm, vlm_config, vlm_policy_config

from vla.backbones.nano import NanoConfig
from vla.backbones.vlm.size import model_size
from vla.features import TokenRole
from vla.model import VLA
from vla.saving import load_vla, save_vla

FEW = {"patch_px": 8}
"""4 × 6 patches of each view."""


def behind_all_layers(checkpoint, folder):
    """A copy of a LLaVA that takes the encoder's tokens behind its last layer."""
    copy = shutil.copytree(checkpoint, folder / "model")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"vision_feature_layer": -1}))
    return copy


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return checkpoints(tmp_path_factory)


def twins(make, **fields):
    """The same weights with and without."""
    plain, economical = make().eval(), make(**fields).eval()
    economical.load_state_dict(plain.state_dict())
    return plain, economical


class TestMergingNano(BackboneContract):
    def make(self):
        return tiny_nano(**FEW, merged_tokens=5)


class TestBudgetedNano(BackboneContract):
    def make(self):
        return tiny_nano(**FEW, image_budget=12, position_prompt=True)


class TestMergingVLM(BackboneContract):
    @pytest.fixture(autouse=True)
    def folder(self, checkpoint):
        self.make = lambda: self.seeded(checkpoint("llava"))

    def seeded(self, folder):
        return vlm(folder, merge_per_layer=3, merged_tokens=4)


@torch.no_grad()
def test_as_many_tokens_as_there_are_changes_nothing():
    plain, same = twins(lambda **fields: tiny_nano(**FEW, **fields), merged_tokens=24, image_budget=48)
    observation = random_observation(plain)
    assert plain(observation).hidden.equal(same(observation).hidden)
    assert same(observation).layout.position is None


@torch.no_grad()
@pytest.mark.parametrize(
    "fields", [{"merged_tokens": 5}, {"image_budget": 12}, {"image_budget": 12, "merged_tokens": 2}]
)
def test_tokens_that_are_left_say_where_they_are(fields):
    backbone = tiny_nano(**FEW, **fields).eval()
    observation = random_observation(backbone)
    observation.view_mask[1, :, 1] = False
    features = backbone(observation)
    layout, tokens = features.layout, backbone.reduction.tokens
    where = layout.where(TokenRole.IMAGE)
    assert len(where) == 2 * tokens and layout.view[where].tolist() == [0] * tokens + [1] * tokens
    cells = layout.position[:, where]
    assert (layout.cell[where] == -1).all() and (cells[1, tokens:] == -1).all()
    assert (cells[0] >= 0).all() and (cells[0] <= torch.tensor([3.0, 5.0])).all()
    others = torch.ones(len(layout.role), dtype=torch.bool).index_fill(0, where, False)
    assert (layout.position[:, others] == -1).all()
    assert features.of_roles(TokenRole.IMAGE).layout.position.equal(cells)
    again = features.at(torch.tensor([1, 1]))
    assert again.layout.position.equal(layout.position[[1, 1]])


@torch.no_grad()
def test_equal_patches_count_for_all_that_they_stand_for():
    """Where all patches are alike, merging them changes nothing for anyone else."""
    plain, merging = twins(lambda **fields: tiny_nano(**FEW, **fields), merged_tokens=1)
    for backbone in (plain, merging):
        backbone.cell_embedding.copy_(backbone.cell_embedding[:1].expand_as(backbone.cell_embedding))
        backbone.patch_encoder.weight.zero_()
    observation = random_observation(plain)
    for role in (TokenRole.QUERY, TokenRole.TEXT, TokenRole.KEYPOINT):
        whole, few = (each(observation).select(role)[0] for each in (plain, merging))
        torch.testing.assert_close(few, whole, atol=1e-5, rtol=1e-4)
    told, mask = torch.randn(2, 3, plain.width), torch.ones(2, 3, dtype=torch.bool)
    whole, few = (each.decode(each.encode(observation), told, mask, causal=True)[0] for each in (plain, merging))
    torch.testing.assert_close(few, whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("fields", [{"merged_tokens": 3}, {"image_budget": 8, "position_prompt": True}])
def test_it_learns_and_comes_back(tmp_path, fields):
    config = tiny_config(**FEW, **fields)
    model = VLA(config)
    observation = random_observation(model.backbone)
    loss, _ = model.loss(observation, random_target(2))
    loss.backward()
    assert model.backbone.patch_encoder.weight.grad.abs().sum() > 0
    if model.backbone.position_prompt is not None:
        assert model.backbone.position_prompt.prompt.grad.abs().sum() > 0
    save_vla(model, tmp_path)
    loaded = load_vla(tmp_path)
    assert loaded.config == model.config
    torch.testing.assert_close(loaded.act(observation), model.eval().act(observation))


def test_what_is_off_is_not_there():
    plain, on = tiny_nano(), tiny_nano(position_prompt=True, merged_tokens=3)
    assert on.state_dict().keys() - plain.state_dict().keys() == {"position_prompt.prompt"}
    torch.manual_seed(4)
    first = tiny_nano()
    torch.manual_seed(4)
    second = tiny_nano(position_prompt=True, merged_tokens=3)
    assert all(second.state_dict()[name].equal(weight) for name, weight in first.state_dict().items())


@torch.no_grad()
@pytest.mark.parametrize("family", ["smolvlm", "qwen2_5_vl", "qwen3_vl", "paligemma2", "internvl"])
def test_every_family_takes_fewer_tokens(checkpoint, family):
    folder = checkpoint(family)
    plain = vlm(folder).eval()
    cells = plain.grid[0] * plain.grid[1]
    few = vlm(folder, merged_tokens=2, image_budget=2 * cells - 2).eval()
    few.load_state_dict(plain.state_dict())
    few.queries.normal_(std=0.1)
    observation = random_observation(plain)
    observation.view_mask[1, :, 0] = False
    features = few(observation)
    assert len(features.layout.role) == len(plain(observation).layout.role) - 2 * (cells - 2)
    assert len(features.layout.where(TokenRole.IMAGE)) == 4 and features.hidden.isfinite().all()
    queries, there = few.queries.expand(2, -1, -1), torch.ones(2, 4, dtype=torch.bool)
    decoded, _ = few.decode(few.encode(observation), queries, there, causal=True)
    torch.testing.assert_close(features.select(TokenRole.QUERY)[0], decoded, atol=1e-5, rtol=1e-4)
    whole, fewer = (each._sequence(observation) for each in (plain, few))
    text = lambda each: each.places[..., (each.layout.role == TokenRole.TEXT) & (each.layout.view < 0)]  # noqa: E731
    torch.testing.assert_close(text(fewer), text(whole).float())
    assert fewer.following.equal(whole.following), "words stand where they stood"


@torch.no_grad()
@pytest.mark.parametrize("family", ["llava", "llava-clip", "paligemma"])
def test_merging_between_layers(checkpoint, tmp_path, family):
    folder = behind_all_layers(checkpoint(family), tmp_path)
    backbone = vlm(folder, merge_per_layer=5).eval()
    observation = random_observation(backbone)
    seen = backbone.see(observation)
    assert seen.tokens.shape[1] == 11 == backbone.reduction.tokens
    assert seen.reduced.size.sum(dim=1).tolist() == [16.0] * 4, "every patch is somewhere"
    cells = backbone.reduction.cells(seen.reduced)
    mean = (cells * seen.reduced.size[..., None]).sum(dim=1) / 16
    torch.testing.assert_close(mean, torch.full((4, 2), 1.5))
    assert model_size(vlm_config(folder, merge_per_layer=5)).tokens(backbone.config, 2) == 2 * 11 + 128 + 1 + 4
    images = torch.zeros(1, 3, backbone.side_px, backbone.side_px)
    assert backbone._parts.family.see(backbone.model, [images]).tokens.shape[1] == 16, "no hook is left over"


@torch.no_grad()
def test_equal_patches_merged_between_layers_come_out_as_they_would(checkpoint, tmp_path):
    """What a uniform picture without positions becomes beside a class token does not depend on merging, since attention
    is in proportion to what tokens stand for.
    """
    folder = behind_all_layers(checkpoint("llava-clip"), tmp_path)
    plain, merging = (vlm(folder, **fields).eval() for fields in ({}, {"merge_per_layer": 8}))
    for backbone in (plain, merging):
        positions = next(w for n, w in backbone.model.vision_tower.named_parameters() if "position_embedding" in n)
        positions.copy_(positions[:1].expand_as(positions))
        next(w for n, w in backbone.model.vision_tower.named_parameters() if "class_embedding" in n).mul_(20)
    observation = replace(random_observation(plain), images=torch.full((2, 1, 2, 3, 32, 48), 0.3))
    whole, few = plain.see(observation).tokens, merging.see(observation).tokens
    assert few.shape[1] == 8
    torch.testing.assert_close(few, whole[:, :8], atol=1e-5, rtol=1e-4)


def test_the_frame_of_a_frozen_model_learns_and_is_kept(checkpoint, tmp_path):
    model = VLA(vlm_policy_config(checkpoint("smolvlm"), position_prompt=True, merged_tokens=4))
    observation = random_observation(model.backbone)
    loss, _ = model.loss(observation, random_target(2))
    loss.backward()
    assert model.backbone.position_prompts[0].prompt.grad.abs().sum() > 0
    assert "backbone.position_prompts.0.prompt" in model.kept()
    save_vla(model, tmp_path)
    loaded = load_vla(tmp_path)
    torch.testing.assert_close(loaded.act(observation), model.eval().act(observation))


def test_two_encoders_side_by_side_have_fewer_tokens_and_a_frame_each(tmp_path):
    backbone = vlm(tiny_pair(tmp_path), merged_tokens=3, position_prompt=True).eval()
    assert [prompt.frame.shape for prompt in backbone.position_prompts] == [(56, 56), (64, 64)]
    observation = random_observation(backbone)
    features = backbone(observation)
    assert len(features.layout.where(TokenRole.IMAGE)) == 6
    features.hidden[-1].square().sum().backward()
    assert all(prompt.prompt.grad.abs().sum() > 0 for prompt in backbone.position_prompts)


def test_a_token_of_the_whole_image_is_in_no_grid_to_reduce(checkpoint):
    folder = checkpoint("florence2")
    for fields in ({"merged_tokens": 2}, {"image_budget": 4}):
        for make in (vlm, lambda *given, **fields: model_size(vlm_config(*given, **fields))):
            with pytest.raises(ValueError, match=r"of its grid alone, a florence2 has 1 more: got image_budget"):
                make(folder, side_px=64, **fields)
    framed = vlm(folder, side_px=64, position_prompt=True).eval()
    layout = framed(random_observation(framed)).layout
    assert layout.cell[layout.where(TokenRole.IMAGE)][:5].tolist() == [[-1, -1], [0, 0], [0, 1], [1, 0], [1, 1]]


def test_what_cannot_be_is_refused(checkpoint):
    with pytest.raises(ValueError, match="merge_per_layer is for families that take an encoder's tokens one by one"):
        vlm(checkpoint("smolvlm"), merge_per_layer=2)
    with pytest.raises(ValueError, match="merge_per_layer leaves no grid to average down to an image_budget"):
        vlm_config("x", merge_per_layer=2, image_budget=8)
    with pytest.raises(ValueError, match="merged_tokens must be at least 1, got 0"):
        vlm_config("x", merged_tokens=0)
    with pytest.raises(ValueError, match=r"merged_tokens must lie in 1…6, the tokens of a view, got 7"):
        NanoConfig(**{**TINY, "merged_tokens": 7}).build(state_dim=STATE_DIM, views=2, image_size_px=(32, 48))
