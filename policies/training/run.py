"""The loop of every training, so that a run killed anywhere ends as if it never was."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from policies.device import resolve_device
from policies.progress import progress_bar
from policies.training.checkpoint import (
    CHECKPOINTS,
    TrainingState,
    checkpoint_path,
    checkpoints,
    clear_leftovers,
    load_newest,
    save_checkpoint,
)
from policies.training.learner import Learner, RunSettings
from policies.training.metrics import MetricsLog, RunningMean, read_metrics
from policies.training.run_state import capture, legs_to, restore

L = TypeVar("L", bound=Learner[Any])


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What a run came to. ``loss`` is the mean over the last report; times are of this process alone."""

    steps: int
    resumed_from: int
    loss: float
    parameters: int
    wall_s: float
    steps_per_s: float
    checkpoint: Path


def prepare_run(
    run_dir: Path,
    config: RunSettings,
    make_learner: Callable[[Sequence[int], TrainingState | None], L],
    *,
    resume: bool,
) -> "Run[L]":
    """A run in ``run_dir``, ready to go on from its newest whole checkpoint with ``resume``, else from the start.

    ``make_learner`` is given the run's legs and the state that it goes on from, if any, to which the learner is then
    put back. A finished run that is resumed with more steps is lengthened. Raises ``ValueError`` where settings and
    machine do not fit together, ``FileExistsError`` where checkpoints are in the way, ``CheckpointError`` where they
    are of other settings or data.
    """
    resolve_device(config.device)
    root = run_dir / CHECKPOINTS
    if not resume and checkpoints(root):
        raise FileExistsError(f"{root} holds checkpoints already; resume the run, or choose another directory")
    if config.threads:
        torch.set_num_threads(config.threads)
    state = load_newest(root) if resume else None
    learner = make_learner(legs_to(config.steps, state), state)
    if state is not None:
        restore(learner, state)
    root.mkdir(parents=True, exist_ok=True)
    clear_leftovers(root)
    running = RunningMean(state.progress["running"] if state else None)
    return Run(run_dir, learner, running, state.step if state else 0)


class Run(Generic[L]):
    """A run that stands before 0-based step ``start``."""

    def __init__(self, run_dir: Path, learner: L, running: RunningMean, start: int) -> None:
        self.run_dir, self.learner, self.start = run_dir, learner, start
        self._config = learner.config
        self._running = running
        self._root = run_dir / CHECKPOINTS

    def finish(self, show_progress: bool = True) -> RunSummary:
        """Take the steps that are left; leaves ``checkpoints/``, ``metrics.jsonl`` and ``tensorboard/``.

        Raises ``NonFiniteLossError``, upon which the last checkpoint stays as it is.
        """
        steps = self._config.steps
        began = time.perf_counter()
        metrics = MetricsLog(self.run_dir, self.start)
        try:
            self._take_steps(metrics, show_progress)
        finally:
            metrics.close()
        wall_s = time.perf_counter() - began
        return RunSummary(
            steps=steps,
            resumed_from=self.start,
            loss=read_metrics(self.run_dir)[-1]["loss"],
            parameters=sum(parameter.numel() for parameter in self.learner.model.parameters()),
            wall_s=wall_s,
            steps_per_s=(steps - self.start) / wall_s,
            checkpoint=checkpoint_path(self._root, steps),
        )

    def _take_steps(self, metrics: MetricsLog, show_progress: bool) -> None:
        learner, config = self.learner, self._config
        began = reported = time.perf_counter()
        with progress_bar(show_progress) as progress:
            bar = progress.add_task("train", total=config.steps, completed=self.start, note="")
            for step in range(self.start, config.steps):
                self._running.add(learner.step(step))
                done = step + 1
                progress.update(bar, completed=done)
                if found := learner.examine(done):
                    metrics.report(done, found, {})
                if done % config.log_every == 0 or done == config.steps:
                    means, now = self._running.take(), time.perf_counter()
                    rate = (done - self.start) / (now - began)
                    metrics.report(done, means, {"steps_per_s": rate, "report_interval_s": now - reported})
                    reported = now
                    progress.update(bar, note=f"loss {means['loss']:.4f} · {rate:.1f} steps/s")
                if done % config.save_every == 0 or done in (config.steps, learner.best_step):
                    metrics.sync()
                    state, best = capture(learner, done, self._running), learner.best_step
                    save_checkpoint(self._root, state, learner.product, learner.save, config.keep_last, best)
