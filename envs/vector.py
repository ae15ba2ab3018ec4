"""The vector environment: a task in n worlds, stepped together on torch tensors."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.backends.capacity import Capacity
from envs.engines import RENDER_LIMIT_S, Engine
from envs.episodes import Episodes, Incident, IncidentKind
from envs.language import SPLITS, Split
from envs.observations import privileged_state
from envs.perturbations.spec import Perturbation
from envs.random import EpisodeRandom, checked_seeds
from envs.robots.arm import ArmSpec
from envs.robots.panda import PANDA
from envs.scenes.layout import Layout
from envs.scenes.tabletop import Sensed
from envs.specs import (
    CALIBRATED,
    DETERMINISTIC,
    EXPERT,
    SNAPSHOTS,
    STREAMS,
    TASK_KEY,
    TURNS,
    Snapshot,
    Stream,
    Transition,
)
from envs.suites import find_task
from envs.tasks.base import Task
from envs.tasks.both_ways import BothWays
from envs.workplace import Workplace
from envs.world import FAST, CapacityError, Lost, RenderProfile

RewardKind = Literal["sparse", "dense"]
logger = logging.getLogger(__name__)


class TaskEnv:
    """``num_envs`` worlds of one task; fulfils ``envs.specs.ExpertEnv`` and ``SnapshotEnv``.

    Nothing is reset by itself: a world whose episode has ended stands still, returning zero reward, until ``reset``.
    ``engine`` is "cpu" (C MuJoCo on ``threads``) or "warp" (on ``device``); the same seed starts in the same state on
    both. ``capacity`` is how many contacts warp reserves memory for, counted from the scene by default.
    ``render_limit_s`` is how long a process of the cpu engine may draw nothing before it is replaced. ``stream`` is
    what episodes are for, ``split`` chooses the phrasings.

    ``reward`` is 1 on success ("sparse"), or that plus γΦ(s′) − Φ(s) ("dense"; Ng et al. 1999), where Φ is the task's
    potential, 0 once the task is solved, and γ is ``discount``: with the learner's own discount no cycle earns.

    Without ``render`` the observation holds numbers and the instruction only, without ``language`` no instruction;
    with ``velocities`` the state holds the joints' too, with ``privileged`` there is also what the simulator knows of
    the things that the instruction names. ``perturbation`` says what differs from the scene as the task has it, see
    ``envs.perturbations``.

    A world whose physics diverges, or that makes more contacts than there is memory for, is logged, noted in
    ``incidents`` and truncated in the last state that was sound; the others go on. ``CapacityError`` if all running
    worlds make too many contacts at once.
    """

    def __init__(
        self,
        task: Task | str,
        num_envs: int,
        *,
        engine: Engine = "cpu",
        arm: ArmSpec = PANDA,
        image_size_px: tuple[int, int] = (64, 64),
        depth: bool = False,
        segmentation: bool = False,
        render: bool = True,
        language: bool = True,
        velocities: bool = False,
        privileged: bool = False,
        stream: Stream = "demonstrate",
        split: Split = "train",
        perturbation: Perturbation | None = None,
        reward: RewardKind = "sparse",
        discount: float = 0.99,
        profile: RenderProfile = FAST,
        max_episode_steps: int | None = None,
        threads: int | None = None,
        device: str | None = None,
        capacity: Capacity | None = None,
        render_limit_s: float = RENDER_LIMIT_S,
    ) -> None:
        counts = {"num_envs": num_envs, "max_episode_steps": max_episode_steps, "threads": threads}
        counts |= dict(zip(("image height", "image width"), image_size_px, strict=True))
        check_settings(counts, reward, split, stream)
        if not 0 < discount <= 1:
            raise ValueError(f"discount must lie in 0 … 1, and not be 0, got {discount}")
        self.task = find_task(task) if isinstance(task, str) else task
        self.task_name = self.task.name
        self.num_envs, self.profile = num_envs, profile
        self.split: Split = split
        self.stream: Stream = stream
        self.capabilities = frozenset({EXPERT, SNAPSHOTS, CALIBRATED} | ({DETERMINISTIC} if engine == "cpu" else set()))
        if isinstance(self.task, BothWays):
            self.capabilities |= {TURNS}
        self.max_episode_steps = max_episode_steps or self.task.max_episode_steps
        self.incidents: list[Incident] = []
        self._own_horizon = max_episode_steps is None
        self._dense, self._discount, self._language = reward == "dense", discount, language
        self._workplace = Workplace(
            arm,
            self.task.props,
            perturbation or Perturbation(),
            num_envs,
            engine=engine,
            render=render,
            image_size_px=image_size_px,
            depth=depth,
            segmentation=segmentation,
            profile=profile,
            velocities=velocities,
            privileged=privileged,
            threads=threads,
            device=device,
            capacity=capacity,
            render_limit_s=render_limit_s,
        )
        self.world, self.device = self._workplace.world, self._workplace.device
        self.embodiment = self._workplace.embodiment
        self.privileged_dim = self._count_privileged() if privileged else 0
        self._instructions = [""] * num_envs
        self._layout: Layout | None = None
        self._episodes: Episodes
        self._random: EpisodeRandom

    @property
    def layout(self) -> Layout:
        """What was drawn for the running episodes, and what they remember."""
        if self._layout is None:
            raise RuntimeError("call reset before stepping")
        return self._layout

    @property
    def stages_done(self) -> Bool[Tensor, "n stages"]:
        """Which stages of the running episodes are behind; one column, success, for most tasks."""
        return self.task.stages_done(self.layout)

    @property
    def task_names(self) -> list[str]:
        """The task that each world is at."""
        return self.task.names(self.layout)

    @property
    def goals(self) -> list[str]:
        """What each running episode asks for, always in the task's first phrasing and never rewritten."""
        plain = replace(self.layout, phrasing=torch.zeros_like(self.layout.phrasing))
        return self.task.instructions(plain, "train")

    def sense(self) -> Sensed:
        """The simulator's own state, which no policy may see."""
        if self._workplace.sensed is None:
            raise RuntimeError("call reset before stepping")
        return self._workplace.sensed

    def reset(self, seeds: Int[Tensor, " n"] | list[int], mask: Bool[Tensor, " n"] | None = None) -> dict[str, Any]:
        """Start an episode in every world of ``mask`` (all when None); world i's is drawn from ``seeds[i]``.

        Only these worlds are drawn and placed. The host waits for the device if ``seeds`` or ``mask`` lie there.
        """
        seeds, mask = self._check_reset(seeds, mask)
        worlds = self._to_device(mask.nonzero()[:, 0])
        self._start(worlds, seeds[worlds])
        return self._observe(self._to_device(mask))

    def step(self, actions: Float[Tensor, "n a"]) -> Transition:
        """One control step; see ``envs.specs.Transition``."""
        return self.step_chunk(torch.as_tensor(actions)[:, None])

    def step_chunk(self, actions: Float[Tensor, "n h a"]) -> Transition:
        """Up to h control steps, then one observation. A world that finishes inside the chunk stops there.

        The host waits for the device once, at the end, to learn who ended. ``ValueError`` for actions that are not
        finite; the worlds they were for have stood still.
        """
        actions = torch.as_tensor(actions, dtype=torch.float32, device=self.device).detach()
        self._check_actions(actions)
        finite = (actions * 0 == 0).flatten(1).all(1)
        actions = actions.nan_to_num(0.0, 0.0, 0.0)
        began, running = self._episodes, self._episodes.running
        rewards, lost = [], []
        for action in actions.unbind(1):
            reward, failed = self._step(action, self._episodes.running & finite)
            rewards.append(reward)
            lost.append(failed)
        ended = self._report(running, finite, lost)
        now, steps = self._episodes, self._episodes.elapsed - began.elapsed
        per_step = torch.stack(rewards, 1)
        return Transition(
            observation=self._observe(steps > 0),
            reward=per_step.sum(1),
            rewards=per_step,
            terminated=now.terminated,
            truncated=now.truncated,
            success=now.success,
            steps=steps,
            ended=ended,
        )

    def expert_action(self) -> Float[Tensor, "n a"]:
        """What the task's scripted expert would do now, in the robot's control mode."""
        return self._workplace.translated(self.task.expert(self.sense(), self.layout))

    def perturb(self, perturbation: Perturbation) -> None:
        """Perturb each world's next episodes by other ranges of the same axes; running ones go on as they are.

        ``ValueError`` if that needs another scene: other axes, another number of distractors, other patterns.
        """
        self._workplace.perturber = self._workplace.perturber.replaced(perturbation)

    @property
    def attempt_steps(self) -> int:
        """How many control steps an attempt at the task is given; less than an episode where that goes both ways."""
        return self.task.attempt_steps if isinstance(self.task, BothWays) else self.max_episode_steps

    def turn(self, mask: Bool[Tensor, " n"]) -> dict[str, Any]:
        """Ask for the opposite in the worlds of ``mask``, where they stand; see ``envs.specs.TurningEnv``.

        ``ValueError`` for a task that has no way back.
        """
        if not isinstance(self.task, BothWays):
            raise ValueError(f"{self.task_name} has no way back: make the worlds with envs.tasks.both_ways")
        mask = self._to_device(torch.as_tensor(mask, dtype=torch.bool))
        self._layout = self.task.turned(self.layout, mask)
        worlds = mask.nonzero()[:, 0]
        if self._language:
            sentences = self._sentences(self.layout.take(worlds), self._random.take(worlds))
            for world, sentence in zip(worlds.tolist(), sentences, strict=True):
                self._instructions[world] = sentence
        return self._observe(torch.zeros_like(mask))

    def snapshot(self) -> Snapshot:
        """Every world and episode as it is now; to the last bit on the cpu engine."""
        tensors = self._workplace.snapshot() | self._episodes.tensors("episodes") | self.layout.tensors("layout")
        return Snapshot({name: tensor.clone() for name, tensor in tensors.items()}, list(self._instructions))

    def restore(self, snapshot: Snapshot) -> dict[str, Any]:
        """Put every world back to where it was photographed, in an environment made with the same settings.

        ``KeyError`` or ``ValueError`` if it does not fit this one.
        """
        if len(snapshot.instructions) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} photographed worlds, got {len(snapshot.instructions)}")
        tensors = snapshot.tensors
        if self._layout is None:
            everywhere = torch.arange(self.num_envs, device=self.device)
            self._start(everywhere, torch.zeros_like(everywhere))
        self._episodes = self._episodes.with_tensors("episodes", tensors)
        self._random = EpisodeRandom(self._episodes.seed, self.stream)
        self._layout = self.layout.with_tensors("layout", tensors)
        self._workplace.restore(tensors, self._layout)
        self._instructions = list(snapshot.instructions)
        return self._observe(torch.ones(self.num_envs, dtype=torch.bool, device=self.device))

    def close(self) -> None:
        """Free threads and GL contexts; safe to call twice."""
        self.world.close()

    def _count_privileged(self) -> int:
        """Numbers in the privileged state."""
        random = EpisodeRandom(torch.zeros(self.num_envs, dtype=torch.long, device=self.device), self.stream)
        layout = self._drawn(random)
        return privileged_state(self._workplace.scene.sense(self.world, layout), layout).shape[1]

    def _drawn(self, random: EpisodeRandom) -> Layout:
        """What the task draws, as the perturbation has it, with what episodes remember at their start."""
        return self.task.begin(self._workplace.perturber.arrange(self.task.sample(random), random))

    def _start(self, worlds: Int[Tensor, " k"], seeds: Int[Tensor, " k"]) -> None:
        """Begin the episodes of ``seeds`` in ``worlds``."""
        random = EpisodeRandom(seeds, self.stream)
        layout = self._drawn(random)
        sensed = self._workplace.start(worlds, layout, random)
        potential = self.task.potential(sensed, layout) if self._dense else torch.zeros(len(seeds), device=self.device)
        episodes = Episodes.fresh(seeds, potential)
        if self._language:
            sentences = self._sentences(layout, random)
            for world, sentence in zip(worlds.tolist(), sentences, strict=True):
                self._instructions[world] = sentence
        if self._layout is None:
            self._layout, self._episodes, self._random = layout, episodes, random
        else:
            self._random = self._random.replaced(worlds, random)
            self._layout = self._layout.replaced(worlds, layout)
            self._episodes = self._episodes.replaced(worlds, episodes)

    def _sentences(self, layout: Layout, random: EpisodeRandom) -> list[str]:
        return self._workplace.perturber.rewrite(self.task.instructions(layout, self.split), random)

    def _step(self, action: Float[Tensor, "n a"], active: Bool[Tensor, " n"]) -> tuple[Float[Tensor, " n"], Lost]:
        """One control step of the ``active`` worlds: their reward, and whom the engine lost."""
        live, lost = self._workplace.step(action, active, self.layout, self._random, self._episodes.elapsed)
        self._layout = self.task.advance(self.sense(), self.layout, live)
        if self.task.rearranges:
            self._workplace.rearrange(self._layout)
        return self._judge(active, live), lost

    def _judge(self, active: Bool[Tensor, " n"], live: Bool[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Bring the episodes up to date and return the reward: ``active`` worlds were stepped, ``live`` ones moved."""
        episodes = self._episodes
        success = live & self.task.solved(self.layout)
        elapsed = episodes.elapsed + active
        late = elapsed >= (self.task.horizon_steps(self.layout) if self._own_horizon else self.max_episode_steps)
        reward, potential = success.float(), episodes.potential
        if self._dense:
            ahead = self.task.potential(self.sense(), self.layout) * ~success
            reward = reward + (self._discount * ahead - potential) * live
            potential = torch.where(live, ahead, potential)
        unsolved = active & ~success
        cut = unsolved & (late | ~live)
        terminated = episodes.terminated | success
        self._episodes = replace(
            episodes,
            elapsed=elapsed,
            running=torch.where(active, unsolved & ~cut, episodes.running),
            terminated=terminated,
            truncated=episodes.truncated | cut,
            success=terminated,
            potential=potential,
        )
        return reward

    def _report(self, running: Bool[Tensor, " n"], finite: Bool[Tensor, " n"], lost: list[Lost]) -> list[int]:
        """Say what went wrong since the worlds of ``running`` were; returns which of them have ended."""
        diverged, crowded = zip(*lost, strict=True)
        flags = torch.stack((running, self._episodes.running, finite, *diverged, *crowded))
        # Here, and only here, the host waits for the device.
        was_running, still_running, good, *troubles = flags.cpu().numpy()
        diverged, crowded = (np.any(flags, axis=0) for flags in (troubles[: len(lost)], troubles[len(lost) :]))
        if not good.all():
            raise ValueError(f"actions of worlds {(~good).nonzero()[0].tolist()} are not finite")
        self._note("diverged", diverged.nonzero()[0].tolist())
        self._note("crowded", crowded.nonzero()[0].tolist())
        if crowded.any():
            logger.warning("too many contacts: %s", self.world.capacity_needed())
            if (crowded == was_running).all():
                raise CapacityError(self.world.capacity_needed())
        return (was_running & ~still_running).nonzero()[0].tolist()

    def _note(self, kind: IncidentKind, worlds: list[int]) -> None:
        for world in worlds:
            seed, step = int(self._episodes.seed[world]), int(self._episodes.elapsed[world])
            noted = Incident(kind=kind, task=self.task_names[world], seed=seed, step=step)
            self.incidents.append(noted)
            logger.warning("episode cut short: %s", noted)

    def _observe(self, fresh: Bool[Tensor, " n"]) -> dict[str, Any]:
        observation = self._workplace.observe(self.layout, self._random, self._episodes.elapsed, fresh)
        if self._language:
            observation[TASK_KEY] = list(self._instructions)
        return observation

    def _check_reset(
        self, seeds: Int[Tensor, " n"] | list[int], mask: Bool[Tensor, " n"] | None
    ) -> tuple[Int[Tensor, " n"], Bool[Tensor, " n"]]:
        """The seeds on the device, the mask where it is, if they fit."""
        n = self.num_envs
        seeds = self._to_device(checked_seeds(seeds, n))
        mask = torch.ones(n, dtype=torch.bool) if mask is None else torch.as_tensor(mask)
        if mask.dtype != torch.bool or mask.shape != (n,):
            raise ValueError(f"expected a bool mask of shape ({n},), got {mask.dtype} {tuple(mask.shape)}")
        if self._layout is None and not bool(mask.all()):
            raise RuntimeError("the first reset must start every world")
        return seeds, mask

    def _check_actions(self, actions: Tensor) -> None:
        expected = (self.num_envs, self.embodiment.action_dim)
        if actions.dim() != 3 or (actions.shape[0], actions.shape[2]) != expected or not actions.shape[1]:
            raise ValueError(
                f"expected actions of shape (n={expected[0]}, h ≥ 1, a={expected[1]}), got {tuple(actions.shape)}"
            )
        if self._layout is None:
            raise RuntimeError("call reset before stepping")

    def _to_device(self, tensor: Tensor) -> Tensor:
        """A tensor of the host on the device, without waiting for it to get there."""
        if self.device.type == "cuda" and tensor.device.type == "cpu":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)


def check_settings(counts: Mapping[str, int | None], reward: str, split: str, stream: str) -> None:
    """``ValueError`` for ``counts`` below 1, and for what is no kind of reward, split or stream."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    for name, given, known in (
        ("reward", reward, get_args(RewardKind)),
        ("split", split, SPLITS),
        ("stream", stream, STREAMS),
    ):
        if given not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {given!r}")
