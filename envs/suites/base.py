"""What a suite is."""

from dataclasses import dataclass

from envs.tasks.base import Task


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Ten tasks that differ in one respect, which ``varies`` names; a task's id is ``<suite>/<task>``.

    Ids, layouts and horizons are fixed: results are comparable as long as the suite's name is the same. Demonstrations
    and evaluations are episodes of streams of their own, in phrasings of their own.
    """

    name: str
    varies: str
    tasks: tuple[Task, ...]

    def __post_init__(self) -> None:
        strangers = [task.name for task in self.tasks if not task.name.startswith(f"{self.name}/")]
        if strangers or len({task.name for task in self.tasks}) != len(self.tasks):
            raise ValueError(f"tasks of {self.name} need distinct names that begin with {self.name}/, got {strangers}")

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(task.name for task in self.tasks)
