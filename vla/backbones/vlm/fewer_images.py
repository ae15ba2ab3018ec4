"""Images whose tokens became fewer than their grid has: which families can have them, and where they stand."""

from jaxtyping import Float, Int, Real
from torch import Tensor

from vla.backbones.token_reduction import Reduced
from vla.backbones.vlm.config import VLMConfig
from vla.backbones.vlm.families import Family


def check_reducible(config: VLMConfig, family: Family) -> None:
    """``ValueError`` where ``config`` asks for fewer tokens of images than a grid that is not all that they have."""
    if family.whole and (config.image_budget is not None or config.merged_tokens is not None):
        raise ValueError(
            f"image_budget and merged_tokens are for families whose tokens of an image are those of its grid alone, "
            f"a {family.name} has {family.whole} more: got image_budget {config.image_budget}, merged_tokens "
            f"{config.merged_tokens}"
        )


def at_images(of_images: Float[Tensor, "m k *e"], view: Int[Tensor, " n"], elsewhere: float) -> Float[Tensor, "b n *e"]:
    """What each token of an image has, at its place among all of a sample; ``view`` is −1 where others are."""
    views, rest = int(view.max()) + 1, of_images.shape[2:]
    found = of_images.new_full((len(of_images) // views, len(view), *rest), elsewhere)
    found[:, view >= 0] = of_images.reshape(len(found), -1, *rest)
    return found


def mean_places(
    places: Int[Tensor, "*r b p"], whole: Int[Tensor, " p"], view: Int[Tensor, " n"], reduced: Reduced
) -> Real[Tensor, "*r b n"]:
    """Places of the tokens of ``view`` from those that they have when the grid is ``whole``: of a token that stands for
    several the mean of theirs, of all others the same.
    """
    axes = places.reshape(-1, *places.shape[-2:]).movedim(0, -1).float()  # b, p, r
    of_images = axes[:, whole >= 0].reshape(len(reduced.size), -1, axes.shape[-1])
    found = at_images(reduced.of(of_images), view, 0.0)
    found[:, view < 0] = axes[:, whole < 0]
    return found.movedim(-1, 0).reshape(*places.shape[:-1], len(view))
