"""ManiSkill 3's tasks, played by workers in a Python of their own, on the CPU and drawn by Vulkan.

Tao et al. 2025 (ManiSkill3). Of its 74 tasks those 44 that need no download; ``docs/suites.md`` says what departs.
"""

import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envs.choices import chosen
from envs.language import Split
from envs.simulators.maniskill_arms import ARMS
from envs.simulators.maniskill_bodies import BODIES, HANDS
from envs.simulators.maniskill_task import NAME, ManiSkillTask
from envs.simulators.own_python import python_of, suite_folder, usable_cores, versions_in
from envs.simulators.process import PACKAGE, Simulator
from envs.specs import CALIBRATED, DETERMINISTIC, EXPERT, SNAPSHOTS, CameraSpec, Dimension, EmbodimentSpec, Stream

if TYPE_CHECKING:
    from envs.simulators.crew_env import CrewEnv

TASKS: tuple[ManiSkillTask, ...] = (*ARMS, *HANDS, *BODIES)
PYTHON_VARIABLE = "VLA_MANISKILL_PYTHON"
"""Names the Python of an environment that was made elsewhere than in the usual place."""
DRIVER_FOLDER = "driver"
"""In the folder of that environment: a software Vulkan that is new enough, unpacked. Without it the machine's own
Vulkan draws, on its GPU."""
DRIVER_FILE = Path("usr/share/vulkan/icd.d/lvp_icd.json")
TRIED_FILE = "drawn.txt"
"""Written once a picture has been drawn there."""
WORLDS_FILE = PACKAGE / "maniskill_world.py"
ROBOTS_FILE = Path(__file__).with_name("maniskill_robots.json")
IMAGE_SIZE_PX = 128
"""What ManiSkill's own cameras have."""
INSTALL = "vla suite install maniskill"
ABOUT = "ManiSkill 3's tasks that need no download"
_RECORDED = ("mani-skill", "sapien", "mplib", "torch", "numpy")


def is_maniskill(name: str) -> bool:
    """Whether ``name`` is this suite, or SUITE/TASK of it."""
    return name.partition("/")[0] == NAME


def find_maniskill_task(name: str) -> ManiSkillTask:
    """A task by its id; ``ValueError`` lists those there are."""
    return chosen("task", name, {task.name: task for task in TASKS})


def maniskill_task_names(names: Sequence[str]) -> tuple[str, ...]:
    """``names`` with the suite replaced by its tasks; ``ValueError`` for what there is not."""
    found: list[str] = []
    for name in names:
        found += [task.name for task in TASKS] if name == NAME else [find_maniskill_task(name).name]
    return tuple(dict.fromkeys(found))


@cache
def robots() -> dict[str, dict[str, Any]]:
    """ManiSkill's robots as they tell of themselves (``vla suite check`` compares): control mode, cameras by our and
    by its names, and every dimension of state and action."""
    return json.loads(ROBOTS_FILE.read_text(encoding="utf-8"))


def maniskill_embodiment(
    robot: str,
    image_size_px: int = IMAGE_SIZE_PX,
    depth: bool = False,
    segmentation: bool = False,
    render: bool = True,
) -> EmbodimentSpec:
    """One of :func:`robots`, in our units and signs."""
    about, side = robots()[robot], image_size_px
    cameras = tuple(
        CameraSpec(name=name, height_px=side, width_px=side, depth=depth, segmentation=segmentation)
        for name in about["cameras"]
    )
    return EmbodimentSpec(
        name=f"maniskill-{robot.replace('_', '-')}",
        control_rate_hz=about["control_rate_hz"],
        state=tuple(Dimension(**each) for each in about["state"]),
        action=tuple(Dimension(**each) for each in about["action"]),
        cameras=cameras if render else (),
    )


def maniskill_folder() -> Path:
    """The folder of ManiSkill's Python environment, which ``VLA_MANISKILL_PYTHON`` may name by its Python."""
    return suite_folder(PYTHON_VARIABLE, NAME)


def what_maniskill_lacks(folder: Path) -> list[str]:
    """What is missing there, in sentences; nothing where it can be played."""
    if not python_of(folder).is_file():
        return [f"there is no Python environment at {folder}"]
    if "mani-skill" not in installed_versions(folder):
        return [f"the Python environment at {folder} has no mani-skill"]
    if not (folder / TRIED_FILE).is_file():
        return [f"nothing could be drawn in {folder}: it has no Vulkan driver that ManiSkill's renderer can use"]
    return []


