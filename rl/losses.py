"""What a policy and its critic minimise, each as sum and count, so that the mean over many batches is exact.

The policy's are over p parts of each of b decisions: see :mod:`rl.levels`. Advantages are of decisions, and all parts
of one share its own. Ratios are float32.
"""

from dataclasses import dataclass, fields
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from vla.objectives import Term

Over = Literal["parts", "decisions"]
"""What a mean is over: all parts alike, or decisions, each of which is first the mean of its own parts."""


def mean_over(
    values: Float[Tensor, "b p"],
    mask: Bool[Tensor, "b p"],
    *,
    over: Over = "parts",
    weights: Float[Tensor, " b"] | None = None,
) -> Term:
    """Of ``values`` where ``mask`` is true, each times the weight of its decision; what the rest hold does not matter.

    Over decisions it is VL-DAC's (1 / |aₜ|) Σᵢ (arXiv 2508.04280), in which one of many tokens does not count more than
    one of few; those without any part do not count. Entropy bonuses are such means too.
    """
    values = values.masked_fill(~mask, 0.0)
    if weights is not None:
        values = values * weights[:, None]
    if over == "parts":
        return Term(values.sum(), mask.sum())
    parts = mask.sum(dim=1)
    return Term((values.sum(dim=1) / parts.clamp(min=1)).sum(), (parts > 0).sum())


def length_weights(lengths: Int[Tensor, " n"], reference: float) -> Float[Tensor, " n"]:
    """Weights under which an episode counts the same however long it is: ``reference`` / length, 0 for none.

    Without, an episode counts by its decisions, so that failures, which last, outweigh short successes. With the mean
    length of all episodes for ``reference``, the mean over all decisions is that over episodes of each one's mean.
    """
    return torch.where(lengths > 0, reference / lengths.clamp(min=1), 0.0)


