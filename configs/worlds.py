"""The settings of simulated worlds."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from envs.backends.capacity import Capacity
    from envs.perturbations import Perturbation

Split = Literal["train", "held_out"]

FOREIGN = ("image_size_px", "depth", "segmentation", "suite_profile")
"""The settings of worlds that other projects' simulators have too."""

RENDER_LIMIT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class EnvConfig:
    """What the worlds of a run have in common.

    For the suites of other projects' simulators only the settings in ``FOREIGN`` mean something; others are refused.
    """

    engine: Literal["cpu", "warp"] = "cpu"
    """Physics and rendering: C MuJoCo with OpenGL on the CPU, or MuJoCo Warp on a GPU (it also runs without one)."""
    robot: Literal["panda", "panda_mesh", "ur5e", "so100"] = "panda"
    """The arm; panda_mesh looks like the real one."""
    control: Literal["delta_pose", "absolute_pose", "joint_position"] = "delta_pose"
    """What actions mean: a change of the tool's pose, a pose, or joint angles."""
    velocities: bool = False
    """Whether the state also holds the joints' velocities."""
    image_size_px: int = 64
    """Side of the square camera images."""
    depth: bool = False
    """Whether cameras also give depth images."""
    segmentation: bool = False
    """Whether cameras also say which geom each pixel shows."""
    profile: Literal["fast", "quality"] = "fast"
    """Render profile: fast has no shadows and no multisampling."""
    suite_profile: Literal["stock", "fast"] = "stock"
    """Render profile of other projects' simulators: stock as their authors have it, for scores that are to be compared
    with theirs; fast without shadows, reflections and multisampling, which changes the pictures."""
    threads: int = 0
    """Threads for physics and rendering of the cpu engine; 0 takes every core this process may use."""
    render_limit_s: float = RENDER_LIMIT_S
    """Seconds after which a process of the cpu engine that draws nothing counts as hung and is replaced."""
    device: str | None = None
    """Where the warp engine runs, such as cuda:0; by default a GPU if there is one."""
    contacts_per_world: int = 0
    """Contacts that the warp engine reserves memory for; 0 counts them from the scene."""
    rows_per_world: int = 0
    """Rows of constraints that the warp engine reserves memory for; 0 counts them from the scene."""
    perturbation: str | None = None
    """What differs from the usual worlds, as PRESET:AXIS, such as colosseum-14:light; an unknown preset or axis lists
    those there are."""
    workers: int = 0
    """Processes that play another project's suite, a world each; 0 takes one for every core this process may use."""
    suite_steps: int = 0
    """Control steps after which episodes of another project's suite are cut short, for a quick look; 0 takes what its
    protocol gives them."""
    palette: tuple[str, ...] = ()
    """Colours of the things that come in bright ones, such as cubes; by default those of each task, red, green, blue,
    yellow, purple and cyan. Grey and brown are among the others that there are."""

    def __post_init__(self) -> None:
        if self.image_size_px < 16:
            raise ValueError(f"image_size_px must be at least 16, got {self.image_size_px}")
        for name in ("threads", "workers", "suite_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 < self.render_limit_s < math.inf:
            raise ValueError(f"render_limit_s must be positive and finite, got {self.render_limit_s}")
        reserved = self.contacts_per_world, self.rows_per_world
        if min(reserved) < 0 or (min(reserved) == 0) != (max(reserved) == 0):
            raise ValueError(f"give contacts_per_world and rows_per_world, or neither (0), got {reserved}")
        self._check_engine()
        if self.perturbation is not None:
            find_perturbation(self.perturbation)
        if self.palette:
            from envs.tasks.repainted import check_palette

            check_palette(self.palette)

    def _check_engine(self) -> None:
        """``ValueError`` for a setting that the chosen engine does not have, rather than leave it unheeded."""
        if self.engine == "warp":
            if self.threads:
                raise ValueError(f"the warp engine has no threads to choose, got threads {self.threads}")
            if self.render_limit_s != RENDER_LIMIT_S:
                raise ValueError(
                    f"the warp engine draws in no process of its own, got render_limit_s {self.render_limit_s}"
                )
        elif self.device not in (None, "cpu"):
            raise ValueError(
                f"the cpu engine runs on the CPU, got device {self.device!r}; a device is for the warp engine"
            )
        elif self.contacts_per_world:
            reserved = self.contacts_per_world, self.rows_per_world
            raise ValueError(f"the cpu engine reserves no memory, got {reserved}; a capacity is for the warp engine")

    @property
    def capacity(self) -> "Capacity | None":
        """What the warp engine reserves memory for, if it is not counted from the scene."""
        from envs.backends.capacity import Capacity

        if not self.contacts_per_world:
            return None
        return Capacity(contacts_per_world=self.contacts_per_world, rows_per_world=self.rows_per_world)


def find_perturbation(name: str) -> "Perturbation":
    """What PRESET:AXIS means; ``ValueError`` if it is unknown, or names several."""
    from envs.perturbations import axes

    found = axes(name)
    if len(found) != 1:
        raise ValueError(f"{name} means several perturbations; choose one of {', '.join(axis_names(name))}")
    return next(iter(found.values()))


def axis_names(preset: str) -> tuple[str, ...]:
    """The axes of a preset of perturbations, each as PRESET:AXIS."""
    from envs.perturbations import axes

    name = preset.partition(":")[0]
    return tuple(f"{name}:{axis}" for axis in axes(preset))
