"""What a head says of all the chunks that it might act with, for those who learn from reward."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A chunk, and the ``latent`` that it was made from, of which the distribution knows the probability.

    That may be tokens, the action before it was squashed, or a path from noise to the action: each distribution says
    what it is. Actions are normalised and not clamped to what a robot can do.
    """

    actions: Float[Tensor, "b h a"]
    latent: Shaped[Tensor, "b ..."]

    def detach(self) -> "Sample":
        return Sample(actions=self.actions.detach(), latent=self.latent.detach())


class Distribution(ABC):
    """Over chunks, given one observation per row.

    A latent consists of parts, each drawn given those before it. Log-probability and entropy are those of each part,
    and each distribution says of which shape, so that they can be summed to the level that a loss wants: token or
    number of an action, action, or whole chunk. All of them are float32.

    ``action_axis`` is the axis of parts along which they belong to the h actions of a chunk, where rows are along axis
    0; None where each is of the chunk as a whole.
    """

    action_axis: int | None

    @abstractmethod
    def sample(self, generator: torch.Generator | None = None) -> Sample:
        """One chunk per row, without gradient; drawn from torch's random state without a ``generator``, which must be
        on the distribution's device.
        """

    @abstractmethod
    def mode(self) -> Sample:
        """What the head acts with, without gradient."""

    @abstractmethod
    def evaluate(self, latent: Shaped[Tensor, "b ..."]) -> tuple[Float[Tensor, "b ..."], Float[Tensor, "b ..."]]:
        """Log-probability and entropy of each part given those before it in ``latent``, both of the same shape.

        Where parts depend on those before them, the mean of the summed entropies over samples is that of the whole.
        """

    def log_prob(self, latent: Shaped[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """The first of :meth:`evaluate`."""
        return self.evaluate(latent)[0]

    def entropy(self, latent: Shaped[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """The second of :meth:`evaluate`."""
        return self.evaluate(latent)[1]


def chosen(probabilities: Float[Tensor, "*n c"], generator: torch.Generator | None) -> Shaped[Tensor, "*n"]:
    """One index per row, drawn by ``probabilities``."""
    drawn = torch.multinomial(probabilities.flatten(0, -2), 1, generator=generator)
    return drawn.view(probabilities.shape[:-1])


def noise_like(x: Float[Tensor, "*shape"], generator: torch.Generator | None) -> Float[Tensor, "*shape"]:
    """Standard normal numbers."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
