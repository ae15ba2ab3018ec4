"""The settings of the heatmap head: what part of the world it looks at, how, and how it learns."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vla.backbone import Backbone
from vla.spatial.projection import CubeViews

if TYPE_CHECKING:
    from vla.heads.heatmap import HeatmapHead


@dataclass(frozen=True, kw_only=True)
class HeatmapConfig:
    """The cube of the world that :class:`vla.heads.heatmap.HeatmapHead` looks at, ``centre_m`` ± ``half_m`` along each
    axis, and how it draws it: pictures of ``side_px``, points as discs of ``radius_px``.

    What is more than ``fingers_m`` above the tool's point and within ``hand_m`` of it to the side is the robot's own
    hand and left out of the pictures, for it would hide what the fingers are at (a ``hand_m`` of 0 leaves it in).

    It looks again at a cube smaller by ``magnification`` about its first answer, points as discs of
    ``fine_radius_px``. ``state_dims`` are the numbers of the state that it is told, by their place, such as the
    gripper's opening: poses are not among them, for the world is moved about as it learns. None leaves the choice to
    training.

    In training the world is shifted by up to ``shift`` of the cube's side along each axis and turned by up to
    ``turn_rad`` about the vertical, and the second cube is about the truth, off by up to ``noise`` of the first cube's
    half. Gaussians of the heatmaps' targets have ``sigma_px``. ``upsampler_width`` and ``width`` are those of the
    layers that move and refine heatmaps and that read off the rest.

    ``answer`` says how the point is: as heatmaps, or as three numbers (``point``), for a comparison.

    A plan lasts at most ``longest_plan`` control steps. BridgeVLA (arXiv 2506.07961) has 224 px, σ = 1.5 px, a
    magnification of 4, noise 0.1, shifts of 0.125 and turns of 45°.
    """

    centre_m: tuple[float, float, float] = (0.48, 0.0, 0.25)
    half_m: float = 0.35
    side_px: int = 64
    radius_px: float = 1.0
    fine_radius_px: float = 2.0
    fingers_m: float = 0.045
    hand_m: float = 0.16
    magnification: float = 4.0
    state_dims: tuple[int, ...] | None = None
    shift: float = 0.125
    turn_rad: float = math.pi / 4
    noise: float = 0.1
    sigma_px: float = 1.5
    upsampler_width: int = 32
    width: int = 128
    answer: Literal["heatmap", "point"] = "heatmap"
    longest_plan: int = 20

    def __post_init__(self) -> None:
        object.__setattr__(self, "centre_m", tuple(self.centre_m))  # JSON has lists
        if self.state_dims is not None:
            object.__setattr__(self, "state_dims", tuple(self.state_dims))
        positive = ("half_m", "side_px", "sigma_px", "upsampler_width", "width")
        if wrong := [name for name in positive if not 0 < getattr(self, name) < math.inf]:
            raise ValueError(f"expected {wrong[0]} above 0, got {getattr(self, wrong[0])}")
        if len(self.centre_m) != 3 or not all(map(math.isfinite, self.centre_m)):
            raise ValueError(f"expected centre_m as three numbers, got {self.centre_m}")
        if not self.magnification > 1:
            raise ValueError(f"expected a magnification above 1, got {self.magnification}")
        if min(self.radius_px, self.fine_radius_px, self.hand_m, self.shift, self.turn_rad, self.noise) < 0:
            raise ValueError(f"radii, hand_m, shift, turn_rad and noise must not be negative, got {self}")
        if self.noise * self.magnification >= 1:
            raise ValueError(
                f"with noise {self.noise} the truth may lie outside of a cube {self.magnification} times smaller"
            )
        if self.longest_plan < 5:
            raise ValueError(f"a plan takes 5 steps or more, got longest_plan {self.longest_plan}")

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the pictures that a backbone sees."""
        return tuple(f"ortho_{name}" for name in CubeViews.NAMES)

    def build(self, *, backbone: Backbone, state_dim: int, horizon: int, action_dim: int) -> "HeatmapHead":
        """The head with fresh weights; ``ValueError`` for what it cannot work with."""
        from vla.heads.heatmap import HeatmapHead

        return HeatmapHead(self, backbone=backbone, state_dim=state_dim, horizon=horizon, action_dim=action_dim)
