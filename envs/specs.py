"""What a robot, its cameras and an environment promise: keys, shapes, units and frames.

Everything here is plain data and imports neither torch nor a simulator, so that a robot's
client can hold a server to the same promise that the simulator kept.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

Stream = Literal["demonstrate", "learn", "evaluate"]
"""What episodes are for. An episode is drawn from its stream and seed, and those of different streams never meet."""
STREAMS: tuple[Stream, ...] = get_args(Stream)

STATE_KEY = "observation.state"
COMMAND_KEY = "observation.command"
"""Key of what the robot was last told: float32 ``(n, 10)``, the commanded tool pose (position in metres, the x and y
axes of its frame; world) and the gripper command. Delta-pose actions are added to it."""
COMMAND_DIM = 10
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
    """What one step, or one chunk of h steps, of a vector environment returns.

    ``rewards`` float32 ``(n, h)`` are those of each step, 0 after a world has finished, and ``reward`` ``(n,)`` is
    their sum. ``terminated`` and ``truncated`` are bool ``(n,)`` and stay apart. ``success`` bool ``(n,)`` says whether
    the task is solved. ``steps`` int64 ``(n,)`` counts the control steps taken (less than the chunk where a world
    finished inside it; 0 where it was finished before). ``ended`` are the worlds whose episode ended in this call, on
    the host. No world is ever reset by itself: ``observation`` is the last one of the episode until ``reset`` is called
    for that world.
    """

    observation: dict[str, Any]
    reward: "Tensor"
    rewards: "Tensor"
    terminated: "Tensor"
    truncated: "Tensor"
    success: "Tensor"
    steps: "Tensor"
    ended: list[int]


class VectorEnv(Protocol):
    """``num_envs`` worlds stepped at once; all that policies, evaluation and learners may know.

    Tensors live on ``device``. An observation is a dict by the keys above, batched on axis 0;
    ``task`` is a list of ``num_envs`` instructions. A world's episode depends on ``stream`` and its seed alone:
    not on the number of worlds, their order, or what the others do.
    """

    num_envs: int
    device: "Any"
    embodiment: EmbodimentSpec
    max_episode_steps: int
    task_name: str
    stream: Stream
    capabilities: frozenset[str]
    """What else it can do, out of ``CAPABILITIES``."""

    @property
    def stages_done(self) -> "Tensor":
        """Which stages of each world's episode are behind: bool ``(n, s)``, one column for most tasks."""
        ...

    @property
    def task_names(self) -> list[str]:
        """The task that each world is at: ``task_name`` everywhere, but in a mixture of tasks."""
        ...

    @property
    def goals(self) -> list[str]:
        """What each world's instruction asks for, in words that do not depend on its phrasing: two instructions mean
        the same just if these are equal.
        """
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

    def close(self) -> None:
        """Free threads and GL contexts; safe to call twice."""
        ...


EXPERT, SNAPSHOTS, DETERMINISTIC, CALIBRATED = "expert", "snapshots", "deterministic", "calibrated"
TURNS = "turns"
CAPABILITIES = frozenset({EXPERT, SNAPSHOTS, DETERMINISTIC, CALIBRATED, TURNS})
"""What a vector environment may declare: it is an :class:`ExpertEnv`; it is a :class:`SnapshotEnv`; the same seed and
actions give the same episode to the last bit; observations say how every camera sees and where it stands; it is a
:class:`TurningEnv`."""


class ExpertEnv(VectorEnv, Protocol):
    """A vector environment that knows how its task is done; it declares ``EXPERT``."""

    def expert_action(self) -> "Tensor":
        """What the scripted expert would do now, ``(n, a)``; it reads the simulator, not the images."""
        ...


