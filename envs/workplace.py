"""A robot at its table in n worlds: placed, perturbed, commanded and sensed, whatever the task."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.control.modes import MODES
from envs.control.servo import PoseServo, ToolPose
from envs.engines import Engine, make_world
from envs.observations import Observer
from envs.perturbations.perturber import Perturber
from envs.perturbations.spec import Perturbation
from envs.props.base import Prop
from envs.random import EpisodeRandom
from envs.robots.arm import ArmSpec
from envs.scenes.layout import Layout
from envs.scenes.tabletop import Sensed, Tabletop
from envs.world import Lost, RenderConfig, RenderProfile

_DELTA_POSE = 7
"""Dimensions of a delta-pose action, which every control mode can translate."""


class Workplace:
    """``arm`` among ``props`` in ``num_worlds`` worlds of an engine, see ``envs.vector.TaskEnv`` for the settings.

    ``sensed`` is what the simulator knows after the last step, ``pose`` the tool pose that is commanded; they exist
    once all worlds have been started. Layouts and draws are handed in, and have a row for each world that is meant.
    """

    def __init__(
        self,
        arm: ArmSpec,
        props: Sequence[Prop],
        perturbation: Perturbation,
        num_worlds: int,
        *,
        engine: Engine,
        render: bool,
        image_size_px: tuple[int, int],
        depth: bool,
        segmentation: bool,
        profile: RenderProfile,
        velocities: bool,
        privileged: bool,
        **settings: Any,
    ) -> None:
        self.perturber = Perturber(perturbation, props)
        self.scene = Tabletop(arm, self.perturber.props, self.perturber.build)
        images = RenderConfig(
            cameras=self.scene.cameras if render else (),
            height_px=image_size_px[0],
            width_px=image_size_px[1],
            depth=depth,
            segmentation=segmentation,
            profile=profile,
        )
        fields = tuple(dict.fromkeys((*self.scene.fields, *self.perturber.fields)))
        self.world = make_world(engine, self.scene.model, num_worlds, images, fields, **settings)
        self.device = self.world.device
        self.scene.bind(self.world)
        servo = PoseServo(
            self.scene.chain, arm.servo, limits_rad=self.scene.joint_limits_rad, home_rad=self.scene.home_rad
        )
        self._controller = MODES[arm.control](servo, arm.opening_m / 2)
        self._substeps = round(1 / (arm.control_rate_hz * self.scene.model.opt.timestep))
        self._observer = Observer(self.scene, self.world, images, velocities=velocities, privileged=privileged)
        self.embodiment = self._observer.embodiment
        self.perturber.bind(self.scene, self.embodiment.action)
        told = self.perturber.history_steps, self.embodiment.action_dim
        self._history = torch.zeros(num_worlds, *told, device=self.device)
        self.sensed: Sensed | None = None
        self._before: Sensed | None = None
        self.pose: ToolPose

    def start(self, worlds: Int[Tensor, " k"], layout: Layout, random: EpisodeRandom) -> Sensed:
        """Arrange ``worlds`` as in ``layout``, the arm at rest; returns what is sensed there."""
        sensed = self.scene.arrange(self.world, layout, worlds, self.perturber.start_joints_rad(random))
        self.perturber.apply(self.world, layout, random, worlds)
        self.perturber.begin(random, worlds, self.world.num_worlds)
        if self.sensed is None:
            self.sensed, self.pose = sensed, sensed.tool
        else:
            self.sensed = self.sensed.replaced(worlds, sensed)
            self.pose = self.pose.replaced(worlds, sensed.tool)
        if self.perturber.history_steps:
            stay = torch.zeros(len(worlds), _DELTA_POSE, device=self.device)
            told = self._controller.translated(stay, sensed.joints_rad, self.world.command[worlds], sensed.tool)
            self._history = self._history.index_copy(0, worlds, told[:, None].expand_as(self._history[worlds]))
        return sensed

    def step(
        self,
        action: Float[Tensor, "n a"],
        active: Bool[Tensor, " n"],
        layout: Layout,
        random: EpisodeRandom,
        elapsed: Int[Tensor, " n"],
    ) -> tuple[Bool[Tensor, " n"], Lost]:
        """One control step of the ``active`` worlds, ``elapsed`` steps into their episodes: who moved, who was lost."""
        assert self.sensed is not None
        if self.perturber.interferes:
            action = self._disturbed(action, active, layout, random, elapsed)
        command, pose = self._controller.targets(action, self.sensed.joints_rad, self.world.command, self.pose)
        lost = self.world.step(command, self._substeps, active)
        live = active & ~(lost.diverged | lost.crowded)
        self.pose = pose.where(live, self.pose)
        self._before, self.sensed = self.sensed, self.scene.sense(self.world, layout, before=self.sensed)
        return live, lost

    def rearrange(self, layout: Layout) -> None:
        """Put the things that stand where ``layout`` says, after a step in the midst of the episodes."""
        assert self.sensed is not None
        self.scene.rearrange(self.world, layout)
        self.sensed = self.scene.sensed_anew(self.sensed, layout, self._before)

    def translated(self, move: Float[Tensor, "n 7"]) -> Float[Tensor, "n a"]:
        """A delta-pose action in the robot's control mode."""
        assert self.sensed is not None
        return self._controller.translated(move, self.sensed.joints_rad, self.world.command, self.pose)

    def observe(
        self, layout: Layout, random: EpisodeRandom, elapsed: Int[Tensor, " n"], fresh: Bool[Tensor, " n"]
    ) -> dict[str, Any]:
        """What the sensors deliver; only worlds of ``fresh`` are drawn anew."""
        assert self.sensed is not None
        observation = self._observer.observe(self.sensed, self.pose, layout, fresh)
        return self.perturber.observe(observation, random, elapsed) if self.perturber.senses else observation

    def snapshot(self) -> dict[str, Tensor]:
        """All that is here and changes, ``(n, …)`` each, by name."""
        tensors = {f"world.{name}": tensor for name, tensor in self.world.snapshot().items()}
        tensors |= {f"perturbation.{name}": tensor for name, tensor in self.perturber.numbers.items()}
        return tensors | self.pose.tensors("pose") | {"history": self._history}

    def restore(self, tensors: Mapping[str, Tensor], layout: Layout) -> None:
        """Put everything back to a :meth:`snapshot`, and ``layout`` with it. ``KeyError`` names what is missing."""

        def named(prefix: str) -> dict[str, Tensor]:
            chosen = {name: each for name, each in tensors.items() if name.startswith(prefix)}
            return {name.removeprefix(prefix): each.to(self.device) for name, each in chosen.items()}

        self.world.restore(named("world."))
        self.perturber.recall(named("perturbation."))
        self.pose = self.pose.with_tensors("pose", tensors)
        self._history = tensors["history"].to(self.device)
        self.sensed = self.scene.sense(self.world, layout)

    def _disturbed(
        self,
        action: Float[Tensor, "n a"],
        active: Bool[Tensor, " n"],
        layout: Layout,
        random: EpisodeRandom,
        elapsed: Int[Tensor, " n"],
    ) -> Float[Tensor, "n a"]:
        """What the arm executes instead of ``action``, which is remembered; things may be pushed meanwhile."""
        assert self.sensed is not None
        executed = self.perturber.disturb(action, self._history, random, elapsed)
        if self.perturber.history_steps:
            shifted = torch.cat((action[:, None], self._history[:, :-1]), 1)
            self._history = torch.where(active[:, None, None], shifted, self._history)
        kicks = self.perturber.kicks(random, elapsed, self.sensed, layout)
        if kicks is not None:
            self.world.push(kicks * active[:, None])
        return executed
