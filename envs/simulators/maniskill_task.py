"""What a task of ManiSkill is, in words: read without loading ManiSkill."""

from dataclasses import dataclass

from envs.language import Phrasings
from envs.simulators.base import SimulatedTask

NAME = "maniskill"


@dataclass(frozen=True, kw_only=True)
class ManiSkillTask(SimulatedTask):
    """A task of ManiSkill, with the robot that its authors give it, one of ``maniskill_robots.json``."""

    robot: str


def maniskill_task(
    there: str,
    robot: str,
    steps: int,
    train: tuple[str, ...],
    held_out: tuple[str, ...],
    expert: bool = False,
) -> ManiSkillTask:
    """The task that ManiSkill calls ``there``, but for its version."""
    return ManiSkillTask(
        name=f"{NAME}/{there}",
        there=f"{there}-v1",
        robot=robot,
        phrasings=Phrasings(train=train, held_out=held_out),
        max_episode_steps=steps,
        expert=expert,
    )
