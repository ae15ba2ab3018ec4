"""What is wanted of the cameras of another project's simulator; plain data, so that no simulator is loaded for it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from envs.specs import CameraSpec

ProfileName = Literal["stock", "fast"]


@dataclass(frozen=True, kw_only=True)
class Seeing:
    """What a world's cameras give: square pictures, with depth (m) and segmentation where they are wanted.

    Without ``render`` there are no cameras at all.
    """

    image_size_px: int = 64
    depth: bool = False
    segmentation: bool = False
    profile: ProfileName = "stock"
    render: bool = True

    def cameras(self, names: Iterable[str]) -> tuple[CameraSpec, ...]:
        """Descriptions of the cameras of these names."""
        side = self.image_size_px
        about = {"height_px": side, "width_px": side, "depth": self.depth, "segmentation": self.segmentation}
        return tuple(CameraSpec(name=name, **about) for name in names) if self.render else ()
