"""Pre-training: a backbone learns to look, so that a run killed anywhere ends as if it never was."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from policies.pretraining.config import PretrainConfig
from policies.pretraining.learner import LookingLearner
from policies.pretraining.scenes import Scenes
from policies.training.checkpoint import TrainingState
from policies.training.run import Run, RunSummary, prepare_run
from vla.config import BackboneConfig


@dataclass(frozen=True, kw_only=True)
class PretrainSummary(RunSummary):
    """What a run came to, and how well it looks at scenes that were held out; ``backbone`` is the result's folder."""

    held_out: dict[str, float]
    backbone: Path


def pretrain(
    run_dir: Path,
    config: PretrainConfig,
    backbone: BackboneConfig,
    scenes: Scenes,
    *,
    resume: bool = False,
    show_progress: bool = True,
) -> PretrainSummary:
    """Train to ``config.steps`` in ``run_dir``: see :func:`prepare` and :func:`finish`."""
    return finish(prepare(run_dir, config, backbone, scenes, resume=resume), show_progress)


def prepare(
    run_dir: Path, config: PretrainConfig, backbone: BackboneConfig, scenes: Scenes, *, resume: bool = False
) -> Run[LookingLearner]:
    """A run in ``run_dir``, ready to go on: see :func:`policies.training.run.prepare_run`."""

    def make(legs: Sequence[int], _: TrainingState | None) -> LookingLearner:
        return LookingLearner(config, backbone, scenes, legs=legs)

    return prepare_run(run_dir, config, make, resume=resume)


def finish(run: Run[LookingLearner], show_progress: bool = True) -> PretrainSummary:
    """Take the steps that are left: see :meth:`policies.training.run.Run.finish`."""
    summary = run.finish(show_progress)
    learner = run.learner
    return PretrainSummary(**vars(summary), held_out=learner.held_out, backbone=summary.checkpoint / learner.product)
