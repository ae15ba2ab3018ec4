"""Image augmentation, batched on the images' own device.

What is drawn depends on ``(seed, step)`` alone, and the drawing is apart from the applying, so that a
resumed run sees the pictures of an undisturbed one and a batch cut into pieces those of a whole one.
"""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from policies.training.seeding import Draw, generator

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in perceived brightness (ITU-R BT.601)."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How far images are disturbed; every amount 0 leaves them as they are.

    ``shift_fraction`` of the image's side is the largest shift along either axis, with edge padding
    (arXiv 2004.13649). ``brightness``, ``contrast`` and ``saturation`` are the largest relative changes.
    ``channel_gain`` is the largest relative change of one colour channel: like a lamp's tint, small
    enough that no colour takes another's name. There is no hue rotation, since instructions name colours.
    """

    shift_fraction: float = 0.016
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    channel_gain: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.shift_fraction < 0.5:
            raise ValueError(f"shift_fraction must lie in [0, 0.5), got {self.shift_fraction}")
        for name in ("brightness", "contrast", "saturation", "channel_gain"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """What was drawn for each of ``n`` images: shift as (rows, columns) fractions, and factors around 1."""

    shift: Float[Tensor, "n 2"]
    brightness: Float[Tensor, " n"]
    contrast: Float[Tensor, " n"]
    saturation: Float[Tensor, " n"]
    channel_gain: Float[Tensor, "n 3"]

    @classmethod
    def draw(cls, config: AugmentConfig, n: int, seed: int, step: int) -> "Disturbance":
        """Draw for ``n`` images on the CPU, as a function of ``(seed, step)`` alone."""
        source = generator(seed, step, Draw.AUGMENT)

        def around(centre: float, amount: float, *shape: int) -> Tensor:
            return centre + amount * (2 * torch.rand(*shape, generator=source) - 1)

        return cls(
            shift=around(0, config.shift_fraction, n, 2),
            brightness=around(1, config.brightness, n),
            contrast=around(1, config.contrast, n),
            saturation=around(1, config.saturation, n),
            channel_gain=around(1, config.channel_gain, n, 3),
        )

    def of(self, rows: slice) -> "Disturbance":
        """That of some of the images."""
        return Disturbance(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def over_times(self, samples: int, times: int) -> "Disturbance":
        """The same for all of so many times, of what was drawn for the views of each sample."""
        views = len(self.shift) // samples
        rows = torch.arange(len(self.shift)).view(samples, 1, views).expand(-1, times, -1).flatten()
        return Disturbance(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def apply(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        """Disturb RGB images in [0, 1]: shift, then brightness and tint, contrast, saturation, then clip.

        Contrast stretches around the image's mean brightness m, saturation around each pixel's own. All three
        are linear in the colour x, so they are one product: c·S·diag(g)·x + (1 − c)·m.
        """
        device, (height, width) = images.device, images.shape[-2:]
        images = self.shifted(images)

        luma = torch.tensor(LUMA)
        gain = self.brightness[:, None] * self.channel_gain
        saturation = self.saturation[:, None, None]
        saturate = saturation * torch.eye(3) + (1 - saturation) * luma
        mix = (self.contrast[:, None, None] * saturate * gain[:, None]).to(device)
        mean = (images.mean(dim=(2, 3)) * (gain * luma).to(device)).sum(dim=1)
        lift = ((1 - self.contrast).to(device) * mean)[:, None, None]
        return torch.baddbmm(lift, mix, images.flatten(2)).clamp_(0, 1).unflatten(2, (height, width))

    def shifted(self, images: Shaped[Tensor, "n c h w"]) -> Shaped[Tensor, "n c h w"]:
        """Pictures of anything, such as depth, moved as :meth:`apply` moves colours."""
        height, width = images.shape[-2:]
        return shift_with_edge_padding(images, self._offset_px((height, width), images.device))

    def of_cameras(self, intrinsics: Float[Tensor, "n 3 3"], size_px: tuple[int, int]) -> Float[Tensor, "n 3 3"]:
        """The cameras of the disturbed images, of ``size_px`` (height, width): shifted contents, shifted middles."""
        down, right = self._offset_px(size_px, intrinsics.device).to(intrinsics.dtype).unbind(dim=-1)
        shifted = intrinsics.clone()
        shifted[:, 0, 2] += right
        shifted[:, 1, 2] += down
        return shifted

    def _offset_px(self, size_px: tuple[int, int], device: torch.device) -> Int[Tensor, "n 2"]:
        """Rows and columns by which contents move."""
        return (self.shift.to(device) * torch.tensor(size_px, device=device)).round().long()


def shift_with_edge_padding(
    images: Shaped[Tensor, "n c h w"], offset_px: Int[Tensor, "n 2"]
) -> Shaped[Tensor, "n c h w"]:
    """Move each image's content by its own (rows, columns); what comes in repeats the nearest edge pixel."""
    n, _, height, width = images.shape
    rows = (torch.arange(height, device=images.device) - offset_px[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) - offset_px[:, 1:]).clamp(0, width - 1)
    world = torch.arange(n, device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[world, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
