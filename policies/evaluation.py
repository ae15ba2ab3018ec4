"""How well a policy does: one episode per seed, with records, intervals and a look at some of them."""

import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from envs.specs import TASK_KEY, EmbodimentSpec, Stream, VectorEnv, image_key
from policies.intervals import Interval, wilson
from policies.policy import Policy
from policies.progress import progress_bar
from vla.durable import write_text_atomically

log = logging.getLogger(__name__)

Instructions = Literal["given", "shuffled"]


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """What became of one episode. ``instruction`` is what the policy read, ``goal`` what was judged.

    ``stages_done`` of ``stages`` is how far a task of several stages got; most tasks have one.
    """

    task: str
    seed: int
    instruction: str
    goal: str
    success: bool
    steps: int
    reward: float
    stages_done: int
    stages: int


@dataclass(frozen=True, kw_only=True)
class EpisodeVideo:
    """One frame per decision of the policy, the first and the last picture included."""

    episode: EpisodeResult
    frames: UInt8[np.ndarray, "t h w 3"]
    seconds_per_frame: float


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """One task's episodes, all of one stream. ``latency_s`` has one entry per call of the policy, for a whole wave of
    worlds. ``remarks`` is what the policy could not take in of what it was told.
    """

    task: str
    stream: Stream
    instructions: Instructions
    horizon: int
    replan_interval: int
    num_envs: int
    wall_s: float
    episodes: tuple[EpisodeResult, ...]
    latency_s: tuple[float, ...]
    remarks: tuple[str, ...] = ()
    videos: tuple[EpisodeVideo, ...] = field(default=(), repr=False)

    @property
    def success(self) -> Interval:
        """Success rate with Wilson's 95 % interval."""
        return wilson(sum(self.outcomes), len(self.episodes))

    @property
    def outcomes(self) -> tuple[bool, ...]:
        """Success of each episode in the order of the seeds; pairs with another policy's on the same seeds."""
        return tuple(episode.success for episode in self.episodes)

    @property
    def mean_stages_done(self) -> float:
        """How many stages an episode finished on average, as CALVIN's mean chain length."""
        return float(np.mean([episode.stages_done for episode in self.episodes]))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready summary and records, without the pictures."""
        latency_ms = 1e3 * np.asarray(self.latency_s)
        return {
            "task": self.task,
            "stream": self.stream,
            "instructions": self.instructions,
            "success": asdict(self.success),
            "episodes": len(self.episodes),
            "mean_stages_done": self.mean_stages_done,
            "stages": self.episodes[0].stages,
            "mean_steps": float(np.mean([episode.steps for episode in self.episodes])),
            "mean_reward": float(np.mean([episode.reward for episode in self.episodes])),
            "horizon": self.horizon,
            "replan_interval": self.replan_interval,
            "num_envs": self.num_envs,
            "chunk_latency_ms": {
                "mean": float(latency_ms.mean()),
                **{f"p{q}": float(np.percentile(latency_ms, q)) for q in (50, 95)},
            },
            "wall_s": self.wall_s,
            "remarks": list(self.remarks),
            "records": [asdict(episode) for episode in self.episodes],
        }

    def save(self, path: Path) -> None:
        """Write :meth:`to_dict` as JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, json.dumps(self.to_dict(), indent=2) + "\n")


def evaluate(
    env: VectorEnv,
    policy: Policy,
    seeds: Sequence[int],
    *,
    instructions: Instructions = "given",
    record_videos: int = 0,
    camera: str | None = None,
    show_progress: bool = True,
) -> EvaluationResult:
    """Run ``policy`` for one episode per seed of ``env``'s stream, ``env.num_envs`` at a time.

    ``shuffled`` hands every episode the instruction of the next episode of its wave, while success is still
    judged by its own goal: a policy that heeds language falls to chance. The first ``record_videos`` episodes
    are filmed by ``camera`` (by default the embodiment's first).
    """
    waves = [list(seeds[start : start + env.num_envs]) for start in range(0, len(seeds), env.num_envs)]
    _check_request(env, policy, waves, instructions)
    camera = env.embodiment.camera(camera).name if camera else env.embodiment.camera_names[0]

    began = time.perf_counter()
    episodes: list[EpisodeResult] = []
    videos: list[EpisodeVideo] = []
    latency_s: list[float] = []
    remarks: dict[str, None] = {}
    with progress_bar(show_progress) as progress:
        bar = progress.add_task(f"{env.task_name} ({instructions})", total=len(seeds), note="")
        for wave in waves:
            filmed = min(len(wave), max(0, record_videos - len(videos)))
            records, films = _run_wave(env, policy, wave, instructions, filmed, camera, latency_s)
            episodes += records
            videos += films
            for remark in policy.remarks([record.instruction for record in records]):
                if remark not in remarks:
                    log.warning("%s: %s", env.task_name, remark)
                remarks[remark] = None
            rate = sum(episode.success for episode in episodes) / len(episodes)
            progress.update(bar, completed=len(episodes), note=f"success {rate:.0%}")
    return EvaluationResult(
        task=env.task_name,
        stream=env.stream,
        instructions=instructions,
        horizon=policy.horizon,
        replan_interval=policy.replan_interval,
        num_envs=env.num_envs,
        wall_s=time.perf_counter() - began,
        episodes=tuple(episodes),
        latency_s=tuple(latency_s),
        remarks=tuple(remarks),
        videos=tuple(videos),
    )


