"""Suites that are played by workers, as runs describe them."""

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from configs.worlds import EnvConfig, Split
from envs.simulators import libero, maniskill
from envs.simulators.libero import check_libero, is_libero, libero_provenance, make_libero_env
from envs.simulators.maniskill import check_maniskill, is_maniskill, make_maniskill_env, maniskill_provenance
from envs.simulators.own_python import usable_cores
from envs.specs import Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envs.simulators.crew_env import CrewEnv

HEEDED = ("image_size_px", "depth", "workers", "suite_steps")
"""The settings of worlds that mean something there."""
ALSO_HEEDED = ("segmentation",)
"""By ManiSkill."""


def make_worker_env(
    task: str,
    num_envs: int,
    *,
    stream: Stream,
    config: EnvConfig,
    split: Split = "train",
    reward: str = "sparse",
    render: bool = True,
    privileged: bool = False,
    arm_start_rad: float = 0.0,
) -> "CrewEnv":
    """Worlds of such a task: one for each of ``config.workers`` (0: for each core), and ``num_envs`` at most.

    More worlds than that would not be faster, and each takes seconds to make. LIBERO has one sentence for each task,
    whatever the ``split``. ``ValueError`` for what the suite lacks, ``ModuleNotFoundError`` says what to install.
    """
    _check_settings(task, config, reward, privileged, arm_start_rad)
    worlds = min(num_envs, config.workers or usable_cores())
    if is_maniskill(task):
        return make_maniskill_env(
            task,
            worlds,
            stream=stream,
            split=split,
            image_size_px=config.image_size_px,
            depth=config.depth,
            segmentation=config.segmentation,
            render=render,
            workers=worlds,
            max_episode_steps=config.suite_steps or None,
        )
    return make_libero_env(
        task,
        worlds,
        stream=stream,
        image_size_px=config.image_size_px,
        depth=config.depth,
        render=render,
        workers=worlds,
        max_episode_steps=config.suite_steps or None,
    )


def seen_by_protocol(task: str, config: EnvConfig) -> EnvConfig:
    """``config`` with pictures of the size that the task's protocol has, unless it asks for another one."""
    if config.image_size_px != EnvConfig.image_size_px:
        return config
    if is_libero(task):
        return replace(config, image_size_px=libero.IMAGE_SIZE_PX)
    return replace(config, image_size_px=maniskill.IMAGE_SIZE_PX) if is_maniskill(task) else config


def check_suites(tasks: "Sequence[str]") -> None:
    """``ModuleNotFoundError`` where one of ``tasks`` is of a suite that is not installed; it says how to install it."""
    if any(map(is_libero, tasks)):
        check_libero()
    if any(map(is_maniskill, tasks)):
        check_maniskill()


def phrasings_of(tasks: "Sequence[str]", split: Split) -> str:
    """In which words these tasks are told: each task of LIBERO has one instruction."""
    return "the suite's own instructions" if all(map(is_libero, tasks)) else f"{split} phrasings"


def suite_provenance(tasks: "Sequence[str]") -> dict[str, Any]:
    """What episodes of these suites depend on beside our own code: nothing where none of ``tasks`` is of one."""
    found = {"libero": libero_provenance} if any(map(is_libero, tasks)) else {}
    found |= {"maniskill": maniskill_provenance} if any(map(is_maniskill, tasks)) else {}
    return {name: provenance() for name, provenance in found.items()}


def _check_settings(task: str, config: EnvConfig, reward: str, privileged: bool, arm_start_rad: float) -> None:
    """``ValueError`` for settings that mean nothing to the suite, rather than leave them unheeded."""
    usual, known = EnvConfig(), (*HEEDED, *(ALSO_HEEDED if is_maniskill(task) else ()))
    given = {field.name: getattr(config, field.name) for field in fields(EnvConfig) if field.name not in known}
    odd = [f"env.{name} {value}" for name, value in given.items() if value != getattr(usual, name)]
    odd = [text for text in odd if text != "env.device cpu"]
    odd += [f"reward {reward}"] if reward != "sparse" else []
    odd += ["what only a simulator knows"] if privileged else []
    odd += [f"arm_start_rad {arm_start_rad}"] if arm_start_rad else []
    if odd:
        heeded = ", ".join(f"env.{name}" for name in known)
        raise ValueError(
            f"{task} is played by its own protocol: leave out {', '.join(odd)}; of the worlds' settings it heeds "
            f"{heeded}"
        )
