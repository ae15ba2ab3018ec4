"""The world interface: n copies of one scene, stepped and rendered together by some physics engine.

Tasks, controllers and environments see simulation only through this. All tensors are float32 on ``device``,
positions in metres, angles in radians, quaternions wxyz, and live in the world frame.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import torch
from jaxtyping import Bool, Float, Int, Int32, UInt8
from torch import Tensor

from envs.rendering import FAST as FAST
from envs.rendering import QUALITY as QUALITY
from envs.rendering import RenderConfig as RenderConfig
from envs.rendering import RenderProfile as RenderProfile


@dataclass(frozen=True, kw_only=True)
class CameraImages:
    """What one camera saw in each of n worlds.

    ``rgb`` uint8; ``depth_m`` along the optical axis, 0 where nothing was hit; ``segmentation`` the index of the geom
    in ``model``, −1 where nothing was hit; ``T_world_cam`` in the OpenCV frame.
    """

    rgb: UInt8[Tensor, "n h w 3"]
    depth_m: Float[Tensor, "n h w"] | None
    segmentation: Int32[Tensor, "n h w"] | None
    T_world_cam: Float[Tensor, "n 4 4"]


class CapacityError(RuntimeError):
    """The scene made more contacts or constraints than memory was reserved for; the message names the size needed."""


class World(ABC):
    """n worlds of one scene. ``model`` is the template they were made from: read names and sizes from it.

    Every backend is made from ``(model, num_worlds, render, fields)`` and settings of its own; ``fields`` names the
    fields of the model that :meth:`set_field` may change per world, so that memory for them exists beforehand.
    ``qpos``, ``qvel`` and ``command`` (actuator targets) are snapshots: assigning to them changes nothing.
    """

    model: mujoco.MjModel
    num_worlds: int
    device: torch.device

    @property
    @abstractmethod
    def qpos(self) -> Float[Tensor, "n q"]:
        """Generalised positions."""

    @property
    @abstractmethod
    def qvel(self) -> Float[Tensor, "n v"]:
        """Generalised velocities."""

    @property
    @abstractmethod
    def command(self) -> Float[Tensor, "n u"]:
        """Actuator targets now in force."""

    @abstractmethod
    def step(self, command: Float[Tensor, "n u"], substeps: int, mask: Bool[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """Hold ``command`` for ``substeps`` timesteps in the worlds of ``mask``; the others stand still.

        Returns which worlds diverged (a state that is not finite, or that the engine gave up on); those keep the
        state they had before. ``CapacityError`` if contacts or constraints were lost.
        """

    @abstractmethod
    def reset(self, qpos: Float[Tensor, "n q"], command: Float[Tensor, "n u"], mask: Bool[Tensor, " n"]) -> None:
        """Put the worlds of ``mask`` at rest in ``qpos``."""

    @abstractmethod
    def set_field(
        self, name: str, index: Int[Tensor, " k"] | Sequence[int], values: Tensor, mask: Bool[Tensor, " n"]
    ) -> None:
        """Give the worlds of ``mask`` their own ``model.<name>[index]``; ``values`` is ``(n, k, …)``.

        ``ValueError`` for a field that was not named when the world was made.
        """

    @abstractmethod
    def render(self, mask: Bool[Tensor, " n"]) -> dict[str, CameraImages]:
        """Images by camera name. Worlds outside ``mask`` keep the image they were last rendered with."""

    @abstractmethod
    def close(self) -> None:
        """Free threads and GL contexts; safe to call twice."""

    def joint_address(self, name: str) -> int:
        """Where a joint's coordinates start in ``qpos``; ``KeyError`` names the joints there are."""
        joint = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_JOINT, name)
        if joint < 0:
            known = [self.model.joint(i).name for i in range(self.model.njnt)]
            raise KeyError(f"no joint {name!r}; the scene has {known}")
        return int(self.model.jnt_qposadr[joint])