def _run_wave(
    env: VectorEnv,
    policy: Policy,
    seeds: list[int],
    instructions: Instructions,
    filmed: int,
    camera: str,
    latency_s: list[float],
) -> tuple[list[EpisodeResult], list[EpisodeVideo]]:
    """One episode per seed. Worlds without a seed of their own repeat the first and are left out of the records."""
    observation = env.reset(seeds + seeds[:1] * (env.num_envs - len(seeds)))
    policy.reset()
    goals = list(observation[TASK_KEY])
    texts = _rolled(goals, len(seeds)) if instructions == "shuffled" else goals

    reward = torch.zeros(env.num_envs, device=env.device)
    steps = torch.zeros(env.num_envs, dtype=torch.long, device=env.device)
    success = torch.zeros(env.num_envs, dtype=torch.bool, device=env.device)
    running = set(range(env.num_envs))
    films = [[_frame(observation, camera, world)] for world in range(filmed)]
    for _ in range(math.ceil(env.max_episode_steps / policy.replan_interval)):
        chunk, seconds = _timed_chunk(policy, {**observation, TASK_KEY: texts})
        latency_s.append(seconds)
        moved = env.step_chunk(chunk[:, : policy.replan_interval].to(env.device))
        reward, steps, success = reward + moved.reward, steps + moved.steps, moved.success
        observation = moved.observation
        for world in running.intersection(range(filmed)):
            films[world].append(_frame(observation, camera, world))
        running.difference_update(moved.ended)
        if not running:
            break

    tasks, stages = env.task_names, env.stages_done
    won, taken, paid, behind = success.tolist(), steps.tolist(), reward.tolist(), stages.sum(1).tolist()
    records = [
        EpisodeResult(
            task=tasks[world],
            seed=int(seed),
            instruction=texts[world],
            goal=goals[world],
            success=won[world],
            steps=taken[world],
            reward=paid[world],
            stages_done=behind[world],
            stages=stages.shape[1],
        )
        for world, seed in enumerate(seeds)
    ]
    seconds_per_frame = policy.replan_interval / env.embodiment.control_rate_hz
    return records, [
        EpisodeVideo(episode=records[world], frames=np.stack(frames), seconds_per_frame=seconds_per_frame)
        for world, frames in enumerate(films)
    ]


def _timed_chunk(policy: Policy, observation: dict[str, Any]) -> tuple[Float[Tensor, "n h a"], float]:
    began = time.perf_counter()
    chunk = policy.predict_chunk(observation)
    if chunk.is_cuda:
        torch.cuda.synchronize(chunk.device)
    return chunk, time.perf_counter() - began


def _rolled(goals: list[str], n: int) -> list[str]:
    """The first ``n`` instructions moved on by one world; worlds beyond them keep theirs."""
    return [*goals[1:n], goals[0], *goals[n:]]


def _frame(observation: dict[str, Any], camera: str, world: int) -> UInt8[np.ndarray, "h w 3"]:
    return observation[image_key(camera)][world].cpu().numpy().copy()


def _check_request(env: VectorEnv, policy: Policy, waves: list[list[int]], instructions: str) -> None:
    if not waves:
        raise ValueError("an evaluation needs at least one seed")
    if instructions not in ("given", "shuffled"):
        raise ValueError(f"instructions must be 'given' or 'shuffled', got {instructions!r}")
    lonely = [wave[0] for wave in waves if len(wave) == 1]
    if instructions == "shuffled" and lonely:
        raise ValueError(
            f"shuffled instructions need at least two episodes in every wave of {env.num_envs} worlds, "
            f"but seed {lonely[0]} would run alone; change the number of seeds or of worlds"
        )
    ours, theirs = _numbers(policy.embodiment), _numbers(env.embodiment)
    if ours != theirs:
        raise ValueError(f"the policy is for {ours}; the environment is {theirs}")


def _numbers(embodiment: EmbodimentSpec) -> str:
    """What the robot's state and action consist of, in words."""
    state, action = (", ".join(dim.name for dim in dims) for dims in (embodiment.state, embodiment.action))
    return f"{embodiment.name} (state {state}; action {action})"
