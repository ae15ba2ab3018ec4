"""The loop of every training, so that a run killed anywhere ends as if it never was."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from policies.data.differences import differences
from policies.progress import progress_bar
from policies.training.checkpoint import (
    CHECKPOINTS,
    TrainingState,
    checkpoint_path,
    checkpoints,
    clear_leftovers,
    load_newest,
    save_checkpoint,
    settle,
)
from policies.training.group import Group
from policies.training.learner import Learner, RunSettings
from policies.training.metrics import MetricsLog, RunningMean, read_metrics
from policies.training.run_state import capture, legs_to, restore
from vla.durable import clear_asides

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


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Numbers below 10⁻³⁸ are 0 inside: a few gradients fade to such, and processors are slow with them.

    That is a setting of the thread, and of those that it starts.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


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

    In a group of processes (:class:`policies.training.group.Group`) each of them prepares the run and finishes it; only
    the leading one reads and writes ``run_dir``. They must agree on settings, data and weights.
    """
    group = Group.here()
    if config.processes not in (1, group.size):
        raise ValueError(
            f"the settings say {config.processes} processes, and there are {group.size}: start them with "
            "policies.training.processes, or with torchrun and without a number in the settings"
        )
    group.device(config.device)
    if threads := group.threads(config.threads):
        torch.set_num_threads(threads)
    state = group.from_lead(lambda: _state_to_go_on_from(run_dir, resume))
    learner = make_learner(legs_to(config.steps, state), state)
    if state is not None:
        restore(learner, state)
    _check_agreement(learner)
    if group.leads:
        root = run_dir / CHECKPOINTS
        root.mkdir(parents=True, exist_ok=True)
        clear_leftovers(root)
        clear_asides(run_dir)
        if state is not None:
            settle(root, state.step, config.keep_last, learner.best_step)
    running = RunningMean(state.progress["running"] if state else None)
    return Run(run_dir, learner, running, state.step if state else 0)


def _state_to_go_on_from(run_dir: Path, resume: bool) -> TrainingState | None:
    root = run_dir / CHECKPOINTS
    if not resume and checkpoints(root):
        raise FileExistsError(f"{root} holds checkpoints already; resume the run, or choose another directory")
    return load_newest(root) if resume else None


def _check_agreement(learner: Learner[Any]) -> None:
    """``ValueError`` where this process has not what the leading one has."""
    if learner.group.size == 1:
        return
    ours = {**learner.settings(), "legs": learner.legs, "save_every": learner.config.save_every}
    theirs = learner.group.from_lead(lambda: ours)
    if differing := differences(theirs, ours):
        raise ValueError(f"this process has other settings or data (now) than rank 0 (there):\n{differing}")
    if not learner.shared_out:
        learner.group.agree("the first weights", learner.parameters.values())


class Run(Generic[L]):
    """A run that stands before 0-based step ``start``."""

    def __init__(self, run_dir: Path, learner: L, running: RunningMean, start: int) -> None:
        self.run_dir, self.learner, self.start = run_dir, learner, start
        self._config, self._group = learner.config, learner.group
        self._running = running
        self._root = run_dir / CHECKPOINTS

    def finish(self, show_progress: bool = True) -> RunSummary:
        """Take the steps that are left; leaves ``checkpoints/``, ``metrics.jsonl`` and ``tensorboard/``.

        Raises ``NonFiniteLossError``, upon which the last checkpoint stays as it is.
        """
        began = time.perf_counter()
        with denormals_flushed():
            if self._group.leads:
                metrics = MetricsLog(self.run_dir, self.start)
                try:
                    self._lead(metrics, show_progress)
                finally:
                    metrics.close()
            else:
                self._follow()
        return self._group.from_lead(lambda: self._summary(time.perf_counter() - began))

    def _summary(self, wall_s: float) -> RunSummary:
        steps = self._config.steps
        return RunSummary(
            steps=steps,
            resumed_from=self.start,
            loss=read_metrics(self.run_dir)[-1]["loss"],
            parameters=sum(parameter.numel() for parameter in self.learner.model.parameters()),
            wall_s=wall_s,
            steps_per_s=(steps - self.start) / wall_s,
            checkpoint=checkpoint_path(self._root, steps),
        )

    def _follow(self) -> None:
        """Take the steps as one of the processes that do not lead."""
        for step in range(self.start, self._config.steps):
            self.learner.step(step)
            carried = self._check_and_carry(step + 1)
            if self.learner.shared_out and self._saves(step + 1):  # the leading one saves what all have parts of
                capture(self.learner, step + 1, self._running, carried)
                self.learner.saving()

    def _saves(self, done: int) -> bool:
        return done % self._config.save_every == 0 or done == self._config.steps

    def _check_and_carry(self, done: int) -> dict[str, torch.Tensor]:
        """Before a checkpoint, in every process: those that have drifted apart learn something else than one would.
        Returns what the learner carries, if there may be a checkpoint.
        """
        if self._saves(done) and not self.learner.shared_out:
            self._group.agree("the weights", self.learner.parameters.values())
        return self.learner.carried() if self._saves(done) or self.learner.carries(done) else {}

    def _lead(self, metrics: MetricsLog, show_progress: bool) -> None:
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
                    timings = {"steps_per_s": rate, "report_interval_s": now - reported, **learner.timings()}
                    metrics.report(done, means, timings)
                    reported = now
                    progress.update(bar, note=f"{learner.note(means)} · {rate:.1f} steps/s")
                carried = self._check_and_carry(done)
                if self._saves(done) or done == learner.best_step:
                    metrics.sync()
                    state, best = capture(learner, done, self._running, carried), learner.best_step
                    save_checkpoint(self._root, state, learner.product, learner.saving(), config.keep_last, best)
