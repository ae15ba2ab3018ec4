"""From an instruction to what is to be seen when it is done, for what compares pictures with words."""

from collections.abc import Callable, Sequence
from string import Formatter


def goal_describer(tasks: Sequence[str]) -> Callable[[str], str]:
    """A function that says of an instruction of one of ``tasks`` what its task shows when it is done.

    ``pick up the red cube`` becomes ``the gripper holds the red cube above the table``. An instruction that no task
    puts so stays as it is. ``ValueError`` names an unknown task.
    """
    from envs.suites import find_task

    known = [task for name in tasks for each in name.split("+") if (task := find_task(each)).achieved]

    def describe(instruction: str) -> str:
        readings = [(task.achieved, task.phrasings.read(instruction)) for task in known]
        fitting = [
            (len("".join(roles.values())), achieved.format(**roles))
            for achieved, roles in readings
            if roles is not None and _roles(achieved) <= roles.keys()
        ]
        return min(fitting)[1] if fitting else instruction

    return describe


def _roles(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name}
