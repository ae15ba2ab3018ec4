"""Recording demonstrations: one episode per seed, so that a killed recording goes on where it was."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from envs.specs import ACTION_KEY, CALIBRATED, TASK_KEY, EmbodimentSpec, VectorEnv
from policies.data.differences import differences
from policies.data.episode import Episode
from policies.data.layout import DatasetError
from policies.data.left_out import LeftOut, tried_seeds
from policies.data.writer import DemonstrationWriter
from policies.execution import Execution
from policies.policy import Policy
from policies.progress import progress_bar

Recorder = Callable[[Sequence[list[int]], Sequence[str]], Iterable[list[Episode]]]
"""Episodes of waves of seeds, holding the fields of these keys, wave by wave."""
_DETOUR = 1
"""Marks the draws of an episode's detour, beside those of its blocks of steps."""


@dataclass(frozen=True, kw_only=True)
class ExecutionNoise:
    """Disturbs what is executed, not what is recorded (DART, arXiv 1703.09327), so that recoveries are shown.

    Gaussian with ``std`` in half-ranges of each action dimension, drawn anew every ``hold_steps`` with
    ``probability``, else none; dimensions named in ``exempt`` stay clean. It depends on the episode's seed and
    step alone. DART fits its covariance to a learner's errors; here it is fixed.

    With probability ``detours`` an episode begins with a *detour*: for half to all of ``detour_steps`` the tool is
    driven along the dimensions ``astray``, in one direction, by half their range a step. So demonstrations also show
    how to get to the right thing from beside a wrong one.

    So the recorded actions of a noisy demonstration, played back open-loop, do not lead to what it shows: they are
    what the expert meant, not what was executed. With :meth:`at` added to each, within the bounds, they do, exactly.
    """

    std: float = 0.0
    hold_steps: int = 4
    probability: float = 0.5
    exempt: tuple[str, ...] = ("gripper",)
    detours: float = 0.0
    detour_steps: int = 12
    astray: tuple[str, ...] = ("dx", "dy")

    def __post_init__(self) -> None:
        if not 0 <= self.detours <= 1 or self.detour_steps < 1:
            raise ValueError(
                "expected detours, a probability, in 0…1 and detour_steps ≥ 1, "
                f"got {self.detours} and {self.detour_steps}"
            )
        if self.std < 0 or self.hold_steps < 1 or not 0 <= self.probability <= 1:
            raise ValueError(
                "expected std ≥ 0, hold_steps ≥ 1 and a probability in 0…1, "
                f"got {self.std}, {self.hold_steps} and {self.probability}"
            )

    def at(self, embodiment: EmbodimentSpec, seed: int, step: int) -> Float[np.ndarray, " a"]:
        """What is added to the action of control step ``step`` in the episode of ``seed``, in its units."""
        draw = np.random.default_rng((seed, step // self.hold_steps))
        half_range = np.array([0 if dim.name in self.exempt else (dim.high - dim.low) / 2 for dim in embodiment.action])
        disturbed = draw.random() < self.probability
        added = disturbed * self.std * half_range * draw.standard_normal(len(half_range))
        return (added + self._detour(embodiment, seed, step)).astype(np.float32)

    def _detour(self, embodiment: EmbodimentSpec, seed: int, step: int) -> Float[np.ndarray, " a"]:
        """Half of the range in the direction of the episode's detour, as long as it is under way."""
        draw = np.random.default_rng((seed, 0, _DETOUR))
        under_way = draw.random() < self.detours and step < self.detour_steps * draw.uniform(0.5, 1.0)
        half_range = np.array([(dim.high - dim.low) / 2 if dim.name in self.astray else 0 for dim in embodiment.action])
        way = draw.standard_normal(len(half_range)) * (half_range > 0)
        return under_way * half_range * way / max(np.linalg.norm(way), 1e-9)


@dataclass(frozen=True, kw_only=True)
class CollectSummary:
    """What a recording came to; ``skipped`` seeds had been tried before."""

    recorded: int
    failed: int
    skipped: int
    frames: int
    wall_s: float

    def __str__(self) -> str:
        return (
            f"{self.recorded} recorded, {self.failed} failed, {self.skipped} there already; "
            f"{self.frames} frames in {self.wall_s:.0f} s ({self.frames / self.wall_s:.0f}/s)"
        )


def collect(
    env: VectorEnv,
    policy: Policy,
    path: Path,
    seeds: Sequence[int],
    *,
    noise: ExecutionNoise = ExecutionNoise(),
    keep_failures: bool = False,
    settings: Mapping[str, Any] | None = None,
    recorder: "Recorder | None" = None,
    show_progress: bool = True,
) -> CollectSummary:
    """Record one episode of ``policy`` per seed into the store at ``path``, ``env.num_envs`` at a time.

    Episodes lie in the order of the seeds, whatever the number of worlds; failures are left out unless
    ``keep_failures``, and their seeds noted in the store. A store that exists is added to: seeds that were tried are
    skipped, also those whose episodes were removed. It must have been recorded on this embodiment and stream, with
    these ``settings``, this noise and ``keep_failures``; ``DatasetError`` says what differs.

    With a ``recorder`` others than ``env`` have the episodes, such as worlds on other machines.
    """
    began = time.perf_counter()
    noted = {**(settings or {}), "stream": env.stream, "noise": asdict(noise), "keep_failures": keep_failures}
    recorded = failures = frames = 0
    with _writer(env, path, seeds, noted) as writer, progress_bar(show_progress) as progress:
        keys = [spec.key for spec in writer.header.fields]
        left_out, tried = LeftOut.read(path), tried_seeds(path).get(env.task_name, set())
        pending = [seed for seed in dict.fromkeys(int(seed) for seed in seeds) if seed not in tried]
        bar = progress.add_task(f"collect {env.task_name}", total=len(pending), note="")
        waves = [pending[start : start + env.num_envs] for start in range(0, len(pending), env.num_envs)]
        own = (record_episodes(env, policy, wave, keys, noise=noise) for wave in waves)
        for wave, episodes in zip(waves, recorder(waves, keys) if recorder else own, strict=True):
            for episode in episodes:
                if episode.success or keep_failures:
                    writer.append(episode)
                    recorded += 1
                    frames += len(episode)
                else:
                    failures += 1
                    left_out.note_failure(path, env.task_name, episode.seed)
            progress.update(bar, advance=len(wave), note=f"{recorded} recorded, {failures} failed")
    return CollectSummary(
        recorded=recorded,
        failed=failures,
        skipped=len(set(seeds)) - len(pending),
        frames=frames,
        wall_s=time.perf_counter() - began,
    )


def record_episodes(
    env: VectorEnv,
    policy: Policy,
    seeds: list[int],
    keys: Sequence[str],
    *,
    noise: ExecutionNoise = ExecutionNoise(),
) -> list[Episode]:
    """One episode per seed, all at once, holding the fields ``keys``; at most ``env.num_envs`` of them.

    Worlds beyond the seeds repeat the first and are dropped.
    """
    padded = seeds + seeds[:1] * (env.num_envs - len(seeds))
    observation = env.reset(padded)
    execution = Execution(policy, env.num_envs)
    instructions = list(observation[TASK_KEY])
    low, high = (torch.tensor(x, device=env.device) for x in (env.embodiment.action_low, env.embodiment.action_high))
    lengths = torch.zeros(env.num_envs, dtype=torch.long, device=env.device)
    success = torch.zeros(env.num_envs, dtype=torch.bool, device=env.device)
    steps, running = [], env.num_envs
    for step in range(env.max_episode_steps):
        action = execution.act(observation).to(env.device)
        steps.append({key: {**observation, ACTION_KEY: action}[key] for key in keys})
        if noise.std or noise.detours:
            drawn = np.stack([noise.at(env.embodiment, seed, step) for seed in padded])
            action = (action + torch.from_numpy(drawn).to(env.device)).clamp(low, high)
        moved = env.step(action)
        lengths, success, observation = lengths + moved.steps, moved.success, moved.observation
        running -= len(moved.ended)
        if not running:
            break
    taken, won = lengths.tolist(), success.tolist()
    return [
        Episode.from_fields(
            {key: _film(steps, key, world, taken[world]) for key in keys},
            env.embodiment.camera_names,
            instruction=instructions[world],
            task=env.task_name,
            success=won[world],
            seed=seed,
        )
        for world, seed in enumerate(seeds)
    ]


def _film(steps: list[dict[str, Tensor]], key: str, world: int, length: int) -> np.ndarray:
    return torch.stack([step[key][world] for step in steps[:length]]).cpu().numpy()


def _writer(env: VectorEnv, path: Path, seeds: Sequence[int], settings: dict[str, Any]) -> DemonstrationWriter:
    """The store to add to, made where there is none."""
    if not len(seeds):
        raise ValueError("a recording needs at least one seed")
    geometry = CALIBRATED in env.capabilities
    if not path.exists():
        with suppress(FileExistsError):  # made by another recorder just now: its lock decides
            return DemonstrationWriter.create(path, env.embodiment, settings=settings, geometry=geometry)
    writer = DemonstrationWriter.open(path)
    there = {"settings": dict(writer.header.settings), "embodiment": writer.header.embodiment.to_dict()}
    here = {"settings": settings, "embodiment": env.embodiment.to_dict()}
    if differing := differences(there, here):
        writer.close()
        raise DatasetError(f"{path} was recorded otherwise; record into another folder, or as it was:\n{differing}")
    return writer
