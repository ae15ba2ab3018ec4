"""Pre-training: a backbone learns from scenes, so that a run killed anywhere ends as if it never was."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from policies.pretraining.config import PretrainConfig
from policies.pretraining.learner import PretrainLearner
from policies.pretraining.lessons import take_lessons
from policies.pretraining.scenes import Scenes
from policies.training.checkpoint import BACKBONE, TrainingState, find_product
from policies.training.run import Run, RunSummary, prepare_run
from vla.base import Base, load_base
from vla.config import BackboneConfig
from vla.saving import WEIGHTS_FILE
from vla.sentence_encoder import SentenceEncoder


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """A sentence encoder's folder or hub id, ``sentences`` that it teaches beside those of the scenes, and the folder
    that keeps its vectors, by default the run's.
    """

    teacher: Path
    sentences: tuple[str, ...] = ()
    keep: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Before:
    """Runs of a pre-training, or backbones in them: whose weights to ``start`` from, by default fresh ones; and the
    same network after it has learned ``further``, whose features are to be kept.
    """

    start: Path | None = None
    further: Path | None = None

    def load(self, *, resume: bool) -> dict[str, Base]:
        """What there is of the two; a run that goes on needs no start. ``CheckpointError`` where one is not there."""
        named = {"start": None if resume else self.start, "further": self.further}
        there = {name: path for name, path in named.items() if path is not None}
        return {name: load_base(find_product(path, BACKBONE, WEIGHTS_FILE)) for name, path in there.items()}


NOTHING_BEFORE = Before()


@dataclass(frozen=True, kw_only=True)
class PretrainSummary(RunSummary):
    """What a run came to, and how well it does on scenes that were held out; ``backbone`` is the result's folder."""

    held_out: dict[str, float]
    backbone: Path


def pretrain(
    run_dir: Path,
    config: PretrainConfig,
    backbone: BackboneConfig,
    scenes: Scenes,
    teaching: Teaching | None = None,
    *,
    before: Before = NOTHING_BEFORE,
    resume: bool = False,
    show_progress: bool = True,
) -> PretrainSummary:
    """Train to ``config.steps`` in ``run_dir``: see :func:`prepare` and :func:`finish`."""
    run = prepare(
        run_dir, config, backbone, scenes, teaching, before=before, resume=resume, show_progress=show_progress
    )
    return finish(run, show_progress)


def prepare(
    run_dir: Path,
    config: PretrainConfig,
    backbone: BackboneConfig,
    scenes: Scenes,
    teaching: Teaching | None = None,
    *,
    before: Before = NOTHING_BEFORE,
    resume: bool = False,
    show_progress: bool = True,
) -> Run[PretrainLearner]:
    """A run in ``run_dir``, ready to go on: see :func:`policies.training.run.prepare_run`.

    With ``teaching`` its lessons are taken first. ``ValueError`` for a teacher without a weight, and for weights and
    networks ``before`` that do not fit.
    """
    if bool(config.weights.features) != (before.further is not None):
        raise ValueError(
            "features to keep need a weight above 0 and a network that has learned further, "
            f"got weights.features {config.weights.features} and {before.further}"
        )
    taught = None
    if teaching is not None:
        if not config.weights.teacher:
            raise ValueError(f"a teacher needs a weight above 0, got {teaching.teacher} and weights.teacher 0")
        encoder, folder = SentenceEncoder(teaching.teacher), teaching.keep or run_dir
        taught = take_lessons(encoder, scenes, config.corpus, teaching.sentences, folder, show_progress)

    def make(legs: Sequence[int], state: TrainingState | None) -> PretrainLearner:
        given = before.load(resume=state is not None)
        return PretrainLearner(config, backbone, scenes, taught, legs=legs, **given)

    return prepare_run(run_dir, config, make, resume=resume)


def finish(run: Run[PretrainLearner], show_progress: bool = True) -> PretrainSummary:
    """Take the steps that are left: see :meth:`policies.training.run.Run.finish`."""
    summary = run.finish(show_progress)
    learner = run.learner
    return PretrainSummary(**vars(summary), held_out=learner.held_out, backbone=summary.checkpoint / learner.product)
