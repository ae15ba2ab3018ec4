"""Other projects' simulators as suites of this stack; one is loaded when a world of it is made, and not before."""

from collections.abc import Sequence

from envs.choices import chosen
from envs.simulators.base import SimulatedTask, SimulatorSuite
from envs.simulators.fetch_tasks import FETCH
from envs.simulators.libero import LIBERO_SUITES, is_libero, libero_task_names
from envs.simulators.maniskill import find_maniskill_task, is_maniskill, maniskill_task_names
from envs.simulators.maniskill_task import NAME as MANISKILL
from envs.simulators.metaworld_tasks import METAWORLD_MT10, METAWORLD_MT50
from envs.simulators.robosuite_tasks import ROBOSUITE

SIMULATORS: dict[str, SimulatorSuite] = {
    suite.name: suite for suite in (ROBOSUITE, METAWORLD_MT10, METAWORLD_MT50, FETCH)
}
"""Those that run in this process."""
FOREIGN_SUITES = (*SIMULATORS, *LIBERO_SUITES, MANISKILL)
"""Those too that workers play in a Python of their own."""


def is_foreign(name: str) -> bool:
    """Whether ``name`` is a suite of another project, or SUITE/TASK of one."""
    return is_simulated(name) or is_worked(name)


def is_worked(name: str) -> bool:
    """Whether workers play it."""
    return is_libero(name) or is_maniskill(name)


def is_simulated(name: str) -> bool:
    """Whether it runs in this process."""
    return name.partition("/")[0] in SIMULATORS


def find_simulated(name: str) -> tuple[SimulatorSuite, SimulatedTask]:
    """The suite and task of SUITE/TASK; ``ValueError`` lists the tasks there are."""
    suite = chosen("suite", name.partition("/")[0], SIMULATORS)
    return suite, chosen("task", name, {task.name: task for task in suite.tasks})


def has_expert(name: str) -> bool:
    """Whether there is a demonstrator of a task, as its description says; of every task of ours there is."""
    if is_simulated(name):
        return find_simulated(name)[1].expert
    return find_maniskill_task(name).expert if is_maniskill(name) else not is_libero(name)


def foreign_names(names: Sequence[str]) -> tuple[str, ...]:
    """``names`` with every suite replaced by its tasks; ``ValueError`` for what there is not."""
    found: list[str] = []
    for name in names:
        if is_libero(name):
            found += libero_task_names([name])
        elif is_maniskill(name):
            found += maniskill_task_names([name])
        else:
            found += SIMULATORS[name].task_names if name in SIMULATORS else [find_simulated(name)[1].name]
    return tuple(dict.fromkeys(found))
