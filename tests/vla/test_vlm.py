"""Pretrained models as backbones: what transformers computes itself, the backbone contract, and what is tuned."""

from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from test_nano import BackboneContract
from tiny_checkpoints import FAMILIES, checkpoints, tiny_checkpoint
from vla_inputs import random_observation, random_target
from vlm_inputs import native, vlm, vlm_config, vlm_policy_config

from vla.features import TokenRole
from vla.heads.bridge import BridgeConfig
from vla.model import VLA
from vla.observation import about_rows, rows

SMALL_PX = {"florence2": 64}
"""Where the size that a family learned with is too large for a test."""
needs_peft = pytest.mark.skipif(find_spec("peft") is None, reason="needs the extra peft")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return checkpoints(tmp_path_factory)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_images_and_text_give_what_transformers_gives(checkpoint, family):
    folder = checkpoint(family)
    backbone = vlm(folder, side_px=SMALL_PX.get(family)).eval()
    observation = random_observation(backbone)
    hidden, known, mask = native(folder, family, backbone, observation)
    ours = backbone(observation).hidden[:, :, known]
    for layer in range(backbone.depth):
        torch.testing.assert_close(ours[layer][mask], hidden[layer][mask], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_prefix_is_gone_on_from_as_in_one_pass(checkpoint, family):
    backbone = vlm(checkpoint(family), side_px=SMALL_PX.get(family)).eval()
    backbone.queries.normal_(std=0.1)
    observation = random_observation(backbone)
    observation.view_mask[1, :, 0] = False
    whole = backbone(observation)
    prefix = backbone.encode(observation)
    queries, there = backbone.queries.expand(2, -1, -1), torch.ones(2, 4, dtype=torch.bool)
    together, _ = backbone.decode(prefix, queries, there, causal=True)
    torch.testing.assert_close(whole.select(TokenRole.QUERY)[0], together, atol=1e-5, rtol=1e-4)
    known = prefix.features.mask
    torch.testing.assert_close(whole.hidden[:, :, : known.shape[1]][:, known], prefix.features.hidden[:, known])
    longer, steps = prefix, []
    for token in range(4):
        hidden, longer = backbone.decode(longer, queries[:, token : token + 1], there[:, :1], causal=True)
        steps.append(hidden)
    torch.testing.assert_close(torch.cat(steps, dim=2), together, atol=1e-5, rtol=1e-4)
    again, _ = backbone.decode(prefix, queries, there, causal=True)
    assert again.equal(together)


class VLMContract(BackboneContract):
    family = ""

    @pytest.fixture(autouse=True)
    def _checkpoint(self, checkpoint):
        self.folder = checkpoint(self.family)

    def make(self):
        return vlm(self.folder, side_px=SMALL_PX.get(self.family))


class TestSmolVLM(VLMContract):
    family = "smolvlm"


class TestQwen25VL(VLMContract):
    family = "qwen2_5_vl"


class TestPaliGemma2(VLMContract):
    family = "paligemma2"


class TestGemma3(VLMContract):
    family = "gemma3"


class TestLlava(VLMContract):
    family = "llava"


class TestFlorence2(VLMContract):
    family = "florence2"


@pytest.mark.parametrize("family", ["qwen2_5_vl", "gemma3", "smolvlm"])
def test_image_tokens_stand_for_their_cells(checkpoint, family):
    """Change one cell of one camera: before attention has mixed them, its token changes most."""
    backbone = vlm(checkpoint(family), views=2).eval()
    observation = random_observation(backbone, ("lift",))
    layout = backbone.encode(observation).features.layout
    index = layout.where(TokenRole.IMAGE)
    rows_, columns = backbone.grid
    cells = [(v, r, c) for v in range(2) for r in range(rows_) for c in range(columns)]
    assert [(v, *cell) for v, cell in zip(layout.view[index].tolist(), layout.cell[index].tolist(), strict=True)] == (
        cells
    )
    changed = observation.images.clone()
    changed[0, 0, 1, :, 16:, :24] = 1 - changed[0, 0, 1, :, 16:, :24]  # the lower left quarter of the wrist camera
    before, after = backbone.see(observation), backbone.see(replace(observation, images=changed))
    difference = (after.tokens - before.tokens).norm(dim=-1)
    assert difference[0].max() == 0
    most = [cells[rows_ * columns + i][1:] for i in difference[1].topk(max(1, len(cells) // 8)).indices]
    assert all(r >= rows_ / 2 and c < columns / 2 for r, c in most)


def test_several_texts_share_a_prefix(checkpoint):
    backbone = vlm(checkpoint("smolvlm")).eval()
    observation, about = random_observation(backbone), torch.tensor([1, 0, 1])
    told, mask = torch.randn(3, 5, backbone.width), torch.ones(3, 5, dtype=torch.bool)
    mask[1, 3:] = False
    with torch.no_grad():
        shared = backbone.decode(backbone.encode(observation).at(about), told, mask, causal=True)[0]
        apart = backbone.decode(backbone.encode(rows(observation, about)), told, mask, causal=True)[0]
        open_, _ = backbone.decode(backbone.encode(observation).at(about), told, mask, causal=False)
    torch.testing.assert_close(shared[:, mask], apart[:, mask], atol=1e-5, rtol=1e-4)
    last = [4, 2, 4]
    for row, token in enumerate(last):
        torch.testing.assert_close(shared[0, row, token], open_[0, row, token], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(shared[:, 0, 0], open_[:, 0, 0])


def test_what_is_told_ends_and_can_be_read(checkpoint):
    backbone = vlm(checkpoint("smolvlm"))
    ids, mask = backbone.tokenize(["put the blue block", "lift"], ended=True)
    assert backbone.read(ids) == ["put the blue block", "lift"]
    assert [row[real][-1].item() for row, real in zip(ids, mask, strict=True)] == [backbone.end_id] * 2
    told = backbone.words[ids]
    observation = random_observation(backbone)
    about = torch.tensor([1, 1])
    with torch.no_grad():
        hidden = backbone.tell(observation, about, told, mask, seen=backbone.see(observation))
        prefix = backbone.encode(about_rows(observation, about))
        torch.testing.assert_close(hidden, backbone.decode(prefix, told, mask, causal=True)[0][-1])


def test_queries_start_at_zero_and_learn_with_the_state(checkpoint):
    model = VLA(vlm_policy_config(checkpoint("smolvlm")))
    assert not model.backbone.queries.any()
    loss, _ = model.loss(random_observation(model.backbone), random_target(2))
    loss.backward()
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name.split(".")[1] for name in learning if name.startswith("backbone.")} == {"queries", "state_encoder"}
    assert all(p.grad is not None and p.grad.abs().max() > 0 for n, p in model.named_parameters() if "queries" in n)


@needs_peft
@pytest.mark.parametrize("family", ["smolvlm", "qwen2_5_vl", "paligemma", "llava"])
def test_low_rank_updates_are_of_the_language_model_alone_and_start_as_nothing(checkpoint, family):
    plain = vlm(checkpoint(family)).eval()
    torch.manual_seed(0)
    tuned = vlm(checkpoint(family), tuning="lora", lora_rank=4, lora_alpha=8).eval()
    observation = random_observation(plain)
    assert plain(observation).select(TokenRole.IMAGE)[0].equal(tuned(observation).select(TokenRole.IMAGE)[0])
    decoder = tuned.model.get_decoder()
    inside = {id(p) for p in decoder.parameters()}
    learning = [p for p in tuned.model.parameters() if p.requires_grad]
    assert len(learning) == 2 * 7 * tuned.depth and all(id(p) in inside for p in learning)
    tuned(observation).hidden.square().mean().backward()
    assert sum(p.grad is not None and bool(p.grad.any()) for p in learning) >= len(learning) / 2


def test_a_connector_may_learn_beside_a_frozen_model(checkpoint):
    backbone = vlm(checkpoint("llava"), also_learns="multi_modal_projector.*")
    backbone(random_observation(backbone)).hidden.square().mean().backward()
    learning = {name for name, p in backbone.model.named_parameters() if p.grad is not None}
    assert len(learning) == 4 and all(name.startswith("multi_modal_projector.") for name in learning)
    assert not {f"model.{name}" for name in learning} & backbone.given
    with pytest.raises(ValueError, match="also_learns 'nothing' matches no weights of a llava"):
        vlm(checkpoint("llava"), also_learns="nothing")


def test_the_whole_model_learns_when_told_to(checkpoint):
    backbone = vlm(checkpoint("llava"), tuning="full")
    backbone(random_observation(backbone)).hidden.square().mean().backward()
    silent = [name for name, p in backbone.named_parameters() if p.grad is None]
    assert all("post_layernorm" in name or "head" in name for name in silent), silent


@pytest.mark.parametrize(
    ("family", "tuning"), [("smolvlm", "frozen"), ("smolvlm", "full"), ("florence2", "full"), ("paligemma2", "full")]
)
def test_computing_layers_again_changes_no_gradient(checkpoint, family, tuning):
    folder, side_px = checkpoint(family), SMALL_PX.get(family)  # which may be made only now, from random numbers

    def gradients(again):
        torch.manual_seed(0)
        backbone = vlm(folder, tuning=tuning, gradient_checkpointing=again, side_px=side_px).train()
        torch.manual_seed(1)
        backbone(random_observation(backbone)).hidden.square().mean().backward()
        return {name: p.grad for name, p in backbone.named_parameters() if p.grad is not None}

    plain, again = gradients(False), gradients(True)
    assert plain.keys() == again.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(gradient, again[name])


@pytest.mark.parametrize(
    ("family", "side_px", "message"),
    [
        ("smolvlm", 40, "multiple of 16 px up to 64, got side_px 40"),
        ("smolvlm", 80, "multiple of 16 px up to 64, got side_px 80"),
        ("qwen2_5_vl", 100, "multiple of 28 px, got side_px 100"),
        ("paligemma", 60, "multiple of 14 px, got side_px 60"),
        ("internvl", 28, "takes images of 56 px only, got side_px 28"),
        ("gemma3", 112, "takes images of 56 px only, got side_px 112"),
        ("florence2", 60, "multiple of 32 px up to 640, got side_px 60"),
    ],
)
def test_a_size_that_the_family_refuses_is_told(checkpoint, family, side_px, message):
    with pytest.raises(ValueError, match=message):
        vlm(checkpoint(family), side_px=side_px)


@pytest.mark.parametrize(("family", "side_px", "grid"), [("smolvlm", 32, (2, 2)), ("paligemma", 28, (2, 2))])
def test_other_sizes_give_other_grids(checkpoint, family, side_px, grid):
    backbone = vlm(checkpoint(family), side_px=side_px)
    assert backbone.grid == grid
    assert len(backbone(random_observation(backbone)).layout.where(TokenRole.IMAGE)) == 2 * grid[0] * grid[1]


def test_what_does_not_fit_is_refused(checkpoint):
    backbone = vlm(checkpoint("smolvlm"), max_text_tokens=40)
    observation = random_observation(backbone)
    with pytest.raises(ValueError, match=r"expected images of shape \(2, 1, 2, 3, 32, 48\), got \(2, 2, 2"):
        backbone(replace(observation, images=observation.images.expand(-1, 2, -1, -1, -1, -1)))
    long = {"text": torch.zeros(2, 41).long(), "text_mask": torch.ones(2, 41, dtype=torch.bool)}
    with pytest.raises(ValueError, match="at most 40 text tokens, got 41"):
        backbone(replace(observation, **long))
    with pytest.raises(ValueError, match="are 1049 tokens, the model takes 1024"):
        vlm(checkpoint("smolvlm"), max_text_tokens=1005)
    with pytest.raises(ValueError, match="predicts no waypoint"):
        vlm_config("x").build(state_dim=3, views=1, image_size_px=(8, 8), waypoint_dim=3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tuning": "all"}, "expected tuning out of frozen, lora, full, got 'all'"),
        ({"prompt": "do it"}, "expected a prompt with {instruction} once"),
        ({"prompt": "{instruction} {images}"}, "expected a prompt with {instruction} once, after {images}"),
        ({"n_queries": 0}, "n_queries must be at least 1"),
        ({"lora_targets": "("}, "lora_targets must be a regular expression"),
        ({"also_learns": "("}, "also_learns must be a regular expression"),
        ({"lora_dropout": 1.0}, "lora_dropout must lie in"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        vlm_config("somewhere", **fields)


def test_updates_of_no_layer_are_refused(checkpoint):
    with pytest.raises(ValueError, match="matches no linear layer, such as"):
        vlm(checkpoint("smolvlm"), tuning="lora", lora_targets="nothing")


def test_a_window_is_chosen_for_what_is_to_be_read(tmp_path):
    config = vlm_config(tiny_checkpoint(tmp_path, "llava"))
    read = config.reading(["pick up the red cube", "lift"])
    backbone = read.build(state_dim=3, views=1, image_size_px=(8, 8))
    longest = backbone.tokenize(["pick up the red cube"])[0].shape[1]
    assert read.max_text_tokens % 16 == 0 and 1.25 * longest <= read.max_text_tokens < 1.25 * longest + 16
    assert read.reading(["something else"]) is read
    assert BridgeConfig(heads=8).build(backbone=backbone, state_dim=3, horizon=2, action_dim=2)
