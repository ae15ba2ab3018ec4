"""Environments as runs describe them: the one place where settings become simulated worlds."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from configs.worlds import FOREIGN, EnvConfig, Split, find_perturbation
from envs.specs import EmbodimentSpec, Stream

if TYPE_CHECKING:
    from envs.perturbations import Perturbation
    from envs.simulators.crew_env import CrewEnv
    from envs.simulators.vector import SimulatorEnv
    from envs.tasks import Task
    from envs.vector import RewardKind, TaskEnv

    AnyEnv = TaskEnv | SimulatorEnv | CrewEnv

ARM_START_RAD = 0.3
"""How far from home, in joint space, the arm starts at most where demonstrations are recorded: a policy whose
demonstrations all begin at home is lost when the arm starts elsewhere."""


def make_env(
    task: str,
    num_envs: int,
    *,
    stream: Stream,
    split: Split = "train",
    config: EnvConfig | None = None,
    arm_start_rad: float = 0.0,
    reward: "RewardKind" = "sparse",
    discount: float = 0.99,
    render: bool = True,
    privileged: bool = False,
) -> "AnyEnv":
    """``num_envs`` worlds of ``task``, whose episodes are those of ``stream``; ``split`` chooses the phrasings.

    The arm starts up to ``arm_start_rad`` from home, see :func:`starting_anywhere`. ``reward``, ``discount``,
    ``render`` and ``privileged`` are those of :class:`envs.vector.TaskEnv`. ``ValueError`` names the tasks there are,
    and says where a task cannot be had in the colours of the config. A task of another project's simulator
    (:mod:`envs.simulators`) heeds ``reward`` and ``render`` alone and refuses the rest; ``ModuleNotFoundError`` says
    what to install. Tasks of suites that workers play are those of :func:`configs.worker_suites.make_worker_env`.
    """
    from envs.simulators import is_simulated, is_worked

    config = config or EnvConfig()
    if is_worked(task):
        from configs.worker_suites import make_worker_env

        return make_worker_env(
            task,
            num_envs,
            stream=stream,
            config=config,
            split=split,
            reward=reward,
            render=render,
            privileged=privileged,
            arm_start_rad=arm_start_rad,
        )
    if is_simulated(task):
        check_foreign(task, config, arm_start_rad=arm_start_rad, privileged=privileged)
        return _simulated(task, num_envs, stream, split, config, reward, render)
    return make_task_env(
        task,
        num_envs,
        stream=stream,
        split=split,
        config=config,
        arm_start_rad=arm_start_rad,
        reward=reward,
        discount=discount,
        render=render,
        privileged=privileged,
    )


def make_task_env(
    task: "str | Task",
    num_envs: int,
    *,
    stream: Stream,
    split: Split = "train",
    config: EnvConfig | None = None,
    arm_start_rad: float = 0.0,
    reward: "RewardKind" = "sparse",
    discount: float = 0.99,
    render: bool = True,
    privileged: bool = False,
) -> "TaskEnv":
    """As :func:`make_env`, of our own simulator's tasks alone, which may also be handed over themselves: ``ValueError``
    for any other.
    """
    from envs.robots import make_robot
    from envs.simulators import is_foreign
    from envs.suites import find_task
    from envs.tasks.repainted import in_colours
    from envs.vector import TaskEnv
    from envs.world import FAST, QUALITY

    config = config or EnvConfig()
    if isinstance(task, str) and is_foreign(task):
        raise ValueError(f"this is done in our own simulator alone, and {task} is of another project's")
    if config.suite_profile != EnvConfig.suite_profile:
        raise ValueError(f"suite_profile is for other projects' simulators, and {task} is none of theirs: use profile")
    for name in ("workers", "suite_steps"):
        if getattr(config, name):
            raise ValueError(f"{name} is for suites that workers play, and {task} is of none: leave it out")
    found = find_task(task) if isinstance(task, str) else task
    made = in_colours(found, config.palette) if config.palette else found
    perturbation = find_perturbation(config.perturbation) if config.perturbation else None
    return TaskEnv(
        made,
        num_envs,
        engine=config.engine,
        device=config.device,
        arm=replace(make_robot(config.robot), control=config.control),
        perturbation=starting_anywhere(perturbation, arm_start_rad),
        image_size_px=(config.image_size_px, config.image_size_px),
        depth=config.depth,
        segmentation=config.segmentation,
        velocities=config.velocities,
        stream=stream,
        split=split,
        reward=reward,
        discount=discount,
        render=render,
        privileged=privileged,
        profile={"fast": FAST, "quality": QUALITY}[config.profile],
        threads=config.threads or None,
        capacity=config.capacity,
        render_limit_s=config.render_limit_s,
    )


def _simulated(
    task: str, num_envs: int, stream: Stream, split: Split, config: EnvConfig, reward: "RewardKind", render: bool
) -> "SimulatorEnv":
    from envs.simulators import find_simulated
    from envs.simulators.seeing import Seeing
    from envs.simulators.vector import SimulatorEnv
    from envs.simulators.views import PROFILES

    suite, found = find_simulated(task)
    suite.check_installed()
    seeing = Seeing(
        image_size_px=config.image_size_px,
        depth=config.depth,
        segmentation=config.segmentation,
        profile=config.suite_profile,
        render=render,
    )
    return SimulatorEnv(
        suite.world_of(found, seeing, split),
        num_envs,
        stream=stream,
        split=split,
        reward=reward,
        profile=PROFILES[config.suite_profile],
    )


def check_foreign(task: str, config: EnvConfig, *, arm_start_rad: float = 0.0, privileged: bool = False) -> None:
    """``ValueError`` for settings that mean nothing to the simulator of ``task``, rather than leave them unheeded."""
    usual = EnvConfig()
    given = {field.name: getattr(config, field.name) for field in fields(EnvConfig) if field.name not in FOREIGN}
    odd = [f"env.{name} {value}" for name, value in given.items() if value != getattr(usual, name)]
    odd = [text for text in odd if text != "env.device cpu"]
    odd += [f"arm_start_rad {arm_start_rad}"] if arm_start_rad else []
    odd += ["what only a simulator knows"] if privileged else []
    if odd:
        raise ValueError(
            f"{task} is of another project's simulator, which has nothing of the kind: leave out {', '.join(odd)}; "
            f"of the worlds' settings it heeds {', '.join(f'env.{name}' for name in FOREIGN)}"
        )


def usual_start_rad(tasks: Sequence[str], arm_start_rad: float) -> float:
    """How far from home the arm starts in demonstrations of ``tasks``: other projects' simulators decide it themselves.

    ``ValueError`` for such a one where a distance other than the usual was asked for, and for tasks of several
    simulators: one dataset is of one robot.
    """
    from envs.simulators import is_foreign

    foreign = [task for task in tasks if is_foreign(task)]
    if not foreign:
        return arm_start_rad
    if len(foreign) < len(tasks):
        ours = next(task for task in tasks if task not in foreign)
        raise ValueError(f"a dataset is of one robot: expected tasks of one simulator, got {foreign[0]} and {ours}")
    if arm_start_rad not in (0.0, ARM_START_RAD):
        check_foreign(foreign[0], EnvConfig(), arm_start_rad=arm_start_rad)
    return 0.0


def starting_anywhere(perturbation: "Perturbation | None", arm_start_rad: float) -> "Perturbation":
    """``perturbation`` with the arm starting up to ``arm_start_rad`` from home (joint space, 0 … 1).

    One that says itself where the arm starts stays as it is; ``ValueError`` where a distance other than the usual one
    was asked for besides.
    """
    from envs.perturbations import Perturbation
    from envs.perturbations.spec import RobotStart

    if not 0 <= arm_start_rad <= 1:
        raise ValueError(f"arm_start_rad must lie in 0 … 1, got {arm_start_rad}")
    perturbation = perturbation or Perturbation()
    if perturbation.robot_start is None:
        start = RobotStart(distance_rad=(0.0, arm_start_rad)) if arm_start_rad else None
        return replace(perturbation, robot_start=start)
    if arm_start_rad not in (0.0, ARM_START_RAD):
        raise ValueError(f"the perturbation says where the arm starts, and so does arm_start_rad ({arm_start_rad})")
    return perturbation


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Run scripts and simulation inside on one torch thread: their tensors are too small to be worth sharing.

    On a busy machine several threads would wait for each other at every operation (36 frames per second instead of
    several hundred, once). Physics and rendering have threads of their own.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def acts_in(perturbation: str, task: str, *, depth: bool = True, calibration: bool = True) -> bool:
    """Whether PRESET:AXIS can change anything in the task: there may be no receiver to be painted, for one, or nobody
    who sees ``depth``, or is told where cameras stand (``calibration``).

    ``ValueError`` for a task of another project's simulator, whose scenes nothing here can change.
    """
    from envs.perturbations.perturber import Perturber
    from envs.simulators import is_foreign
    from envs.suites import find_task

    if is_foreign(task):
        raise ValueError(f"perturbations change our own scenes; {task} is another project's: leave {perturbation} out")

    perturber = Perturber(find_perturbation(perturbation), find_task(task).props)
    return not perturber.idle(depth=depth, calibration=calibration)


def seen_as(embodiment: EmbodimentSpec, config: EnvConfig) -> EnvConfig:
    """``config`` with the cameras that a policy of ``embodiment`` expects.

    ``ValueError`` if none fits, or if ``config`` asks for others: what is not the default must be what is expected.
    """
    shapes = {(c.height_px, c.width_px, c.depth, c.segmentation) for c in embodiment.cameras}
    if len(shapes) != 1 or len({side for height, width, *_ in shapes for side in (height, width)}) != 1:
        raise ValueError(f"simulated cameras are square and alike; {embodiment.name} has {sorted(shapes)}")
    ((side, _, depth, segmentation),) = shapes
    expected = {"image_size_px": side, "depth": depth, "segmentation": segmentation}
    for name, value in expected.items():
        if getattr(config, name) not in (value, getattr(EnvConfig(), name)):
            given = getattr(config, name)
            raise ValueError(
                f"the policy of {embodiment.name} expects {name} {value}, got {given}; leave the setting out"
            )
    return replace(config, **expected)


def expand_tasks(names: Sequence[str]) -> tuple[str, ...]:
    """``names`` with every suite replaced by its tasks; ``ValueError`` for an unknown one, or if there are none."""
    from envs.simulators import FOREIGN_SUITES, foreign_names, is_foreign
    from envs.suites import SUITES, task_names
    from envs.tasks import ONE_WAY, TASKS

    if not names:
        raise ValueError("name at least one task or suite")
    found: list[str] = []
    for name in names:
        suite, slash, _ = name.partition("/")
        if not slash and "+" not in name and name not in (known := [*TASKS, *ONE_WAY, *SUITES, *FOREIGN_SUITES]):
            raise ValueError(f"unknown task or suite {name!r}; expected one of {', '.join(known)}")
        if slash and "+" not in name and suite not in (known := [*SUITES, *FOREIGN_SUITES]):
            raise ValueError(f"unknown suite {suite!r}; expected one of {', '.join(known)}")
        found += foreign_names([name]) if is_foreign(name) else task_names([name])
    return tuple(dict.fromkeys(found))


def episode_seeds(count: int, first: int = 0) -> list[int]:
    """``count`` seeds of a stream, from ``first`` on; ``ValueError`` if there are none or the first is negative."""
    if count < 1 or first < 0:
        raise ValueError(f"expected at least one episode and seeds from 0 on, got {count} from seed {first} on")
    return list(range(first, first + count))
