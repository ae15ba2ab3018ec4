"""The task contract: a task is written once, on batched tensors, for every engine and robot."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Bool, Float
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

    A task of several ``stages`` is solved when each of them has succeeded, in order. ``draws["stage"]`` of its layouts
    counts those that have; success, potential and expert are about the next one.
    """

    name: str
    max_episode_steps: int
    phrasings: Phrasings
    props: tuple[Prop, ...]
    chance: float | None = None
    stages: int = 1

    @abstractmethod
    def sample(self, random: EpisodeRandom) -> Layout:
        """Draw every world's episode; ``roles`` must name each thing that the phrasings mention."""

    @abstractmethod
    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        """Is the instruction, or its present stage, fulfilled now?"""

    @abstractmethod
    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        """How far the task is done, 0 … 1; its differences are the dense reward (Ng et al. 1999)."""

    @abstractmethod
    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        """The scripted expert: a function of the present state alone, so that it recovers from any noise."""

    def instructions(self, layout: Layout, split: Split, worlds: Sequence[int]) -> list[str]:
        """One sentence for each of ``worlds``."""
        roles = {role: slots.tolist() for role, slots in layout.roles.items()}
        colours, draws = layout.colour.tolist(), layout.phrasing.tolist()
        return [
            wording.choose(split, draws[world]).format(
                **{role: self.describe(role, slots[world], colours[world]) for role, slots in roles.items()}
            )
            for world, wording in zip(worlds, self.wordings(layout, worlds), strict=True)
        ]

    def wordings(self, layout: Layout, worlds: Sequence[int]) -> list[Phrasings]:
        """The phrasings that fit what was drawn for each of ``worlds``: all of them by default."""
        return [self.phrasings] * len(worlds)

    def describe(self, role: str, slot: int, colours: Sequence[int]) -> str:
        """How the instruction calls the thing in ``slot`` that plays ``role``; ``colours`` are this world's."""
        return self.props[slot].describe(COLOUR_NAMES[colours[slot]])
