"""What a robot, its cameras and an environment promise: keys, shapes, units and frames.

Everything here is plain data and imports neither torch nor a simulator, so that a robot's
client can hold a server to the same promise that the simulator kept.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

STATE_KEY = "observation.state"
ENVIRONMENT_STATE_KEY = "observation.environment_state"
"""Key of what the simulator knows and no robot does: float32 ``(n, e)``, for learners that may cheat."""
ACTION_KEY = "action"
TASK_KEY = "task"


def image_key(camera: str) -> str:
    """Key of a camera's colour image: uint8 ``(n, h, w, 3)``, RGB."""
    return f"observation.images.{camera}"


def depth_key(camera: str) -> str:
    """Key of a camera's depth image: float32 metres ``(n, h, w)`` along the optical axis, 0 = no hit."""
    return f"observation.depth.{camera}"


def segmentation_key(camera: str) -> str:
    """Key of a camera's segmentation: int32 ``(n, h, w)``, the simulator's geom indices, −1 = no hit."""
    return f"observation.segmentation.{camera}"


def intrinsics_key(camera: str) -> str:
    """Key of a camera's pinhole matrix K in pixels: float32 ``(n, 3, 3)``."""
    return f"observation.cameras.{camera}.intrinsics"


def extrinsics_key(camera: str) -> str:
    """Key of ``T_world_cam``: float32 ``(n, 4, 4)``, OpenCV frame (x right, y down, z forward), metres."""
    return f"observation.cameras.{camera}.T_world_cam"


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One number of a state or action vector: its name, unit, frame and range.

    ``relative`` marks an action that is a change per control step, so that 0 means "stay";
    for any other action, staying means repeating the last command.
    """

    name: str
    unit: str
    low: float
    high: float
    frame: str = "world"
    relative: bool = False


@dataclass(frozen=True, kw_only=True)
class CameraSpec:
    """One camera of an embodiment. Images are ``(height_px, width_px, 3)`` uint8 RGB."""

    name: str
    height_px: int
    width_px: int
    depth: bool = False
    segmentation: bool = False


@dataclass(frozen=True, kw_only=True)
class EmbodimentSpec:
    """What a robot senses and obeys.

    ``state`` and ``action`` list every dimension in order. Gripper commands are 0 (open) … 1
    (closed). Quaternions are ``wxyz``. ``control_rate_hz`` is the rate at which actions are due.
    """

    name: str
    control_rate_hz: float
    state: tuple[Dimension, ...]
    action: tuple[Dimension, ...]
    cameras: tuple[CameraSpec, ...]

    @property
    def state_dim(self) -> int:
        return len(self.state)

    @property
    def action_dim(self) -> int:
        return len(self.action)

    @property
    def action_low(self) -> tuple[float, ...]:
        return tuple(dim.low for dim in self.action)

    @property
    def action_high(self) -> tuple[float, ...]:
        return tuple(dim.high for dim in self.action)

    @property
    def camera_names(self) -> tuple[str, ...]:
        return tuple(camera.name for camera in self.cameras)

    def camera(self, name: str) -> CameraSpec:
        """The camera of that name; ``KeyError`` lists the cameras there are."""
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise KeyError(f"{self.name} has no camera {name!r}; its cameras are {list(self.camera_names)}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; :meth:`from_dict` is its inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "EmbodimentSpec":
        return cls(
            name=data["name"],
            control_rate_hz=data["control_rate_hz"],
            state=tuple(Dimension(**dim) for dim in data["state"]),
            action=tuple(Dimension(**dim) for dim in data["action"]),
            cameras=tuple(CameraSpec(**camera) for camera in data["cameras"]),
        )


class Transition(NamedTuple):
    """What one step, or one chunk of steps, of a vector environment returns.

    ``reward`` float32 ``(n,)`` is summed over the steps a world really took. ``terminated`` and
    ``truncated`` are bool ``(n,)`` and stay apart. ``success`` bool ``(n,)`` says whether the task
    is solved. ``steps`` int64 ``(n,)`` counts the control steps taken (less than the chunk where a
    world finished inside it; 0 where it was finished before). No world is ever reset by itself:
    ``observation`` is the last one of the episode until ``reset`` is called for that world.
    """

    observation: dict[str, Any]
    reward: "Tensor"
    terminated: "Tensor"
    truncated: "Tensor"
    success: "Tensor"
    steps: "Tensor"


class VectorEnv(Protocol):
    """``num_envs`` worlds stepped at once; all that policies, evaluation and learners may know.

    Tensors live on ``device``. An observation is a dict by the keys above, batched on axis 0;
    ``task`` is a list of ``num_envs`` instructions. A world's episode depends on its seed alone:
    not on the number of worlds, their order, or what the others do.
    """

    num_envs: int
    device: "Any"
    embodiment: EmbodimentSpec
    max_episode_steps: int
    task_name: str

    @property
    def stages_done(self) -> "Tensor":
        """Which stages of each world's episode are behind: bool ``(n, s)``, one column for most tasks."""
        ...

    def reset(self, seeds: "Tensor | list[int]", mask: "Tensor | None" = None) -> dict[str, Any]:
        """Start an episode in every world of ``mask`` (all when None). ``seeds`` has ``num_envs`` entries."""
        ...

    def step(self, actions: "Tensor") -> Transition:
        """One control step with actions ``(n, a)``; finished worlds stand still."""
        ...

    def step_chunk(self, actions: "Tensor") -> Transition:
        """Up to h control steps with actions ``(n, h, a)``, rendering only what comes after the last."""
        ...

    def expert_action(self) -> "Tensor":
        """What the scripted expert would do now, ``(n, a)``; it reads the simulator, not the images."""
        ...

    def close(self) -> None:
        """Free threads and GL contexts; safe to call twice."""
        ...
