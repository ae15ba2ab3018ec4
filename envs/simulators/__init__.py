"""Other projects' simulators as suites of this stack; one is loaded when a world of it is made, and not before."""

from collections.abc import Sequence

from envs.choices import chosen
from envs.simulators.base import SimulatedTask, SimulatorSuite
from envs.simulators.metaworld_tasks import METAWORLD_MT10, METAWORLD_MT50
from envs.simulators.robosuite_tasks import ROBOSUITE

SIMULATORS: dict[str, SimulatorSuite] = {suite.name: suite for suite in (ROBOSUITE, METAWORLD_MT10, METAWORLD_MT50)}


def is_simulated(name: str) -> bool:
    """Whether ``name`` is one of these suites, or SUITE/TASK of one."""
    return name.partition("/")[0] in SIMULATORS


def find_simulated(name: str) -> tuple[SimulatorSuite, SimulatedTask]:
    """The suite and task of SUITE/TASK; ``ValueError`` lists the tasks there are."""
    suite = chosen("suite", name.partition("/")[0], SIMULATORS)
    return suite, chosen("task", name, {task.name: task for task in suite.tasks})


def simulated_names(names: Sequence[str]) -> tuple[str, ...]:
    """``names`` with every suite replaced by its tasks; ``ValueError`` for what there is not."""
    found: list[str] = []
    for name in names:
        found += SIMULATORS[name].task_names if name in SIMULATORS else [find_simulated(name)[1].name]
    return tuple(dict.fromkeys(found))
