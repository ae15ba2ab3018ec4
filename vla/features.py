"""What a backbone hands to a head: every layer's hidden states, and what each token stands for."""

from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class TokenRole(IntEnum):
    """What a token of the backbone's sequence stands for."""

    IMAGE = 0
    KEYPOINT = 1
    TEXT = 2
    STATE = 3
    QUERY = 4


@dataclass(frozen=True, kw_only=True)
class TokenLayout:
    """Where each of the n tokens comes from; the same for every sample of a batch but for ``position``.

    ``role`` holds ``TokenRole`` values; ``view`` is the camera index and ``cell`` the (row, column)
    in that view's patch grid, both −1 where they do not apply. Where tokens of images stand for several cells,
    ``position`` is the mean (row, column) of those, in each of b samples, −1 elsewhere, and there is no ``cell``.
    """

    role: Int[Tensor, " n"]
    view: Int[Tensor, " n"]
    cell: Int[Tensor, "n 2"]
    position: Float[Tensor, "b n 2"] | None = None

    def at(self, about: Int[Tensor, " n"]) -> "TokenLayout":
        """That of each sample; one may come several times."""
        return self if self.position is None else self.standing_for(self.position[about])

    def standing_for(self, position: Float[Tensor, "b n 2"]) -> "TokenLayout":
        """The same tokens, with the mean (row, column) of the cells that each stands for."""
        layout = replace(self, position=position)
        layout.__dict__["_found"] = self._found  # where tokens are in the sequence does not depend on it
        return layout

    def where(self, *roles: TokenRole) -> Int[Tensor, " m"]:
        """Positions of the tokens with any of ``roles``, in sequence order; looked for once."""
        if roles not in self._found:
            with torch.inference_mode(False):  # what is kept must serve learning too
                match = sum((self.role == role for role in roles), start=self.role < 0)
                self._found[roles] = match.nonzero(as_tuple=True)[0]
        return self._found[roles]

    @cached_property
    def _found(self) -> dict[tuple[TokenRole, ...], Int[Tensor, " m"]]:
        return {}


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What a backbone makes of a picture and a sentence before it thinks further; axes: n sentence, v view, k keypoint.

    ``waypoint`` is as in :class:`Features`. ``position`` (x, y) is the mean of each keypoint's heatmap, −1 … 1 from the
    left or upper edge of the picture to the other; ``log_heatmap`` the logarithm of the heatmap's probability in each
    of its cells. Both are of the present, and of no meaning in a view that is missing. ``maps`` are the feature maps
    that heatmaps were read from, of the same cells, where they are kept.
    """

    waypoint: Float[Tensor, "n w"] | None
    position: Float[Tensor, "n v k 2"]
    log_heatmap: Float[Tensor, "n v k h w"]
    maps: Float[Tensor, "n v c h w"] | None = None

    def at(self, about: Int[Tensor, " m"]) -> "Sight":
        """That of each row; one may come several times."""
        waypoint, maps = (None if value is None else value[about] for value in (self.waypoint, self.maps))
        return Sight(waypoint=waypoint, position=self.position[about], log_heatmap=self.log_heatmap[about], maps=maps)


@dataclass(frozen=True, kw_only=True)
class Features:
    """Hidden states of all l layers; index 0 is the first layer's output, −1 the last's.

    ``mask`` is True for real tokens. ``state`` is the normalised proprioception itself, for heads
    that want it beside the state token. ``waypoint`` is where the backbone expects the robot to be at its next
    keyframe, in normalised state coordinates; ``sight`` is what it saw on the way, of a backbone with heatmaps.
    ``picture`` is the mean of the image tokens as they entered the network, before any could know of the text.
    """

    hidden: Float[Tensor, "l b n d"]
    mask: Bool[Tensor, "b n"]
    layout: TokenLayout
    state: Float[Tensor, "b s"]
    waypoint: Float[Tensor, "b w"] | None = None
    sight: Sight | None = None
    picture: Float[Tensor, "b d"] | None = None

    def select(self, *roles: TokenRole) -> tuple[Float[Tensor, "l b m d"], Bool[Tensor, "b m"]]:
        """Hidden states and mask of the tokens with any of ``roles``."""
        index = self.layout.where(*roles)
        return self.hidden[:, :, index], self.mask[:, index]

    def of_roles(self, *roles: TokenRole) -> "Features":
        """Those of the tokens with any of ``roles`` alone."""
        index = self.layout.where(*roles)
        hidden, mask = self.hidden[:, :, index], self.mask[:, index]
        whole = self.layout
        position = None if whole.position is None else whole.position[:, index]
        layout = TokenLayout(role=whole.role[index], view=whole.view[index], cell=whole.cell[index], position=position)
        return replace(self, hidden=hidden, mask=mask, layout=layout)

    def at(self, about: Int[Tensor, " n"]) -> "Features":
        """Those of each row; one may come several times."""
        waypoint, picture = (None if x is None else x[about] for x in (self.waypoint, self.picture))
        return replace(
            self,
            hidden=self.hidden[:, about],
            mask=self.mask[about],
            layout=self.layout.at(about),
            state=self.state[about],
            waypoint=waypoint,
            sight=None if self.sight is None else self.sight.at(about),
            picture=picture,
        )


def mean_picture(
    tokens: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"], layout: TokenLayout
) -> Float[Tensor, "b d"]:
    """The mean of the image tokens of a sequence, over those that are real."""
    index = layout.where(TokenRole.IMAGE)
    there = mask[:, index, None]
    return (tokens[:, index] * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """What a backbone has made of observations, to go on from: see :meth:`vla.backbone.Backbone.decode`.

    ``features`` are those of the observation, without query tokens, whatever was decoded since. ``cache`` is the
    backbone's own, such as keys and values of all tokens so far; it has a method ``at`` like the prefix.
    """

    features: Features
    cache: Any

    def at(self, about: Int[Tensor, " n"]) -> "Prefix":
        """That of each row; one may come several times, to be gone on from in several ways."""
        return Prefix(features=self.features.at(about), cache=self.cache.at(about))
