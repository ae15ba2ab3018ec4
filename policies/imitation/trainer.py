"""Imitation: fit a VLA to demonstrations, so that a run killed anywhere ends as if it never was."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from policies.device import resolve_device
from policies.imitation.checkpoint import (
    CHECKPOINTS,
    checkpoint_path,
    checkpoints,
    clear_leftovers,
    load_newest,
    save_checkpoint,
)
from policies.imitation.config import TrainConfig
from policies.imitation.demonstrations import embodiment_of
from policies.imitation.learner import Learner
from policies.imitation.metrics import MetricsLog, RunningMean, read_metrics
from policies.imitation.run_state import capture, legs_to, restore
from policies.imitation.starting import load_start
from policies.progress import progress_bar
from vla.config import VLAConfig


@dataclass(frozen=True, kw_only=True)
class TrainSummary:
    """What a run came to. ``loss`` is the mean over the last report; times are of this process alone."""

    steps: int
    resumed_from: int
    loss: float
    parameters: int
    episodes: int
    frames: int
    wall_s: float
    steps_per_s: float
    checkpoint: Path


def train(
    run_dir: Path,
    config: TrainConfig,
    vla_config: VLAConfig,
    datasets: Sequence[Path],
    *,
    resume: bool = False,
    init_from: Path | None = None,
    show_progress: bool = True,
) -> TrainSummary:
    """Train to ``config.steps`` in ``run_dir``: see :func:`prepare` and :meth:`Run.finish`."""
    return prepare(run_dir, config, vla_config, datasets, resume=resume, init_from=init_from).finish(show_progress)


def prepare(
    run_dir: Path,
    config: TrainConfig,
    vla_config: VLAConfig,
    datasets: Sequence[Path],
    *,
    resume: bool = False,
    init_from: Path | None = None,
) -> "Run":
    """A run in ``run_dir``, ready to go on from its newest whole checkpoint with ``resume``, else from the start.

    The start is fresh weights, or those of the policy in ``init_from`` with its normalisation. A finished run that is
    resumed with more steps is lengthened. Raises ``ValueError`` where settings, data and machine do not fit together,
    ``FileExistsError`` where checkpoints are in the way, ``CheckpointError`` where they are of other settings or data.
    """
    resolve_device(config.device)
    root = run_dir / CHECKPOINTS
    if not resume and checkpoints(root):
        raise FileExistsError(f"{root} holds checkpoints already; resume the run, or choose another directory")
    if config.threads:
        torch.set_num_threads(config.threads)
    state = load_newest(root) if resume else None
    legs = legs_to(config.steps, state)
    start = None
    if init_from is not None and state is None:
        start = load_start(init_from, vla_config, embodiment_of(datasets))
    learner = Learner(config, vla_config, datasets, legs=legs, start=start)
    if state is not None:
        restore(learner, state)
    root.mkdir(parents=True, exist_ok=True)
    clear_leftovers(root)
    running = RunningMean(state.progress["running"] if state else None)
    return Run(run_dir, learner, running, state.step if state else 0)


class Run:
    """A run that stands before 0-based step ``start``."""

    def __init__(self, run_dir: Path, learner: Learner, running: RunningMean, start: int) -> None:
        self.run_dir, self.learner, self.start = run_dir, learner, start
        self._running = running
        self._root = run_dir / CHECKPOINTS

    def finish(self, show_progress: bool = True) -> TrainSummary:
        """Take the steps that are left; leaves ``checkpoints/``, ``metrics.jsonl`` and ``tensorboard/``.

        Raises ``NonFiniteLossError``, upon which the last checkpoint stays as it is.
        """
        learner, steps = self.learner, self.learner.config.steps
        began = time.perf_counter()
        metrics = MetricsLog(self.run_dir, self.start)
        try:
            self._take_steps(metrics, show_progress)
        finally:
            metrics.close()
        wall_s = time.perf_counter() - began
        return TrainSummary(
            steps=steps,
            resumed_from=self.start,
            loss=read_metrics(self.run_dir)[-1]["loss"],
            parameters=sum(parameter.numel() for parameter in learner.vla.parameters()),
            episodes=learner.demonstrations.num_episodes,
            frames=len(learner.demonstrations),
            wall_s=wall_s,
            steps_per_s=(steps - self.start) / wall_s,
            checkpoint=checkpoint_path(self._root, steps),
        )

    def _take_steps(self, metrics: MetricsLog, show_progress: bool) -> None:
        learner, config = self.learner, self.learner.config
        began = reported = time.perf_counter()
        with progress_bar(show_progress) as progress:
            bar = progress.add_task("train", total=config.steps, completed=self.start, note="")
            for step in range(self.start, config.steps):
                self._running.add(learner.step(step))
                done = step + 1
                progress.update(bar, completed=done)
                if done % config.log_every == 0 or done == config.steps:
                    means, now = self._running.take(), time.perf_counter()
                    rate = (done - self.start) / (now - began)
                    metrics.report(done, means, {"steps_per_s": rate, "report_interval_s": now - reported})
                    reported = now
                    progress.update(bar, note=f"loss {means['loss']:.4f} · {rate:.1f} steps/s")
                if done % config.save_every == 0 or done == config.steps:
                    metrics.sync()
                    state = capture(learner, done, self._running)
                    save_checkpoint(self._root, state, learner.save_policy, config.keep_last)
