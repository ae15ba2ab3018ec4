"""Target chunks of which only some actions are valid."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vla.observation import ActionChunk


def check_target(target: ActionChunk, expected: tuple[int, ...]) -> None:
    """``ValueError`` unless the target's actions have the ``expected`` shape."""
    if target.actions.shape != expected:
        raise ValueError(f"expected target actions of shape {tuple(expected)}, got {tuple(target.actions.shape)}")


def over_valid(values: Float[Tensor, "b h"], valid: Bool[Tensor, "b h"]) -> Float[Tensor, ""]:
    """Mean of ``values`` over valid actions; 0 where there are none."""
    return values.masked_fill(~valid, 0.0).sum() / valid.sum().clamp(min=1)


def over_numbers(values: Float[Tensor, "b h a"], target: ActionChunk) -> Float[Tensor, "b h"]:
    """Mean of ``values`` over each action's numbers, which count by their weights where the target has any."""
    return (values if target.weight is None else values * target.weight).mean(dim=-1)


def over_samples(values: Float[Tensor, " b"], target: ActionChunk) -> Float[Tensor, ""]:
    """Mean of ``values``, each counted by its sample's valid actions, as losses over actions count it."""
    count = target.valid.sum(dim=1)
    return (values * count).sum() / count.sum().clamp(min=1)


def held(target: ActionChunk) -> Float[Tensor, "b h a"]:
    """The actions, with each that is not valid replaced by the last valid one before it, or by 0 where there is none.

    So what padding holds, NaN included, does not matter to what is made of the chunk as a whole.
    """
    valid, actions = target.valid, target.actions.masked_fill(~target.valid[..., None], 0.0)
    step = torch.arange(valid.shape[1], device=valid.device).expand_as(valid)
    last = step.masked_fill(~valid, -1).cummax(dim=1).values
    return actions.gather(1, last.clamp(min=0)[..., None].expand_as(actions))
