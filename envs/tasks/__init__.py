"""All tasks by name."""

from envs.choices import chosen
from envs.tasks.base import Task
from envs.tasks.both_ways import ONE_WAY
from envs.tasks.button import Button
from envs.tasks.door import Door
from envs.tasks.drawer import Drawer
from envs.tasks.peg import Peg
from envs.tasks.pick import Pick
from envs.tasks.place import Place
from envs.tasks.press_times import PressTimes
from envs.tasks.push import Push
from envs.tasks.push_t import PushT
from envs.tasks.reach import Reach
from envs.tasks.recall import Recall
from envs.tasks.reorient import Reorient
from envs.tasks.slide import Slide
from envs.tasks.sort import Sort
from envs.tasks.stack import Stack
from envs.tasks.stow import Stow

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        Reach,
        Pick,
        Place,
        Push,
        Slide,
        PushT,
        Drawer,
        Button,
        Door,
        Stow,
        Stack,
        Sort,
        Peg,
        Reorient,
        Recall,
        PressTimes,
    )
}


def make_task(name: str) -> Task:
    """The task of that name, or that of one direction alone; ``ValueError`` lists the names there are."""
    return chosen("task", name, {**TASKS, **ONE_WAY})()
