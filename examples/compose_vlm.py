"""Make a vision-language model of a vision encoder and a language model, as a folder to start a policy from.

    python examples/compose_vlm.py google/siglip-base-patch16-224 Qwen/Qwen2.5-0.5B models/siglip-qwen
    vla train vlm-bridge --data FOLDER --backbone.checkpoint models/siglip-qwen \
        --backbone.also-learns 'multi_modal_projector.*'

It is a LLaVA (arXiv 2304.08485): the encoder (SigLIP, CLIP or DINOv2), an MLP that nobody has trained yet, which is why
it must learn with the policy, and any decoder. Both may be folders or ids on the hub.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, LlavaConfig, LlavaForConditionalGeneration
from transformers.image_processing_base import ImageProcessingMixin

from vla.backbones.vlm.locate import locate
from vla.backbones.vlm.pictures import PictureNumbers
from vla.durable import write_text_atomically
from vla.strict_json import strict_json

FEATURES_LAYER = -2
"""Which of the encoder's layers the decoder sees: the last one but one, as in LLaVA."""


def compose(encoder: str, decoder: str, out: Path) -> LlavaForConditionalGeneration:
    """Write the model, its tokenizer and the encoder's numbers for pictures into ``out``.

    Raises ``CheckpointError`` where one of the two is not there, ``ValueError`` where one is of another kind.
    """
    eye, mouth = locate(encoder), locate(decoder)
    whole = AutoConfig.from_pretrained(eye, local_files_only=True)
    vision = getattr(whole, "vision_config", whole)
    if not hasattr(vision, "patch_size"):
        raise ValueError(f"expected a vision encoder at {encoder}, got a {vision.model_type}")
    text = AutoConfig.from_pretrained(mouth, local_files_only=True)
    if not hasattr(text, "vocab_size"):
        raise ValueError(f"expected a language model at {decoder}, got a {text.model_type}")
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
        learned = type(getattr(parts, name)).from_pretrained(
            folder, config=part, dtype=torch.float32, local_files_only=True
        )
        setattr(parts, name, learned)
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(mouth, local_files_only=True).save_pretrained(out)
    content, _ = ImageProcessingMixin.get_image_processor_dict(str(eye), local_files_only=True)
    numbers = PictureNumbers.from_dict(content).to_dict()
    write_text_atomically(out / "preprocessor_config.json", strict_json(numbers, indent=2) + "\n")
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("encoder", help="a vision encoder: a folder, or an id on the hub")
    parser.add_argument("decoder", help="a language model: a folder, or an id on the hub")
    parser.add_argument("out", type=Path, help="folder to write")
    given = parser.parse_args()
    model = compose(given.encoder, given.decoder, given.out)
    print(f"{given.out}: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters")


if __name__ == "__main__":
    main()
