"""Tiny random checkpoints of the real architectures, as folders that transformers itself wrote."""

import json
import runpy
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedTokenizerFast,
)

ROOT = Path(__file__).resolve().parents[1]
SPECIAL = [
    "<pad>", "<bos>", "<eos>", "<image>", "<fake_token_around_image>", "<global-img>", "<|vision_start|>",
    "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<img>", "</img>", "<IMG_CONTEXT>", "<start_of_image>",
    "<end_of_image>",
]  # fmt: skip
SENTENCES = [
    "In: What action should the robot take to pick up the red cube?",
    "put the blue block into the green bin and lift it",
    "Out: ",
]
VOCABULARY = 400
TEXT = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GEMMA = TEXT | {"head_dim": 16}
VISION = {
    "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 56,
    "patch_size": 14,
}  # fmt: skip
SIGLIP = VISION | {"model_type": "siglip_vision_model", "vision_use_head": False}
MROPE = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
QWEN_IDS = {"image_token_id": 8, "video_token_id": 9, "vision_start_token_id": 6, "vision_end_token_id": 7}
QWEN2_VISION = {"depth": 2, "embed_dim": 48, "hidden_size": 64, "num_heads": 4, "patch_size": 14, "mlp_ratio": 2}
SIZE = {"height": 56, "width": 56}

CONFIGS = {
    "smolvlm": {
        "text_config": TEXT | {"model_type": "llama"},
        "vision_config": VISION | {"image_size": 64, "patch_size": 8, "model_type": "smolvlm_vision"},
        "scale_factor": 2,
        "image_token_id": 3,
    },
    "idefics3": {
        "text_config": TEXT | {"model_type": "llama"},
        "vision_config": VISION | {"image_size": 64, "patch_size": 8, "model_type": "idefics3_vision"},
        "scale_factor": 2,
        "image_token_id": 3,
    },
    "qwen2_vl": {"text_config": TEXT | {"rope_parameters": MROPE}, "vision_config": QWEN2_VISION, **QWEN_IDS},
    "qwen2_5_vl": {
        "text_config": TEXT | {"rope_parameters": MROPE},
        "vision_config": {
            "depth": 2, "hidden_size": 48, "intermediate_size": 96, "num_heads": 4, "patch_size": 14,
            "out_hidden_size": 64, "fullatt_block_indexes": [1], "window_size": 56,
        },
        **QWEN_IDS,
    },
    "qwen3_vl": {
        "text_config": GEMMA | {"rope_parameters": MROPE},
        "vision_config": {
            "depth": 3, "hidden_size": 48, "intermediate_size": 96, "num_heads": 4, "patch_size": 14,
            "out_hidden_size": 64, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16,
        },
        **QWEN_IDS,
    },
    "paligemma": {
        "text_config": GEMMA | {"model_type": "gemma"}, "vision_config": SIGLIP, "image_token_id": 3,
        "projection_dim": 64,
    },
    "paligemma2": {
        "text_config": GEMMA | {"model_type": "gemma2", "sliding_window": 40, "query_pre_attn_scalar": 16},
        "vision_config": SIGLIP, "image_token_id": 3, "projection_dim": 64,
    },
    "internvl": {
        "text_config": TEXT | {"model_type": "qwen2"},
        "vision_config": VISION | {"image_size": [56, 56], "patch_size": [14, 14], "model_type": "internvl_vision"},
        "image_token_id": 12, "image_seq_length": 4,
    },
    "gemma3": {
        "text_config": GEMMA | {"model_type": "gemma3_text", "sliding_window": 40, "query_pre_attn_scalar": 16},
        "vision_config": SIGLIP, "mm_tokens_per_image": 4, "image_token_id": 3, "boi_token_index": 13,
        "eoi_token_index": 14,
    },
    "llava": {
        "text_config": TEXT | {"model_type": "llama"}, "vision_config": SIGLIP, "image_token_id": 3,
        "vision_feature_select_strategy": "full", "vision_feature_layer": -1,
    },
    "llava-clip": {
        "text_config": TEXT | {"model_type": "qwen2"},
        "vision_config": VISION | {"model_type": "clip_vision_model"},
        "image_token_id": 3, "vision_feature_select_strategy": "default", "vision_feature_layer": -2,
    },
    "florence2": {
        "text_config": {
            "model_type": "bart", "vocab_size": VOCABULARY, "d_model": 64, "encoder_layers": 3, "decoder_layers": 1,
            "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 128,
            "decoder_ffn_dim": 128, "max_position_embeddings": 1024, "pad_token_id": 0, "bos_token_id": 1,
            "eos_token_id": 2, "decoder_start_token_id": 2,
        },
        "vision_config": {
            "depths": [1, 1, 1, 1], "embed_dim": [16, 16, 32, 48], "num_heads": [2, 2, 4, 4],
            "num_groups": [2, 2, 4, 4], "window_size": 4, "projection_dim": 64, "max_position_embeddings": 20,
        },
        "image_token_id": 3,
    },
}  # fmt: skip
MODEL_TYPES = {"paligemma2": "paligemma", "llava-clip": "llava"}
PROCESSORS = {
    "smolvlm": (
        "SmolVLMImageProcessor",
        {
            "resample": 1,
            "size": {"longest_edge": 64},
            "do_image_splitting": False,
            "max_image_size": {"longest_edge": 64},
        },
    ),
    "idefics3": (
        "Idefics3ImageProcessor",
        {
            "resample": 1,
            "size": {"longest_edge": 64},
            "do_image_splitting": False,
            "max_image_size": {"longest_edge": 64},
        },
    ),
    "qwen2_vl": ("Qwen2VLImageProcessor", {"patch_size": 14, "merge_size": 2}),  # as published: no filter
    "qwen2_5_vl": ("Qwen2VLImageProcessor", {"resample": 3, "patch_size": 14, "merge_size": 2}),
    "qwen3_vl": ("Qwen2VLImageProcessor", {"resample": 3, "patch_size": 14, "merge_size": 2}),
    "paligemma": ("SiglipImageProcessor", {"resample": 3, "size": SIZE}),
    "paligemma2": ("SiglipImageProcessor", {"resample": 3, "size": SIZE}),
    "internvl": ("GotOcr2ImageProcessor", {"resample": 3, "size": SIZE}),
    "gemma3": ("Gemma3ImageProcessor", {"resample": 2, "size": SIZE}),
    "llava": ("SiglipImageProcessor", {"resample": 3, "size": SIZE}),
    "florence2": ("CLIPImageProcessor", {"resample": 3, "size": SIZE}),
    "llava-clip": (
        "CLIPImageProcessor",
        {"resample": 3, "size": {"shortest_edge": 56}, "crop_size": SIZE},
    ),
}
MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
FAMILIES = sorted(CONFIGS)