@dataclass(frozen=True, kw_only=True)
class PolicyLoss:
    """The ``loss``, and without gradient how far the policy has moved: the mean ``ratio`` of probabilities, the mean
    of |ratio − 1| (``deviation``), the share that lies outside the clip range, and KL(old ‖ new) as estimated by k3.
    """

    loss: Term
    ratio: Term
    deviation: Term
    clip_fraction: Term
    approx_kl: Term

    @property
    def numbers(self) -> dict[str, Term]:
        """All but the loss, by name."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "loss"}


@dataclass(frozen=True, kw_only=True)
class DecoupledLoss(PolicyLoss):
    """Also the mean ``weight`` of what counts, and the share ``dropped`` for too large a weight."""

    weight: Term
    dropped: Term


def ppo_policy_loss(
    log_prob: Float[Tensor, "b p"],
    old_log_prob: Float[Tensor, "b p"],
    advantages: Float[Tensor, " b"],
    mask: Bool[Tensor, "b p"],
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
    log_ratio_limit: float | None = None,
    over: Over = "parts",
    weights: Float[Tensor, " b"] | None = None,
) -> PolicyLoss:
    """PPO's clipped surrogate, negated (Schulman et al. 2017, arXiv 1707.06347, eq. 7).

    The ratio is clipped to 1 − ``clip_low`` … 1 + ``clip_high`` (apart: DAPO, arXiv 2503.14476, eq. 10). Where the
    advantage A is negative, the objective is at least ``dual_clip`` · A (Ye et al. 2020, arXiv 1912.09729), with a
    ``dual_clip`` above 1. The logarithm of the ratio is cut off at ± ``log_ratio_limit``, with no gradient beyond.
    ``over`` and ``weights``: see :func:`mean_over`.
    """
    _check_limits(clip_low, clip_high, dual_clip, log_ratio_limit)
    log_ratio = _log_ratio(log_prob, old_log_prob, mask, log_ratio_limit)
    loss = _surrogate(log_ratio.exp(), advantages, clip_low, clip_high, dual_clip)
    found = mean_over(loss, mask, over=over, weights=weights)
    return PolicyLoss(loss=found, **_moved(log_ratio, mask, clip_low, clip_high))


def decoupled_policy_loss(
    log_prob: Float[Tensor, "b p"],
    proximal: Float[Tensor, "b p"],
    behaviour: Float[Tensor, "b p"],
    advantages: Float[Tensor, " b"],
    mask: Bool[Tensor, "b p"],
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
    log_ratio_limit: float | None = None,
    weight_limit: float | None = None,
    over: Over = "parts",
    weights: Float[Tensor, " b"] | None = None,
) -> DecoupledLoss:
    """PPO on what an older policy did (Hilton et al. 2022, arXiv 2110.00641; AReaL, arXiv 2505.24298).

    The new policy is kept near the ``proximal`` one, a recent one, as :func:`ppo_policy_loss` has it, and each part
    counts by how much likelier it was under that than under the ``behaviour`` policy, which acted. Parts that count
    more than ``weight_limit`` are dropped, as if they had not been executed.
    """
    _check_limits(clip_low, clip_high, dual_clip, log_ratio_limit)
    weight = (proximal.detach().float() - behaviour.detach().float()).masked_fill(~mask, 0.0).exp()
    kept = mask if weight_limit is None else mask & (weight <= weight_limit)
    log_ratio = _log_ratio(log_prob, proximal, kept, log_ratio_limit)
    loss = weight.masked_fill(~kept, 0.0) * _surrogate(log_ratio.exp(), advantages, clip_low, clip_high, dual_clip)
    return DecoupledLoss(
        loss=mean_over(loss, kept, over=over, weights=weights),
        weight=Term.over(weight, kept),
        dropped=Term.over((~kept).float(), mask),
        **_moved(log_ratio, kept, clip_low, clip_high),
    )


def kl_k3(
    log_prob: Float[Tensor, "b p"],
    reference: Float[Tensor, "b p"],
    mask: Bool[Tensor, "b p"],
    *,
    over: Over = "parts",
    weights: Float[Tensor, " b"] | None = None,
) -> Term:
    """KL(policy ‖ reference), estimated on samples of the policy (Schulman 2020, http://joschu.net/blog/kl-approx.html).

    k3 = q/p − 1 − log(q/p), for the reference's q and the policy's p, is unbiased and nowhere negative; as a penalty,
    GRPO's (arXiv 2402.03300, eq. 4) and VL-DAC's.
    """
    log_ratio = _log_ratio(reference, log_prob, mask, None)
    return mean_over(log_ratio.expm1() - log_ratio, mask, over=over, weights=weights)


@dataclass(frozen=True, kw_only=True)
class ValueLoss:
    """The ``loss``, and the share of values that have moved by more than they may."""

    loss: Term
    clip_fraction: Term


def value_loss(
    values: Float[Tensor, "*shape"],
    old_values: Float[Tensor, "*shape"],
    returns: Float[Tensor, "*shape"],
    mask: Bool[Tensor, "*shape"],
    *,
    clip: float | None = None,
    huber: float | None = None,
    pessimistic: bool = True,
) -> ValueLoss:
    """Half the squared error of what the critic says of ``returns``; linear beyond ``huber``.

    With ``clip``, the error is that of values moved by at most so much from the old ones, or, if ``pessimistic``, the
    error itself where that is larger, so that what has moved too far the wrong way comes back (Schulman's
    implementation of PPO: see Engstrom et al. 2020, arXiv 2005.12729). In stable-baselines3 it does not.
    """
    values, returns = values.float(), returns.float()
    error = _half_square(values - returns, huber)
    moved = (values - old_values).detach()
    if clip is None:
        outside = torch.zeros_like(mask)
    else:
        outside = moved.abs() > clip
        clipped = _half_square(old_values + (values - old_values).clamp(-clip, clip) - returns, huber)
        error = torch.maximum(error, clipped) if pessimistic else clipped
    return ValueLoss(loss=Term.over(error, mask), clip_fraction=Term.over(outside.float(), mask))


def _half_square(error: Float[Tensor, "*shape"], huber: float | None) -> Float[Tensor, "*shape"]:
    if huber is None:
        return 0.5 * error.square()
    return functional.huber_loss(error, torch.zeros_like(error), reduction="none", delta=huber)


def _log_ratio(
    new: Float[Tensor, "b p"], old: Float[Tensor, "b p"], mask: Bool[Tensor, "b p"], limit: float | None
) -> Float[Tensor, "b p"]:
    """0 where ``mask`` is false."""
    log_ratio = (new.float() - old.float()).masked_fill(~mask, 0.0)
    return log_ratio if limit is None else log_ratio.clamp(-limit, limit)


def _surrogate(
    ratio: Float[Tensor, "b p"], advantages: Float[Tensor, " b"], low: float, high: float, dual: float | None
) -> Float[Tensor, "b p"]:
    """The clipped objective, negated."""
    advantage = advantages.float()[:, None]
    objective = torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)
    if dual is not None:
        objective = torch.where(advantage < 0, torch.maximum(objective, dual * advantage), objective)
    return -objective


def _moved(log_ratio: Float[Tensor, "b p"], mask: Bool[Tensor, "b p"], low: float, high: float) -> dict[str, Term]:
    log_ratio = log_ratio.detach()
    ratio = log_ratio.exp()
    outside = (ratio < 1 - low) | (ratio > 1 + high)
    found = {
        "ratio": ratio,
        "deviation": (ratio - 1).abs(),
        "clip_fraction": outside.float(),
        "approx_kl": log_ratio.expm1() - log_ratio,
    }
    return {name: Term.over(values, mask) for name, values in found.items()}


def _check_limits(low: float, high: float, dual: float | None, log_ratio: float | None) -> None:
    clip = 0 < low <= 1 and high > 0
    if not (clip and (dual is None or dual > 1) and (log_ratio is None or log_ratio > 0)):
        raise ValueError(
            "expected clip_low above 0 and at most 1, clip_high above 0, dual_clip above 1 or none and log_ratio_limit "
            f"above 0 or none, got {low}, {high}, {dual} and {log_ratio}"
        )
