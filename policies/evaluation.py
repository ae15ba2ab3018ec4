"""How well a policy does: one episode per seed, with records, intervals and a look at some of them."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from envs.specs import STATE_KEY, TASK_KEY, EmbodimentSpec, Stream, VectorEnv, image_key
from policies.ablation import without_pictures
from policies.agreement import Agreement, Said, Transcript, agreement
from policies.conditions import Instructions, Without
from policies.episode_log import EpisodeResult, EpisodeVideo, FinishedEpisode
from policies.execution import Execution
from policies.intervals import Interval, wilson
from policies.narration import Narrator
from policies.policy import Policy, seen_by
from policies.progress import progress_bar
from policies.showing.aims import beside
from vla.durable import write_text_atomically
from vla.strict_json import strict_json

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """One task's episodes, all of one stream, in worlds that differ by ``perturbation`` (PRESET:AXIS) from the usual
    ones. ``without`` is what the policy was denied. ``latency_s`` has one entry per call of the policy, for all worlds
    that were due to look. ``remarks`` is what the policy could not take in of what it was told. ``agreement`` is that
    of what it said with what it did, if it spoke and :class:`policies.narration.Narrator` knows the words of its robot.

    Of an evaluation that went on with another's episodes, ``wall_s``, ``latency_s`` and ``videos`` are those of the
    rest.
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
    without: tuple[Without, ...] = ()

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
        return {
            "task": self.task,
            "stream": self.stream,
            "perturbation": self.perturbation,
            "instructions": self.instructions,
            "without": list(self.without),
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
            "chunk_latency_ms": _latency_ms(self.latency_s),
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
    """What an episode's policy reads, what that means, and whether that is the episode's own goal."""

    instruction: str
    means: str
    same_goal: bool


def evaluate(
    env: VectorEnv,
    policy: Policy,
    seeds: Sequence[int],
    *,
    instructions: Instructions = "given",
    pictures: bool = True,
    perturbation: str | None = None,
    record_videos: int = 0,
    camera: str | None = None,
    finished: Mapping[int, FinishedEpisode] | None = None,
    keep: Callable[[FinishedEpisode], None] | None = None,
    show_progress: bool = True,
) -> EvaluationResult:
    """Run ``policy`` for one episode per seed of ``env``'s stream, ``env.num_envs`` at a time.

    ``shuffled`` hands every episode the instruction of the episode of the next seed (the last one that of the first),
    while success is still judged by its own goal: see ``EvaluationResult.same_goal_share`` for what a policy that heeds
    language comes to. ``none`` hands it an empty one; without ``pictures`` the cameras show it nothing.
    ``perturbation`` names what ``env`` was made with, for the record. The first ``record_videos`` episodes are filmed
    by ``camera`` (by default the embodiment's first).

    Each episode is given to ``keep`` as it ends. Those that have ``finished`` before, by seed, are not run again: since
    an episode is its seed's own, the results are those of an evaluation that was never stopped.
    """
    check_instructions(instructions, len(seeds))
    check_robot(policy.embodiment, env)
    seeds = [int(seed) for seed in seeds]
    camera = env.embodiment.camera(camera).name if camera else next(iter(env.embodiment.camera_names), "")
    done = {seed: episode for seed, episode in (finished or {}).items() if seed in set(seeds)}
    missing = [seed for seed in seeds if seed not in done]

    began = time.perf_counter()
    told = _told(env, seeds, instructions) if missing else {}
    to_film = set(seeds[:record_videos])
    latency_s: list[float] = []
    with progress_bar(show_progress) as progress:
        bar = progress.add_task(f"{env.task_name} ({instructions})", total=len(seeds), completed=len(done), note="")
        remarks: dict[str, None] = {}
        for wave in _waves(missing, env.num_envs):
            filmed = sum(seed in to_film for seed in wave)
            run = _Wave(env, policy, wave, [told[seed] for seed in wave if told], filmed, camera, pictures)
            for episode in run.finished(latency_s):
                done[episode.result.seed] = episode
                _note(env.task_name, episode.remarks, remarks)
                if keep is not None:
                    keep(episode)
            rate = sum(episode.result.success for episode in done.values()) / len(done)
            progress.update(bar, completed=len(done), note=f"success {rate:.0%}")
    episodes = [done[seed] for seed in seeds]
    return EvaluationResult(
        task=env.task_name,
        stream=env.stream,
        perturbation=perturbation,
        instructions=instructions,
        horizon=policy.horizon,
        replan_interval=policy.replan_interval,
        num_envs=env.num_envs,
        wall_s=time.perf_counter() - began,
        episodes=tuple(episode.result for episode in episodes),
        latency_s=tuple(latency_s),
        remarks=tuple(dict.fromkeys(remark for episode in episodes for remark in episode.remarks)),
        agreement=_agreement(policy.embodiment, [said for episode in episodes for said in episode.said]),
        videos=tuple(episode.film for episode in episodes if episode.film is not None),
        without=_denied(instructions, pictures),
    )


def check_instructions(instructions: str, episodes: int) -> None:
    """``ValueError`` unless so many episodes can be told what ``instructions`` says: shuffling takes two."""
    if instructions not in get_args(Instructions):
        raise ValueError(f"instructions must be 'given', 'shuffled' or 'none', got {instructions!r}")
    if episodes < 1:
        raise ValueError("an evaluation needs at least one seed")
    if instructions == "shuffled" and episodes < 2:
        raise ValueError("shuffled instructions are those of other episodes: expected at least two seeds, got one")


class _Wave:
    """One episode per seed, all at once.

    Worlds without a seed of their own repeat the first; nobody plans for them, and they are left out of the records.
    """

    def __init__(
        self,
        env: VectorEnv,
        policy: Policy,
        seeds: list[int],
        told: list[_Told],
        filmed: int,
        camera: str,
        pictures: bool,
    ) -> None:
        self._began = time.perf_counter()
        self._env, self._seeds, self._camera, self._pictures = env, seeds, camera, pictures
        self._observation = _begin(env, seeds)
        self._execution = Execution(policy, env.num_envs)
        self._goals, self._means = list(self._observation[TASK_KEY]), list(env.goals)
        self._told = told or [_Told(*own, True) for own in zip(self._goals, self._means, strict=True)]
        self._texts = [each.instruction for each in self._told] + self._goals[len(self._told) :]
        self._reward = torch.zeros(env.num_envs, device=env.device)
        self._steps = torch.zeros(env.num_envs, dtype=torch.long, device=env.device)
        self._success = torch.zeros(env.num_envs, dtype=torch.bool, device=env.device)
        self._running = torch.arange(env.num_envs) < len(seeds)
        self._frames = [[self._frame(world)] for world in range(filmed)]
        self._transcript = Transcript()

    def finished(self, latency_s: list[float]) -> Iterator[FinishedEpisode]:
        """Act until every episode has ended, and give each as it does; ``latency_s`` is added the seconds of each call
        of the policy.
        """
        while bool(self._running.any()):
            began, due = time.perf_counter(), self._execution.due(self._running)
            if self._execution.plan(self._shown(), self._running):
                latency_s.append(time.perf_counter() - began)
                self._listen(due)
            moved = self._env.step_chunk(self._execution.advance(self._running).to(self._env.device))
            self._observation, self._success = moved.observation, moved.success
            self._reward, self._steps = self._reward + moved.reward, self._steps + moved.steps
            looking = self._execution.due(self._running)
            ended = [world for world in moved.ended if self._running[world]]
            for world, frames in enumerate(self._frames):
                if self._running[world] and (looking[world] or world in ended):
                    frames.append(self._frame(world))
            self._running[moved.ended] = False
            if ended:
                self._listen()
            for world in ended:
                yield self._ended(world)

    def _shown(self) -> dict[str, Any]:
        """What the policy sees and reads."""
        seen = self._observation if self._pictures else without_pictures(self._observation)
        return {**seen, TASK_KEY: self._texts}

    def _listen(self, asked: Bool[Tensor, " n"] | None = None) -> None:
        """Keep how the worlds are, and what was said to those that were ``asked`` about, if the policy speaks."""
        plan = self._execution.latest
        if plan is not None and plan.answers:
            self._transcript.see(self._observation[STATE_KEY], self._steps)
            if asked is not None:
                self._transcript.hear(plan, asked)

    def _ended(self, world: int) -> FinishedEpisode:
        """What became of the episode of a world that has ended."""
        result = self._result(world)
        policy, film = self._execution.policy, None
        if world < len(self._frames):
            seconds_per_frame = policy.replan_interval / self._env.embodiment.control_rate_hz
            frames = np.stack(self._frames[world])
            film = EpisodeVideo(episode=result, frames=frames, seconds_per_frame=seconds_per_frame)
        return FinishedEpisode(
            result=result,
            wall_s=time.perf_counter() - self._began,
            remarks=tuple(policy.remarks([result.instruction])),
            said=tuple(self._transcript.said(world)),
            film=film,
        )

    def _result(self, world: int) -> EpisodeResult:
        stages = self._env.stages_done[world]
        return EpisodeResult(
            task=self._env.task_names[world],
            seed=self._seeds[world],
            instruction=self._texts[world],
            goal=self._goals[world],
            same_goal=self._told[world].same_goal,
            success=bool(self._success[world]),
            steps=int(self._steps[world]),
            reward=float(self._reward[world]),
            stages_done=int(stages.sum()),
            stages=len(stages),
            instruction_means=self._told[world].means,
            goal_means=self._means[world],
        )

    def _frame(self, world: int) -> UInt8[np.ndarray, "h w 3"]:
        """What the camera sees and, beside it, what the policy shows of its looking, if anything."""
        frame = self._observation[image_key(self._camera)][world].cpu().numpy().copy()
        mine = torch.arange(self._env.num_envs) == world
        shown = self._execution.policy.shows(seen_by(self._shown(), mine))
        return frame if shown is None else beside(frame, shown[0])


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


def _waves(seeds: Sequence[int], num_envs: int) -> list[list[int]]:
    """``seeds`` in groups of as many as there are worlds."""
    return [list(seeds[i : i + num_envs]) for i in range(0, len(seeds), num_envs)]


def _told(env: VectorEnv, seeds: list[int], instructions: Instructions) -> dict[int, _Told]:
    """What each seed is told, where that is not its own instruction.

    Shuffled, it is the instruction of the next seed; all episodes are begun once to read them.
    """
    if instructions == "given":
        return {}
    if instructions == "none":
        return {seed: _Told("", "", False) for seed in seeds}
    texts: list[str] = []
    goals: list[str] = []
    for wave in _waves(seeds, env.num_envs):
        texts += _begin(env, wave)[TASK_KEY][: len(wave)]
        goals += env.goals[: len(wave)]
    others = zip(seeds, [*texts[1:], texts[0]], [*goals[1:], goals[0]], goals, strict=True)
    return {seed: _Told(text, theirs, theirs == own) for seed, text, theirs, own in others}


def _denied(instructions: Instructions, pictures: bool) -> tuple[Without, ...]:
    language: tuple[Without, ...] = ("language",) if instructions == "none" else ()
    return language if pictures else (*language, "pictures")


def _latency_ms(latency_s: Sequence[float]) -> dict[str, float | None]:
    """Mean and percentiles in milliseconds; None where the policy was not called."""
    values = 1e3 * np.asarray(latency_s)
    numbers = {"mean": np.mean, "p50": np.median, "p95": lambda each: np.percentile(each, 95)}
    return {name: float(number(values)) if len(values) else None for name, number in numbers.items()}


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