def tiny_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def tiny_checkpoint(folder, family, *, begin=True, seed=0):
    """Weights, tokenizer and the image processor's config of ``family`` in ``folder``; whether texts ``begin`` with
    a token of their own.
    """
    torch.manual_seed(seed)
    config = AutoConfig.for_model(MODEL_TYPES.get(family, family), **CONFIGS[family])
    model = AutoModelForImageTextToText.from_config(config)
    if family == "gemma3":  # zero at first, so that images would count for nothing
        torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.02)
    model.save_pretrained(folder)
    tokenizer = tiny_tokenizer()
    if begin:
        tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    kind, numbers = PROCESSORS[family]
    content = {"image_processor_type": kind, "image_mean": MEAN, "image_std": STD, "rescale_factor": 1 / 255, **numbers}
    (folder / "preprocessor_config.json").write_text(json.dumps(content))
    return folder


def tiny_pair(folder):
    """A DINOv2 and a SigLIP, whose patches, sizes and numbers for pictures differ, before a Qwen2, composed by
    ``examples/compose_vlm.py``.
    """
    compose_pair = runpy.run_path(str(ROOT / "examples" / "compose_vlm.py"))["compose_pair"]
    torch.manual_seed(0)
    other = VISION | {"hidden_size": 32, "image_size": 80, "patch_size": 16, "vision_use_head": False}
    parts = {
        "dino": (AutoModel, "dinov2", VISION, [0.5, 0.4, 0.3]),
        "siglip": (AutoModel, "siglip_vision_model", other, [0.5, 0.5, 0.5]),
        "qwen": (AutoModelForCausalLM, "qwen2", TEXT, None),
    }
    for name, (kind, model_type, numbers, mean) in parts.items():
        kind.from_config(AutoConfig.for_model(model_type, **numbers)).save_pretrained(folder / name)
        if mean:
            content = {"image_mean": mean, "image_std": STD, "resample": 3}
            (folder / name / "preprocessor_config.json").write_text(json.dumps(content))
    PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer(), eos_token="<eos>").save_pretrained(folder / "qwen")
    compose_pair((str(folder / "dino"), str(folder / "siglip")), str(folder / "qwen"), folder / "whole")
    return folder / "whole"


def checkpoints(tmp_path_factory):
    """Makes each family's checkpoint once."""
    made = {}

    def of(family):
        if family not in made:
            made[family] = tiny_checkpoint(tmp_path_factory.mktemp(family), family)
        return made[family]

    return of
