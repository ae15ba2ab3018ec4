"""How well a policy does: one episode per seed, with records, intervals and a look at some of them."""

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from envs.specs import STATE_KEY, TASK_KEY, EmbodimentSpec, Stream, VectorEnv, image_key
from policies.agreement import Agreement, Said, Transcript, agreement
from policies.execution import Execution
from policies.intervals import Interval, wilson
from policies.narration import Narrator
from policies.policy import Policy
from policies.progress import progress_bar
from vla.durable import write_text_atomically
from vla.strict_json import strict_json

log = logging.getLogger(__name__)

Instructions = Literal["given", "shuffled"]


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """What became of one episode. ``instruction`` is what the policy read, ``goal`` the episode's own, by which it was
    judged; ``same_goal`` says whether the two mean the same, in whatever words.

    ``stages_done`` of ``stages`` is how far a task of several stages got; most tasks have one.
    """

    task: str
    seed: int
    instruction: str
    goal: str
    same_goal: bool
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
    """One task's episodes, all of one stream, in worlds that differ by ``perturbation`` (PRESET:AXIS) from the usual
    ones. ``latency_s`` has one entry per call of the policy, for all worlds that were due to look. ``remarks`` is what
    the policy could not take in of what it was told. ``agreement`` is that of what it said with what it did, if it
    spoke and :class:`policies.narration.Narrator` knows the words of its robot.
    """

    task: str
    stream: Stream
    perturbation: str | None
    instructions: Instructions
    horizon: int
    replan_interval: int
    num_envs: int
    wall_s: float
    episodes: tuple[EpisodeResult, ...]
    latency_s: tuple[float, ...]
    remarks: tuple[str, ...] = ()
    agreement: Agreement | None = None
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
    def same_goal_share(self) -> float:
        """How often the instruction that was read means the episode's own goal: the success of one who always does what
        it is told, but for goals that are met by accident on the way. 1 for given instructions.
        """
        return float(np.mean([episode.same_goal for episode in self.episodes]))

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
            "perturbation": self.perturbation,
            "instructions": self.instructions,
            "same_goal_share": self.same_goal_share,
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
            "agreement": None if self.agreement is None else self.agreement.to_dict(),
            "records": [asdict(episode) for episode in self.episodes],
        }

    def save(self, path: Path) -> None:
        """Write :meth:`to_dict` as JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, strict_json(self.to_dict(), indent=2) + "\n")


class _Told(NamedTuple):
    """What an episode's policy reads, and whether that means the episode's own goal."""

    instruction: str
    same_goal: bool


def evaluate(
    env: VectorEnv,
    policy: Policy,
    seeds: Sequence[int],
    *,
    instructions: Instructions = "given",
    perturbation: str | None = None,
    record_videos: int = 0,
    camera: str | None = None,
    show_progress: bool = True,
) -> EvaluationResult:
    """Run ``policy`` for one episode per seed of ``env``'s stream, ``env.num_envs`` at a time.

    ``shuffled`` hands every episode the instruction of the episode of the next seed (the last one that of the first),
    while success is still judged by its own goal: see ``EvaluationResult.same_goal_share`` for what a policy that heeds
    language comes to. ``perturbation`` names what ``env`` was made with, for the record. The first ``record_videos``
    episodes are filmed by ``camera`` (by default the embodiment's first).
    """
    check_instructions(instructions, len(seeds))
    check_robot(policy.embodiment, env)
    waves = [[int(seed) for seed in seeds[i : i + env.num_envs]] for i in range(0, len(seeds), env.num_envs)]
    camera = env.embodiment.camera(camera).name if camera else next(iter(env.embodiment.camera_names), "")

    began = time.perf_counter()
    told = iter(_shuffled(env, waves) if instructions == "shuffled" else ())
    episodes: list[EpisodeResult] = []
    videos: list[EpisodeVideo] = []
    latency_s: list[float] = []
    remarks: dict[str, None] = {}
    said: list[Said] = []
    with progress_bar(show_progress) as progress:
        bar = progress.add_task(f"{env.task_name} ({instructions})", total=len(seeds), note="")
        for wave in waves:
            filmed = min(len(wave), max(0, record_videos - len(videos)))
            run = _Wave(env, policy, wave, list(islice(told, len(wave))), filmed, camera)
            run.finish(latency_s)
            episodes += run.records()
            said += run.transcript.said()
            videos += run.films(episodes[-len(wave) :])
            _note(env.task_name, policy.remarks([episode.instruction for episode in episodes[-len(wave) :]]), remarks)
            rate = sum(episode.success for episode in episodes) / len(episodes)
            progress.update(bar, completed=len(episodes), note=f"success {rate:.0%}")
    return EvaluationResult(
        task=env.task_name,
        stream=env.stream,
        perturbation=perturbation,
        instructions=instructions,
        horizon=policy.horizon,
        replan_interval=policy.replan_interval,
        num_envs=env.num_envs,
        wall_s=time.perf_counter() - began,
        episodes=tuple(episodes),
        latency_s=tuple(latency_s),
        remarks=tuple(remarks),
        agreement=_agreement(policy.embodiment, said),
        videos=tuple(videos),
    )


def check_instructions(instructions: str, episodes: int) -> None:
    """``ValueError`` unless so many episodes can be told what ``instructions`` says: shuffling takes two."""
    if instructions not in get_args(Instructions):
        raise ValueError(f"instructions must be 'given' or 'shuffled', got {instructions!r}")
    if episodes < 1:
        raise ValueError("an evaluation needs at least one seed")
    if instructions == "shuffled" and episodes < 2:
        raise ValueError("shuffled instructions are those of other episodes: expected at least two seeds, got one")


class _Wave:
    """One episode per seed, all at once.

    Worlds without a seed of their own repeat the first; nobody plans for them, and they are left out of the records.
    """

    def __init__(
        self, env: VectorEnv, policy: Policy, seeds: list[int], told: list[_Told], filmed: int, camera: str
    ) -> None:
        self._env, self._seeds, self._camera = env, seeds, camera
        self._observation = _begin(env, seeds)
        self._execution = Execution(policy, env.num_envs)
        self._goals = list(self._observation[TASK_KEY])
        self._told = told or [_Told(goal, True) for goal in self._goals]
        self._texts = [each.instruction for each in self._told] + self._goals[len(self._told) :]
        self._reward = torch.zeros(env.num_envs, device=env.device)
        self._steps = torch.zeros(env.num_envs, dtype=torch.long, device=env.device)
        self._success = torch.zeros(env.num_envs, dtype=torch.bool, device=env.device)
        self._running = torch.arange(env.num_envs) < len(seeds)
        self._frames = [[self._frame(world)] for world in range(filmed)]
        self.transcript = Transcript()
        """What the policy says, if it speaks."""

    def finish(self, latency_s: list[float]) -> None:
        """Act until every episode has ended; ``latency_s`` is added the seconds of each call of the policy."""
        while bool(self._running.any()):
            began, due = time.perf_counter(), self._execution.due(self._running)
            if self._execution.plan({**self._observation, TASK_KEY: self._texts}, self._running):
                latency_s.append(time.perf_counter() - began)
                self._listen(due)
            moved = self._env.step_chunk(self._execution.advance(self._running).to(self._env.device))
            self._observation, self._success = moved.observation, moved.success
            self._reward, self._steps = self._reward + moved.reward, self._steps + moved.steps
            looking = self._execution.due(self._running)
            ended = set(moved.ended)
            for world, frames in enumerate(self._frames):
                if self._running[world] and (looking[world] or world in ended):
                    frames.append(self._frame(world))
            self._running[moved.ended] = False
        self._listen()

    def _listen(self, asked: Bool[Tensor, " n"] | None = None) -> None:
        """Keep how the worlds are, and what was said to those that were ``asked`` about, if the policy speaks."""
        plan = self._execution.latest
        if plan is not None and plan.answers:
            self.transcript.see(self._observation[STATE_KEY], self._steps)
            if asked is not None:
                self.transcript.hear(plan, asked)

    def records(self) -> list[EpisodeResult]:
        """What became of the episodes."""
        tasks, stages = self._env.task_names, self._env.stages_done
        won, taken, paid = self._success.tolist(), self._steps.tolist(), self._reward.tolist()
        behind = stages.sum(1).tolist()
        return [
            EpisodeResult(
                task=tasks[world],
                seed=seed,
                instruction=self._texts[world],
                goal=self._goals[world],
                same_goal=self._told[world].same_goal,
                success=won[world],
                steps=taken[world],
                reward=paid[world],
                stages_done=behind[world],
                stages=stages.shape[1],
            )
            for world, seed in enumerate(self._seeds)
        ]

    def films(self, records: Sequence[EpisodeResult]) -> list[EpisodeVideo]:
        """The filmed episodes, which are the first of ``records``."""
        seconds_per_frame = self._execution.policy.replan_interval / self._env.embodiment.control_rate_hz
        return [
            EpisodeVideo(episode=records[world], frames=np.stack(frames), seconds_per_frame=seconds_per_frame)
            for world, frames in enumerate(self._frames)
        ]

    def _frame(self, world: int) -> UInt8[np.ndarray, "h w 3"]:
        return self._observation[image_key(self._camera)][world].cpu().numpy().copy()


def _agreement(embodiment: EmbodimentSpec, said: Sequence[Said]) -> Agreement | None:
    """That of all decisions; None where nothing was said, or nobody knows the words of such a robot."""
    if not said:
        return None
    try:
        narrator = Narrator(embodiment)
    except ValueError as error:
        log.warning("whether what is said agrees with what is done cannot be told: %s", error)
        return None
    return agreement(narrator, said)


def _begin(env: VectorEnv, seeds: list[int]) -> dict[str, Any]:
    """Start the episodes of ``seeds``, and the first one again in every world that is left."""
    return env.reset(seeds + seeds[:1] * (env.num_envs - len(seeds)))


def _shuffled(env: VectorEnv, waves: Sequence[list[int]]) -> list[_Told]:
    """What each seed is told: the instruction of the next seed. All episodes are begun once to read them."""
    texts: list[str] = []
    goals: list[str] = []
    for wave in waves:
        texts += _begin(env, wave)[TASK_KEY][: len(wave)]
        goals += env.goals[: len(wave)]
    others = zip([*texts[1:], texts[0]], [*goals[1:], goals[0]], goals, strict=True)
    return [_Told(text, theirs == own) for text, theirs, own in others]


def _note(task: str, remarks: Iterable[str], known: dict[str, None]) -> None:
    """Log the remarks that are new, and remember them."""
    for remark in remarks:
        if remark not in known:
            log.warning("%s: %s", task, remark)
        known[remark] = None


def check_robot(embodiment: EmbodimentSpec, env: VectorEnv) -> None:
    """``ValueError`` unless a policy for ``embodiment`` can act in ``env``."""
    ours, theirs = _numbers(embodiment), _numbers(env.embodiment)
    if ours != theirs:
        raise ValueError(f"the policy is for {ours}; the environment is {theirs}")


def _numbers(embodiment: EmbodimentSpec) -> str:
    """What the robot's state and action consist of, in words."""
    state, action = (", ".join(dim.name for dim in dims) for dims in (embodiment.state, embodiment.action))
    return f"{embodiment.name} (state {state}; action {action})"
