"""From rewards to advantages: generalised advantage estimation, and advantages within groups of episodes.

Tensors are time-major: t counts decisions, n worlds. A decision executes some actions of a chunk, so that it takes one
or more control steps, and the discount between decisions is that of all its steps. All numbers are float32.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_SMALL = 1e-8
"""What standard deviations are divided by with, so that none is 0."""


class Returns(NamedTuple):
    """``advantages`` for the policy, and ``returns``, which the critic is to say: λ-returns under GAE."""

    advantages: Float[Tensor, "t n"]
    returns: Float[Tensor, "t n"]


def gae(
    rewards: Float[Tensor, "t n"],
    values: Float[Tensor, "t n"],
    next_values: Float[Tensor, "t n"],
    terminated: Bool[Tensor, "t n"],
    ended: Bool[Tensor, "t n"],
    discount: Float[Tensor, "t n"],
    lam: float,
) -> Returns:
    """Generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438, eq. 16).

    δ = r + discount · V(next) − V, and A = δ + discount · λ · A(next), where V(next) is left out if the episode
    terminated, and A(next) if it ended.

    ``next_values`` are of the observation after each decision, for a world that ended in it of its final observation:
    one that was truncated is bootstrapped from there. ``ended`` is terminated or truncated. ``discount`` is γ to the
    power of the steps that the decision took: see :func:`discounts`. Decisions are discounted by their length, λ counts
    decisions.
    """
    delta = rewards.float() + discount * next_values.float().masked_fill(terminated, 0.0) - values.float()
    carried = (lam * discount).masked_fill(ended, 0.0)
    advantages, advantage = torch.empty_like(delta), torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        advantage = delta[t] + carried[t] * advantage
        advantages[t] = advantage
    return Returns(advantages=advantages, returns=advantages + values)


def discounts(steps: Int[Tensor, "*shape"], gamma: float) -> Float[Tensor, "*shape"]:
    """γ to the power of ``steps``: what comes after a decision of so many counts so much less."""
    return torch.full(steps.shape, gamma, device=steps.device) ** steps


def discounted(rewards: Float[Tensor, "*n k"], steps: Int[Tensor, "*n"], gamma: float) -> Float[Tensor, "*n"]:
    """The reward of a decision: Σ γⁱ rᵢ over its first ``steps`` control steps; what ``rewards`` holds after them does
    not count.

    With it and :func:`discounts`, the return of decisions is that of their control steps.
    """
    index = torch.arange(rewards.shape[-1], device=rewards.device)
    executed = rewards.float().masked_fill(index >= steps[..., None], 0.0)
    return (executed * discounts(index, gamma)).sum(dim=-1)


def group_advantages(returns: Float[Tensor, "g m"], *, std: bool, leave_one_out: bool) -> Float[Tensor, "g m"]:
    """How much better each of m episodes did than others of its group, which all began alike.

    Less the mean of the group, or with ``leave_one_out`` of the others in it, which is no estimate of itself (RLOO:
    Kool et al. 2019; Ahmadian et al. 2024, arXiv 2402.14740); with ``std``, divided by the group's standard deviation
    (GRPO: Shao et al. 2024, arXiv 2402.03300, section 4.1.2), which lets easy and hard tasks count alike, and which Dr.
    GRPO (arXiv 2503.20783) does without. Exactly 0 where all did equally well. ``ValueError`` for groups of one.
    """
    g, m = returns.shape
    if m < 2:
        raise ValueError(f"expected groups of at least 2 episodes to compare, got {g} of {m}")
    returns = returns.float()
    advantages = returns - returns.mean(dim=1, keepdim=True)
    if std:
        advantages = advantages / (returns.std(dim=1, keepdim=True) + _SMALL)
    if leave_one_out:
        advantages = advantages * (m / (m - 1))
    return advantages.masked_fill(~informative(returns)[:, None], 0.0)


def informative(returns: Float[Tensor, "g m"], *, low: float = -math.inf, high: float = math.inf) -> Bool[Tensor, " g"]:
    """Which groups there is something to learn from: not all did equally well, and their mean is ``low`` … ``high``.

    Dynamic sampling (DAPO: Yu et al. 2025, arXiv 2503.14476, eq. 11) draws other groups in place of the rest; with
    returns of 0 and 1, ``low`` and ``high`` are rates of success.
    """
    mean = returns.mean(dim=1)
    return (returns.amax(dim=1) > returns.amin(dim=1)) & (mean >= low) & (mean <= high)


def moments(values: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Float[Tensor, " 3"]:
    """Count, sum and sum of squares of those ``values`` that ``mask`` lets count, in float64.

    Those of several processes are to be added up: so the whole is normalised as if one had it.
    """
    valid = values.detach().double().masked_fill(~mask, 0.0)
    return torch.stack([mask.sum().double(), valid.sum(), valid.square().sum()])


def normalized(
    values: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"], whole: Float[Tensor, " 3"] | None = None
) -> Float[Tensor, "*shape"]:
    """``values`` less their mean, over their standard deviation, where ``mask`` is true; 0 elsewhere.

    Mean and deviation are of the ``whole`` that has those :func:`moments`, by default of these values. Fewer than two
    stay as they are.
    """
    count, total, squares = moments(values, mask) if whole is None else whole
    mean = total / count.clamp(min=1)
    variance = (squares - count * mean.square()) / (count - 1).clamp(min=1)
    scaled = (values - mean.float()) / (variance.clamp(min=0).sqrt().float() + _SMALL)
    return torch.where(count > 1, scaled, values.float()).masked_fill(~mask, 0.0)
