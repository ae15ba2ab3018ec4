"""Suites that are played by workers, as runs describe them."""

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from configs.environments import EnvConfig, Split
from envs.simulators.libero import (
    IMAGE_SIZE_PX,
    check_libero,
    is_libero,
    libero_provenance,
    make_libero_env,
    usable_cores,
)
from envs.specs import Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envs.simulators.crew_env import CrewEnv

HEEDED = ("image_size_px", "depth", "workers", "suite_steps")
"""The settings of worlds that mean something there."""


def make_worker_env(
    task: str,
    num_envs: int,
    *,
    stream: Stream,
    config: EnvConfig,
    reward: str = "sparse",
    render: bool = True,
    privileged: bool = False,
    arm_start_rad: float = 0.0,
) -> "CrewEnv":
    """Worlds of such a task: one for each of ``config.workers`` (0: for each core), and ``num_envs`` at most.

    More worlds than that would not be faster, and each takes seconds to make. ``ValueError`` for what the suite lacks,
    ``ModuleNotFoundError`` says what to install.
    """
    _check_settings(task, config, reward, privileged, arm_start_rad)
    worlds = min(num_envs, config.workers or usable_cores())
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
    if is_libero(task) and config.image_size_px == EnvConfig.image_size_px:
        return replace(config, image_size_px=IMAGE_SIZE_PX)
    return config


def check_suites(tasks: "Sequence[str]") -> None:
    """``ModuleNotFoundError`` where one of ``tasks`` is of a suite that is not installed; it says how to install it."""
    if any(map(is_libero, tasks)):
        check_libero()


def phrasings_of(tasks: "Sequence[str]", split: Split) -> str:
    """In which words these tasks are told: suites that are played by workers have one instruction for each task."""
    return "the suite's own instructions" if all(map(is_libero, tasks)) else f"{split} phrasings"


def suite_provenance(tasks: "Sequence[str]") -> dict[str, Any]:
    """What episodes of these suites depend on beside our own code: nothing where none of ``tasks`` is of one."""
    return {"libero": libero_provenance()} if any(map(is_libero, tasks)) else {}


def _check_settings(task: str, config: EnvConfig, reward: str, privileged: bool, arm_start_rad: float) -> None:
    """``ValueError`` for settings that mean nothing to the suite, rather than leave them unheeded."""
    usual = EnvConfig()
    given = {field.name: getattr(config, field.name) for field in fields(EnvConfig) if field.name not in HEEDED}
    odd = [f"env.{name} {value}" for name, value in given.items() if value != getattr(usual, name)]
    odd = [text for text in odd if text != "env.device cpu"]
    odd += [f"reward {reward}"] if reward != "sparse" else []
    odd += ["what only a simulator knows"] if privileged else []
    odd += [f"arm_start_rad {arm_start_rad}"] if arm_start_rad else []
    if odd:
        heeded = ", ".join(f"env.{name}" for name in HEEDED)
        raise ValueError(
            f"{task} is played by its own protocol: leave out {', '.join(odd)}; of the worlds' settings it heeds "
            f"{heeded}"
        )
