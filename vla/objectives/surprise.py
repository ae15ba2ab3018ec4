"""What a policy could not do blindfold counts more: PRIOR's weights, for actions.

PRIOR weighs the tokens of a caption by how improbable they are to a language model that does not see the picture. Here
a small network predicts the chunk from the robot's own states alone.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla.heads.chunks import over_valid
from vla.heads.regression import masked_l1
from vla.objectives.further import FurtherObjective, Learned, Taught
from vla.observation import ActionChunk

if TYPE_CHECKING:
    from vla.model import VLA

HISTORY = "history"
"""The robot's normalised states up to the present, the present last (b, t, d)."""


@dataclass(frozen=True, kw_only=True)
class SurpriseConfig:
    """Of :class:`Surprise`: how many states before the present one the blind network is told of, its ``width``, and
    the ``strength`` of the weights in 0…1.
    """

    history: int = 4
    width: int = 128
    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.history < 0 or self.width < 1 or not 0 <= self.strength <= 1:
            raise ValueError(f"expected a history from 0, a width from 1 on and a strength in 0…1, got {self}")


class Surprise(FurtherObjective):
    """A blind network learns the chunk by L1, and its errors weigh what the head learns.

    With e the error of the blind network on one number of one action, and s its scale, mean(e²) / 2 mean(e) over the
    batch (a piece of it, where it is cut), its chance of being right by guess is p = exp(−e / s), a Laplace density
    against its peak, and the number counts by

        w = (1 − strength) + strength · (1 − p) / mean(1 − p),

    so that weights have the mean 1 over the valid actions of a batch. Of errors that are spread as a Laplace density
    is, s is the mean; numbers that are always known, such as rotations that are never made, change nothing about it,
    where they would make a mean smaller. The blind network gets no gradient from the head.
    """

    NEEDS: ClassVar[tuple[str, ...]] = (HISTORY,)

    def __init__(self, config: SurpriseConfig, *, state_dim: int, horizon: int, action_dim: int) -> None:
        super().__init__()
        self.config, self.shape = config, (horizon, action_dim)
        self.blind = nn.Sequential(
            nn.Linear((1 + config.history) * state_dim, config.width),
            nn.GELU(),
            nn.Linear(config.width, config.width),
            nn.GELU(),
            nn.Linear(config.width, horizon * action_dim),
        )

    def forward(self, vla: "VLA", seen: Any, target: ActionChunk, taught: Taught) -> Learned:
        guess = self.blind(taught[HISTORY].flatten(1)).unflatten(1, self.shape)
        loss, _ = masked_l1(guess, target)
        error = (guess.detach().float() - target.actions).abs()
        weight = 1 - self.config.strength + self.config.strength * improbability(error, target.valid)
        return Learned(loss, {"blind_l1": loss.detach()}, weight)


def improbability(error: Float[Tensor, "b h a"], valid: Bool[Tensor, "b h"]) -> Float[Tensor, "b h a"]:
    """1 − exp(−e / s) of each error, s = mean e² / 2 mean e, scaled to a mean of 1 over the valid actions; 0 for those
    that are not.
    """
    error = error.masked_fill(~valid[..., None], 0.0)
    least = torch.finfo(error.dtype).tiny
    typical = (error.square().sum() / (2 * error.sum()).clamp(min=least)).clamp(min=least)
    improbable = 1 - (-error / typical).exp()
    return improbable / over_valid(improbable.mean(dim=-1), valid).clamp(min=least)
