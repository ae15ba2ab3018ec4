"""Trying a policy out in simulation while it learns."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from configs.environments import episode_seeds, expand_tasks, make_env, seen_as
from configs.training import Config, EvaluateConfig
from configs.worlds import EnvConfig
from envs.simulators.libero import is_libero
from envs.specs import EmbodimentSpec, Stream

if TYPE_CHECKING:
    from configs.environments import AnyEnv
    from policies.policy import Policy

SELECTION_SEEDS = 1_000_000_000
"""The first seed, of the stream evaluate, of the episodes that a policy is tried out on while it learns. In the end it
is measured on seeds from 0 on: nobody chooses a checkpoint by the episodes that it is judged by. In LIBERO, where seeds
far apart may begin in one state, they are of another stream."""


class SimulationEvaluator:
    """Fulfils ``policies.imitation.evaluating.Evaluator`` with simulated worlds of ``tasks`` for the robot.

    For one without cameras nothing is drawn, and it sees what the simulator knows.
    """

    def __init__(self, config: EvaluateConfig, embodiment: EmbodimentSpec, tasks: Sequence[str]) -> None:
        """``ValueError`` for a task that there is not, and for worlds whose cameras the policy does not expect."""
        self._config, self._embodiment = config, embodiment
        self._tasks = expand_tasks(tasks)
        self._seeds = episode_seeds(config.episodes, SELECTION_SEEDS)
        self._sees = bool(embodiment.cameras)
        self._env: EnvConfig = seen_as(embodiment, config.env) if self._sees else config.env

    @property
    def every(self) -> int:
        return self._config.every

    @property
    def about(self) -> str:
        """Tasks, episodes, phrasings, and what else the outcomes depend on."""
        words = [", ".join(self._tasks), f"{len(self._seeds)} episodes each", f"{self._config.split} phrasings"]
        words += ["LIBERO's scenes drawn anew"] if any(map(is_libero, self._tasks)) else []
        return "; ".join(words + ([self._env.perturbation] if self._env.perturbation else []))

    def check(self) -> None:
        """Make each task's world once; ``ValueError`` where the robot there is another one."""
        from policies.evaluation import check_robot

        for task in self._tasks:
            env = self._make(task, 1)
            try:
                check_robot(self._embodiment, env)
            except ValueError as error:
                raise ValueError(
                    f"the policy cannot be evaluated on {task} in the worlds of evaluate.env: {error}"
                ) from error
            finally:
                env.close()

    def outcomes(self, policy: "Policy") -> Mapping[str, Sequence[bool]]:
        from policies.evaluation import evaluate

        won: dict[str, Sequence[bool]] = {}
        for task in self._tasks:
            env = self._make(task, min(self._config.num_envs, len(self._seeds)))
            try:
                won[task] = evaluate(env, policy, self._seeds, show_progress=False).outcomes
            finally:
                env.close()
        return won

    def _make(self, task: str, num_envs: int) -> "AnyEnv":
        return make_env(
            task,
            num_envs,
            stream=_stream_of(task),
            split=self._config.split,
            config=self._env,
            render=self._sees,
            privileged=not self._sees,
        )


def _stream_of(task: str) -> Stream:
    """Of which stream the seeds are: LIBERO has but 50 states for *evaluate*, whatever the seeds, by all of which it is
    judged; in other streams each seed draws a scene of its own.
    """
    return "learn" if is_libero(task) else "evaluate"


def evaluator_of(config: Config) -> SimulationEvaluator | None:
    """What a run's policy is tried out with, if with anything: on the data's tasks unless the config says others, or on
    those of a sequence.
    """
    from policies.imitation.demonstrations import embodiment_of

    if config.lifelong:
        episodes = config.lifelong.episodes
        settings = replace(config.evaluate, episodes=max(1, episodes))
        robot = embodiment_of(config.data)
        return SimulationEvaluator(settings, robot, config.lifelong.tasks) if episodes else None
    if not config.evaluate.every:
        return None
    from policies.data.dataset import DemonstrationDataset

    datasets = [DemonstrationDataset(path) for path in config.data]
    tasks = dict.fromkeys(record.task for dataset in datasets for record in dataset.records)
    return evaluator_for(config.evaluate, datasets[0].embodiment, tuple(tasks))


def evaluator_for(
    config: EvaluateConfig, embodiment: EmbodimentSpec, tasks: Sequence[str]
) -> SimulationEvaluator | None:
    """What a policy for ``embodiment`` that learns ``tasks`` is tried out with, if with anything."""
    return SimulationEvaluator(config, embodiment, config.tasks or tasks) if config.every else None
