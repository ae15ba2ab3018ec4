"""The vector environment: a task in n worlds, stepped together on torch tensors."""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.backends.cpu import CpuWorld
from envs.control import DeltaPoseController
from envs.language import Split
from envs.random import EpisodeRandom
from envs.robots.arm import ArmSpec
from envs.robots.panda import PANDA
from envs.scenes.tabletop import Layout, Sensed, Tabletop
from envs.specs import (
    STATE_KEY,
    TASK_KEY,
    CameraSpec,
    EmbodimentSpec,
    Transition,
    depth_key,
    extrinsics_key,
    image_key,
    intrinsics_key,
)
from envs.tasks import Task, make_task
from envs.world import FAST, RenderProfile

RewardKind = Literal["sparse", "dense"]


class TaskEnv:
    """``num_envs`` worlds of one task; fulfils ``envs.specs.VectorEnv``.

    Nothing is reset by itself: a world whose episode has ended stands still, returning zero reward, until ``reset``.
    ``split`` chooses the phrasings. ``reward`` is 1 on success ("sparse"), or that plus the difference of the task's
    potential ("dense"). Without ``render`` the observation holds state and instruction only.
    """

    def __init__(
        self,
        task: Task | str,
        num_envs: int,
        *,
        arm: ArmSpec = PANDA,
        image_size_px: tuple[int, int] = (64, 64),
        depth: bool = False,
        render: bool = True,
        split: Split = "train",
        reward: RewardKind = "sparse",
        profile: RenderProfile = FAST,
        max_episode_steps: int | None = None,
        threads: int | None = None,
    ) -> None:
        counts = {"num_envs": num_envs, "max_episode_steps": max_episode_steps, "threads": threads}
        counts |= dict(zip(("image height", "image width"), image_size_px, strict=True))
        for name, count in counts.items():
            if count is not None and count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        if reward not in ("sparse", "dense"):
            raise ValueError(f"reward must be 'sparse' or 'dense', got {reward!r}")
        if split not in ("train", "held_out"):
            raise ValueError(f"split must be 'train' or 'held_out', got {split!r}")
        self.task = make_task(task) if isinstance(task, str) else task
        self.task_name = self.task.name
        self.num_envs, self.profile = num_envs, profile
        self.split: Split = split
        self.max_episode_steps = max_episode_steps or self.task.max_episode_steps
        self._reward, self._render_images = reward, render
        self._scene = Tabletop(arm, self.task.num_cubes, self.task.num_bins)
        self._world = CpuWorld(
            self._scene.model,
            num_envs,
            cameras=self._scene.cameras,
            image_size_px=image_size_px,
            depth=depth,
            profile=profile,
            threads=threads,
        )
        self.device = self._world.device
        self._scene.bind(self._world)
        self._controller = _controller(self._scene, arm)
        self._substeps = round(1 / (arm.control_rate_hz * self._scene.model.opt.timestep))
        height, width = image_size_px
        self.embodiment = EmbodimentSpec(
            name=arm.name,
            control_rate_hz=arm.control_rate_hz,
            state=arm.state_dimensions(),
            action=arm.action_dimensions(),
            cameras=tuple(
                CameraSpec(name=_short(name), height_px=height, width_px=width, depth=depth)
                for name in (self._scene.cameras if render else ())
            ),
        )
        self._intrinsics = {
            _short(name): _pinhole(float(self._scene.model.camera(name).fovy[0]), height, width)
            for name in self._scene.cameras
        }
        n = num_envs
        self._layout: Layout | None = None
        self._instructions = [""] * n
        self._elapsed = torch.zeros(n, dtype=torch.long)
        self._terminated = torch.zeros(n, dtype=torch.bool)
        self._truncated = torch.zeros(n, dtype=torch.bool)
        self._success = torch.zeros(n, dtype=torch.bool)
        self._potential = torch.zeros(n)

    @property
    def layout(self) -> Layout:
        """What was drawn for the running episodes."""
        if self._layout is None:
            raise RuntimeError("call reset before stepping")
        return self._layout

    def sense(self) -> Sensed:
        """The simulator's own state, which no policy may see."""
        return self._scene.sense(self._world)

    def reset(self, seeds: Int[Tensor, " n"] | list[int], mask: Bool[Tensor, " n"] | None = None) -> dict[str, Any]:
        """Start an episode in every world of ``mask`` (all when None); world i's is drawn from ``seeds[i]``."""
        seeds = torch.as_tensor(seeds, dtype=torch.long)
        if seeds.shape != (self.num_envs,):
            raise ValueError(f"expected {self.num_envs} seeds, one per world, got shape {tuple(seeds.shape)}")
        mask = torch.ones(self.num_envs, dtype=torch.bool) if mask is None else torch.as_tensor(mask)
        if mask.dtype != torch.bool or mask.shape != (self.num_envs,):
            raise ValueError(f"expected a bool mask of shape ({self.num_envs},), got {mask.dtype} {tuple(mask.shape)}")
        if self._layout is None and not bool(mask.all()):
            raise RuntimeError("the first reset must start every world")
        fresh = self.task.sample(EpisodeRandom(seeds))
        self._layout = fresh if self._layout is None else self._layout.updated(fresh, mask)
        self._scene.arrange(self._world, self._layout, mask)
        sentences = self.task.instructions(self._layout, self.split)
        chosen = mask.tolist()
        self._instructions = [
            new if taken else old for new, old, taken in zip(sentences, self._instructions, chosen, strict=True)
        ]
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
        self._check(actions)
        steps = torch.zeros(self.num_envs, dtype=torch.long)
        reward = torch.zeros(self.num_envs)
        sensed = self.sense()
        for action in actions.unbind(1):
            active = ~(self._terminated | self._truncated)
            if not bool(active.any()):
                break
            command = self._controller.targets(action, sensed.joints_rad, self._world.command)
            self._world.step(command, self._substeps, active)
            sensed = self.sense()
            reward += self._judge(sensed, active)
            steps += active
        return Transition(
            self._observe(sensed, steps > 0),
            reward,
            self._terminated.clone(),
            self._truncated.clone(),
            self._success.clone(),
            steps,
        )

    def expert_action(self) -> Float[Tensor, "n a"]:
        """What the task's scripted expert would do now."""
        return self.task.expert(self.sense(), self.layout)

    def close(self) -> None:
        """Free threads and GL contexts; safe to call twice."""
        self._world.close()

    def _check(self, actions: Tensor) -> None:
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

    def _judge(self, sensed: Sensed, active: Bool[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Update the flags of the active worlds and return their reward."""
        success = active & self.task.success(sensed, self.layout)
        self._elapsed += active
        self._success |= success
        self._terminated |= success
        self._truncated |= active & ~success & (self._elapsed >= self.max_episode_steps)
        reward = success.float()
        if self._reward == "dense":
            potential = self.task.potential(sensed, self.layout)
            reward = reward + torch.where(active, potential - self._potential, 0.0)
            self._potential = torch.where(active, potential, self._potential)
        return reward

    def _observe(self, sensed: Sensed, fresh: Bool[Tensor, " n"]) -> dict[str, Any]:
        axes = sensed.tool_rotation[:, :, :2].mT.flatten(1)
        state = torch.cat((sensed.tool_position, axes, sensed.gap[:, None], sensed.joints_rad), -1)
        observation: dict[str, Any] = {STATE_KEY: state, TASK_KEY: list(self._instructions)}
        if not self._render_images:
            return observation
        for name, seen in self._world.render(fresh).items():
            camera = _short(name)
            observation[image_key(camera)] = seen.rgb
            if seen.depth_m is not None:
                observation[depth_key(camera)] = seen.depth_m
            observation[intrinsics_key(camera)] = self._intrinsics[camera].expand(self.num_envs, 3, 3)
            observation[extrinsics_key(camera)] = seen.T_world_cam
        return observation


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


def _short(camera: str) -> str:
    """A camera's name without the robot's prefix."""
    return camera.rpartition("/")[2]


def _pinhole(fovy_deg: float, height_px: int, width_px: int) -> Float[Tensor, "3 3"]:
    """K of a MuJoCo camera: square pixels, principal point at the image's centre."""
    focal = 0.5 * height_px / torch.tan(torch.deg2rad(torch.tensor(fovy_deg / 2))).item()
    return torch.tensor([[focal, 0.0, width_px / 2], [0.0, focal, height_px / 2], [0.0, 0.0, 1.0]])
