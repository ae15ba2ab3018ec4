"""The policy API: what acts, be it a network, a scripted expert or a server far away."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from envs.specs import STATE_KEY, EmbodimentSpec

State = TypeVar("State")
"""What a policy remembers of n worlds."""


class Plan(NamedTuple):
    """What n worlds are to do: ``actions`` float32 in the embodiment's units, the first ``length`` of which count.

    After so many steps (1 … h) a world's policy wants to look again. Rows of worlds that were not asked for are 0.
    ``answers`` are what it says of its plan to each world, empty in others; there are none where it does not speak.
    """

    actions: Float[Tensor, "n h a"]
    length: Int[Tensor, " n"]
    answers: tuple[str, ...] = ()


class Underway(NamedTuple):
    """What n worlds go on doing while their next plans are made, counted from the moment of the observation.

    The first ``length`` of ``actions``, in the embodiment's units, are still planned. ``delay`` of them (1 … length,
    estimated) will have been carried out when the new plan comes, the first ``delay`` actions of which are past then.
    """

    actions: Float[Tensor, "n k a"]
    length: Int[Tensor, " n"]
    delay: Int[Tensor, " n"]


class Policy(ABC, Generic[State]):
    """Maps batched observations (keys of ``envs.specs``) to plans in the embodiment's units.

    What it remembers is not in the policy but in a ``State``, which ``start`` makes for n worlds at the beginning of
    their episodes and every ``plan`` passes on: an evaluation holds one, a server one per connection. Plans have
    ``horizon`` actions; ``replan_interval`` is how many are executed by default before it looks again.
    """

    remembers: bool = True
    """Whether a plan depends on more than the observation, so that worlds must not share a memory."""
    continues: bool = False
    """Whether :meth:`plan_on` heeds what is under way, so that it is worth telling."""
    paced: bool = False
    """Whether it tells time by its plans, so that each must be carried out for exactly ``replan_interval`` steps."""
    calibrated: bool = True
    """Whether it may heed where cameras are said to stand; False where it surely does not."""
    privileged: bool = False
    """Whether it sees what the simulator knows and no robot does."""
    rows_at_once: int | None = None
    """How many worlds are worth asking about together, where a server has the choice; None: any number."""

    def __init__(self, embodiment: EmbodimentSpec, horizon: int, replan_interval: int) -> None:
        if not 1 <= replan_interval <= horizon:
            raise ValueError(f"replan_interval must lie in 1…{horizon} (the horizon), got {replan_interval}")
        self.embodiment = embodiment
        self.horizon = horizon
        self.replan_interval = replan_interval

    @abstractmethod
    def start(self, n: int) -> State:
        """What there is to remember when the episodes of ``n`` worlds begin."""

    @abstractmethod
    def plan(self, state: State, observation: Mapping[str, Any], mask: Bool[Tensor, " n"]) -> tuple[State, Plan]:
        """Plans for the worlds in ``mask`` (at least one), and what to remember; ``state`` itself stays as it is.

        The others are neither looked at nor do they remember anything of it.
        """

    def plan_on(
        self, state: State, observation: Mapping[str, Any], mask: Bool[Tensor, " n"], underway: Underway
    ) -> tuple[State, Plan]:
        """:meth:`plan` for worlds that act on while it is made, all of ``underway`` counting from ``observation``.

        A policy that ``continues`` lets the new plan begin like what is under way (real-time chunking, arXiv
        2506.07339); by default it is not heeded. Rows of worlds outside ``mask`` mean nothing.
        """
        return self.plan(state, observation, mask)

    def shows(self, observation: Mapping[str, Any]) -> UInt8[np.ndarray, "n h w 3"] | None:
        """What it sees and where it aims in each world, for people to look at; None of a policy that has no such
        pictures.
        """
        return None

    def remarks(self, instructions: Sequence[str]) -> list[str]:
        """What somebody who gives these instructions should know of how they are read; nothing by default."""
        return []


class ChunkPolicy(Policy[None]):
    """A policy that remembers nothing: a chunk of actions for what it sees is all there is to it."""

    remembers = False

    @abstractmethod
    def predict_chunk(self, observation: Mapping[str, Any]) -> Float[Tensor, "n h a"]:
        """The next ``horizon`` actions of every world in the observation."""

    def start(self, n: int) -> None:
        return None

    def plan(self, state: None, observation: Mapping[str, Any], mask: Bool[Tensor, " n"]) -> tuple[None, Plan]:
        return None, self.plan_of(self.predict_chunk(seen_by(observation, mask)), mask)

    def plan_of(self, chunk: Float[Tensor, "k h a"], mask: Bool[Tensor, " n"]) -> Plan:
        """That of the worlds in ``mask``, each of which has a chunk."""
        length = torch.full((len(chunk),), self.replan_interval, device=chunk.device)
        return Plan(spread(chunk, mask), spread(length, mask))


def seen_by(observation: Mapping[str, Any], mask: Bool[Tensor, " n"]) -> dict[str, Any]:
    """The observation of the worlds in ``mask`` alone; ``ValueError`` if it is of another number of worlds."""
    if len(observation[STATE_KEY]) != len(mask):
        raise ValueError(f"expected the observation of {len(mask)} worlds, got {len(observation[STATE_KEY])}")
    if bool(mask.all()):
        return dict(observation)
    worlds = mask.nonzero()[:, 0].tolist()
    return {
        key: value[worlds] if isinstance(value, Tensor) else [value[world] for world in worlds]
        for key, value in observation.items()
    }


def spread(rows: Tensor, mask: Bool[Tensor, " n"]) -> Tensor:
    """``rows``, one for each world in ``mask``, at their worlds; 0 at the others."""
    if len(rows) == len(mask):
        return rows
    spaced = rows.new_zeros(len(mask), *rows.shape[1:])
    spaced[mask.to(rows.device)] = rows
    return spaced


def blank_remarks(instructions: Sequence[str]) -> list[str]:
    """What a policy that reads language remarks on instructions that say nothing."""
    blank = any(not text.strip() for text in instructions)
    return ["the instruction is empty, so the policy can only guess what to do"] if blank else []
