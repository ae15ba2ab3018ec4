"""Learning tasks one after the other: a run of imitation whose data, schedule and parameters change with the task."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from policies.data.windows import WindowConfig
from policies.imitation.config import TrainConfig
from policies.imitation.demonstrations import Demonstrations
from policies.imitation.evaluating import Evaluator, report_of
from policies.imitation.learner import ImitationLearner
from policies.imitation.lifelong.config import LifelongConfig
from policies.imitation.lifelong.drawing import TaskFrames, check_tasks
from policies.imitation.lifelong.methods import end_task, equip, learning_alone, plain, soft_threshold, threshold
from policies.imitation.stages import Stage
from policies.imitation.validation import held_out
from policies.training.schedule import Span, lay_out
from policies.training.seeding import Draw, random_state_kept, seed_everything
from policies.vla_policy import VLAPolicy
from vla.adapters.low_rank import updated
from vla.base import Base
from vla.config import VLAConfig
from vla.model import VLA


class LifelongLearner(ImitationLearner):
    """Learns the tasks of ``lifelong`` in their order, each in its share of the run's steps.

    Between two tasks the averaged weights become the weights, what the method adds becomes a part of them
    (:func:`policies.imitation.lifelong.methods.end_task`), and optimiser and average start anew; all of it follows from
    the weights and the step, so a run that is killed anywhere goes on exactly. ``trials`` are what the ``evaluator``
    found before the first task and after each. A saved policy has updates in its weights, but for those of a pool.

    ``ValueError`` as :class:`ImitationLearner`, and where tasks have no demonstrations, steps are fewer than tasks or a
    finished run is to be lengthened.
    """

    def __init__(
        self,
        config: TrainConfig,
        vla_config: VLAConfig,
        datasets: Sequence[Path],
        lifelong: LifelongConfig,
        *,
        legs: Sequence[int] = (),
        start: VLAPolicy | Base | None = None,
        evaluator: Evaluator | None = None,
    ) -> None:
        if len(legs) > 1:
            raise ValueError(
                f"a sequence of tasks is not lengthened, got legs {list(legs)}: teach further tasks from its policy "
                "(--init-from RUN)"
            )
        if config.shard:
            raise ValueError("a network that learns tasks one after the other is not shared out: set train.shard to no")
        self.lifelong, self.ends = lifelong, lifelong.ends(config.steps)
        self.trials: list[dict[str, list[bool]]] = []
        self._tries, self._task = evaluator, -1
        super().__init__(config, vla_config, datasets, legs=legs, start=start)
        self._drawing = TaskFrames(self.demonstrations, lifelong.tasks, lifelong.replay)

    def task_at(self, step: int) -> tuple[int, int]:
        """The number of the task that 0-based ``step`` is of, and its first step."""
        task = int(np.searchsorted(self.ends, step, side="right"))
        return task, self.ends[task - 1] if task else 0

    def step(self, step: int) -> dict[str, float]:
        task, first = self.task_at(step)
        if step == 0 and self.group.leads:
            self._try_out()
        if step == first and task:
            self._turn(step)
        self.average.first = first
        with self._chosen_by_all():
            found = super().step(step)
        if self.lifelong.method == "codyra":
            end = self.ends[task]
            self._shrink(threshold(step - first, end - first, self.lifelong.shrink))
        return found

    def examine(self, done: int) -> dict[str, float]:
        found = super().examine(done)
        if done in self.ends:
            found |= self._try_out()
        return found

    def settings(self) -> dict[str, Any]:
        decisive = asdict(self.lifelong)
        del decisive["episodes"]
        decisive["tasks"] = list(self.lifelong.tasks)
        return {**super().settings(), "lifelong": decisive}

    def memory(self) -> dict[str, Any]:
        return {**super().memory(), "trials": self.trials}

    def recall(self, memory: Mapping[str, Any]) -> None:
        super().recall(memory)
        self.trials = memory["trials"]

    def _network(self, vla_config: VLAConfig) -> VLA:
        vla = super()._network(vla_config)
        equip(vla, self.lifelong)
        return vla

    def _lay_out(self, stages: Sequence[Stage]) -> tuple[Span[Stage], ...]:
        taught = [learning_alone(stage, self.vla, self.lifelong) for stage in stages]
        if not self.lifelong.rewarm:
            return lay_out(taught, self.legs)
        warmup = max(1, round(self.lifelong.rewarm * self.ends[0]))
        return lay_out([replace(stage, warmup_steps=warmup) for stage in taught], self.ends)

    def _measured(self) -> Demonstrations:
        """The first task's: what comes later is not known yet when the numbers' scale is set."""
        first, share = self.lifelong.tasks[0], self.config.validation_share
        check_tasks(self.lifelong.tasks, self.demonstrations.tasks)
        return Demonstrations(
            [dataset.path for dataset in self.demonstrations.datasets],
            WindowConfig(horizon=self.vla.config.horizon, cameras=self.vla.config.cameras, cache="disk"),
            failures=self.config.failures,
            keep=lambda record: record.task == first and not held_out(record, share),
        )

    def check_scale(self) -> None:
        """``ValueError`` where the first task, whose numbers say how actions are scaled, holds some still that later
        ones move: no policy of that scale could move them.
        """
        of_all, names = self.demonstrations.statistics().action, self.demonstrations.embodiment.action
        lost = self.normalization.action.constant & (torch.tensor(of_all.max) > torch.tensor(of_all.min))
        if lost := [names[index].name for index in lost.nonzero()[:, 0].tolist()]:
            raise ValueError(
                f"{self.lifelong.tasks[0]}, by whose numbers actions are scaled, never moves {', '.join(lost)}, which "
                "other tasks of the sequence do: begin with another task, or from a policy (--init-from)"
            )

    @contextmanager
    def _chosen_by_all(self) -> Iterator[None]:
        """What the words of one process's rows choose of a pool inside counts in all of them."""
        pool = self.vla.pool
        if pool is None or self.group.size == 1:
            yield
            return
        present = pool.get_buffer("present")
        before = present.clone()
        yield
        present.copy_(before + self.group.total(present - before))

    def _draw(self, step: int, stage: Stage) -> Int[np.ndarray, " b"]:
        task, first = self.task_at(step)
        size = self.config.batch_size
        return self._drawing.draw(self.config.seed, step - first, size, task=task, frames=stage.frames)

    @contextmanager
    def _averaged(self) -> Iterator[VLAPolicy]:
        with super()._averaged() as policy, plain(self.vla):
            yield policy

    def _turn(self, step: int) -> None:
        """End the task that the steps before ``step`` were of."""
        self.average.adopt()
        seed_everything(self.config.seed, step, Draw.INITIAL_WEIGHTS)
        end_task(self.vla, self.lifelong)
        self.average.start_anew()
        self.optimizer.state.clear()

    @torch.no_grad()
    def _shrink(self, by: float) -> None:
        """The proximal step of importances. What has come to nothing is nothing on average, too."""
        for name, layer in updated(self.vla).items():
            weights = layer.importance
            assert weights is not None
            weights.copy_(soft_threshold(weights, by))
            self.average.values[f"{name}.importance"].masked_fill_(weights == 0, 0.0)

    def _try_out(self) -> dict[str, float]:
        if self._tries is None:
            return {}
        with random_state_kept(self.device), self._averaged() as policy:
            outcomes = {task: [bool(won) for won in each] for task, each in self._tries.outcomes(policy).items()}
        self.trials.append(outcomes)
        return report_of(outcomes)
