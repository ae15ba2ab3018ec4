"""Where a phrase is: a backbone that has learned to look, asked about any pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from policies.network_input import network_images
from policies.processors import STATE_BOUND
from vla.base import Base
from vla.observation import Observation


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """What a backbone says of n phrases about one table, seen in v views.

    ``heatmap`` is the share that each cell of a view has of 1, ``pixel`` (x, y) its middle, −1 … 1 from the left or
    upper edge of the picture to the other; both of no meaning unless ``looked`` at that view. ``point_m`` is the place
    in the world, None where it cannot be told.
    """

    looked: Bool[Tensor, " v"]
    heatmap: Float[Tensor, "n v rows columns"]
    pixel: Float[Tensor, "n v 2"]
    point_m: Float[Tensor, "n 3"] | None


class Looker:
    """Looks with what a base has learned, on the CPU; errors are those of :meth:`vla.base.Base.build`."""

    def __init__(self, base: Base) -> None:
        self.config = base.config
        self.backbone = base.build()
        state, chosen = base.config.state, list(base.config.waypoint_dims)
        self._offset, self._scale = torch.tensor(state.offset), torch.tensor(state.scale)
        self._offset_m, self._scale_m = self._offset[chosen], self._scale[chosen]

    def check(self, cameras: Sequence[str], phrases: Sequence[str], state: Sequence[float] | None) -> None:
        """``ValueError`` for cameras that the base does not know, no phrase or an empty or too long one, and a state of
        other numbers.
        """
        known, names = self.config.cameras, self.config.state_names
        if not cameras or (unknown := [camera for camera in cameras if camera not in known]):
            raise ValueError(
                f"the backbone looks through the cameras {', '.join(known)}; got {unknown if cameras else 'no picture'}"
            )
        if not phrases or any(not phrase.strip() for phrase in phrases):
            raise ValueError(f"expected phrases such as 'the red cube', got {list(phrases)}")
        self.backbone.check_texts(phrases)
        if state is not None and len(state) != len(names):
            raise ValueError(f"the state has {len(names)} numbers ({', '.join(names)}), got {len(state)}")

    @torch.no_grad()
    def find(
        self,
        pictures: Mapping[str, UInt8[Tensor, "h w 3"]],
        phrases: Sequence[str],
        state: Sequence[float] | None = None,
    ) -> Sighting:
        """Where each of ``phrases`` is in ``pictures``, which are RGB of any size, by their cameras.

        The place in the world needs pictures of all cameras, and ``state``, the robot's numbers in their own units.
        ``ValueError`` where :meth:`check` refuses.
        """
        self.check(list(pictures), phrases, state)
        size_px = self.config.image_size_px
        views = [
            network_images(pictures[camera], size_px) if camera in pictures else torch.zeros(3, *size_px)
            for camera in self.config.cameras
        ]
        looked = torch.tensor([camera in pictures for camera in self.config.cameras])
        text, text_mask = self.backbone.tokenize(phrases)
        numbers = self._offset if state is None else torch.tensor(state, dtype=torch.float32)
        observation = Observation(
            images=torch.stack(views)[None, None],
            view_mask=looked[None, None],
            text=text,
            text_mask=text_mask,
            state=((numbers - self._offset) / self._scale).clamp(-STATE_BOUND, STATE_BOUND)[None],
        )
        sight = self.backbone.look(observation, torch.zeros(len(phrases), dtype=torch.long))
        point_m = None
        if state is not None and sight.waypoint is not None and bool(looked.all()):
            point_m = sight.waypoint * self._scale_m + self._offset_m
        return Sighting(
            looked=looked,
            heatmap=sight.log_heatmap[:, :, 0].exp(),
            pixel=sight.position[:, :, 0],
            point_m=point_m,
        )
