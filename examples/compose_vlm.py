"""Make a vision-language model of one or two vision encoders and a language model, as a folder to start a policy from.

    python examples/compose_vlm.py google/siglip-base-patch16-224 Qwen/Qwen2.5-0.5B models/siglip-qwen
    python examples/compose_vlm.py facebook/dinov2-large google/siglip-so400m-patch14-224 Qwen/Qwen2.5-0.5B \
        models/dinosiglip-qwen2.5-0.5b
    vla train vlm-bridge --data FOLDER --backbone.checkpoint models/siglip-qwen \
        --backbone.also-learns 'multi_modal_projector.*'

One encoder (SigLIP, CLIP or DINOv2) makes a LLaVA (arXiv 2304.08485), two make what Prismatic's models are (arXiv
2402.07865), whose connector sees the features of both: the order is that of the channels, and the first one's patches
are the image tokens. The connector is an MLP that nobody has trained yet, which is why it must learn with the policy.
All may be folders or ids on the hub.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, LlavaConfig, LlavaForConditionalGeneration
from transformers.image_processing_base import ImageProcessingMixin

from vla.backbones.vlm.fused import ENCODERS, LANGUAGE, FusedArchitecture, FusedModel
from vla.backbones.vlm.locate import locate
from vla.backbones.vlm.pictures import PictureNumbers
from vla.checkpoint import CheckpointError
from vla.durable import write_text_atomically
from vla.strict_json import strict_json

FEATURES_LAYER = -2
"""Which of the encoder's layers the decoder sees: the last one but one, as in LLaVA and Prismatic."""


def compose(encoder: str, decoder: str, out: Path) -> LlavaForConditionalGeneration:
    """Write the model, its tokenizer and the encoder's numbers for pictures into ``out``.

    Raises ``CheckpointError`` where one of the two is not there, ``ValueError`` where one is of another kind.
    """
    eye, mouth = locate(encoder), locate(decoder)
    vision, text = _vision(eye, encoder), _text(mouth, decoder)
    has_class_token = "siglip" not in vision.model_type
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=text.vocab_size - 1,
        vision_feature_layer=FEATURES_LAYER,
        vision_feature_select_strategy="default" if has_class_token else "full",
    )
    model = LlavaForConditionalGeneration(config)
    parts: Any = model.model
    for name, folder, part in (("vision_tower", eye, vision), ("language_model", mouth, text)):
        setattr(parts, name, _learned(folder, part))
    model.save_pretrained(out)
    _save_words(mouth, out)
    _save_numbers(eye, out)
    return model


def compose_pair(encoders: tuple[str, str], decoder: str, out: Path) -> FusedModel:
    """The same with two encoders side by side, each with its own numbers for pictures."""
    eyes, mouth = [locate(name) for name in encoders], locate(decoder)
    visions = [_vision(eye, name) for eye, name in zip(eyes, encoders, strict=True)]
    configs = {**dict(zip(ENCODERS, visions, strict=True)), LANGUAGE: _text(mouth, decoder)}
    architecture = FusedArchitecture(**configs, layer=FEATURES_LAYER)
    folders = dict(zip((*ENCODERS, LANGUAGE), (*eyes, mouth), strict=True))
    model = FusedModel(architecture, {name: _learned(folders[name], part) for name, part in configs.items()})
    model.save(out)
    for name in ENCODERS:
        _save_numbers(folders[name], out / name)
    _save_words(mouth, out)
    return model


def _vision(folder: Path, name: str) -> Any:
    """The config of the vision encoder in ``folder``, on its own or a part of a model of pictures and texts."""
    whole = AutoConfig.from_pretrained(folder, local_files_only=True)
    vision = getattr(whole, "vision_config", whole)
    if not hasattr(vision, "patch_size"):
        raise ValueError(f"expected a vision encoder at {name}, got a {vision.model_type}")
    return vision


def _text(folder: Path, name: str) -> Any:
    text = AutoConfig.from_pretrained(folder, local_files_only=True)
    if not hasattr(text, "vocab_size"):
        raise ValueError(f"expected a language model at {name}, got a {text.model_type}")
    return text


def _learned(folder: Path, part: Any) -> Any:
    """The network of the config ``part`` with its weights in ``folder``, which may hold others beside them;
    ``CheckpointError`` where some of its own are not there.
    """
    with torch.device("meta"):
        kind: Any = type(AutoModel.from_config(part))
    model, found = kind.from_pretrained(
        folder,
        config=part,
        dtype=torch.float32,
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
    )
    if missing := sorted(found["missing_keys"]):
        raise CheckpointError(f"the weights in {folder} lack {len(missing)} tensors, among them {missing[0]}")
    return model


def _save_words(folder: Path, out: Path) -> None:
    AutoTokenizer.from_pretrained(folder, local_files_only=True).save_pretrained(out)


def _save_numbers(folder: Path, out: Path) -> None:
    content, _ = ImageProcessingMixin.get_image_processor_dict(str(folder), local_files_only=True)
    numbers = PictureNumbers.from_dict(content).to_dict()
    write_text_atomically(out / "preprocessor_config.json", strict_json(numbers, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("encoders", nargs="+", help="one or two vision encoders: folders, or ids on the hub")
    parser.add_argument("decoder", help="a language model: a folder, or an id on the hub")
    parser.add_argument("out", type=Path, help="folder to write")
    given = parser.parse_args()
    match given.encoders:
        case [encoder]:
            model = compose(encoder, given.decoder, given.out)
        case [first, second]:
            model = compose_pair((first, second), given.decoder, given.out)
        case _:
            parser.error(f"expected one encoder or two, got {len(given.encoders)}")
    print(f"{given.out}: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters")


if __name__ == "__main__":
    main()
