"""The L1 objective of the heads that regress a chunk directly."""

from jaxtyping import Float
from torch import Tensor

from vla.observation import ActionChunk


def masked_l1(predicted: Float[Tensor, "b h a"], target: ActionChunk) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Mean |predicted − target| over valid steps and all action numbers, and the values to log.

    ``l1_first`` is the error of the first step alone. Padding may hold anything, NaN included. Raises
    ``ValueError`` when the target's shape is another.
    """
    if target.actions.shape != predicted.shape:
        raise ValueError(
            f"expected target actions of shape {tuple(predicted.shape)}, got {tuple(target.actions.shape)}"
        )
    valid = target.valid[..., None]
    error = (predicted - target.actions.masked_fill(~valid, 0.0)).abs().mean(dim=-1) * target.valid
    counts = target.valid.sum(dim=0).clamp(min=1)
    loss = error.sum() / target.valid.sum().clamp(min=1)
    return loss, {"l1": loss.detach(), "l1_first": (error.detach().sum(dim=0) / counts)[0]}
