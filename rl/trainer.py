"""Learning from reward as a run: killed anywhere, it ends as if it never was."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.training.checkpoint import TrainingState
from policies.training.metrics import read_metrics
from policies.training.run import Run, RunSummary, prepare_run
from rl.config import RLConfig
from rl.learner import RLLearner


@dataclass(frozen=True, kw_only=True)
class RLSummary(RunSummary):
    """What a run came to; ``last`` is what was reported of its last iterations, ``timings`` are of the last one."""

    last: dict[str, float]
    timings: dict[str, float]


def prepare(
    run_dir: Path,
    config: RLConfig,
    make_learner: Callable[[Sequence[int], TrainingState | None], RLLearner],
    *,
    resume: bool = False,
) -> Run[RLLearner]:
    """A run in ``run_dir``, ready to go on: see :func:`policies.training.run.prepare_run`.

    What ``make_learner`` gives for a state to go on from must have the policy in ``run_dir``, whose frozen parts the
    state lacks.
    """
    return prepare_run(run_dir, config, make_learner, resume=resume)


def finish(run: Run[RLLearner], show_progress: bool = True) -> RLSummary:
    """Take the iterations that are left: see :meth:`policies.training.run.Run.finish`."""
    summary: Any = run.finish(show_progress)
    last = read_metrics(run.run_dir)[-1] if run.learner.group.leads else {}
    return RLSummary(**vars(summary), last=last, timings=run.learner.timings())
