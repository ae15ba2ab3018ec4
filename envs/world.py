"""The world interface: n copies of one scene, stepped and rendered together by some physics engine.

Tasks, controllers and environments see simulation only through this. All tensors are float32 on ``device``,
positions in metres, angles in radians, quaternions wxyz, and live in the world frame.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

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

    def copied(self) -> "CameraImages":
        """The same in memory of its own."""
        return CameraImages(
            rgb=self.rgb.clone(),
            depth_m=None if self.depth_m is None else self.depth_m.clone(),
            segmentation=None if self.segmentation is None else self.segmentation.clone(),
            T_world_cam=self.T_world_cam.clone(),
        )


class CapacityError(RuntimeError):
    """Every world made more contacts or constraints than memory was reserved for; the message names the size needed."""


class Lost(NamedTuple):
    """Worlds that a step could not do; they keep the state they had before.

    ``diverged``: a state that is not finite, or that the engine gave up on; ``crowded``: more contacts or constraints
    than there is memory for.
    """

    diverged: Bool[Tensor, " n"]
    crowded: Bool[Tensor, " n"]


TOUCH_PREFIX = "touch/"
"""Contact sensors whose names begin like this tell who touches whom, see :attr:`World.touches`."""


def touch_sensors(model: mujoco.MjModel) -> list[int]:
    """The model's contact sensors that :attr:`World.touches` reads, in order."""
    return [i for i in range(model.nsensor) if model.sensor(i).name.startswith(TOUCH_PREFIX)]


class World(ABC):
    """n worlds of one scene. ``model`` is the template they were made from: read names and sizes from it.

    Every backend is made from ``(model, num_worlds, render, fields)`` and settings of its own; ``fields`` names the
    fields of the model that :meth:`set_field` may change per world, so that memory for them exists beforehand.
    ``qpos``, ``qvel``, ``command`` (actuator targets) and ``touches`` are snapshots: assigning to them changes nothing.
    """

    model: mujoco.MjModel
    num_worlds: int
    device: torch.device
    fields: frozenset[str]

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

    @property
    @abstractmethod
    def touches(self) -> Bool[Tensor, "n s"]:
        """Which of :func:`touch_sensors` found a contact in the last physics step; none after :meth:`put`."""

    @abstractmethod
    def step(self, command: Float[Tensor, "n u"], substeps: int, mask: Bool[Tensor, " n"]) -> Lost:
        """Hold ``command`` for ``substeps`` timesteps in the worlds of ``mask``; the others stand still."""

    @abstractmethod
    def put(
        self,
        worlds: Int[Tensor, " k"],
        qpos: Float[Tensor, "k q"],
        command: Float[Tensor, "k u"],
        qvel: Float[Tensor, "k v"] | None = None,
    ) -> None:
        """Put some worlds into a state, at rest if no ``qvel`` is given."""

    @abstractmethod
    def push(self, change: Float[Tensor, "n v"]) -> None:
        """Add to the generalised velocities of all worlds; nothing else changes."""

    @abstractmethod
    def set_field(
        self, name: str, index: Int[Tensor, " m"] | Sequence[int], values: Tensor, worlds: Int[Tensor, " k"] | None
    ) -> None:
        """Give some worlds (all when None) their own ``model.<name>[index]``; ``values`` is ``(k, m, …)``.

        ``ValueError`` for a field that was not named when the world was made.
        """

    @abstractmethod
    def snapshot(self) -> dict[str, Tensor]:
        """All worlds' state and fields, ``(n, …)`` each; exact where the engine is."""

    @abstractmethod
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put all worlds back to a :meth:`snapshot`."""

    @abstractmethod
    def render(self, mask: Bool[Tensor, " n"]) -> dict[str, CameraImages]:
        """Images by camera name. Worlds outside ``mask`` keep the image they were last rendered with."""

    @abstractmethod
    def capacity_needed(self) -> str:
        """What memory the last step would have needed, and how to reserve it: a sentence for whoever was crowded."""

    @abstractmethod
    def close(self) -> None:
        """Free threads and GL contexts; safe to call twice."""

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a running simulator can be neither pickled nor copied: make another environment with the same settings, "
            "and give it this one's snapshot() by restore()"
        )

    def joint_address(self, name: str) -> int:
        """Where a joint's coordinates start in ``qpos``; ``KeyError`` names the joints there are."""
        return int(self.model.jnt_qposadr[self._joint(name)])

    def velocity_address(self, name: str) -> int:
        """Where a joint's velocities start in ``qvel``; ``KeyError`` names the joints there are."""
        return int(self.model.jnt_dofadr[self._joint(name)])

    def _joint(self, name: str) -> int:
        joint = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_JOINT, name)
        if joint < 0:
            known = [self.model.joint(i).name for i in range(self.model.njnt)]
            raise KeyError(f"no joint {name!r}; the scene has {known}")
        return joint

    def _check_field(self, name: str) -> None:
        if name not in self.fields:
            raise ValueError(f"{name} cannot be set per world; the fields named at the start are {sorted(self.fields)}")
