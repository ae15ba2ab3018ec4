"""What a network sees and what it is asked to produce."""

from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Observation:
    """A batch of network inputs, already tokenised and normalised; axes: b batch, t time, v view.

    ``images`` RGB in [0, 1]; ``view_mask`` False where a view is missing. ``state`` is normalised.
    ``depth`` is metres along the optical axis (0 = no reading); ``intrinsics`` are in pixels of
    ``images``; ``T_world_cam`` is metres, OpenCV camera frame. The last time index is the present; ``age_s`` says how
    long before it each time was. ``tool_m`` is where the tool is in the world, for heads that aim.
    """

    images: Float[Tensor, "b t v 3 h w"]
    view_mask: Bool[Tensor, "b t v"]
    text: Int[Tensor, "b n"]
    text_mask: Bool[Tensor, "b n"]
    state: Float[Tensor, "b d"]
    depth: Float[Tensor, "b t v h w"] | None = None
    intrinsics: Float[Tensor, "b t v 3 3"] | None = None
    T_world_cam: Float[Tensor, "b t v 4 4"] | None = None
    age_s: Float[Tensor, "b t"] | None = None
    tool_m: Float[Tensor, "b 3"] | None = None


@dataclass(frozen=True, kw_only=True)
class Keyframe:
    """Where a motion ends: the tool's pose there in the world, and what it takes to get there.

    ``gripper`` is the command, 0 open … 1 closed, on the way there and ``gripper_after`` from there on. ``clearance``
    is 1 where the way is not straight but over what is between, else 0; a network's answer may lie between 0 and 1.
    """

    position_m: Float[Tensor, "b 3"]
    rotation: Float[Tensor, "b 3 3"]
    gripper: Float[Tensor, " b"]
    gripper_after: Float[Tensor, " b"]
    clearance: Float[Tensor, " b"]

    def __getitem__(self, index: Int[Tensor, " n"]) -> "Keyframe":
        """Those of some rows."""
        return Keyframe(**{name: value[index] for name, value in vars(self).items()})

    def transformed(self, T: Float[Tensor, "b 4 4"]) -> "Keyframe":
        """The same in a world that was moved by T."""
        rotation = T[:, :3, :3]
        position_m = (rotation @ self.position_m[..., None])[..., 0] + T[:, :3, 3]
        return replace(self, position_m=position_m, rotation=rotation @ self.rotation)

    @property
    def numbers(self) -> Float[Tensor, "b 15"]:
        """All of it side by side; :meth:`of` is the inverse."""
        bits = torch.stack([self.gripper, self.gripper_after, self.clearance], dim=-1)
        return torch.cat([self.position_m, self.rotation.flatten(1), bits], dim=-1)

    @classmethod
    def of(cls, numbers: Float[Tensor, "b 15"]) -> "Keyframe":
        gripper, gripper_after, clearance = numbers[:, 12:].unbind(-1)
        return cls(
            position_m=numbers[:, :3],
            rotation=numbers[:, 3:12].unflatten(-1, (3, 3)),
            gripper=gripper,
            gripper_after=gripper_after,
            clearance=clearance,
        )


@dataclass(frozen=True, kw_only=True)
class ActionChunk:
    """Normalised actions of the next h control steps; ``valid`` is False past the episode's end.

    ``waypoint`` is what the backbone is to predict: chosen numbers of the normalised state at the next keyframe.
    ``told`` is what is to be said of the chunk, for heads that tell: tokens up to the one that ends a text, those in
    ``told_mask``.
    ``weight`` is how much each number counts in the head's loss, all alike without it.
    ``keyframe`` is the next one, for heads that aim at it instead of answering a chunk.
    """

    actions: Float[Tensor, "b h a"]
    valid: Bool[Tensor, "b h"]
    waypoint: Float[Tensor, "b w"] | None = None
    told: Int[Tensor, "b m"] | None = None
    told_mask: Bool[Tensor, "b m"] | None = None
    weight: Float[Tensor, "b h a"] | None = None
    keyframe: Keyframe | None = None


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A chunk that is being executed while the next one is made, and that this must agree with.

    ``actions`` are normalised and count from now, the moment of the observation. The first ``fixed`` of them will have
    been executed before the next chunk can be, the first ``known`` are there at all; the rest may be anything.
    """

    actions: Float[Tensor, "b h a"]
    fixed: Int[Tensor, " b"]
    known: Int[Tensor, " b"]


Batch = TypeVar("Batch", Observation, ActionChunk, Begun)


def rows(batch: Batch, index: Int[Tensor, " n"]) -> Batch:
    """The samples at ``index`` of a batch."""
    return type(batch)(**{name: value[index] for name, value in vars(batch).items() if value is not None})


def about_rows(observation: Observation, about: Int[Tensor, " n"]) -> Observation:
    """The observation of n texts with, to each, the pictures and the state of row ``about[i]``."""
    shared = {name: x[about] for name, x in vars(observation).items() if x is not None and not name.startswith("text")}
    return replace(observation, **shared)
