"""Conservative values: what keeps a critic that learns from demonstrations from believing in what nobody has tried.

Axes: e critics of an ensemble, b decisions, m actions that are asked about beside the one that was taken. An action is
the part of a chunk that is executed as one decision, and all numbers are float32.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rl.returns import gae


def bellman_target(
    rewards: Float[Tensor, " b"],
    discount: Float[Tensor, " b"],
    terminated: Bool[Tensor, " b"],
    next_values: Float[Tensor, " b"],
) -> Float[Tensor, " b"]:
    """r + γ V(next), without V(next) where an attempt is over for good; one that was cut short goes on being worth it.

    ``discount`` is γ to the power of the decision's control steps.
    """
    return rewards + discount * next_values.masked_fill(terminated, 0.0)


def monte_carlo(
    rewards: Float[Tensor, "t n"],
    discount: Float[Tensor, "t n"],
    terminated: Bool[Tensor, "t n"],
    ended: Bool[Tensor, "t n"],
    next_values: Float[Tensor, "t n"],
) -> Float[Tensor, "t n"]:
    """What came of each decision: the discounted sum of its rewards and of those after it, to the attempt's end.

    Where that was cut short, and at the last row where it goes on, the rest is what ``next_values`` says; elsewhere
    these do not count.
    """
    cut = ended & ~terminated
    cut[-1] |= ~ended[-1]
    rest = torch.where(cut, next_values, 0.0)
    return gae(rewards, torch.zeros_like(rest), rest, terminated, ended, discount, lam=1.0).returns


def calibrated(values: Float[Tensor, "e b m"], returns: Float[Tensor, " b"]) -> Float[Tensor, "e b m"]:
    """Cal-QL's max(Q(s, a), return): values that lie below what the demonstrations earned are not pushed further down.

    Nakamoto et al. 2023, arXiv 2303.05479, eq. 5.1; ``returns`` are those of a reference policy, here of the data.
    """
    return torch.maximum(values, returns[:, None])


def log_sum_exp(
    values: Float[Tensor, "e b m"], log_density: Float[Tensor, "b m"] | None = None
) -> Float[Tensor, "e b"]:
    """log ∫ exp Q(s, a) da, estimated on m actions that were drawn with ``log_density``: each counts by one over it.

    Kumar et al. 2020 (CQL, arXiv 2006.04779), appendix F. Without densities it is log Σ exp Q over these actions, as in
    the variant of their code that does not weigh: in the many dimensions of a chunk all of the weight would else lie on
    actions that were drawn evenly.
    """
    if log_density is None:
        return values.logsumexp(dim=-1)
    return (values - log_density).logsumexp(dim=-1) - math.log(values.shape[-1])


@dataclass(frozen=True, kw_only=True)
class CriticLoss:
    """The ``loss``, a mean over decisions and a sum over critics, and what it is made of, without gradient.

    ``gap`` is how much more the critics say of actions that were tried than of the others (the more, the more
    conservative), ``floored`` the share of the policy's actions whose values are held up by a return.
    """

    loss: Float[Tensor, ""]
    bellman: Float[Tensor, ""]
    gap: Float[Tensor, ""]
    floored: Float[Tensor, ""]


def cal_ql_loss(
    taken: Float[Tensor, "e b"],
    targets: Float[Tensor, " b"],
    drawn: Float[Tensor, "e b r"],
    chosen: Float[Tensor, "e b p"],
    returns: Float[Tensor, " b"],
    *,
    weight: float,
    log_density: Float[Tensor, "b m"] | None = None,
) -> CriticLoss:
    """½ (Q − target)² + ``weight`` · (log Σ exp Q over others − Q of what was taken).

    Others are ``drawn`` evenly and ``chosen`` by the policy, here and at what came after; only the latter are
    :func:`calibrated`. ``log_density`` is of both, in this order (m = r + p): see :func:`log_sum_exp`.
    """
    floored = (chosen < returns[:, None]).float().mean()
    others = torch.cat([drawn, calibrated(chosen, returns)], dim=-1)
    regular = log_sum_exp(others, log_density) - taken
    bellman = 0.5 * (taken - targets).square()
    loss = (bellman + weight * regular).mean(dim=1).sum()
    return CriticLoss(
        loss=loss, bellman=bellman.mean().detach(), gap=-regular.mean().detach(), floored=floored.detach()
    )


def actor_loss(values: Float[Tensor, " b"], imitation: Float[Tensor, ""], weight: float) -> Float[Tensor, ""]:
    """−Q of what the policy would do, in units of its own size, and ``weight`` times a loss of imitation.

    So scaled, the two keep their proportion whatever rewards are worth (TD3+BC, arXiv 2106.06860, eq. 5).
    """
    return -(values / values.abs().mean().clamp(min=1e-6).detach()).mean() + weight * imitation
