"""What a running episode is, beside its world and its layout."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.batch import Batch


@dataclass(frozen=True, kw_only=True)
class Episodes(Batch):
    """n episodes: their seeds, the control steps they have taken, how they ended, and the potential they stand at.

    An episode is ``running`` until it is terminated or truncated.
    """

    seed: Int[Tensor, " n"]
    elapsed: Int[Tensor, " n"]
    running: Bool[Tensor, " n"]
    terminated: Bool[Tensor, " n"]
    truncated: Bool[Tensor, " n"]
    success: Bool[Tensor, " n"]
    potential: Float[Tensor, " n"]

    @classmethod
    def fresh(cls, seeds: Int[Tensor, " n"], potential: Float[Tensor, " n"]) -> "Episodes":
        """Episodes at their start."""
        no = torch.zeros_like(seeds, dtype=torch.bool)
        return cls(
            seed=seeds,
            elapsed=torch.zeros_like(seeds),
            running=~no,
            terminated=no,
            truncated=no,
            success=no,
            potential=potential,
        )


IncidentKind = Literal["diverged", "crowded"]


@dataclass(frozen=True, kw_only=True)
class Incident:
    """An episode that was cut short because the engine could not go on with it.

    ``diverged``: its physics blew up; ``crowded``: it made more contacts than there is memory for.
    """

    kind: IncidentKind
    task: str
    seed: int
    step: int