class Snapshot(NamedTuple):
    """Everything that the episodes of n worlds are: tensors ``(n, …)`` by name, and their instructions.

    Tensors alone, so that a checkpoint can hold it; it fits environments made with the same settings.
    """

    tensors: dict[str, "Tensor"]
    instructions: list[str]

    def take(self, worlds: "list[int]") -> "Snapshot":
        """The photograph whose world i is this one's ``worlds[i]``: many worlds on the same start, for one."""
        return Snapshot(
            {name: tensor[worlds] for name, tensor in self.tensors.items()}, [self.instructions[i] for i in worlds]
        )


@runtime_checkable
class SnapshotEnv(VectorEnv, Protocol):
    """A vector environment whose worlds can be photographed and put back; it declares ``SNAPSHOTS``."""

    def snapshot(self) -> Snapshot:
        """All worlds as they are now."""
        ...

    def restore(self, snapshot: Snapshot) -> dict[str, Any]:
        """Put every world back to where it was photographed; returns what it shows there."""
        ...


class TurningEnv(SnapshotEnv, Protocol):
    """A vector environment of a task and the one that undoes it; it declares ``TURNS``.

    Success ends nothing: an episode is the stretch until a world is put back, truncated. ``stages_done`` says whether
    what is asked for has been so since it was asked for.
    """

    @property
    def attempt_steps(self) -> int:
        """How many control steps an attempt at either task is usually given."""
        ...

    def turn(self, mask: "Tensor") -> dict[str, Any]:
        """Ask for the opposite in the worlds of ``mask``, bool ``(n,)``; nothing moves. Returns what all show then."""
        ...


@dataclass(frozen=True, kw_only=True)
class Told:
    """What is on some tables, in a sentence each: row i is about table ``table[i]`` ``(n,)``, in their order.

    ``sentences[i]`` is true, and ``false[i]`` is the same with one fact changed, so that it is false.
    """

    table: "Tensor"
    sentences: tuple[str, ...]
    false: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Questions about some tables and what is rightly answered, in few words: row i is about table ``table[i]``
    ``(m,)``, in their order.
    """

    table: "Tensor"
    questions: tuple[str, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Receivers:
    """Where things are to be brought: row i is the second thing that sentence ``sentence[i]`` ``(m,)`` names, into,
    onto or upon which the first one shall go. The rest is as in :class:`Grounding`.
    """

    sentence: "Tensor"
    point_m: "Tensor"
    pixel: "Tensor"
    cover: "Tensor"
    seen: "Tensor"


@dataclass(frozen=True, kw_only=True)
class Grounding:
    """Views of b tables, and what is said of them: what a network learns to look from.

    ``images`` uint8 ``(b, v, h, w, 3)`` in the order of the embodiment's cameras; ``state`` float32 ``(b, s)`` is the
    robot's. Sentence i names one thing of table ``table[i]`` ``(n,)``: this referent's middle is ``point_m`` ``(n, 3)``
    in the world, ``pixel`` ``(n, v, 2)`` in each view (x, y; −1 … 1 from the left or upper edge of the picture to the
    other), and covers ``cover`` bool ``(n, v, h, w)`` of it. ``seen`` bool ``(n, v)``: enough of it shows in that view.
    ``told`` and ``asked`` have no rows where none were wanted.
    """

    images: "Tensor"
    state: "Tensor"
    table: "Tensor"
    sentences: tuple[str, ...]
    point_m: "Tensor"
    pixel: "Tensor"
    cover: "Tensor"
    seen: "Tensor"
    receivers: Receivers
    told: Told
    asked: Asked


class GroundingSource(Protocol):
    """Endless scenes. ``batch`` is a pure function of its arguments: the same in any process, whatever came before.

    Up to so many sentences and questions per table; what is told with ``captions``, what is asked and what is named do
    not depend on one another.
    """

    embodiment: EmbodimentSpec

    def batch(
        self,
        first_seed: int,
        tables: int,
        sentences_per_table: int,
        questions_per_table: int = 0,
        captions: bool = False,
    ) -> Grounding: ...

    def close(self) -> None: ...
