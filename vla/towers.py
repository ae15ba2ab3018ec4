"""A tower for pictures and one for sentences, both onto the unit sphere, of a pretrained model of transformers.

CLIP (arXiv 2103.00020) and SigLIP (2303.15343) have them. Pictures are prepared batched, on the model's device, from
the numbers of the checkpoint's own image processor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from vla.backbones.vlm.locate import locate
from vla.backbones.vlm.pictures import LEVELS, PictureNumbers, pillow_resize
from vla.backbones.vlm.pretrained import load_weights, read_architecture
from vla.checkpoint import CheckpointError

ROWS_AT_ONCE = 256
"""Pictures that go through the network together."""


class Towers(Protocol):
    """What gives pictures and sentences vectors whose cosine says how well they fit."""

    name: str
    cameras: tuple[str, ...]
    """Whose pictures it must be shown, in this order; empty where one picture of any camera will do."""
    device: torch.device

    def embed_images(self, images: UInt8[Tensor, "n v h w 3"]) -> Float[Tensor, "n e"]:
        """The unit vector of each row's views, RGB of any size, on the towers' device."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "n e"]:
        """The unit vector of each text; ``ValueError`` for one that is longer than the tower reads."""
        ...


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How an image processor brings pictures to the encoder's size, in pixels.

    The shorter side becomes ``shortest_px``, or, where that is None, the picture is squeezed to ``size_px`` (height,
    width). Then ``crop_px`` is cut out of its middle, where it is not None.
    """

    numbers: PictureNumbers
    shortest_px: int | None
    size_px: tuple[int, int] | None
    crop_px: tuple[int, int] | None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Framing":
        """That of an image processor's own JSON form; ``ValueError`` says what it lacks."""
        size = data.get("size") if data.get("do_resize", True) else None
        size = {"shortest_edge": size} if isinstance(size, int) else size
        crop = data.get("crop_size") if data.get("do_center_crop", True) else None
        crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
        if size is not None and "shortest_edge" not in size and not {"height", "width"} <= size.keys():
            raise ValueError(
                f"expected the size of an image processor as shortest_edge or height and width, got {size}"
            )
        shortest = None if size is None else size.get("shortest_edge")
        return cls(
            numbers=PictureNumbers.from_dict(data),
            shortest_px=shortest,
            size_px=None if size is None or shortest else (size["height"], size["width"]),
            crop_px=None if crop is None else (crop["height"], crop["width"]),
        )

    def prepare(self, images: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n 3 y x"]:
        """What the encoder takes, on the images' device."""
        levels = images.permute(0, 3, 1, 2).float()
        height, width = levels.shape[-2:]
        size_px = self.size_px or (height, width)
        if self.shortest_px is not None:
            shorter = min(height, width)
            size_px = (self.shortest_px * height // shorter, self.shortest_px * width // shorter)
        with torch.autocast(images.device.type, enabled=False):
            levels = pillow_resize(levels, size_px, self.numbers.resample)
        levels = levels if self.crop_px is None else center_crop(levels, self.crop_px)
        mean, std = (levels.new_tensor(x)[:, None, None] for x in (self.numbers.mean, self.numbers.std))
        return (levels / LEVELS - mean) / std


def center_crop(levels: Float[Tensor, "n c h w"], size_px: tuple[int, int]) -> Float[Tensor, "n c y x"]:
    """The middle of pictures; ``ValueError`` where they are smaller."""
    (height, width), (rows, columns) = levels.shape[-2:], size_px
    if rows > height or columns > width:
        raise ValueError(f"expected pictures of at least {size_px} px to crop, got {(height, width)}")
    top, left = (height - rows) // 2, (width - columns) // 2
    return levels[..., top : top + rows, left : left + columns]


class TransformersTowers:
    """The towers of ``checkpoint``, a folder or an id on the hub, frozen.

    Several views are each given a vector, and their mean is brought back to the sphere. Weights are bfloat16 on CUDA.
    ``CheckpointError`` where the checkpoint is not there or damaged, or has no two towers.
    """

    cameras: tuple[str, ...] = ()

    def __init__(self, checkpoint: str, device: torch.device | str = "cpu") -> None:
        folder = locate(checkpoint)
        architecture = read_architecture(folder)
        self.name = Path(checkpoint).name
        self.device = torch.device(device)
        self._framing = _read_framing(folder)
        self._model = _frozen(load_weights(folder, architecture), self.device)
        self._tokenizer = _read_tokenizer(folder)
        self.text_window = int(architecture.text_config.max_position_embeddings)
        self._whole = architecture.model_type.startswith("siglip")

    @torch.inference_mode()
    def embed_images(self, images: UInt8[Tensor, "n v h w 3"]) -> Float[Tensor, "n e"]:
        n, v = images.shape[:2]
        flat = images.to(self.device).flatten(0, 1)
        vectors = torch.cat([self._see(part) for part in flat.split(ROWS_AT_ONCE)]) if n else flat.new_zeros(0, 1)
        return functional.normalize(vectors.unflatten(0, (n, v)).mean(dim=1), dim=-1).clone()

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "n e"]:
        """SigLIP learned with texts padded to the whole window, which it attends to; CLIP with an end that it reads."""
        lengths = [len(ids) for ids in self._tokenizer(list(texts))["input_ids"]]
        if max(lengths) > self.text_window:
            text = texts[lengths.index(max(lengths))]
            raise ValueError(f"expected texts of at most {self.text_window} tokens, got {max(lengths)}: {text!r}")
        padding: dict[str, Any] = {"padding": "longest"}
        if self._whole:
            padding = {"padding": "max_length", "max_length": self.text_window}
        found = self._tokenizer(list(texts), return_tensors="pt", **padding)
        mask = None if self._whole else found["attention_mask"].to(self.device)
        given = self._model.get_text_features(input_ids=found["input_ids"].to(self.device), attention_mask=mask)
        return _unit(given).clone()

    def _see(self, images: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n e"]:
        pixels = self._framing.prepare(images).to(next(self._model.parameters()).dtype)
        return _unit(self._model.get_image_features(pixel_values=pixels))


def _frozen(model: Any, device: torch.device) -> Any:
    if not hasattr(model, "get_image_features") or not hasattr(model, "get_text_features"):
        raise CheckpointError(f"a {model.config.model_type} has no tower for texts and one for images, as CLIP has")
    return model.requires_grad_(False).to(device, torch.bfloat16 if device.type == "cuda" else torch.float32)


def _unit(found: Any) -> Float[Tensor, "n e"]:
    """Brought to the sphere; transformers 5 wraps the vector in an output, earlier ones gave it bare."""
    vector = found if isinstance(found, Tensor) else found.pooler_output
    return functional.normalize(vector.float(), dim=-1)


def _read_framing(folder: Path) -> Framing:
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        content, _ = ImageProcessingMixin.get_image_processor_dict(str(folder), local_files_only=True)
        return Framing.from_dict(content)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"expected the config of an image processor in {folder}: {error}") from error


def _read_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"expected a tokenizer of transformers in {folder}: {error}") from error
