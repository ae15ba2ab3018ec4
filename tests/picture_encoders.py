"""Encoders of pictures of transformers, tiny and with random weights, as folders."""

import json

import torch
from tiny_checkpoints import MEAN, STD, VISION, VOCABULARY, tiny_tokenizer
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
    SiglipVisionModel,
)

TEXT = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def clip():
    return CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=24))


def dinov2():
    sizes = {name: size for name, size in VISION.items() if name != "intermediate_size"}
    return Dinov2Model(Dinov2Config(mlp_ratio=2, **sizes))


def siglip():
    return SiglipVisionModel(SiglipVisionConfig(**VISION))


KINDS = {"clip": clip, "dinov2": dinov2, "siglip": siglip}


def make_picture_encoder(folder, kind="clip", *, seed=0):
    torch.manual_seed(seed)
    KINDS[kind]().save_pretrained(folder)
    if kind == "clip":
        tokens = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
        PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer(), **tokens).save_pretrained(folder)
    numbers = {"image_mean": MEAN, "image_std": STD, "resample": 3, "rescale_factor": 1 / 255}
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "CLIPImageProcessor", **numbers})
    )
    return folder
