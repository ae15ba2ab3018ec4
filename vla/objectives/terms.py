"""A loss as sum and count, and the weights of what a policy learns."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Term:
    """A loss, or a number to log, as sum and count, so that the mean over many batches is exact."""

    sum: Float[Tensor, ""]
    count: Int[Tensor, ""]

    @classmethod
    def over(cls, values: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> "Term":
        """Of those ``values`` that ``mask`` lets count."""
        return cls(values.masked_fill(~mask, 0.0).sum(), mask.sum())

    @classmethod
    def nothing(cls, device: torch.device) -> "Term":
        """One over no values."""
        return cls(torch.zeros((), device=device), torch.zeros((), dtype=torch.long, device=device))

    @classmethod
    def together(cls, terms: Iterable["Term"]) -> "Term":
        """One over all that ``terms`` are over; ``ValueError`` for none."""
        first, *others = terms
        return cls(
            sum((term.sum for term in others), start=first.sum), sum((t.count for t in others), start=first.count)
        )

    @property
    def mean(self) -> Float[Tensor, ""]:
        """0 where nothing counts."""
        return self.sum / self.count.clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the losses in their sum; one of weight 0 is not computed.

    ``action`` is the head's loss on the chunk, ``waypoint`` the backbone's on the tool's position at the next
    keyframe, which only networks with ``waypoint_dims`` have. ``objectives`` weighs further ones by their names
    (:mod:`vla.objectives.further`).
    """

    action: float = 1.0
    waypoint: float = 1.0
    objectives: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        weights = (self.action, self.waypoint, *self.objectives.values())
        if not (all(weight >= 0 for weight in weights) and 0 < sum(weights) < math.inf):
            further = "".join(f", {name} {weight}" for name, weight in self.objectives.items())
            raise ValueError(
                "loss weights must be 0 or more and one of them above 0, "
                f"got action {self.action} and waypoint {self.waypoint}{further}"
            )

    @property
    def beside_waypoint(self) -> bool:
        """Whether anything counts that a network without waypoint can learn."""
        return self.action > 0 or bool(self.further)

    @property
    def further(self) -> dict[str, float]:
        """The objectives that count."""
        return {name: weight for name, weight in self.objectives.items() if weight > 0}
