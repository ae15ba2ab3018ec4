"""From RGB in [0, 1] to what a pretrained vision encoder was trained on: size, mean and spread, on any device.

The resize is Pillow's, which nearly all checkpoints were trained with: separable and antialiased, first along the width
and then along the height, each time rounded to the 256 levels of a byte. As two matrix products it runs batched on the
images' device; without the rounding between them edges differ by up to 40 levels.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

LEVELS = 255
SLACK = 1e-3
"""How far beyond [0, 1] rounding may lead."""


@dataclass(frozen=True, kw_only=True)
class PictureNumbers:
    """Numbers of a checkpoint's image processor: mean and spread of the RGB channels, and Pillow's resampling filter
    (1 Lanczos, 2 bilinear, 3 bicubic).
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resample: int

    def __post_init__(self) -> None:
        if self.resample not in FILTERS:
            raise ValueError(f"expected a resampling filter out of {sorted(FILTERS)}, got {self.resample}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"expected three means and three positive spreads, got {self.mean} and {self.std}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "PictureNumbers":
        """Those of an image processor's own JSON form; ``ValueError`` names what it lacks."""
        if missing := sorted({"image_mean", "image_std"} - data.keys()):
            raise ValueError(f"expected image_mean and image_std of an image processor, it lacks {missing}")
        mean, std = (tuple(float(x) for x in data[name]) for name in ("image_mean", "image_std"))
        return cls(mean=mean, std=std, resample=int(data.get("resample", BICUBIC)))  # pyright: ignore[reportArgumentType]

    def to_dict(self) -> dict[str, Any]:
        """Inverse of :meth:`from_dict`."""
        return {"image_mean": list(self.mean), "image_std": list(self.std), "resample": self.resample}

    def prepare(self, images: Float[Tensor, "*b 3 h w"], size_px: tuple[int, int]) -> Float[Tensor, "*b 3 y x"]:
        """Images at ``size_px`` (height, width), normalised; squeezed where the shape of the picture is another.

        ``ValueError`` where there are others than in [0, 1], such as levels of bytes.
        """
        low, high = (float(x) for x in images.aminmax())
        if not -SLACK <= low <= high <= 1 + SLACK:
            raise ValueError(f"expected pictures in [0, 1], got numbers from {low:g} to {high:g}")
        with torch.autocast(images.device.type, enabled=False):  # levels need all the digits of float32
            resized = pillow_resize(images * LEVELS, size_px, self.resample) / LEVELS
        mean, std = (images.new_tensor(x)[:, None, None] for x in (self.mean, self.std))
        return (resized - mean) / std


def pillow_resize(
    levels: Float[Tensor, "*b c h w"], size_px: tuple[int, int], resample: int
) -> Float[Tensor, "*b c y x"]:
    """Pictures of levels 0…255 resized as Pillow resizes bytes; what has the size already is rounded alone."""
    height, width = levels.shape[-2:]
    levels = _levels(levels)
    if width != size_px[1]:
        levels = _levels(levels @ _matrix(width, size_px[1], resample).to(levels).T)
    if height != size_px[0]:
        levels = _levels(_matrix(height, size_px[0], resample).to(levels) @ levels)
    return levels


def patchify(images: Float[Tensor, "m 3 h w"], patch_px: int, merge: int, frames: int) -> Float[Tensor, "p e"]:
    """Patches as the Qwen-VL encoders take them: ``merge`` × ``merge`` neighbours together, each still image repeated
    for the ``frames`` of a patch.
    """
    m, c, h, w = images.shape
    rows, columns = h // patch_px, w // patch_px
    cut = images.reshape(m, c, rows // merge, merge, patch_px, columns // merge, merge, patch_px)
    cut = cut.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
    return cut.expand(*(-1,) * 6, frames, -1, -1).reshape(m * rows * columns, c * frames * patch_px**2)


def _levels(x: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Rounded as Pillow rounds: halves go up."""
    return (x + 0.5).floor().clamp(0, LEVELS)


def _sinc(x: float) -> float:
    return 1.0 if x == 0 else math.sin(math.pi * x) / (math.pi * x)


def _lanczos(x: float) -> float:
    return _sinc(x) * _sinc(x / 3) if abs(x) < 3 else 0.0


def _bilinear(x: float) -> float:
    return max(0.0, 1.0 - abs(x))


def _bicubic(x: float) -> float:
    """Keys' kernel with a = −0.5, Pillow's."""
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0


BICUBIC = 3
"""What the files of Qwen-VL leave to their processor's class."""
FILTERS: dict[int, tuple[Callable[[float], float], float]] = {
    1: (_lanczos, 3.0),
    2: (_bilinear, 1.0),
    3: (_bicubic, 2.0),
}
"""Kernel and how far it reaches, in pixels of the coarser picture."""


@lru_cache(maxsize=64)
def _matrix(size_in: int, size_out: int, resample: int) -> Float[Tensor, "o i"]:
    """Row o holds what each pixel of the input counts for pixel o of the output."""
    kernel, reach = FILTERS[resample]
    scale = size_in / size_out
    wide = max(scale, 1.0)
    matrix = torch.zeros(size_out, size_in, dtype=torch.float64)
    for o in range(size_out):
        centre = (o + 0.5) * scale
        first, end = max(0, int(centre - reach * wide + 0.5)), min(size_in, int(centre + reach * wide + 0.5))
        weights = [kernel((i - centre + 0.5) / wide) for i in range(first, end)]
        matrix[o, first:end] = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    return matrix
