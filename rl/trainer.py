"""Learning from reward as a run: killed anywhere, it ends as if it never was."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from policies.imitation.evaluating import Best
from policies.training.checkpoint import TrainingState
from policies.training.metrics import TIMINGS_FILE, read_metrics
from policies.training.run import Run, RunSummary, prepare_run
from rl.config import RLConfig
from rl.rewarded import RewardedLearner

Rewarded = TypeVar("Rewarded", bound=RewardedLearner)


@dataclass(frozen=True, kw_only=True)
class RLSummary(RunSummary):
    """What a run came to; ``last`` is what was reported of its last iterations, ``timings`` are medians over those that
    were reported; ``best`` is the best that an evaluation found.
    """

    last: dict[str, float]
    timings: dict[str, float]
    best: Best | None = None


def prepare(
    run_dir: Path,
    config: RLConfig,
    make_learner: Callable[[Sequence[int], TrainingState | None], Rewarded],
    *,
    resume: bool = False,
) -> Run[Rewarded]:
    """A run in ``run_dir``, ready to go on: see :func:`policies.training.run.prepare_run`.

    What ``make_learner`` gives for a state to go on from must have the policy in ``run_dir``, whose frozen parts the
    state lacks.
    """
    return prepare_run(run_dir, config, make_learner, resume=resume)


def finish(run: Run[Rewarded], show_progress: bool = True) -> RLSummary:
    """Take the iterations that are left: see :meth:`policies.training.run.Run.finish`."""
    try:
        summary: Any = run.finish(show_progress)
    finally:
        run.learner.close()
    leads = run.learner.group.leads
    last = read_metrics(run.run_dir)[-1] if leads else {}
    timings = _medians(read_metrics(run.run_dir, TIMINGS_FILE)) if leads else {}
    return RLSummary(**vars(summary), last=last, timings=timings, best=run.learner.best)


def _medians(lines: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for line in lines for name in line if name != "step")
    return {name: statistics.median(line.get(name, 0.0) for line in lines) for name in names}
