"""What ``nano`` makes of pictures, and of pictures and a text, before its blocks mix them."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from vla.backbones.keypoints import DepthViews


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What pictures hold, whatever is asked of them, and the robot's state; ``depth_views`` are flattened."""

    maps: Float[Tensor, "n t v c h w"]
    patches: Float[Tensor, "n t v p d"]
    view_mask: Bool[Tensor, "n t v"]
    state: Float[Tensor, "n s"]
    depth_views: DepthViews | None

    def at(self, rows: Int[Tensor, " m"]) -> "Scene":
        """That of each row; one may come several times."""
        n = len(self.state)
        return Scene(
            maps=self.maps[rows],
            patches=self.patches[rows],
            view_mask=self.view_mask[rows],
            state=self.state[rows],
            depth_views=None if self.depth_views is None else self.depth_views.at(rows, n),
        )


@dataclass(frozen=True, kw_only=True)
class PrefixTokens:
    """What everything else in the sequence attends to, and what it was made of; ``questions`` are what the text asks
    each view, ``position`` where the keypoints of its first sight are at present. Of fewer tokens of images, ``size``
    is what each token counts for, and ``cells`` the mean (row, column) of what it stands for.
    """

    tokens: Float[Tensor, "n m d"]
    mask: Bool[Tensor, "n m"]
    scene: Scene
    questions: Float[Tensor, "n v d"]
    position: Float[Tensor, "n v k 2"]
    size: Float[Tensor, "n m"] | None = None
    cells: Float[Tensor, "n t v p 2"] | None = None
