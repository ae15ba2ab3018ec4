"""Arithmetic of colours: RGB in 0 … 1."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

HUES = ("red to yellow", "yellow to green", "green to cyan", "cyan to blue", "blue to magenta", "magenta to red")
"""The sixths of the circle of hues: in each the channels have another order."""
_ORDERS = ((0, 1, 2), (1, 0, 2), (1, 2, 0), (2, 1, 0), (2, 0, 1), (0, 2, 1))
"""Of each of ``HUES``, the channels from the strongest to the weakest."""


def hsv_from_rgb(rgb: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3"]:
    """Hue in radians 0 … 2π, saturation and value in 0 … 1."""
    value, brightest = rgb.max(-1)
    chroma = value - rgb.amin(-1)
    red, green, blue = rgb.unbind(-1)
    safe = chroma.clamp_min(1e-9)
    sectors = torch.stack(((green - blue) / safe % 6, (blue - red) / safe + 2, (red - green) / safe + 4), -1)
    hue = torch.take_along_dim(sectors, brightest[..., None], -1).squeeze(-1) * (torch.pi / 3)
    return torch.stack((torch.where(chroma > 0, hue, 0.0), chroma / value.clamp_min(1e-9), value), -1)


def rgb_from_hsv(hsv: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3"]:
    """The inverse of :func:`hsv_from_rgb`; hues may lie beyond one turn."""
    hue, saturation, value = (part[..., None] for part in hsv.unbind(-1))
    offsets = torch.tensor([5.0, 3.0, 1.0], device=hsv.device)
    k = (offsets + hue / (torch.pi / 3)) % 6
    return value * (1 - saturation * torch.minimum(k, 4 - k).clamp(0, 1))


def sixth(rgb: Float[Tensor, "... 3"]) -> Int[Tensor, "..."]:
    """In which of ``HUES`` a colour lies; grey in the first."""
    order = rgb.argsort(dim=-1, descending=True, stable=True)
    same = (order[..., None, :] == torch.tensor(_ORDERS, device=rgb.device)).all(-1)
    return same.int().argmax(-1)


def in_sixth(rgb: Float[Tensor, "... 3"], hue: Int[Tensor, "..."]) -> Float[Tensor, "... 3"]:
    """The colour of the same channels, in another order, that lies in this one of ``HUES``."""
    strongest_first = rgb.sort(-1, descending=True).values
    return torch.zeros_like(rgb).scatter(-1, torch.tensor(_ORDERS, device=rgb.device)[hue], strongest_first)


def contrasting(rgb: Float[Tensor, "... 3"], amount: Float[Tensor, "..."]) -> Float[Tensor, "... 3"]:
    """``amount`` of the way to black, or to white from dark colours."""
    end = (rgb.amax(-1, keepdim=True) < 0.4).float()
    return rgb + amount[..., None] * (end - rgb)


def opaque(rgb: Float[Tensor, "... 3"]) -> Float[Tensor, "... 4"]:
    """RGBA with alpha 1."""
    return torch.cat((rgb, torch.ones_like(rgb[..., :1])), -1)
