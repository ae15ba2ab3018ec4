"""Real-time chunking (Black et al. 2025, arXiv 2506.07339): a new chunk that agrees with the one being executed."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vla.heads.flow_field import Field, between, moments
from vla.observation import Begun

STRONGEST = 5.0
"""The most that guidance weighs: the paper's β."""


def soft_mask(begun: Begun) -> Float[Tensor, "b h"]:
    """How much each action of the new chunk heeds the old one, paper Eq. 5: 1 where that is fixed, then falling
    exponentially, 0 from where nothing is known of it.
    """
    index = torch.arange(begun.actions.shape[1], device=begun.actions.device)
    fixed, known = begun.fixed[:, None], begun.known[:, None]
    share = (known - index) / (known - fixed + 1)
    falling = share * share.exp().sub(1) / (math.e - 1)
    weight = torch.where(index < fixed, torch.ones_like(falling), falling)
    return weight.masked_fill(index >= known, 0.0)


@torch.enable_grad()
def flow_on(field: Field, noise: Float[Tensor, "b h a"], steps: int, begun: Begun) -> Float[Tensor, "b h a"]:
    """The chunks that noise comes to while it is drawn towards what is ``begun``; without gradient.

    At each of the Euler steps the chunk that the flow is heading for is compared with the old one, and the error, by
    :func:`soft_mask`, is led back through the field (ΠGDM, paper Eq. 2 to 4). Departure: fixed actions are not drawn
    but held on their straight path from the noise to what they are, so that they come out exact, and others see them.
    ``ValueError`` where more is fixed than known or there is.
    """
    horizon = noise.shape[1]
    if not bool(((begun.fixed >= 0) & (begun.fixed <= begun.known) & (begun.known <= horizon)).all()):
        raise ValueError(
            f"expected 0 ≤ fixed ≤ known ≤ {horizon} of the chunk that is begun, got fixed {begun.fixed.tolist()} and "
            f"known {begun.known.tolist()}"
        )
    index = torch.arange(horizon, device=noise.device)
    is_fixed, weight = (index < begun.fixed[:, None])[..., None], soft_mask(begun)[..., None].to(noise)
    old = begun.actions.masked_fill((index >= begun.known[:, None])[..., None], 0.0).to(noise)
    x = noise
    for step, time in enumerate(moments(steps, noise)):
        x = torch.where(is_fixed, between(old, noise, time)[0], x).detach().requires_grad_()
        velocity = field(x, time)
        left = 1 - step / steps
        heading_for = x + left * velocity
        (pull,) = torch.autograd.grad(heading_for, x, ((old - heading_for) * weight).detach())
        x = (x + (velocity + _strength(step / steps) * pull) / steps).detach()
    return torch.where(is_fixed, old, x)


def _strength(time: float) -> float:
    """min(β, (1 − t) / (t r²)) with r² = (1 − t)² / (t² + (1 − t)²)."""
    return STRONGEST if time == 0 else min(STRONGEST, (time**2 + (1 - time) ** 2) / (time * (1 - time)))
