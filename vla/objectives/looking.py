"""Learning to look: a sentence names one thing, and the network says where in the world and in each picture it is.

What learns here is what a policy looks with afterwards: text, images, heatmaps and the way from them to a waypoint.
The heatmap's loss is BridgeVLA's for its pre-training (arXiv 2506.07961), a soft cross-entropy; its target is not a
Gaussian about a box's centre but the share of the thing in each cell, which fits things of any size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from vla.backbone import Backbone
from vla.features import Sight
from vla.objectives.material import GroundingTarget, Material, Need, Referents
from vla.objectives.objective import Found, Objective, ObjectiveWeights
from vla.objectives.terms import Term

NEAR_M = 0.03
NEAR_PX = 3.0


@dataclass(frozen=True, kw_only=True)
class LookErrors:
    """How far off each answer is: metres in the world, which count where the referent is ``seen`` in any view, and per
    view pixels of the picture, which count where its middle is ``inside`` of it too.
    """

    world_m: Float[Tensor, " n"]
    picture_px: Float[Tensor, "n v"]
    seen: Bool[Tensor, "n v"]
    inside: Bool[Tensor, "n v"]


class Looking(Objective):
    """Of a backbone that predicts a waypoint of three numbers, metres in the world.

    ``offset_m`` and ``scale_m`` ``(3,)`` lead from the waypoint's normalised numbers to metres. ``ValueError`` for a
    backbone without such a waypoint. In each view the first keypoint is the referent's, the second that of the receiver
    which it is to be brought to, where the sentence names one.
    """

    TERMS: ClassVar[Mapping[str, Need]] = {"point": "referents", "pixel": "referents", "heatmap": "referents"}

    def __init__(
        self,
        backbone: Backbone,
        weights: ObjectiveWeights,
        *,
        offset_m: Float[Tensor, " 3"],
        scale_m: Float[Tensor, " 3"],
    ) -> None:
        super().__init__(weights)
        if backbone.waypoint_dim != 3:
            raise ValueError(
                f"learning to look needs a waypoint of three numbers in metres, the backbone's has "
                f"{backbone.waypoint_dim}"
            )
        self.offset_m: Tensor
        self.scale_m: Tensor
        self.register_buffer("offset_m", offset_m.clone(), persistent=False)
        self.register_buffer("scale_m", scale_m.clone(), persistent=False)

    def forward(self, backbone: Backbone, material: Material, seen: Any = None) -> Found:
        if material.referents is None:
            return Found()
        terms, errors, receivers = self.losses(backbone, material, material.referents, seen)
        numbers = near(errors) | {"receiver_within_3px": near(receivers)["within_3px"]}
        return Found(terms, numbers, {"world_cm": 100 * errors.world_m[errors.seen.any(dim=1)]})

    def losses(
        self, backbone: Backbone, material: Material, referents: Referents, seen: Any = None
    ) -> tuple[dict[str, Term], LookErrors, LookErrors]:
        """The losses by the names of their weights, and the errors for referents and receivers, which carry no
        gradient.
        """
        sight = backbone.look(material.read(referents.words), referents.about, seen)
        point_m = self.point_m(sight)
        target, receiver = referents.target.of_the_seen(), referents.receivers.of_the_seen()
        brought = referents.brought
        along_axes_m = (point_m - target.point_m).abs().mean(dim=-1)
        first, second = _in_pictures(sight, 0, target), _in_pictures(_rows(sight, brought), 1, receiver)
        terms = {
            "point": Term.over(along_axes_m, target.seen.any(dim=1)),
            **{name: Term.together((first[name], second[name])) for name in first},
        }
        position, point_m = sight.position.detach(), point_m.detach()
        errors = self._errors(point_m, position[:, :, 0], target)
        return terms, errors, self._errors(point_m[brought], position[brought, :, 1], receiver)

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
            inside=_inside(target),
        )


def _in_pictures(sight: Sight, keypoint: int, target: GroundingTarget) -> dict[str, Term]:
    """The losses of one keypoint's places and heatmaps. Of a thing that is cut off by a picture's edge, the middle may
    lie outside, where no heatmap reaches.
    """
    position, log_heatmap = sight.position[:, :, keypoint], sight.log_heatmap[:, :, keypoint]
    along_axes = (position - target.pixel).abs().mean(dim=-1)
    surprise = -(shares(target.cover, log_heatmap) * log_heatmap).sum(dim=(-2, -1))
    return {"pixel": Term.over(along_axes, _inside(target)), "heatmap": Term.over(surprise, target.seen)}


def _inside(target: GroundingTarget) -> Bool[Tensor, "n v"]:
    return target.seen & (target.pixel.abs().amax(dim=-1) <= 1)


def _rows(sight: Sight, index: Int[Tensor, " m"]) -> Sight:
    position, log_heatmap = sight.position[index], sight.log_heatmap[index]
    return Sight(waypoint=None, position=position, log_heatmap=log_heatmap, maps=None)


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
        "within_3px": Term.over((errors.picture_px <= NEAR_PX).float(), errors.inside),
    }
