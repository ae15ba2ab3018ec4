"""Imitation: fit a VLA to demonstrations, so that a run killed anywhere ends as if it never was."""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from policies.data.windows import WindowBatch, WindowConfig
from policies.imitation.augment import Disturbance
from policies.imitation.checkpoint import (
    CheckpointError,
    TrainingState,
    checkpoint_path,
    checkpoints,
    clear_leftovers,
    load_newest,
    save_checkpoint,
)
from policies.imitation.config import FREE_TO_CHANGE, TrainConfig
from policies.imitation.demonstrations import Demonstrations
from policies.imitation.metrics import MetricsLog, RunningMean, read_metrics
from policies.imitation.optimizer import WeightAverage, build_optimizer, learnable, learning_rate
from policies.imitation.seeding import Draw, seed_everything
from policies.network_input import network_images
from policies.processors import Normalization
from policies.progress import progress_bar
from policies.vla_policy import VLAPolicy, check_fit
from vla.model import VLAConfig
from vla.observation import ActionChunk, Observation

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
Batch = TypeVar("Batch", Observation, ActionChunk)


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient left the numbers; the last checkpoint is untouched."""


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
    show_progress: bool = True,
) -> TrainSummary:
    """Train to ``config.steps`` in ``run_dir``, from its newest whole checkpoint with ``resume``, else from scratch.

    Leaves ``checkpoints/``, ``metrics.jsonl`` and ``tensorboard/``. Raises ``FileExistsError`` where checkpoints
    are in the way, ``CheckpointError`` where they belong to other settings or data, ``NonFiniteLossError``.
    """
    root = run_dir / CHECKPOINTS
    if not resume and checkpoints(root):
        raise FileExistsError(f"{root} holds checkpoints already; resume the run, or choose another directory")
    root.mkdir(parents=True, exist_ok=True)
    clear_leftovers(root)
    if config.threads:
        torch.set_num_threads(config.threads)

    learner = Learner(config, vla_config, datasets)
    start, running = 0, RunningMean()
    if resume:
        state, skipped = load_newest(root)
        for line in skipped:
            log.warning("skipped a checkpoint: %s", line)
        if state is not None:
            start, running = state.step, RunningMean(state.progress["running"])
            learner.restore(state)

    began = time.perf_counter()
    metrics = MetricsLog(run_dir, start)
    try:
        _run_steps(learner, metrics, running, root, start, show_progress)
    finally:
        metrics.close()
    wall_s = time.perf_counter() - began
    return TrainSummary(
        steps=config.steps,
        resumed_from=start,
        loss=read_metrics(run_dir)[-1]["loss"],
        parameters=sum(parameter.numel() for parameter in learner.vla.parameters()),
        episodes=learner.demonstrations.num_episodes,
        frames=len(learner.demonstrations),
        wall_s=wall_s,
        steps_per_s=(config.steps - start) / wall_s,
        checkpoint=checkpoint_path(root, config.steps),
    )


class Learner:
    """Network, optimiser, weight average and data; every step is a function of these and the step's number."""

    def __init__(self, config: TrainConfig, vla_config: VLAConfig, datasets: Sequence[Path]) -> None:
        self.config = config
        self.device = torch.device(config.device)
        windows = WindowConfig(horizon=vla_config.horizon, cameras=vla_config.cameras)
        self.demonstrations = Demonstrations(datasets, windows)
        self.normalization = Normalization.from_statistics(
            self.demonstrations.statistics(),
            self.demonstrations.embodiment,
            state=config.state_normalization,
            action=config.action_normalization,
        )
        if still := self.normalization.nearly_constant(self.demonstrations.embodiment):
            log.warning("hardly moves in the data, so it is scaled by its specified range: %s", ", ".join(still))
        seed_everything(config.seed, 0, Draw.INITIAL_WEIGHTS)
        self.vla = vla_config.build().to(self.device).train()
        check_fit(self.vla, self.demonstrations.embodiment)
        self.optimizer = build_optimizer(self.vla, config)
        self.average = WeightAverage(self.vla, config.ema_decay)
        self.vla.backbone.check_texts(self.demonstrations.instructions)
        text, text_mask = self.vla.backbone.tokenize(self.demonstrations.instructions)
        self._text, self._text_mask = text.to(self.device), text_mask.to(self.device)

    def step(self, step: int) -> dict[str, float]:
        """One optimiser step (0-based); returns loss, gradient norm before clipping, rate and the head's numbers.

        A batch in pieces gives the gradient of the whole: each piece counts by its valid actions, which
        every head's loss is the mean over.
        """
        config = self.config
        locate_only = bool(self.vla.config.waypoint_dims) and step < config.locate_steps
        batch = self.demonstrations.batch(config.seed, step, config.batch_size, motion_starts=locate_only)
        observation, target = self._inputs(batch, step)
        seed_everything(config.seed, step, Draw.DROPOUT)
        self.optimizer.zero_grad(set_to_none=True)
        totals: dict[str, Tensor] = {}
        for piece in torch.arange(config.batch_size, device=self.device).chunk(config.accumulate):
            part = rows(target, piece)
            share = part.valid.sum() / target.valid.sum()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                loss, numbers = self.vla.loss(rows(observation, piece), part, locate_only=locate_only)
            (loss * share).backward()
            for name, value in {"loss": loss.detach(), **numbers}.items():
                totals[name] = totals.get(name, torch.zeros((), device=self.device)) + share * value
        totals["grad_norm"] = torch.nn.utils.clip_grad_norm_(learnable(self.vla).values(), config.grad_clip)
        values = dict(zip(totals, torch.stack(list(totals.values())).tolist(), strict=True))
        self._check_finite(values, step)

        rate = learning_rate(step, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.average.update(self.vla, step)
        return {**values, "lr": rate}

    def save_policy(self, directory: Path) -> None:
        """Write the policy with averaged weights, ready to act."""
        with self.average.applied_to(self.vla):
            VLAPolicy(self.vla, self.normalization, self.demonstrations.embodiment).save(directory)
        self.vla.train()

    def state(self, step: int, running: RunningMean) -> TrainingState:
        """All that a run needs to go on after ``step`` steps."""
        tensors: dict[str, Tensor] = {}
        for prefix, group in (("weights", learnable(self.vla)), ("average", self.average.values)):
            tensors |= {f"{prefix}/{name}": value for name, value in group.items()}
        tensors |= {f"buffers/{name}": value for name, value in self.vla.named_buffers()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": value for name, value in moments.items()}
        progress = {"running": running.state(), "settings": self._settings()}
        return TrainingState(step=step, tensors=tensors, progress=progress)

    @torch.no_grad()
    def restore(self, state: TrainingState) -> None:
        """Go back to ``state``; ``CheckpointError`` if it came of other settings or data."""
        self._check_settings(state.progress["settings"])
        for prefix, group in (
            ("weights", learnable(self.vla)),
            ("average", self.average.values),
            ("buffers", dict(self.vla.named_buffers())),
        ):
            for name, value in group.items():
                value.copy_(state.tensors[f"{prefix}/{name}"])
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in state.tensors.items():
            kind, _, rest = key.partition("/")
            if kind == "optimizer":
                index, _, name = rest.partition("/")
                moments.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})

    def _inputs(self, batch: WindowBatch, step: int) -> tuple[Observation, ActionChunk]:
        """The batch on the device: resized, disturbed, tokenised, normalised."""
        images = network_images(batch.images.to(self.device, non_blocking=True), self.vla.config.image_size_px)
        flat = images.flatten(0, 2)
        disturbance = Disturbance.draw(self.config.augment, len(flat), self.config.seed, step)
        images = disturbance.apply(flat).reshape(images.shape)
        state, actions = batch.state.to(self.device), batch.actions.to(self.device)
        text = batch.text.to(self.device)
        observation = Observation(
            images=images,
            view_mask=torch.ones(images.shape[:3], dtype=torch.bool, device=self.device),
            text=self._text[text],
            text_mask=self._text_mask[text],
            state=self.normalization.state.normalize(state),
        )
        normalized = self.normalization.action.normalize(actions)
        waypoint = None
        if self.vla.config.waypoint_dims:
            keyframe = self.normalization.state.normalize(batch.keyframe_state.to(self.device))
            waypoint = keyframe[:, list(self.vla.config.waypoint_dims)]
        return observation, ActionChunk(actions=normalized, valid=batch.valid.to(self.device), waypoint=waypoint)

    def _check_finite(self, values: dict[str, float], step: int) -> None:
        bad = {name: value for name, value in values.items() if not torch.isfinite(torch.tensor(value))}
        if bad:
            raise NonFiniteLossError(
                f"step {step + 1} gave {bad}: nothing was updated and the last checkpoint is kept; "
                f"try a lower lr (now {self.config.lr}) or grad_clip (now {self.config.grad_clip})"
            )

    def _settings(self) -> dict[str, Any]:
        """What decides the numbers of a run, JSON-ready."""
        train = {name: value for name, value in asdict(self.config).items() if name not in FREE_TO_CHANGE}
        data = [{"episodes": len(dataset), "frames": dataset.num_frames} for dataset in self.demonstrations.datasets]
        return json.loads(json.dumps({"train": train, "vla": self.vla.config.to_dict(), "data": data}))

    def _check_settings(self, saved: dict[str, Any]) -> None:
        ours = self._settings()
        changed = [
            f"{part}.{name}: {saved[part].get(name)!r} then, {ours[part].get(name)!r} now"
            for part in ("train", "vla")
            for name in sorted(saved[part].keys() | ours[part].keys())
            if saved[part].get(name) != ours[part].get(name)
        ]
        if saved["data"] != ours["data"]:
            changed.append(f"data: {saved['data']} then, {ours['data']} now")
        if changed:
            raise CheckpointError("the run cannot go on with other settings:\n  " + "\n  ".join(changed))


def rows(batch: Batch, index: Tensor) -> Batch:
    """The samples at ``index`` of a batch."""
    return type(batch)(**{name: value[index] for name, value in vars(batch).items() if value is not None})


def _run_steps(
    learner: Learner, metrics: MetricsLog, running: RunningMean, root: Path, start: int, show_progress: bool
) -> None:
    config = learner.config
    began = reported = time.perf_counter()
    with progress_bar(show_progress) as progress:
        bar = progress.add_task("train", total=config.steps, completed=start, note="")
        for step in range(start, config.steps):
            running.add(learner.step(step))
            done = step + 1
            progress.update(bar, completed=done)
            if done % config.log_every == 0 or done == config.steps:
                means, now = running.take(), time.perf_counter()
                rate = (done - start) / (now - began)
                metrics.report(done, means, {"steps_per_s": rate, "report_interval_s": now - reported})
                reported = now
                progress.update(bar, note=f"loss {means['loss']:.4f} · {rate:.1f} steps/s")
            if done % config.save_every == 0 or done == config.steps:
                metrics.sync()
                save_checkpoint(root, learner.state(done, running), learner.save_policy, config.keep_last)
