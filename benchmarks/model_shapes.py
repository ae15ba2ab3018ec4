"""Backbones of published sizes with random weights, which no download is needed for: speed does not depend on weights.

What is said of each architecture is its published config. Sentences are cut by a tokenizer that is trained on them on
the spot, so that a word is about one token, as in the models' own.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.backbones.nano import NanoConfig
from vla.backbones.vlm.backbone import VLM
from vla.backbones.vlm.config import PROMPT, VLMConfig
from vla.backbones.vlm.families import family_of
from vla.backbones.vlm.fused import FUSED, FusedArchitecture
from vla.backbones.vlm.pictures import PictureNumbers
from vla.backbones.vlm.pretrained import Parts, new_network
from vla.backbones.vlm.words import PromptTokenizer
from vla.config import BackboneConfig, HeadConfig
from vla.heads.bridge import BridgeConfig
from vla.heads.flow import FlowConfig
from vla.heads.gaussian import GaussianConfig
from vla.heads.mlp import MLPConfig
from vla.heads.tokens import TokensConfig

SENTENCE = "pick up the red cube and put it into the blue bin"
_SPECIAL = ("<pad>", "<bos>", "<eos>", "<fake_token_around_image>", "<global-img>")

_SMOL_EYE = {
    "model_type": "smolvlm_vision", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "image_size": 512, "patch_size": 16,
}  # fmt: skip
_SMOL_MOUTH = {
    "model_type": "llama", "vocab_size": 49280, "num_attention_heads": 9, "max_position_embeddings": 8192,
    "rope_theta": 100000.0, "rms_norm_eps": 1e-5, "pad_token_id": 2, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_SIGLIP_B = {
    "model_type": "siglip_vision_model", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "image_size": 224, "patch_size": 16, "vision_use_head": False,
}  # fmt: skip
_QWEN_HALF_B = {
    "model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
    "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "max_position_embeddings": 32768,
    "rope_theta": 1000000.0, "rms_norm_eps": 1e-6,
}  # fmt: skip
_SIGLIP_SO400M = {
    "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
    "num_attention_heads": 16, "image_size": 224, "patch_size": 14, "vision_use_head": False,
}  # fmt: skip
_DINOV2_L = {
    "model_type": "dinov2", "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "mlp_ratio": 4,
    "image_size": 518, "patch_size": 14,
}  # fmt: skip
_GEMMA_2B = {
    "model_type": "gemma", "vocab_size": 257216, "hidden_size": 2048, "intermediate_size": 16384,
    "num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256,
    "max_position_embeddings": 8192,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A ``model_type`` of transformers, or of a fused pair of encoders, its config, and the numbers of its pictures."""

    model_type: str
    config: Mapping[str, Any]
    resample: int = 3


SHAPES: Mapping[str, Shape] = {
    "smolvlm-256m": Shape(
        model_type="smolvlm",
        config={
            "text_config": _SMOL_MOUTH
            | {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_key_value_heads": 3},
            "vision_config": _SMOL_EYE, "scale_factor": 4, "image_token_id": 49190,
        },
        resample=1,
    ),
    "smolvlm-500m": Shape(
        model_type="smolvlm",
        config={
            "text_config": _SMOL_MOUTH
            | {"hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 15,
               "num_key_value_heads": 5},
            "vision_config": _SMOL_EYE, "scale_factor": 4, "image_token_id": 49190,
        },
        resample=1,
    ),
    "siglip-qwen0.5b": Shape(
        model_type="llava",
        config={
            "text_config": _QWEN_HALF_B, "vision_config": _SIGLIP_B, "image_token_id": 151935,
            "vision_feature_layer": -2, "vision_feature_select_strategy": "full",
        },
    ),
    "dino-siglip-qwen0.5b": Shape(
        model_type=FUSED,
        config={
            "vision_tower": _DINOV2_L, "second_vision_tower": _SIGLIP_SO400M, "language_model": _QWEN_HALF_B,
            "layer": -2,
        },
    ),
    "paligemma-3b": Shape(
        model_type="paligemma",
        config={
            "text_config": _GEMMA_2B, "vision_config": _SIGLIP_SO400M, "image_token_id": 257152,
            "projection_dim": 2048,
        },
    ),
}  # fmt: skip
NANO = "nano"
BACKBONES = (NANO, *SHAPES)

HEADS: Mapping[str, HeadConfig] = {
    "bridge": BridgeConfig(),
    "mlp": MLPConfig(),
    "gaussian": GaussianConfig(),
    "tokens": TokensConfig(),
    "fast": TokensConfig(binning="fast"),
    "flow": FlowConfig(),
}
LARGE_HEADS: Mapping[str, HeadConfig] = {
    **HEADS,
    "bridge": BridgeConfig(heads=8),
    "mlp": MLPConfig(width=1024),
    "gaussian": GaussianConfig(heads=8),
}
"""Those of the presets for pretrained models."""


@dataclass(frozen=True, kw_only=True)
class RandomVLMConfig(VLMConfig):
    """The :class:`VLMConfig` of a shape's network with random weights; its ``checkpoint`` is the shape's name."""

    def build(
        self,
        *,
        state_dim: int,
        views: int,
        image_size_px: tuple[int, int],
        waypoint_dim: int = 0,
        saved: Path | None = None,
    ) -> VLM:
        shape = SHAPES[self.checkpoint]
        architecture = architecture_of(shape)
        family = family_of(architecture)
        with tempfile.TemporaryDirectory() as folder:
            write_tokenizer(Path(folder))
            tokenizer = PromptTokenizer(Path(folder), self.prompt, begins_text=family.begins_text)
        numbers = PictureNumbers(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), resample=shape.resample)
        pictures = (numbers,) * len(family.sides(self.side_px or family.learned_px))
        model = new_network(architecture).eval()
        family.trim(model)
        parts = Parts(model=model, family=family, tokenizer=tokenizer, pictures=pictures, sha256="")
        return VLM(self, parts, state_dim=state_dim, views=views, image_size_px=image_size_px)


def backbone_config(name: str, **fields: Any) -> BackboneConfig:
    """The config of a backbone of the list, frozen as far as it is a pretrained one's."""
    if name == NANO:
        return NanoConfig(weights="fresh", **fields)
    return RandomVLMConfig(checkpoint=name, tuning="frozen", **fields)


def image_side_px(name: str) -> int:
    """The side of the pictures that a backbone learned with."""
    return 64 if name == NANO else family_of(architecture_of(SHAPES[name])).learned_px


def architecture_of(shape: Shape) -> Any:
    """The config of a shape; a new one each time, since building a network may change it."""
    from transformers import AutoConfig

    parts = {key: dict(value) if isinstance(value, Mapping) else value for key, value in shape.config.items()}
    if shape.model_type == FUSED:
        return FusedArchitecture.from_dict(parts)
    return AutoConfig.for_model(shape.model_type, **parts)


def parameters_of(name: str) -> int:
    """How many a backbone has, without building it; 0 for the small one."""
    if name == NANO:
        return 0
    import torch

    with torch.device("meta"):
        return sum(p.numel() for p in new_network(architecture_of(SHAPES[name])).parameters())


def write_tokenizer(folder: Path) -> None:
    """A tokenizer whose words are those of the prompt and of the sentence."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(_SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([PROMPT.format(instruction=SENTENCE)] * 4, trainer)
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(str(folder))
