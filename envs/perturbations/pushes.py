"""Things that are knocked while the arm is at work."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from envs.perturbations.effect import applied, draw
from envs.perturbations.running import Running
from envs.perturbations.spec import Perturbation, Pushes
from envs.props.base import Prop
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout
from envs.scenes.tabletop import Sensed, Tabletop

_AT_GRIPPER_M = 0.08
"""From the tool to the origin of a thing that it may hold."""


class Knocks(Running):
    """At a step with a push, one of the things that can be carried gets a horizontal velocity on top of its own.

    Things that are absent, or so near to the tool that they may be held, are spared.
    """

    def __init__(self, config: Pushes, given: Perturbation, props: Sequence[Prop]) -> None:
        super().__init__()
        self._config, self._given, self._task_props = config, given, tuple(props)

    def bind(self, scene: Tabletop) -> None:
        """Look up which of the task's things can be carried; distractors are left alone."""
        model, device = scene.model, scene.home_rad.device
        free = [slot for slot, prop in enumerate(self._task_props) if prop.motion == "free"]
        first = [int(model.joint(scene.props[slot].name).dofadr[0]) for slot in free]
        self._slots, self._dofs = torch.tensor(free, device=device), torch.tensor(first, device=device)
        self._nv = int(model.nv)

    def drawn(self, random: EpisodeRandom) -> dict[str, Tensor]:
        probability = draw(random, "pushes_probability", self._config.probability)[:, 0]
        return {
            "probability": torch.where(applied(self._given, "pushes", random), probability, 0.0),
            "speed_m_s": draw(random, "pushes_speed", self._config.speed_m_s)[:, 0],
        }

    def kicks(
        self, random: EpisodeRandom, steps: Int[Tensor, " n"], sensed: Sensed, layout: Layout
    ) -> Float[Tensor, "n v"]:
        """By how much velocities change at this step (m/s)."""
        random = random.at(steps).fork("pushes")
        away = (sensed.position[:, self._slots] - sensed.tool_position[:, None]).norm(dim=-1)
        fair = layout.present[:, self._slots] & (away > _AT_GRIPPER_M)
        chosen = torch.where(fair, random.uniform("thing", len(self._slots)), -1.0).argmax(-1, keepdim=True)
        pushed = (random.uniform("push", 1)[:, 0] < self.numbers["probability"]) & fair.any(-1)
        speed = torch.where(pushed, self.numbers["speed_m_s"], 0.0)[:, None]
        heading, dof = random.uniform("heading", 1, 0.0, 2 * math.pi), self._dofs[chosen]
        kicks = torch.zeros(len(random), self._nv, device=random.device)
        return kicks.scatter(1, torch.cat((dof, dof + 1), 1), speed * torch.cat((heading.cos(), heading.sin()), 1))
