"""Imitation: fit a VLA to demonstrations, so that a run killed anywhere ends as if it never was."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from policies.imitation.config import TrainConfig
from policies.imitation.demonstrations import embodiment_of
from policies.imitation.evaluating import Best, Evaluator
from policies.imitation.learner import ImitationLearner
from policies.imitation.lifelong.config import LifelongConfig
from policies.imitation.lifelong.learner import LifelongLearner
from policies.imitation.lifelong.measures import Trial
from policies.imitation.starting import Start
from policies.training.checkpoint import TrainingState
from policies.training.run import Run, RunSummary, prepare_run
from policies.vla_policy import VLAPolicy
from vla.config import VLAConfig

log = logging.getLogger(__name__)

AS_CONFIGURED = Start()
ALL_AT_ONCE = LifelongConfig()
"""No sequence of tasks."""


@dataclass(frozen=True, kw_only=True)
class TrainSummary(RunSummary):
    """What a run came to, and on how much it learned; ``held_out`` counts the episodes that it did not learn from.

    ``trials`` are what was tried before the first task of a sequence and after each.
    """

    episodes: int
    frames: int
    held_out: int = 0
    best: Best | None = None
    trials: Sequence[Trial] = ()


def train(
    run_dir: Path,
    config: TrainConfig,
    vla_config: VLAConfig,
    datasets: Sequence[Path],
    *,
    resume: bool = False,
    start: Start = AS_CONFIGURED,
    evaluator: Evaluator | None = None,
    lifelong: LifelongConfig = ALL_AT_ONCE,
    show_progress: bool = True,
) -> TrainSummary:
    """Train to ``config.steps`` in ``run_dir``: see :func:`prepare` and :func:`finish`."""
    run = prepare(
        run_dir, config, vla_config, datasets, resume=resume, start=start, evaluator=evaluator, lifelong=lifelong
    )
    return finish(run, show_progress)


def prepare(
    run_dir: Path,
    config: TrainConfig,
    vla_config: VLAConfig,
    datasets: Sequence[Path],
    *,
    resume: bool = False,
    start: Start = AS_CONFIGURED,
    evaluator: Evaluator | None = None,
    lifelong: LifelongConfig = ALL_AT_ONCE,
) -> Run[ImitationLearner]:
    """A run in ``run_dir``, ready to go on: see :func:`policies.training.run.prepare_run`.

    It starts from the weights of ``start``, where a whole policy brings its normalisation, or from those that the
    backbone's config names. A run that goes on needs neither any more, and may have another ``evaluator``.
    With tasks in ``lifelong`` they are learned one after the other, and the evaluator tries out after each.
    ``ValueError`` also where data or start do not fit.
    """
    make_learner = partial(LifelongLearner, lifelong=lifelong) if lifelong else ImitationLearner

    def make(legs: Sequence[int], state: TrainingState | None) -> ImitationLearner:
        network, given = vla_config, None
        if state is None:
            given = start.load(vla_config, embodiment_of(datasets))
        else:
            network = replace(vla_config, backbone=vla_config.backbone.fresh)
        learner = make_learner(config, network, datasets, legs=legs, start=given, evaluator=evaluator)
        if state is None and not isinstance(given, VLAPolicy):
            if isinstance(learner, LifelongLearner):
                learner.check_scale()
            if parts := learner.drawn_and_frozen():
                log.warning("drawn at random and frozen in every stage: %s", ", ".join(sorted(parts)))
        return learner

    return prepare_run(run_dir, config, make, resume=resume)


def finish(run: Run[ImitationLearner], show_progress: bool = True) -> TrainSummary:
    """Take the steps that are left: see :meth:`policies.training.run.Run.finish`."""
    summary = run.finish(show_progress)
    learner = run.learner
    return TrainSummary(
        **vars(summary),
        episodes=learner.demonstrations.num_episodes,
        frames=len(learner.demonstrations),
        held_out=0 if learner.validation is None else learner.validation.episodes,
        best=learner.best,
        trials=learner.trials if isinstance(learner, LifelongLearner) else (),
    )
