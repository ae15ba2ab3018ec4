"""Learning to look: a sentence names one thing, and the network says where in the world and in each picture it is.

What learns here is what a policy looks with afterwards: text, images, heatmaps and the way from them to a waypoint.
The heatmap's loss is BridgeVLA's for its pre-training (arXiv 2506.07961), a soft cross-entropy; its target is not a
Gaussian about a box's centre but the share of the thing in each cell, which fits things of any size.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from vla.backbone import Backbone
from vla.features import Sight
from vla.objectives import Term
from vla.observation import Observation

NEAR_M = 0.03
NEAR_PX = 3.0


@dataclass(frozen=True, kw_only=True)
class LookWeights:
    """Weights of the losses in their sum; one of weight 0 is left out of it.

    ``point`` counts a metre of mean distance along an axis of the world, ``pixel`` half a picture's side along an axis
    of the picture, ``heatmap`` a nat of cross-entropy.
    """

    point: float = 10.0
    pixel: float = 1.0
    heatmap: float = 0.1

    def __post_init__(self) -> None:
        weights = (self.point, self.pixel, self.heatmap)
        if not all(weight >= 0 for weight in weights) or not 0 < sum(weights) < math.inf:
            raise ValueError(f"loss weights must be 0 or more and one of them above 0, got {self}")


@dataclass(frozen=True, kw_only=True)
class GroundingTarget:
    """Where the referent of each of n sentences is.

    ``point_m`` is its middle in the world and ``pixel`` (x, y) in each view, −1 … 1 from the left or upper edge of the
    picture to the other; ``cover`` is what shows of it, and ``seen`` where that is enough to learn from.
    """

    point_m: Float[Tensor, "n 3"]
    pixel: Float[Tensor, "n v 2"]
    cover: Bool[Tensor, "n v h w"]
    seen: Bool[Tensor, "n v"]

    def of_the_seen(self) -> "GroundingTarget":
        """This one with 0 for the places of what is not seen, which may be anything, NaN included."""
        return replace(
            self,
            point_m=self.point_m.masked_fill(~self.seen.any(dim=1, keepdim=True), 0.0),
            pixel=self.pixel.masked_fill(~self.seen[..., None], 0.0),
        )


@dataclass(frozen=True, kw_only=True)
class LookErrors:
    """How far off each answer is: metres in the world and, per view, pixels of the picture; ``seen`` says where the
    latter count, and the former count where the referent is seen in any view.
    """

    world_m: Float[Tensor, " n"]
    picture_px: Float[Tensor, "n v"]
    seen: Bool[Tensor, "n v"]


class Looking(nn.Module):
    """The objective over a backbone that predicts a waypoint of three numbers, metres in the world.

    ``offset_m`` and ``scale_m`` ``(3,)`` lead from the waypoint's normalised numbers to metres. ``ValueError`` for a
    backbone without such a waypoint. In each view the first keypoint is the referent's.
    """

    def __init__(self, backbone: Backbone, offset_m: Float[Tensor, " 3"], scale_m: Float[Tensor, " 3"]) -> None:
        super().__init__()
        if backbone.waypoint_dim != 3:
            raise ValueError(
                f"learning to look needs a waypoint of three numbers in metres, the backbone's has "
                f"{backbone.waypoint_dim}"
            )
        self.backbone = backbone
        self.offset_m: Tensor
        self.scale_m: Tensor
        self.register_buffer("offset_m", offset_m.clone(), persistent=False)
        self.register_buffer("scale_m", scale_m.clone(), persistent=False)

    def forward(
        self, observation: Observation, about: Int[Tensor, " n"], target: GroundingTarget
    ) -> tuple[dict[str, Term], LookErrors]:
        """The losses by the names of their weights, and the errors, which carry no gradient.

        Sentence i is about row ``about[i]`` of the observation's pictures.
        """
        sight = self.backbone.look(observation, about)
        point_m = self.point_m(sight)
        position, log_heatmap = sight.position[:, :, 0], sight.log_heatmap[:, :, 0]
        target = target.of_the_seen()
        visible, seen = target.seen.any(dim=1), target.seen
        along_axes_m = (point_m - target.point_m).abs().mean(dim=-1)
        along_axes = (position - target.pixel).abs().mean(dim=-1)
        terms = {
            "point": Term.over(along_axes_m, visible),
            "pixel": Term.over(along_axes, seen),
            "heatmap": Term.over(-(shares(target.cover, log_heatmap) * log_heatmap).sum(dim=(-2, -1)), seen),
        }
        return terms, self._errors(point_m.detach(), position.detach(), target)

    def point_m(self, sight: Sight) -> Float[Tensor, "n 3"]:
        """The waypoint in the world."""
        assert sight.waypoint is not None
        return sight.waypoint.float() * self.scale_m + self.offset_m

    @staticmethod
    def _errors(point_m: Float[Tensor, "n 3"], position: Float[Tensor, "n v 2"], target: GroundingTarget) -> LookErrors:
        height, width = target.cover.shape[-2:]
        half_px = position.new_tensor([width / 2, height / 2])
        return LookErrors(
            world_m=(point_m - target.point_m).norm(dim=-1),
            picture_px=((position - target.pixel) * half_px).norm(dim=-1),
            seen=target.seen,
        )


def shares(
    cover: Bool[Tensor, "n v h w"], like: Float[Tensor, "n v rows columns"]
) -> Float[Tensor, "n v rows columns"]:
    """What share of a thing lies in each cell of a grid; 0 throughout where it covers nothing."""
    rows, cols = like.shape[-2:]
    amounts = functional.adaptive_avg_pool2d(cover.to(like.dtype), (rows, cols))
    return amounts / amounts.sum(dim=(-2, -1), keepdim=True).clamp(min=torch.finfo(like.dtype).tiny)


def near(errors: LookErrors) -> dict[str, Term]:
    """Numbers to log of a batch: mean error in the world in cm, and shares within 3 cm and 3 px."""
    visible = errors.seen.any(dim=1)
    return {
        "world_cm": Term.over(100 * errors.world_m, visible),
        "within_3cm": Term.over((errors.world_m <= NEAR_M).float(), visible),
        "within_3px": Term.over((errors.picture_px <= NEAR_PX).float(), errors.seen),
    }
