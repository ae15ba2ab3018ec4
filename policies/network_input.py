"""From what cameras, robots and people give to what a network takes; training and acting share it."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor
from torch.nn import functional

from envs.specs import EmbodimentSpec
from policies.data.keyframes import tool_dims
from vla.backbone import Backbone
from vla.spatial.cloud import FARTHEST_M


def network_images(
    images: UInt8[Tensor, "*batch h w 3"], size_px: tuple[int, int]
) -> Float[Tensor, "*batch 3 height width"]:
    """RGB 0…255 of any size to [0, 1], channels first, at ``size_px`` (height, width).

    Resized on the images' device, bilinearly with antialiasing, and only where the size differs.
    """
    *batch, height, width, channels = images.shape
    pixels = images.reshape(-1, height, width, channels).permute(0, 3, 1, 2).float() / 255
    if (height, width) != size_px:
        pixels = functional.interpolate(pixels, size=size_px, mode="bilinear", antialias=True)
    return pixels.reshape(*batch, channels, *size_px)


def checked_depth(depth_m: Float[Tensor, "*batch h w"], what: str) -> Float[Tensor, "*batch h w"]:
    """The same with no reading, 0, where a depth is negative or not finite.

    ``ValueError`` that names ``what`` where depths are hardly metres: beyond ``FARTHEST_M``.
    """
    depth_m = depth_m.float().where(depth_m.isfinite() & (depth_m > 0), 0.0)
    if depth_m.numel() and (farthest_m := float(depth_m.max())) > FARTHEST_M:
        raise ValueError(f"expected {what} in metres, up to {FARTHEST_M:g}, got {farthest_m:g}: is it in millimetres?")
    return depth_m


def network_depth(
    depth_m: Float[Tensor, "*batch h w"], size_px: tuple[int, int]
) -> Float[Tensor, "*batch height width"]:
    """Depth of any size at ``size_px`` (height, width): the nearest reading, for a mean at an edge is in the air."""
    *batch, height, width = depth_m.shape
    if (height, width) == size_px:
        return depth_m
    resized = functional.interpolate(depth_m.reshape(-1, 1, height, width), size=size_px, mode="nearest-exact")
    return resized.reshape(*batch, *size_px)


def network_intrinsics(
    intrinsics: Float[Tensor, "*batch 3 3"], from_px: tuple[int, int], to_px: tuple[int, int]
) -> Float[Tensor, "*batch 3 3"]:
    """Pinhole matrices of pictures of ``from_px`` (height, width) after :func:`network_images` made them ``to_px``."""
    (height, width), (new_height, new_width) = from_px, to_px
    scale = intrinsics.new_tensor([new_width / width, new_height / height, 1.0])
    return intrinsics * scale[:, None]


def check_depth(embodiment: EmbodimentSpec, cameras: Sequence[str]) -> None:
    """``ValueError`` unless all of these cameras see depth."""
    if blind := [name for name in cameras if not embodiment.camera(name).depth]:
        raise ValueError(
            f"the policy sees in depth, and cameras {blind} of {embodiment.name} have none: "
            "record with depth (vla collect … --env.depth)"
        )


def waypoint_dims(embodiment: EmbodimentSpec) -> tuple[int, ...]:
    """The numbers of the state whose value at the next keyframe a network predicts: where the tool is."""
    return tool_dims(embodiment)


class InstructionTokens:
    """Tokenises instructions to act on, and remembers them: a policy reads the same ones all along.

    All are padded to the network's text window, so that no world's numbers depend on how long the others' sentences
    are. What the window does not hold is cut: see ``Policy.remarks``.
    """

    capacity = 4096

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._rows: dict[str, int] = {}
        self._ids: Int[Tensor, "c n"] | None = None
        self._mask: Bool[Tensor, "c n"] | None = None

    def __call__(
        self, texts: Sequence[str], device: torch.device | str
    ) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b n"]]:
        """Ids and mask (True = real token) on ``device``, n the window."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if new and len(self._rows) + len(new) > self.capacity:
            new = list(dict.fromkeys(texts))
            self._rows, self._ids, self._mask = {}, None, None
        if new:
            self._learn(new)
        assert self._ids is not None and self._mask is not None
        rows = [self._rows[text] for text in texts]
        return self._ids[rows].to(device), self._mask[rows].to(device)

    def _learn(self, texts: Sequence[str]) -> None:
        ids, mask = (_resized(x, self._backbone.text_window) for x in self._backbone.tokenize(tuple(texts)))
        self._rows |= {text: len(self._rows) + i for i, text in enumerate(texts)}
        self._ids = ids if self._ids is None else torch.cat([self._ids, ids])
        self._mask = mask if self._mask is None else torch.cat([self._mask, mask])


def _resized(tokens: Shaped[Tensor, "b m"], length: int) -> Shaped[Tensor, "b n"]:
    """Cut, or padded with zeros (False), to ``length``."""
    return functional.pad(tokens, (0, max(length - tokens.shape[1], 0)))[:, :length]
