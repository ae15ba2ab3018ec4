"""What the drawer and the door have in common: they are taken by a handle and opened, or closed."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.language import Phrasings
from envs.props.base import Prop
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout, scatter
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.motion import SPEED_M, at_grasp, holds, hop, let_go, move_to, nearness

Action = Literal["open", "close"]
CLEAR_M = 0.05
"""How far from the handle the tool must be in the end, so that it drags nothing along on its next way."""
GENTLY_M, FASTEST_M, GAIN = 0.006, 0.02, 0.4
"""How far the expert moves a handle in its first step and at most in any, and how much more for each metre behind it:
fingers that are not quite closed when the pull begins still close on the handle."""
CLOSING = 0.95
"""The share of the widest gap below which fingers are closing, and go on although the handle gives way a little."""


class Openable(Task):
    """Open or close the named one of ``props``.

    ``action`` fixes what is asked; without it, it is drawn per episode as ``draws["open"]``. What is to be opened
    starts closed and the other way round; the things that are not meant start either way. Openings are in the unit of
    the joint, metres or radians: ``open_from`` and ``closed_until`` are success once the part has been at rest, and the
    tool clear of the handle, for three steps; ``widest`` is where the part ends, ``stride`` how far ahead of it the
    expert pulls. It lets go of the handle ``short`` of an end, well beyond what success asks: who imitates it lets go
    a little sooner or later. The handle goes ``lever_m`` metres per unit, and the fingers begin to close ``within_m``
    of its middle: off a round one that is held by its edge they slip.
    """

    dwell_steps = 3
    role: ClassVar[str]
    to_open: ClassVar[Phrasings]
    to_close: ClassVar[Phrasings]
    open_from: ClassVar[float]
    closed_until: ClassVar[float]
    widest: ClassVar[float]
    stride: ClassVar[float]
    short: ClassVar[float]
    lever_m: ClassVar[float]
    within_m: ClassVar[float]
    handle_width_m: ClassVar[float]

    def __init__(self, props: Sequence[Prop], action: Action | None = None) -> None:
        self.props, self.action = tuple(props), action
        if action is None:
            self.phrasings = Phrasings(
                train=self.to_open.train + self.to_close.train, held_out=self.to_open.held_out + self.to_close.held_out
            )
        else:
            self.name = f"{action}-{self.role}"
            self.phrasings = self.to_open if action == "open" else self.to_close
        self.chance = 1 / len(self.props) if len(self.props) > 1 else None

    @staticmethod
    @abstractmethod
    def handle(
        position: Float[Tensor, "n 3"], quat: Float[Tensor, "n 4"], opening: Float[Tensor, " n"]
    ) -> Float[Tensor, "n 3"]:
        """Where to take hold of a thing that is open by ``opening``."""

    def sample(self, random: EpisodeRandom) -> Layout:
        layout = scatter(random, self.props)
        named = random.integers(self.role, 1, len(self.props))
        opens = random.integers("open", 1, 2).bool()
        if self.action is not None:
            opens = torch.full_like(opens, self.action == "open")
        is_open = random.integers("state", len(self.props), 2).bool().scatter(1, named, ~opens)
        opening = random.uniform("opening", len(self.props), 0.9, 1.0) * self.widest
        layout = replace(layout, opening=torch.where(is_open, opening, 0.0))
        return layout.with_roles(**{self.role: named[:, 0]}).with_draws(open=opens[:, 0])

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        clear = (sensed.tool_position - self._handle(sensed, layout)).norm(dim=-1) > CLEAR_M
        return self._far_enough(sensed, layout) & clear & layout.of(sensed.at_rest, self.role)

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        opened = (layout.of(sensed.opening, self.role) / self.open_from).clamp(0, 1)
        progress = torch.where(self._opens(layout), opened, 1 - opened)
        return 0.3 * nearness(sensed.tool_position, self._handle(sensed, layout)) + 0.7 * progress

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        """Come down around the handle, close, follow its way to the end, and let go."""
        handle, opening = self._handle(sensed, layout), layout.of(sensed.opening, self.role)
        held = holds(sensed, handle, self.handle_width_m)
        end = torch.where(self._opens(layout), self.widest, 0.0)
        done = torch.where(held, (end - opening).abs() < self.short, self._far_enough(sensed, layout))
        ahead = opening + (end - opening).clamp(-self.stride, self.stride)
        way = self.handle(layout.of(sensed.position, self.role), layout.of(sensed.quat, self.role), ahead) - handle
        onwards = torch.cat((sensed.tool_position[:, :2], handle[:, 2:]), -1) + way
        goal = torch.where(held[:, None], onwards, hop(handle, sensed))
        behind_m = self.lever_m * torch.where(self._opens(layout), opening, self.widest - opening)
        pull_m = (GENTLY_M + GAIN * behind_m).clamp(GENTLY_M, FASTEST_M)
        speed_m = torch.where(held, pull_m, SPEED_M)[:, None]
        closing = at_grasp(sensed, handle) & (sensed.gap < CLOSING * sensed.gripper.opening_m)
        close = held | closing | at_grasp(sensed, handle, self.within_m)
        move = move_to(sensed, goal, close.float(), speed_m)
        return torch.where(done[:, None], let_go(sensed, self.handle_width_m), move)

    def wordings(self, layout: Layout) -> list[Phrasings]:
        return [self.to_open if opens else self.to_close for opens in self._opens(layout).tolist()]

    def _far_enough(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        opening = layout.of(sensed.opening, self.role)
        if self.action is None:
            return torch.where(layout.draws["open"], opening >= self.open_from, opening <= self.closed_until)
        return opening >= self.open_from if self.action == "open" else opening <= self.closed_until

    def _opens(self, layout: Layout) -> Bool[Tensor, " n"]:
        if self.action is None:
            return layout.draws["open"]
        return torch.full((len(layout),), self.action == "open", device=layout.position.device)

    def _handle(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 3"]:
        where = (layout.of(values, self.role) for values in (sensed.position, sensed.quat, sensed.opening))
        return self.handle(*where)
