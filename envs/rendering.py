"""What pictures are wanted, and of which cameras; free of torch, because the processes that draw import it."""

from dataclasses import dataclass

import mujoco

NOTHING = -1
"""In a segmentation: no geom was hit."""


@dataclass(frozen=True, kw_only=True)
class RenderProfile:
    """How images are made; recorded with every dataset and result, because it changes pixels.

    On a software rasteriser the shadow map and multisampling cost far more than the pixels themselves: ``FAST`` has
    neither, ``QUALITY`` is for figures.
    """

    name: str
    shadow_size: int
    samples: int
    reflections: bool


FAST = RenderProfile(name="fast", shadow_size=0, samples=0, reflections=False)
QUALITY = RenderProfile(name="quality", shadow_size=2048, samples=4, reflections=True)


@dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """Which cameras of the scene draw what; all of them share one image size."""

    cameras: tuple[str, ...]
    height_px: int
    width_px: int
    depth: bool = False
    segmentation: bool = False
    profile: RenderProfile = FAST


def camera_ids(model: mujoco.MjModel, names: tuple[str, ...]) -> list[int]:
    """Where the cameras stand in the model; ``KeyError`` names the cameras there are."""
    known = [model.camera(i).name for i in range(model.ncam)]
    for name in names:
        if name not in known:
            raise KeyError(f"no camera {name!r}; the scene has {known}")
    return [known.index(name) for name in names]