def check_maniskill() -> Path:
    """ManiSkill's folder; ``ModuleNotFoundError`` says what it lacks and how to install it."""
    folder = maniskill_folder()
    if missing := what_maniskill_lacks(folder):
        raise ModuleNotFoundError(f"ManiSkill is not installed: {missing[0]}; {INSTALL}", name="mani_skill")
    return folder


def installed_versions(folder: Path) -> dict[str, str]:
    """Versions, in the environment at ``folder``, of what ManiSkill's episodes depend on."""
    return versions_in(folder, _RECORDED)


def maniskill_provenance() -> dict[str, Any]:
    """What ManiSkill's episodes and pictures depend on, for the record: JSON-ready."""
    folder = check_maniskill()
    return {"versions": installed_versions(folder), "drawn_by": (folder / TRIED_FILE).read_text(encoding="utf-8")}


def render_backend(folder: Path) -> str:
    """ManiSkill's word for what draws: its software Vulkan, or else a GPU."""
    return "cpu" if (folder / DRIVER_FOLDER / DRIVER_FILE).is_file() else "gpu"


def maniskill_simulator(folder: Path, limit_s: float) -> Simulator:
    """How workers play ManiSkill of the environment at ``folder``."""
    variables: dict[str, str] = {"OMP_NUM_THREADS": "1", "MS_ASSET_DIR": str(folder / "assets")}
    if render_backend(folder) == "cpu":
        variables |= driver_variables(folder / DRIVER_FOLDER)
    return Simulator(python=python_of(folder), file=WORLDS_FILE, variables=variables, limit_s=limit_s)


def driver_variables(driver: Path) -> Mapping[str, str]:
    """What has a program draw with the software Vulkan that is unpacked in ``driver``."""
    places = [str(path) for path in sorted((*driver.glob("usr/lib/*-linux-gnu"), *driver.glob("lib/*-linux-gnu")))]
    before = os.environ.get("LD_LIBRARY_PATH")
    return {
        "VK_ICD_FILENAMES": str(driver / DRIVER_FILE),
        "LD_LIBRARY_PATH": os.pathsep.join([*places, *([before] if before else [])]),
    }


def make_maniskill_env(
    task: str,
    num_envs: int,
    *,
    stream: Stream,
    split: Split = "train",
    image_size_px: int = IMAGE_SIZE_PX,
    depth: bool = False,
    segmentation: bool = False,
    render: bool = True,
    workers: int = 0,
    max_episode_steps: int | None = None,
    limit_s: float = 300.0,
) -> "CrewEnv":
    """``num_envs`` worlds of a task in ``workers`` processes (0: as many as there are worlds, or else cores).

    ``limit_s`` is how long a control step, reset, picture or plan may take. ``ModuleNotFoundError`` says what to
    install.
    """
    from envs.simulators.crew import Crew
    from envs.simulators.crew_env import CrewEnv, observation_rows

    found = find_maniskill_task(task)
    if num_envs < 1 or workers < 0:
        raise ValueError(f"expected at least one world, and workers from 0 on, got {num_envs} and {workers}")
    embodiment = maniskill_embodiment(found.robot, image_size_px, depth, segmentation, render)
    folder = check_maniskill()
    settings = {
        "env_id": found.there,
        "control_mode": robots()[found.robot]["control_mode"],
        "cameras": robots()[found.robot]["cameras"],
        "sentences": found.phrasings.train if split == "train" else found.phrasings.held_out,
        "goal": found.goal,
        "image_size_px": image_size_px,
        "depth": depth,
        "segmentation": segmentation,
        "render": render,
        "render_backend": render_backend(folder),
    }
    crew = Crew(
        task,
        maniskill_simulator(folder, limit_s),
        [settings] * num_envs,
        observation_rows(embodiment, calibrated=True),
        min(num_envs, workers or usable_cores()),
    )
    capabilities = {DETERMINISTIC, CALIBRATED, SNAPSHOTS} | ({EXPERT} if found.expert else set())
    return CrewEnv(
        crew,
        embodiment,
        max_episode_steps=max_episode_steps or found.max_episode_steps,
        stream=stream,
        split=split,
        capabilities=frozenset(capabilities),
    )
