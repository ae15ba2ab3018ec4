"""The task contract: a task is written once, on batched tensors, for every engine and robot."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.language import Phrasings, Split
from envs.props.base import Prop
from envs.props.colours import COLOUR_NAMES
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout
from envs.scenes.tabletop import Sensed


class Task(ABC):
    """What is on the table, what is asked, when it is done, and how a script would do it.

    ``chance`` is the success of a policy that does the right thing to a random one of the things that might have been
    meant; None where nothing is to be chosen.

    A task of several ``stages`` is solved when each of them has succeeded, in order; a stage has when what it asks for
    has held for ``dwell_steps`` control steps in a row. ``layout.memory`` counts in ``stage`` the stages behind
    and in ``dwell`` the steps that the present one has held; success, potential and expert are about the next stage.
    """

    name: str
    max_episode_steps: int
    phrasings: Phrasings
    props: tuple[Prop, ...]
    chance: float | None = None
    stages: int = 1
    dwell_steps: int = 1
    achieved: str = ""
    """What is to be seen when the task is done, with the roles of the phrasings; empty where nobody has put it so."""
    rearranges: bool = False
    """Whether :meth:`advance` may move things that stand, in the midst of an episode."""

    @abstractmethod
    def sample(self, random: EpisodeRandom) -> Layout:
        """Draw every world's episode; ``roles`` must name each thing that the phrasings mention."""

    @abstractmethod
    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        """Is what the instruction, or its present stage, asks for so now?"""

    @abstractmethod
    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        """How far the task is done, 0 … 1; its differences are the dense reward (Ng et al. 1999)."""

    @abstractmethod
    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        """The scripted expert's delta-pose action: a function of the present state and what the episode remembers, so
        that it recovers from disturbances.
        """

    def begin(self, layout: Layout) -> Layout:
        """``layout`` with what an episode remembers at its start."""
        none = torch.zeros(len(layout), dtype=torch.long, device=layout.position.device)
        return layout.remembering(stage=none, dwell=none)

    def advance(self, sensed: Sensed, layout: Layout, running: Bool[Tensor, " n"]) -> Layout:
        """What episodes remember after a control step of the ``running`` worlds; the others' memory stays.

        The one hook by which a task carries on from what it saw. By default it counts dwell and stages.
        """
        before = layout.memory["dwell"]
        dwell = torch.where(running, (before + 1) * self.success(sensed, layout), before)
        done = running & (dwell >= self.present_dwell_steps(layout))
        return layout.remembering(stage=layout.memory["stage"] + done, dwell=dwell.masked_fill(done, 0))

    def solved(self, layout: Layout) -> Bool[Tensor, " n"]:
        """Which episodes have every stage behind them."""
        return layout.memory["stage"] >= self.stages

    def stages_done(self, layout: Layout) -> Bool[Tensor, "n s"]:
        """Which stages are behind."""
        return torch.arange(self.stages, device=layout.position.device) < layout.memory["stage"][:, None]

    def present_dwell_steps(self, layout: Layout) -> Int[Tensor, " n"] | int:
        """How long each world's present stage has to hold."""
        return self.dwell_steps

    def horizon_steps(self, layout: Layout) -> Int[Tensor, " n"] | int:
        """How many control steps each episode may take."""
        return self.max_episode_steps

    def names(self, layout: Layout) -> list[str]:
        """What each episode's task is called: this one, but in a mixture."""
        return [self.name] * len(layout)

    def instructions(self, layout: Layout, split: Split) -> list[str]:
        """One sentence for each episode."""
        roles = {role: slots.tolist() for role, slots in layout.roles.items()}
        colours = layout.colour.tolist()
        return [
            wording.choose(split, draw).format(
                **{role: self.describe(role, slots[i], colours[i]) for role, slots in roles.items()}
            )
            for i, (draw, wording) in enumerate(zip(layout.phrasing.tolist(), self.wordings(layout), strict=True))
        ]

    def wordings(self, layout: Layout) -> list[Phrasings]:
        """The phrasings that fit what was drawn for each episode: all of them by default."""
        return [self.phrasings] * len(layout)

    def describe(self, role: str, slot: int, colours: Sequence[int]) -> str:
        """How the instruction calls the thing in ``slot`` that plays ``role``; ``colours`` are this world's."""
        return self.props[slot].describe(COLOUR_NAMES[colours[slot]])
