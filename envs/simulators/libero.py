"""LIBERO's suites by its own protocol, played by workers in a Python of their own.

Liu et al. 2023. The protocol is the one that published figures were measured by: each task has 50 initial states, ten
steps let the scene settle, the episode is cut after a number of steps that depends on the suite, and policies see
pictures of 256 × 256 pixels turned by half a turn. ``docs/libero.md`` says how each point is kept.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envs.choices import chosen
from envs.simulators.libero_assets import assembled
from envs.simulators.own_python import python_of, suite_folder, usable_cores, versions_in
from envs.simulators.process import PACKAGE, Simulator
from envs.simulators.worker.libero_world import CAMERAS, MOST_M, MOST_RAD, SETTLE_STEPS
from envs.specs import CALIBRATED, DETERMINISTIC, CameraSpec, Dimension, EmbodimentSpec, Stream

if TYPE_CHECKING:
    from envs.simulators.crew_env import CrewEnv

PYTHON_VARIABLE = "VLA_LIBERO_PYTHON"
"""Names the Python of an environment that was made elsewhere than in the usual place."""
CONFIG_FILE, ASSETS_FOLDER = "config.yaml", "assets"
"""In the folder of that environment: LIBERO's own config, and its assets."""
WORLDS_FILE = PACKAGE / "libero_world.py"
IMAGE_SIZE_PX = 256
INSTALL = "vla suite install libero --assets FOLDER"
_REACH_M, _FINGER_M, _TURN_RAD = 2.0, 0.06, 6.3
_RECORDED = ("hf-libero", "robosuite", "mujoco", "numpy")


@dataclass(frozen=True, kw_only=True)
class LiberoTask:
    """A task: its id, SUITE/NUMBER, and what LIBERO calls its benchmark and counts it as."""

    name: str
    benchmark: str
    index: int
    max_episode_steps: int


@dataclass(frozen=True, kw_only=True)
class LiberoSuite:
    """Tasks whose episodes are cut after ``max_episode_steps`` control steps."""

    name: str
    about: str
    count: int
    max_episode_steps: int

    @property
    def tasks(self) -> tuple[LiberoTask, ...]:
        benchmark = self.name.replace("-", "_")
        steps = self.max_episode_steps
        return tuple(
            LiberoTask(name=f"{self.name}/{i}", benchmark=benchmark, index=i, max_episode_steps=steps)
            for i in range(self.count)
        )

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(task.name for task in self.tasks)


LIBERO_SUITES: dict[str, LiberoSuite] = {
    suite.name: suite
    for suite in (
        LiberoSuite(name="libero-spatial", about="which of two bowls, by its place", count=10, max_episode_steps=220),
        LiberoSuite(name="libero-object", about="which thing goes into the basket", count=10, max_episode_steps=280),
        LiberoSuite(name="libero-goal", about="what is to be done in one scene", count=10, max_episode_steps=300),
        LiberoSuite(name="libero-10", about="two things, one after the other", count=10, max_episode_steps=520),
        LiberoSuite(name="libero-90", about="short tasks in many scenes", count=90, max_episode_steps=400),
    )
}


def is_libero(name: str) -> bool:
    """Whether ``name`` is one of these suites, or SUITE/TASK of one."""
    return name.partition("/")[0] in LIBERO_SUITES


def find_libero_task(name: str) -> LiberoTask:
    """A task by its id; ``ValueError`` lists those there are."""
    suite = chosen("suite", name.partition("/")[0], LIBERO_SUITES)
    return chosen("task", name, {task.name: task for task in suite.tasks})


def libero_task_names(names: Sequence[str]) -> tuple[str, ...]:
    """``names`` with every suite replaced by its tasks; ``ValueError`` for what there is not."""
    found: list[str] = []
    for name in names:
        found += LIBERO_SUITES[name].task_names if name in LIBERO_SUITES else [find_libero_task(name).name]
    return tuple(dict.fromkeys(found))


def libero_embodiment(image_size_px: int = IMAGE_SIZE_PX, depth: bool = False, render: bool = True) -> EmbodimentSpec:
    """LIBERO's Panda, in our units and signs.

    The state is LIBERO's own: position (m) and rotation vector (rad, angle 0 … 2π without antipodal flip) of the hand,
    and both fingers' positions (m). Actions are a change of the hand's pose in m and rad, LIBERO's ±1 being ±0.05 m and
    ±0.5 rad, and the gripper's command, 0 open … 1 closed, which is LIBERO's −1 … +1.
    """
    side = image_size_px
    cameras = tuple(CameraSpec(name=name, height_px=side, width_px=side, depth=depth) for name in CAMERAS)
    return EmbodimentSpec(
        name="libero-panda",
        control_rate_hz=20.0,
        state=(
            *(Dimension(name=f"tool_{axis}", unit="m", low=-_REACH_M, high=_REACH_M) for axis in "xyz"),
            *(Dimension(name=f"tool_rotation_{axis}", unit="rad", low=-_TURN_RAD, high=_TURN_RAD) for axis in "xyz"),
            *(
                Dimension(name=f"{side}_finger", unit="m", low=-_FINGER_M, high=_FINGER_M, frame="gripper")
                for side in ("left", "right")
            ),
        ),
        action=(
            *_deltas("d", "m", MOST_M),
            *_deltas("r", "rad", MOST_RAD),
            Dimension(name="gripper", unit="0 open … 1 closed", low=0.0, high=1.0, frame="gripper"),
        ),
        cameras=cameras if render else (),
    )


