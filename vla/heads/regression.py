"""L1 objectives: of the heads that regress a chunk directly, and of the waypoint."""

from jaxtyping import Float
from torch import Tensor

from vla.heads.chunks import check_target, over_numbers, over_valid
from vla.observation import ActionChunk


def masked_l1(predicted: Float[Tensor, "b h a"], target: ActionChunk) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Mean |predicted − target| over valid steps and all action numbers, and the values to log.

    In the loss they count by their weights, if the target has any. ``l1_first`` is the error of the first step alone.
    Padding may hold anything, NaN included. Raises ``ValueError`` when the target's shape is another.
    """
    check_target(target, predicted.shape)
    valid = target.valid[..., None]
    gaps = (predicted - target.actions.masked_fill(~valid, 0.0)).abs()
    error = gaps.mean(dim=-1) * target.valid
    counts = target.valid.sum(dim=0).clamp(min=1)
    l1 = error.sum() / target.valid.sum().clamp(min=1)
    loss = l1 if target.weight is None else over_valid(over_numbers(gaps, target), target.valid)
    return loss, {"l1": l1.detach(), "l1_first": (error.detach().sum(dim=0) / counts)[0]}


def waypoint_l1(predicted: Float[Tensor, "b w"], target: ActionChunk) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Mean |predicted − target| of the waypoint, each sample weighted by its valid steps as in :func:`masked_l1`.

    Raises ``ValueError`` when the target has no waypoint of that shape.
    """
    if target.waypoint is None or target.waypoint.shape != predicted.shape:
        given = None if target.waypoint is None else tuple(target.waypoint.shape)
        raise ValueError(f"expected a target waypoint of shape {tuple(predicted.shape)}, got {given}")
    weight = target.valid.sum(dim=1)
    error = (predicted - target.waypoint).abs().mean(dim=-1)
    loss = (error * weight).sum() / weight.sum().clamp(min=1)
    return loss, {"waypoint_l1": loss.detach()}
