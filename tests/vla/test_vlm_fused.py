"""Two vision encoders side by side before a language model: composed, seen through, kept, and refused where damaged."""

import json
import shutil

import pytest
import safetensors.torch
import torch
from test_nano import BackboneContract
from tiny_checkpoints import tiny_pair
from transformers import AutoModel
from vla_inputs import random_observation
from vlm_inputs import SIZE_PX, vlm, vlm_policy_config

from vla.backbones.vlm.config import VLMConfig
from vla.backbones.vlm.pictures import PictureNumbers
from vla.backbones.vlm.size import model_size
from vla.checkpoint import CheckpointError
from vla.features import TokenRole
from vla.model import VLA
from vla.saving import load_vla, save_vla

ENCODERS = ("vision_tower", "second_vision_tower")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copied")


class TestFused(BackboneContract):
    @pytest.fixture(autouse=True)
    def _folder(self, folder):
        self.folder = folder

    def make(self):
        return vlm(self.folder)


@torch.no_grad()
def test_patches_are_those_of_both_encoders_each_with_its_own_numbers(folder):
    """The second has larger patches (16 px against 14), so it is given the picture larger."""
    backbone = vlm(folder).eval()
    assert backbone.grid == (4, 4) and backbone.side_px == 56
    observation = random_observation(backbone)
    pictures, seen = observation.images[:, 0].flatten(0, 1), []
    for name, side in zip(ENCODERS, (56, 64), strict=True):
        tower = AutoModel.from_pretrained(folder / name)
        numbers = PictureNumbers.from_dict(json.loads((folder / name / "preprocessor_config.json").read_text()))
        given = numbers.prepare(pictures, (side, side))
        stretched = {} if name == "vision_tower" else {"interpolate_pos_encoding": True}
        hidden = tower(given, output_hidden_states=True, **stretched).hidden_states[-2]
        seen.append(hidden[:, 1:] if name == "vision_tower" else hidden)  # DINOv2 has a class token
    w = safetensors.torch.load_file(folder / "multi_modal_projector.safetensors")
    x = torch.cat(seen, dim=-1)
    for layer in (0, 2, 4):
        x = x @ w[f"{layer}.weight"].T + w[f"{layer}.bias"]
        x = x if layer == 4 else torch.nn.functional.gelu(x)
    torch.testing.assert_close(backbone.see(observation).tokens, x, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_language_model_reads_what_was_seen_between_its_words(folder):
    backbone = vlm(folder).eval()
    observation = random_observation(backbone)
    decoder = AutoModel.from_pretrained(folder / "language_model")
    pictures = backbone.see(observation).tokens.unflatten(0, (2, 2)).flatten(1, 2)
    given = torch.cat([pictures, decoder.get_input_embeddings()(observation.text)], dim=1)
    mask = torch.cat([torch.ones(2, pictures.shape[1], dtype=torch.bool), observation.text_mask], dim=1)
    expected = decoder(inputs_embeds=given, attention_mask=mask.long(), output_hidden_states=True).hidden_states[1:]
    ours = backbone(observation)
    known = ours.layout.where(TokenRole.IMAGE, TokenRole.TEXT)
    assert len(known) == mask.shape[1]
    for layer in range(backbone.depth):
        torch.testing.assert_close(ours.hidden[layer][:, known][mask], expected[layer][mask], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tuning", ["frozen", "full"])
def test_a_policy_keeps_what_it_learned(tmp_path, folder, tuning):
    config = vlm_policy_config(folder, tuning=tuning, also_learns="multi_modal_projector.*")
    model = VLA(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    save_vla(model, tmp_path)
    kept = set(safetensors.torch.load_file(tmp_path / "model.safetensors"))
    of_model = {name for name in kept if name.startswith("backbone.model.")}
    assert tuning == "full" or (all(".multi_modal_projector." in name for name in of_model) and len(of_model) == 6)
    observation = random_observation(model.backbone)
    assert load_vla(tmp_path).act(observation).equal(model.act(observation))


def test_its_size_is_known_before_its_weights_are_read(folder):
    size = model_size(VLMConfig(checkpoint=str(folder), also_learns="multi_modal_projector.*"))
    backbone = vlm(folder)
    assert size.parameters == sum(p.numel() for p in backbone.model.parameters())
    assert size.also == sum(p.numel() for p in backbone.model.multi_modal_projector.parameters())
    assert (size.family, size.grid, size.tokens_per_image) == ("fused", (4, 4), 16)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vision_tower/model.safetensors", "expected the weights of a dinov2"),
        ("second_vision_tower/preprocessor_config.json", "expected the config of an image processor"),
        ("multi_modal_projector.safetensors", "expected a safetensors file at"),
        ("tokenizer.json", "expected a tokenizer of transformers"),
    ],
)
def test_a_missing_part_is_named(copied, name, message):
    (copied / name).unlink()
    with pytest.raises(CheckpointError, match=message):
        vlm(copied)


def test_a_config_without_a_part_is_refused(copied):
    content = json.loads((copied / "config.json").read_text())
    del content["second_vision_tower"]
    (copied / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="second_vision_tower"):
        vlm(copied)


def test_a_side_between_patches_is_refused(folder):
    with pytest.raises(ValueError, match="fused takes images whose side is a multiple of 14 px, got side_px 60"):
        vlm(folder, side_px=60)
    assert SIZE_PX != (56, 56)  # so that pictures were resized above
