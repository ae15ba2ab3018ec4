"""Suites of ten tasks with fixed ids, and all tasks by name."""

from collections.abc import Sequence

from envs.choices import chosen
from envs.suites.base import Suite
from envs.suites.goals import GOAL
from envs.suites.long import LONG
from envs.suites.objects import OBJECT
from envs.suites.spatial import SPATIAL
from envs.tasks import ONE_WAY, TASKS, Task, make_task
from envs.tasks.mixture import Mixture

SUITES: dict[str, Suite] = {suite.name: suite for suite in (SPATIAL, OBJECT, GOAL, LONG)}


def make_suite(name: str) -> Suite:
    """The suite of that name; ``ValueError`` lists the suites there are."""
    return chosen("suite", name, SUITES)


def find_task(name: str) -> Task:
    """A task by its name, by its id in a suite, or several as one mixture (``reach+pick+tabletop-goal``).

    ``ValueError`` lists what there is.
    """
    if "+" in name:
        return Mixture([find_task(each) for each in task_names(name.split("+"))], name=name)
    suite, slash, _ = name.partition("/")
    if not slash:
        return make_task(name)
    return chosen("task", name, {task.name: task for task in make_suite(suite).tasks})


def task_names(names: Sequence[str]) -> tuple[str, ...]:
    """``names`` with every suite replaced by its tasks; ``ValueError`` for the first that is neither task nor suite."""
    found: list[str] = []
    for name in names:
        if name in SUITES:
            found += SUITES[name].task_names
        elif "/" in name or "+" in name or name in TASKS or name in ONE_WAY:
            found.append(find_task(name).name)
        else:
            known = ", ".join([*TASKS, *ONE_WAY, *SUITES])
            raise ValueError(f"unknown task or suite {name!r}; expected one of {known}")
    return tuple(dict.fromkeys(found))
