"""What may be wrong with a camera: noise, blur, fog. Batched, on the images' device, the same for the same seeds.

After the corruptions of Hendrycks & Dietterich (2019), written for batches; severities are our own.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from envs.perturbations.effect import normal, sometimes
from envs.perturbations.running import Running
from envs.perturbations.spec import NOISES, Perturbation, SensorNoise
from envs.random import EpisodeRandom

Images = Float[Tensor, "n 3 h w"]
_SHOTS = 9
_FOG = 0.85
_NONE = -1


class Spoiler(Running):
    """Spoils colour images: kind and severity are drawn per episode, the noise itself per step."""

    def __init__(self, config: SensorNoise, given: Perturbation) -> None:
        super().__init__()
        self._config, self._given = config, given

    def drawn(self, random: EpisodeRandom) -> dict[str, Tensor]:
        """``kind`` indexes ``NOISES``, and is −1 where nothing is spoilt."""
        episode = random.fork("noise")
        kinds = torch.tensor([NOISES.index(kind) for kind in self._config.kinds], device=random.device)
        kind = kinds[episode.integers("kind", 1, len(kinds))[:, 0]]
        severity = episode.uniform("severity", 1, *self._config.severity)[:, 0]
        return {"kind": sometimes(self._given, "noise", random, kind, _NONE), "severity": severity}

    def spoil(
        self, images: UInt8[Tensor, "n h w 3"], camera: str, random: EpisodeRandom, steps: Int[Tensor, " n"]
    ) -> UInt8[Tensor, "n h w 3"]:
        """What the camera delivers instead, ``steps`` control steps into the running episodes."""
        spoilt = images.clone()
        for i, name in enumerate(NOISES):
            worlds = (self.numbers["kind"] == i).nonzero()[:, 0]
            if not len(worlds):
                continue
            clean = images[worlds].permute(0, 3, 1, 2).float() / 255
            noise = random.take(worlds).at(steps[worlds]).fork(camera)
            made = _KINDS[name](clean, self.numbers["severity"][worlds], noise).clamp(0, 1)
            spoilt[worlds] = (255 * made).round().to(torch.uint8).permute(0, 2, 3, 1)
        return spoilt


def _gaussian(images: Images, severity: Float[Tensor, " n"], random: EpisodeRandom) -> Images:
    """Additive noise of standard deviation up to 0.25."""
    noise = normal(random, "noise", images[0].numel()).reshape(images.shape)
    return images + (0.25 * severity)[:, None, None, None] * noise


def _motion(images: Images, severity: Float[Tensor, " n"], random: EpisodeRandom) -> Images:
    """The mean of pictures along a line of up to 12 % of the image, in a direction of the moment."""
    heading = random.uniform("heading", 1, 0.0, 6.2832)[:, 0]
    way = 0.12 * severity[:, None] * torch.stack((heading.cos(), heading.sin()), -1)
    return _averaged(images, lambda t, grid: grid + t * way[:, None, None])


def _zoom(images: Images, severity: Float[Tensor, " n"], random: EpisodeRandom) -> Images:
    """The mean of pictures zoomed in by up to 30 %."""
    return _averaged(images, lambda t, grid: grid * (1 - 0.3 * severity * (t + 1) / 2)[:, None, None, None])


def _fog(images: Images, severity: Float[Tensor, " n"], random: EpisodeRandom) -> Images:
    """Pale clouds of two sizes over half to 90 % of the contrast."""
    n, _, height, width = images.shape
    clouds = torch.zeros_like(images[:, :1])
    for cells, weight in ((3, 0.65), (8, 0.35)):
        coarse = random.uniform(f"clouds{cells}", cells * cells).reshape(n, 1, cells, cells)
        clouds += weight * interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
    density = severity[:, None, None, None] * (0.5 + 0.4 * clouds).clamp(0, 1)
    return images * (1 - density) + _FOG * density


def _glass(images: Images, severity: Float[Tensor, " n"], random: EpisodeRandom) -> Images:
    """Every pixel from somewhere up to 6 % of the image away, as through frosted glass."""
    n, _, height, width = images.shape
    shift = random.uniform("glass", 2 * height * width, -1.0, 1.0).reshape(n, height, width, 2)
    return _sampled(images, _grid(images) + 0.12 * severity[:, None, None, None] * shift)


_KINDS = {"gaussian": _gaussian, "motion": _motion, "zoom": _zoom, "fog": _fog, "glass": _glass}


def _averaged(images: Images, warp: Callable[[float, Tensor], Tensor]) -> Images:
    """The mean of pictures sampled where ``warp`` of −1 … 1 takes the grid."""
    grid = _grid(images)
    return torch.stack([_sampled(images, warp(2 * i / (_SHOTS - 1) - 1, grid)) for i in range(_SHOTS)]).mean(0)


def _grid(images: Images) -> Float[Tensor, "n h w 2"]:
    """Where each pixel's middle is: (x, y) from −1 to 1."""
    n, _, height, width = images.shape
    y, x = ((torch.arange(size, device=images.device) + 0.5) * 2 / size - 1 for size in (height, width))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).expand(n, -1, -1, -1)


def _sampled(images: Images, grid: Float[Tensor, "n h w 2"]) -> Images:
    return grid_sample(images, grid, padding_mode="reflection", align_corners=False)
