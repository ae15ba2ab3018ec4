"""Log-probabilities at the level that a loss compares policies at: each number, each action, or the whole chunk.

PPO's ratio is one of probabilities, and of what these are is free: of every token (VL-DAC, arXiv 2508.04280), of every
action (VLA-RL, arXiv 2505.18719), or of all that was decided at once (π_RL, arXiv 2510.25889).
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from vla.distribution import Distribution

Level = Literal["number", "action", "chunk"]
"""``number``: every part by itself, which is a token, a number of an action, or that of one step of a flow."""


class Evaluated(NamedTuple):
    """What a distribution says of latents at a level: p values per decision, 0 where ``mask`` is false."""

    log_prob: Float[Tensor, "b p"]
    entropy: Float[Tensor, "b p"]
    mask: Bool[Tensor, "b p"]


def evaluate(
    distribution: Distribution,
    latent: Shaped[Tensor, "b ..."],
    level: Level,
    executed: Int[Tensor, " b"],
    moving: Bool[Tensor, " a"] | None = None,
) -> Evaluated:
    """Log-probability and entropy of ``latent`` at a level; see :func:`at_level`."""
    log_prob, entropy = distribution.evaluate(latent)
    log_prob, mask = at_level(log_prob, level, executed, distribution.action_axis, moving)
    entropy, _ = at_level(entropy, level, executed, distribution.action_axis, moving)
    return Evaluated(log_prob=log_prob, entropy=entropy, mask=mask)


def at_level(
    parts: Float[Tensor, "b ..."],
    level: Level,
    executed: Int[Tensor, " b"],
    action_axis: int | None,
    moving: Bool[Tensor, " a"] | None = None,
) -> tuple[Float[Tensor, "b p"], Bool[Tensor, "b p"]]:
    """``parts`` summed to ``level``, and which of the sums count.

    Parts belong to the actions along ``action_axis`` (see :class:`vla.distribution.Distribution`). Those of the
    first ``executed`` actions of each row count, and what the others hold has no influence. Without that axis the chunk
    counts as a whole where any action was executed; ``ValueError`` for other levels then. Of an action, which has a
    part per number or several, the numbers that are not ``moving`` do not count either: whatever is said of them, the
    robot does the same, so that they would add noise to ratios and gradients and nothing else.

    Parts of actions that were not executed, or of such numbers, are independent of what happened, unless later parts
    that count depend on them: those are a flow's steps before its last, for which leaving them out is what π_RL does,
    and has less variance at the price of a bias.
    """
    check_level(level, action_axis)
    parts = parts.float()
    if action_axis is None:
        mask = (executed > 0)[:, None]
        return parts.flatten(1).sum(dim=1, keepdim=True).masked_fill(~mask, 0.0), mask
    by_action = parts.movedim(action_axis, 1).flatten(2)
    count = torch.arange(by_action.shape[1], device=parts.device) < executed[:, None]
    each = count[..., None].expand_as(by_action)
    if moving is not None:
        each = each & moving.repeat(by_action.shape[2] // len(moving))
    by_action = by_action.masked_fill(~each, 0.0)
    if level == "number":
        return by_action.flatten(1), each.flatten(1)
    if level == "action":
        return by_action.sum(dim=2), count
    return by_action.sum(dim=(1, 2))[:, None], count.any(dim=1, keepdim=True)


def check_level(level: Level, action_axis: int | None) -> None:
    """``ValueError`` where parts that are of no single action are to be summed to anything but the chunk."""
    if action_axis is None and level != "chunk":
        raise ValueError(
            "expected level 'chunk' for a distribution whose parts are of the chunk as a whole, as FAST's tokens are, "
            f"got {level!r}"
        )
