"""The vector environment: a task in n worlds, stepped together on torch tensors."""

import logging
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.control import DeltaPoseController
from envs.engines import Engine, make_world
from envs.language import Split
from envs.observations import Observer, privileged_state
from envs.perturbations.perturber import Perturber
from envs.perturbations.spec import Perturbation
from envs.random import EpisodeRandom
from envs.robots.arm import ArmSpec
from envs.robots.panda import PANDA
from envs.scenes.layout import Layout
from envs.scenes.tabletop import Sensed, Tabletop
from envs.specs import ENVIRONMENT_STATE_KEY, TASK_KEY, Transition
from envs.suites import find_task
from envs.tasks.base import Task
from envs.world import FAST, RenderConfig, RenderProfile

RewardKind = Literal["sparse", "dense"]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """An episode whose physics blew up: it was cut short and its world put back to the start."""

    task: str
    seed: int
    step: int


class TaskEnv:
    """``num_envs`` worlds of one task; fulfils ``envs.specs.VectorEnv``.

    Nothing is reset by itself: a world whose episode has ended stands still, returning zero reward, until ``reset``.
    ``engine`` is "cpu" (C MuJoCo on ``threads``) or "warp" (on ``device``); the same seed starts in the same state on
    both.
    ``split`` chooses the phrasings. ``reward`` is 1 on success ("sparse"), or that plus the difference of the task's
    potential ("dense"). Without ``render`` the observation holds state and instruction only; with ``privileged`` also
    what the simulator knows of the things that the instruction names.

    ``perturbation`` says what differs from the scene as the task has it, see ``envs.perturbations``.

    A world whose physics diverges is logged, noted in ``divergences``, put back to its start and truncated; the others
    go on.
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
        privileged: bool = False,
        split: Split = "train",
        perturbation: Perturbation | None = None,
        reward: RewardKind = "sparse",
        profile: RenderProfile = FAST,
        max_episode_steps: int | None = None,
        threads: int | None = None,
        device: str | None = None,
    ) -> None:
        counts = {"num_envs": num_envs, "max_episode_steps": max_episode_steps, "threads": threads}
        counts |= dict(zip(("image height", "image width"), image_size_px, strict=True))
        _check_settings(counts, reward, split)
        self.task = find_task(task) if isinstance(task, str) else task
        self.task_name = self.task.name
        self.num_envs, self.profile = num_envs, profile
        self.split: Split = split
        self.max_episode_steps = max_episode_steps or self.task.max_episode_steps
        self.divergences: list[Divergence] = []
        self._reward, self._privileged = reward, privileged
        self._perturber = Perturber(perturbation or Perturbation(), self.task.props)
        self._scene = Tabletop(arm, self._perturber.props, self._perturber.build)
        images = RenderConfig(
            cameras=self._scene.cameras if render else (),
            height_px=image_size_px[0],
            width_px=image_size_px[1],
            depth=depth,
            segmentation=segmentation,
            profile=profile,
        )
        fields = tuple(dict.fromkeys((*self._scene.fields, *self._perturber.fields)))
        self.world = make_world(engine, self._scene.model, num_envs, images, fields, threads=threads, device=device)
        self.device = self.world.device
        self._scene.bind(self.world)
        self._controller = _controller(self._scene, arm)
        self._substeps = round(1 / (arm.control_rate_hz * self._scene.model.opt.timestep))
        self._observer = Observer(self._scene, self.world, images)
        self.embodiment = self._observer.embodiment
        self._perturber.bind(self._scene, self.embodiment.action)
        n, device_ = num_envs, self.device
        self._layout: Layout | None = None
        self._instructions = [""] * n
        self._seeds = torch.zeros(n, dtype=torch.long, device=device_)
        self._elapsed = torch.zeros(n, dtype=torch.long, device=device_)
        self._terminated = torch.zeros(n, dtype=torch.bool, device=device_)
        self._truncated = torch.zeros(n, dtype=torch.bool, device=device_)
        self._success = torch.zeros(n, dtype=torch.bool, device=device_)
        self._potential = torch.zeros(n, device=device_)
        told = self._perturber.history_steps, self.embodiment.action_dim
        self._history = torch.zeros(n, *told, device=device_)

    @property
    def privileged_dim(self) -> int:
        """Numbers in the privileged state; 0 without."""
        if not self._privileged:
            return 0
        layout = self.task.sample(EpisodeRandom(torch.zeros(1, dtype=torch.long)))
        return 10 * len(layout.roles) + sum(drawn[0].numel() for drawn in layout.draws.values())

    @property
    def layout(self) -> Layout:
        """What was drawn for the running episodes."""
        if self._layout is None:
            raise RuntimeError("call reset before stepping")
        return self._layout

    @property
    def stages_done(self) -> Bool[Tensor, "n stages"]:
        """Which stages of the running episodes are behind; one column, success, for most tasks."""
        if self.task.stages == 1:
            return self._success[:, None].clone()
        return torch.arange(self.task.stages, device=self.device) < self.layout.draws["stage"][:, None]

    def sense(self) -> Sensed:
        """The simulator's own state, which no policy may see."""
        return self._scene.sense(self.world, self.layout)

    def reset(self, seeds: Int[Tensor, " n"] | list[int], mask: Bool[Tensor, " n"] | None = None) -> dict[str, Any]:
        """Start an episode in every world of ``mask`` (all when None); world i's is drawn from ``seeds[i]``."""
        seeds, mask = self._check_reset(seeds, mask)
        fresh = self._perturber.arrange(self.task.sample(EpisodeRandom(seeds)), EpisodeRandom(seeds))
        self._layout = fresh if self._layout is None else self._layout.updated(fresh, mask)
        self._seeds = torch.where(mask, seeds, self._seeds)
        self._put_to_start(mask)
        worlds = mask.nonzero()[:, 0].tolist()
        sentences = self.task.instructions(self._layout, self.split, worlds)
        sentences = self._perturber.rewrite(sentences, EpisodeRandom(self._seeds[worlds]))
        for world, sentence in zip(worlds, sentences, strict=True):
            self._instructions[world] = sentence
        self._elapsed[mask] = 0
        self._terminated[mask] = self._truncated[mask] = self._success[mask] = False
        sensed = self.sense()
        self._potential = torch.where(mask, self.task.potential(sensed, self._layout), self._potential)
        return self._observe(sensed, mask)

    def step(self, actions: Float[Tensor, "n a"]) -> Transition:
        """One control step; see ``envs.specs.Transition``."""
        return self.step_chunk(torch.as_tensor(actions)[:, None])

    def step_chunk(self, actions: Float[Tensor, "n h a"]) -> Transition:
        """Up to h control steps, then one observation. A world that finishes inside the chunk stops there."""
        actions = torch.as_tensor(actions, dtype=torch.float32, device=self.device)
        self._check_actions(actions)
        steps = torch.zeros(self.num_envs, dtype=torch.long, device=self.device)
        reward = torch.zeros(self.num_envs, device=self.device)
        sensed = self.sense()
        for action in actions.unbind(1):
            active = ~(self._terminated | self._truncated)
            if not bool(active.any()):
                break
            action = self._disturbed(action, sensed, active)
            command = self._controller.targets(action, sensed.joints_rad, self.world.command)
            diverged = self.world.step(command, self._substeps, active)
            steps += active
            self._elapsed += active
            if bool(diverged.any()):
                self._cut_short(diverged)
                active &= ~diverged
            sensed = self.sense()
            reward += self._judge(sensed, active)
        return Transition(
            self._observe(sensed, steps > 0),
            reward,
            self._terminated.clone(),
            self._truncated.clone(),
            self._success.clone(),
            steps,
        )

    def perturb(self, perturbation: Perturbation) -> None:
        """Perturb each world's next episodes by other ranges of the same axes; running ones go on as they are.

        ``ValueError`` if that needs another scene: other axes, another number of distractors, other patterns.
        """
        self._perturber = self._perturber.replaced(perturbation)

    def expert_action(self) -> Float[Tensor, "n a"]:
        """What the task's scripted expert would do now."""
        return self.task.expert(self.sense(), self.layout)

    def close(self) -> None:
        """Free threads and GL contexts; safe to call twice."""
        self.world.close()

    def _check_reset(
        self, seeds: Int[Tensor, " n"] | list[int], mask: Bool[Tensor, " n"] | None
    ) -> tuple[Int[Tensor, " n"], Bool[Tensor, " n"]]:
        """Both as tensors on the device, if they fit."""
        n, device = self.num_envs, self.device
        seeds = torch.as_tensor(seeds, dtype=torch.long, device=device)
        if seeds.shape != (n,):
            raise ValueError(f"expected {n} seeds, one per world, got shape {tuple(seeds.shape)}")
        mask = torch.ones(n, dtype=torch.bool) if mask is None else torch.as_tensor(mask)
        if mask.dtype != torch.bool or mask.shape != (n,):
            raise ValueError(f"expected a bool mask of shape ({n},), got {mask.dtype} {tuple(mask.shape)}")
        if self._layout is None and not bool(mask.all()):
            raise RuntimeError("the first reset must start every world")
        return seeds, mask.to(device)

    def _check_actions(self, actions: Tensor) -> None:
        expected = (self.num_envs, self.embodiment.action_dim)
        if actions.dim() != 3 or (actions.shape[0], actions.shape[2]) != expected:
            raise ValueError(
                f"expected actions of shape (n={expected[0]}, h, a={expected[1]}), got {tuple(actions.shape)}"
            )
        if self._layout is None:
            raise RuntimeError("call reset before stepping")
        if not bool(actions.isfinite().all()):
            raise ValueError(
                f"actions of worlds {(~actions.isfinite()).flatten(1).any(1).nonzero()[:, 0].tolist()} are not finite"
            )

    def _put_to_start(self, mask: Bool[Tensor, " n"]) -> None:
        self._scene.arrange(self.world, self.layout, mask, self._perturber.start_joints_rad(EpisodeRandom(self._seeds)))
        self._perturber.apply(self.world, self.layout, EpisodeRandom(self._seeds), mask)
        worlds = mask.nonzero()[:, 0]
        self._perturber.begin(EpisodeRandom(self._seeds[worlds]), worlds, self.num_envs)
        self._history[mask] = 0

    def _disturbed(
        self, action: Float[Tensor, "n a"], sensed: Sensed, active: Bool[Tensor, " n"]
    ) -> Float[Tensor, "n a"]:
        """What the arm executes instead of ``action``, which is remembered; things may be pushed meanwhile."""
        if not self._perturber.interferes:
            return action
        random = EpisodeRandom(self._seeds)
        told = self._perturber.disturb(action, self._history, random, self._elapsed)
        if self._perturber.history_steps:
            shifted = torch.cat((action[:, None], self._history[:, :-1]), 1)
            self._history = torch.where(active[:, None, None], shifted, self._history)
        kicks = self._perturber.kicks(random, self._elapsed, sensed, self.layout)
        if kicks is not None:
            self.world.push(kicks * active[:, None])
        return told

    def _cut_short(self, diverged: Bool[Tensor, " n"]) -> None:
        """Note the worlds that diverged, put them back to their start and end their episodes."""
        for world in diverged.nonzero()[:, 0].tolist():
            noted = Divergence(task=self.task_name, seed=int(self._seeds[world]), step=int(self._elapsed[world]))
            self.divergences.append(noted)
            logger.warning("physics diverged, episode cut short: %s", noted)
        self._put_to_start(diverged)
        self._truncated |= diverged

    def _judge(self, sensed: Sensed, active: Bool[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Update the flags of the active worlds and return their reward."""
        success = self._advance(active & self.task.success(sensed, self.layout))
        self._success |= success
        self._terminated |= success
        self._truncated |= active & ~success & (self._elapsed >= self.max_episode_steps)
        reward = success.float()
        if self._reward == "dense":
            potential = self.task.potential(sensed, self.layout)
            reward = reward + torch.where(active, potential - self._potential, 0.0)
            self._potential = torch.where(active, potential, self._potential)
        return reward

    def _advance(self, done: Bool[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """Count the stages that are ``done`` just now; with its last one, the task is."""
        if self.task.stages == 1:
            return done
        stage = self.layout.draws["stage"] + done
        self._layout = self.layout.with_draws(stage=stage)
        return done & (stage == self.task.stages)

    def _observe(self, sensed: Sensed, fresh: Bool[Tensor, " n"]) -> dict[str, Any]:
        observation = self._observer.observe(sensed, fresh) | {TASK_KEY: list(self._instructions)}
        observation = self._perturber.observe(observation, EpisodeRandom(self._seeds), self._elapsed)
        if self._privileged:
            observation[ENVIRONMENT_STATE_KEY] = privileged_state(sensed, self.layout)
        return observation


def _check_settings(counts: dict[str, int | None], reward: str, split: str) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    if reward not in ("sparse", "dense"):
        raise ValueError(f"reward must be 'sparse' or 'dense', got {reward!r}")
    if split not in ("train", "held_out"):
        raise ValueError(f"split must be 'train' or 'held_out', got {split!r}")


def _controller(scene: Tabletop, arm: ArmSpec) -> DeltaPoseController:
    lower, upper = scene.joint_limits_rad.unbind(-1)
    return DeltaPoseController(
        scene.chain,
        lower_rad=lower,
        upper_rad=upper,
        home_rad=scene.home_rad,
        gripper_open_m=arm.opening_m / 2,
        config=arm.control,
    )
