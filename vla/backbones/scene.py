"""What ``nano`` makes of pictures, and of pictures and a text, before its blocks mix them."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from vla.backbones.views import Views


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What pictures hold, whatever is asked of them, and the robot's state; ``views`` are flattened.

    ``points`` are where what the cells of ``maps`` show is (:func:`vla.backbones.points.point_map`), and ``age_s`` how
    long ago, where the network is told.
    """

    maps: Float[Tensor, "n t v c h w"]
    patches: Float[Tensor, "n t v p d"]
    view_mask: Bool[Tensor, "n t v"]
    state: Float[Tensor, "n s"]
    views: Views | None
    points: Float[Tensor, "n t v 4 h w"] | None = None
    age_s: Float[Tensor, "n t"] | None = None

    def at(self, rows: Int[Tensor, " m"]) -> "Scene":
        """That of each row; one may come several times."""
        n = len(self.state)
        return Scene(
            maps=self.maps[rows],
            patches=self.patches[rows],
            view_mask=self.view_mask[rows],
            state=self.state[rows],
            views=None if self.views is None else self.views.at(rows, n),
            points=None if self.points is None else self.points[rows],
            age_s=None if self.age_s is None else self.age_s[rows],
        )


@dataclass(frozen=True, kw_only=True)
class PrefixTokens:
    """What everything else in the sequence attends to, and what it was made of; ``questions`` are what the text asks
    each view, ``position`` where the keypoints of its first sight are at present, ``rays`` their lines of sight, and
    ``points`` what they point at. Of fewer tokens of images, ``size`` is what each token counts for, and ``cells`` the
    mean (row, column) of what it stands for.
    """

    tokens: Float[Tensor, "n m d"]
    mask: Bool[Tensor, "n m"]
    scene: Scene
    questions: Float[Tensor, "n v d"]
    position: Float[Tensor, "n v k 2"]
    rays: Float[Tensor, "n v k r"] | None
    points: Float[Tensor, "n v k 4"] | None = None
    size: Float[Tensor, "n m"] | None = None
    cells: Float[Tensor, "n t v p 2"] | None = None
