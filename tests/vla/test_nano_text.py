"""``nano`` that reads with a pretrained encoder of texts: frozen, kept by name and hash, with the shipped eye."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from sentence_encoders import make_encoder
from test_nano import BackboneContract
from transformers import AutoModel, AutoTokenizer
from vla_inputs import SIZE_PX, STATE_DIM, TINY, random_observation, random_target, tiny_config

from vla.backbones.nano_text import NanoTextConfig
from vla.checkpoint import CheckpointError
from vla.config import VLAConfig
from vla.model import VLA
from vla.saving import CONFIG_FILE, WEIGHTS_FILE, load_vla, save_vla
from vla.shipped import shipped_base

MINILM_VARIABLE = "VLA_MINILM"
TEXTS = ("the red disc", "which blue disc is left of the red disc")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return make_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def minilm():
    """The real all-MiniLM-L6-v2, where it lies on this machine."""
    if not (folder := os.environ.get(MINILM_VARIABLE)):
        pytest.skip(f"{MINILM_VARIABLE} names no folder with all-MiniLM-L6-v2")
    return Path(folder)


def config_for(encoder, **fields):
    return NanoTextConfig(text=str(encoder), **{**TINY, "max_text_tokens": 32, **fields})


def build(encoder, **fields):
    return config_for(encoder, **fields).build(state_dim=STATE_DIM, views=2, image_size_px=SIZE_PX)


def policy_config(encoder, **fields):
    return replace(tiny_config(), backbone=config_for(encoder, **fields))


class TestNanoText(BackboneContract):
    @pytest.fixture(autouse=True)
    def _encoder(self, encoder):
        self.encoder = encoder

    def make(self):
        return build(self.encoder)


@torch.no_grad()
def test_tokens_are_those_of_the_encoder(encoder):
    text = build(encoder)
    ids, mask = text.tokenize(TEXTS)
    theirs = AutoTokenizer.from_pretrained(encoder)(list(TEXTS), padding=True, truncation=False, return_tensors="pt")
    assert ids[mask].tolist() == theirs["input_ids"][theirs["attention_mask"].bool()].tolist()
    hidden = AutoModel.from_pretrained(encoder).eval()(**theirs).last_hidden_state
    seen = text.text_encoder.train()(ids, mask)[0]
    torch.testing.assert_close(seen[mask], text.text_encoder.project(hidden)[mask], atol=1e-5, rtol=1e-5)


def test_sentences_are_read_once_whatever_they_come_with(encoder):
    text = build(encoder).text_encoder
    ids, mask = build(encoder).tokenize(TEXTS)
    together, alone = text(ids, mask), text(ids[:1, :3], mask[:1, :3])
    torch.testing.assert_close(together[0][:1, :3], alone[0], atol=1e-5, rtol=1e-5)
    reads = []
    text.model.register_forward_hook(lambda *_: reads.append(1))
    text(ids, mask)
    assert not reads
    text.double().float()
    text(ids, mask)
    assert len(reads) == 2, "moved, so read again"


def test_what_was_read_in_inference_mode_can_be_learned_from(encoder):
    backbone = build(encoder)
    observation = random_observation(backbone, TEXTS)
    with torch.inference_mode():
        backbone(observation)
    backbone(observation).hidden.square().mean().backward()
    learned = {name for name, p in backbone.text_encoder.named_parameters() if p.grad is not None}
    assert learned and not any(name.startswith("model.") for name in learned)
    assert all(p.grad.any() for name, p in backbone.text_encoder.named_parameters() if "project" in name)


def test_it_starts_from_the_shipped_eye(encoder):
    base = shipped_base()
    torch.manual_seed(0)
    config = NanoTextConfig(text=str(encoder), max_text_tokens=32)
    backbone = config.build(state_dim=STATE_DIM, views=2, image_size_px=base.config.image_size_px)
    torch.manual_seed(0)
    fresh = config.fresh.build(state_dim=STATE_DIM, views=2, image_size_px=base.config.image_size_px)
    weights, others = dict(backbone.named_parameters()), dict(fresh.named_parameters())
    for name in ("image_encoder", "keypoint_encoder", "second_look", "blocks"):
        parts = [each for each in weights if each.startswith(f"{name}.") and each in base.weights]
        assert parts and all(weights[each].equal(base.weights[each]) for each in parts)
    words = [each for each in weights if each.startswith("text_encoder.")]
    assert words and all(weights[each].equal(others[each]) for each in words)


def test_a_policy_keeps_all_but_the_encoder(tmp_path, encoder):
    model = VLA(policy_config(encoder)).eval()
    save_vla(model, tmp_path)
    kept = safetensors.torch.load_file(tmp_path / WEIGHTS_FILE)
    assert "backbone.text_encoder.project.1.weight" in kept
    assert not any(name.startswith("backbone.text_encoder.model.") for name in kept)
    loaded = load_vla(tmp_path)
    assert loaded.config == model.config and len(loaded.config.backbone.sha256) == 64
    assert VLAConfig.from_dict(json.loads(json.dumps(model.config.to_dict()))) == model.config
    observation = random_observation(model.backbone, TEXTS)
    assert loaded.act(observation).equal(model.act(observation))


def at(policy, encoder):
    content = json.loads((policy / CONFIG_FILE).read_text())
    content["backbone"]["text"] = str(encoder)
    (policy / CONFIG_FILE).write_text(json.dumps(content))
    return policy


def test_what_is_read_of_the_encoder_changes_not_what_it_starts_from(encoder):
    config = replace(
        tiny_config(), backbone=NanoTextConfig(text=str(encoder), max_text_tokens=32), image_size_px=(64, 64)
    )
    known = VLA(config).config.backbone
    assert known.sha256 and known.weights == config.backbone.weights == "shipped"


def test_another_encoder_is_refused(tmp_path, encoder):
    save_vla(VLA(policy_config(encoder)), tmp_path / "policy")
    other = make_encoder(tmp_path / "other", seed=1)
    with pytest.raises(CheckpointError, match="others than those that were learned with: their hash is"):
        load_vla(at(tmp_path / "policy", other))
    with pytest.raises(CheckpointError, match="there is no such folder"):
        load_vla(at(tmp_path / "policy", "/nowhere/at/all"))


def test_another_tokenizer_is_refused(tmp_path, encoder):
    save_vla(VLA(policy_config(encoder)), tmp_path)
    path = tmp_path / "text" / "tokenizer.json"
    path.write_text(path.read_text().replace('"disc"', '"cube"'))
    with pytest.raises(CheckpointError, match="cuts texts otherwise"):
        load_vla(tmp_path)


def test_what_encodes_no_texts_is_refused(tmp_path, encoder):
    folder = shutil.copytree(encoder, tmp_path / "encoder")
    (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(ValueError, match=r"expected an encoder of texts at .*, got a t5"):
        build(folder)
    with pytest.raises(ValueError, match="a text window of at most 32 tokens"):
        build(encoder, max_text_tokens=33)
    with pytest.raises(ValueError, match="expected text: a folder with a text encoder"):
        NanoTextConfig(text="")


def test_it_tells_nothing(encoder):
    with pytest.raises(TypeError, match="reads, and cannot tell anything"):
        _ = build(encoder).words


def test_a_window_is_chosen_by_its_own_tokens(encoder):
    config = replace(config_for(encoder), max_text_tokens=None).reading(TEXTS)
    assert config.max_text_tokens == 16  # nine words and a quarter more


def test_the_real_encoder_asks_and_learns(minilm):
    """Sentences of one meaning are nearer to each other than to one of another, before anything is learned."""
    backbone = config_for(minilm).build(state_dim=STATE_DIM, views=2, image_size_px=SIZE_PX)
    texts = ("pick up the red cube", "grab the red block", "open the drawer")
    ids, mask = backbone.tokenize(texts)
    assert ids[0, 0] == 101 and ids[0, mask[0]][-1] == 102  # [CLS] … [SEP]
    rows = [
        backbone.text_encoder._read(tuple(row[real].tolist())).mean(dim=0) for row, real in zip(ids, mask, strict=True)
    ]
    near, far = (torch.cosine_similarity(rows[0], other, dim=0) for other in rows[1:])
    assert near > far + 0.2
    model = VLA(policy_config(minilm))
    observation, target = random_observation(model.backbone, texts[:2]), random_target(2)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss, _ = model.loss(observation, target)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
