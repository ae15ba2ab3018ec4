"""Gymnasium-Robotics' Fetch tasks by name, in words: read without loading Gymnasium-Robotics."""

from functools import partial

from envs.language import Phrasings, Split
from envs.simulators.base import MakeWorld, SimulatedTask, SimulatorSuite
from envs.simulators.seeing import Seeing

NAME = "fetch"
HORIZON_STEPS = 50


def _task(there: str, expert: bool, train: tuple[str, ...], held_out: tuple[str, ...]) -> SimulatedTask:
    return SimulatedTask(
        name=f"{NAME}/{there.removeprefix('Fetch')}",
        there=there,
        phrasings=Phrasings(train=train, held_out=held_out),
        max_episode_steps=HORIZON_STEPS,
        expert=expert,
    )


TASKS = (
    _task(
        "FetchReach",
        True,
        ("reach the red ball", "move the gripper to the red ball", "touch the red mark"),
        ("bring your hand to the red sphere", "the fingers should be at the red spot"),
    ),
    _task(
        "FetchPush",
        True,
        ("push the block to the red ball", "push the block onto the red mark", "shove the block to the red ball"),
        ("slide the cube over the table to the red sphere", "the cube should end up at the red spot"),
    ),
    _task(
        "FetchSlide",
        False,
        (
            "slide the puck to the red ball",
            "hit the puck so that it stops at the red mark",
            "send the puck to the red ball",
        ),
        ("strike the disc towards the red sphere", "the disc should come to rest at the red spot"),
    ),
    _task(
        "FetchPickAndPlace",
        True,
        (
            "bring the block to the red ball",
            "pick up the block and hold it at the red mark",
            "take the block to the red ball",
        ),
        ("grab the cube and carry it to the red sphere", "hold the cube where the red spot is"),
    ),
)


def _world_of(task: SimulatedTask, seeing: Seeing, split: Split) -> MakeWorld:
    from envs.simulators.fetch_world import FetchWorld

    return partial(FetchWorld, task, seeing, split)


FETCH = SimulatorSuite(
    name=NAME,
    about="Gymnasium-Robotics' Fetch arm, whose goal is a red ball in the scene",
    extra="fetch",
    module="gymnasium_robotics",
    tasks=TASKS,
    world_of=_world_of,
)
