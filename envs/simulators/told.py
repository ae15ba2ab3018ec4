"""What worlds of tasks with phrasings of ours have in common: whose episode it is, and in which words."""

from envs.language import Split
from envs.simulators.base import SimulatedTask, phrase
from envs.specs import Stream


class ToldWorld:
    """Is told an episode's instruction, one of the phrasings of ``task`` and ``split``, when it begins."""

    def __init__(self, task: SimulatedTask, split: Split) -> None:
        self._task: SimulatedTask = task
        self._split: Split = split
        self.task_name, self.max_episode_steps = task.name, task.max_episode_steps
        self._stream: Stream = "demonstrate"
        self._seed, self._instruction = -1, ""

    @property
    def instruction(self) -> str:
        return self._instruction

    @property
    def goal(self) -> str:
        return self._task.goal

    def _begin(self, stream: Stream, seed: int) -> None:
        self._stream, self._seed = stream, seed
        self._instruction = phrase(self._task, self._split, stream, seed)
