"""A vision encoder and a language model become one checkpoint, whose connector learns with the policy."""

import json
import runpy
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tiny_checkpoints import MEAN, STD, TEXT, VISION, tiny_tokenizer
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast
from vla_inputs import random_observation, random_target
from vlm_inputs import vlm_policy_config

from vla.checkpoint import CheckpointError
from vla.model import VLA

compose = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "compose_vlm.py"))["compose"]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoder")
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen2", **TEXT)).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer(), eos_token="<eos>").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["siglip_vision_model", "clip_vision_model", "dinov2"])
def test_an_encoder_and_a_decoder_become_a_backbone(tmp_path, decoder, kind):
    torch.manual_seed(1)
    encoder = AutoModel.from_config(AutoConfig.for_model(kind, **VISION))
    encoder.save_pretrained(tmp_path / "encoder")
    numbers = {"image_mean": MEAN, "image_std": STD, "resample": 3}
    (tmp_path / "encoder" / "preprocessor_config.json").write_text(json.dumps(numbers))
    compose(str(tmp_path / "encoder"), str(decoder), tmp_path / "whole")

    model = VLA(vlm_policy_config(tmp_path / "whole", also_learns="multi_modal_projector.*"))
    backbone = model.backbone
    words = AutoModelForCausalLM.from_pretrained(decoder).get_input_embeddings().weight
    assert backbone.model.get_input_embeddings().weight.equal(words)
    tower = dict(backbone.model.vision_tower.named_parameters())
    shared = [name for name, _ in encoder.named_parameters() if name in tower]
    assert shared and all(tower[name].equal(p) for name, p in encoder.named_parameters() if name in tower)
    loss, _ = model.loss(random_observation(backbone), random_target(2))
    loss.backward()
    parts = {name.split(".")[2] for name, p in model.named_parameters() if p.requires_grad and ".model." in name}
    assert parts == {"multi_modal_projector"}


def test_a_part_without_all_of_its_weights_is_refused(tmp_path, decoder):
    """Nobody would notice that some of them are new."""
    encoder = AutoModel.from_config(AutoConfig.for_model("siglip_vision_model", **VISION))
    encoder.save_pretrained(tmp_path)
    weights = safetensors.torch.load_file(tmp_path / "model.safetensors")
    lost = next(name for name in weights if name.endswith("k_proj.weight"))
    del weights[lost]
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lack 1 tensors, among them .*k_proj\.weight"):
        compose(str(tmp_path), str(decoder), tmp_path / "whole")