def _deltas(prefix: str, unit: str, most: float) -> tuple[Dimension, ...]:
    return tuple(
        Dimension(name=f"{prefix}{axis}", unit=unit, low=-most, high=most, frame="base", relative=True)
        for axis in "xyz"
    )


def libero_folder() -> Path:
    """The folder of LIBERO's Python environment, which ``VLA_LIBERO_PYTHON`` may name by its Python."""
    return suite_folder(PYTHON_VARIABLE, "libero")


def what_is_missing(folder: Path) -> list[str]:
    """What LIBERO lacks there, in sentences; nothing where it can be played."""
    if not python_of(folder).is_file():
        return [f"there is no Python environment at {folder}"]
    if "hf-libero" not in installed_versions(folder):
        return [f"the Python environment at {folder} has no hf-libero"]
    if not (folder / CONFIG_FILE).is_file() or not (folder / ASSETS_FOLDER).is_dir():
        return [
            f"{folder} has no {CONFIG_FILE} or no assets (meshes, textures, scenes), which the package does not bring"
        ]
    missing = assembled(folder / ASSETS_FOLDER).missing
    return [f"of the assets {len(missing)} files are missing: {', '.join(missing)}"] if missing else []


def check_libero() -> Path:
    """LIBERO's folder; ``ModuleNotFoundError`` says what it lacks and how to install it. Missing files of single tasks
    are for those to complain of.
    """
    folder = libero_folder()
    missing = what_is_missing(folder)
    if missing and not missing[0].startswith("of the assets"):
        raise ModuleNotFoundError(f"LIBERO is not installed: {missing[0]}; {INSTALL}", name="libero")
    return folder


def installed_versions(folder: Path) -> dict[str, str]:
    """Versions, in the environment at ``folder``, of what LIBERO's episodes depend on."""
    return versions_in(folder, _RECORDED)


def libero_provenance() -> dict[str, Any]:
    """What LIBERO's episodes and pictures depend on, for the record: JSON-ready."""
    folder = check_libero()
    assets = assembled(folder / ASSETS_FOLDER)
    return {"versions": installed_versions(folder), "stand_in_assets": list(assets.stand_ins)}


def libero_simulator(folder: Path, limit_s: float) -> Simulator:
    """How workers play LIBERO of the environment at ``folder``."""
    drawing = {"MUJOCO_GL": os.environ.get("MUJOCO_GL") or "egl"}
    drawing["PYOPENGL_PLATFORM"] = drawing["MUJOCO_GL"]
    variables: Mapping[str, str] = {
        "LIBERO_CONFIG_PATH": str(folder),
        "OMP_NUM_THREADS": "1",
        **drawing,
    }
    return Simulator(python=python_of(folder), file=WORLDS_FILE, variables=variables, limit_s=limit_s)


def make_libero_env(
    task: str,
    num_envs: int,
    *,
    stream: Stream,
    image_size_px: int = IMAGE_SIZE_PX,
    depth: bool = False,
    render: bool = True,
    workers: int = 0,
    max_episode_steps: int | None = None,
    settle_steps: int = SETTLE_STEPS,
    limit_s: float = 120.0,
) -> "CrewEnv":
    """``num_envs`` worlds of a task in ``workers`` processes (0: as many as there are worlds, or else cores).

    An episode of ``evaluate`` begins in initial state seed modulo their number, one of another stream in a drawn one.
    It may take ``max_episode_steps``, by default what the protocol gives it, as it gives ``settle_steps``. ``limit_s``
    is how long a control step, reset or picture may take. ``ModuleNotFoundError`` says what to install.
    """
    from envs.simulators.crew import Crew
    from envs.simulators.crew_env import CrewEnv, observation_rows

    found = find_libero_task(task)
    if num_envs < 1 or workers < 0:
        raise ValueError(f"expected at least one world, and workers from 0 on, got {num_envs} and {workers}")
    embodiment = libero_embodiment(image_size_px, depth, render)
    settings = {
        "benchmark": found.benchmark,
        "index": found.index,
        "image_size_px": image_size_px,
        "depth": depth,
        "render": render,
        "settle_steps": settle_steps,
    }
    crew = Crew(
        task,
        libero_simulator(check_libero(), limit_s),
        [settings] * num_envs,
        observation_rows(embodiment, calibrated=True),
        min(num_envs, workers or usable_cores()),
    )
    return CrewEnv(
        crew,
        embodiment,
        max_episode_steps=max_episode_steps or found.max_episode_steps,
        stream=stream,
        capabilities=frozenset({DETERMINISTIC, CALIBRATED}),
    )
