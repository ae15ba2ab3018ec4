"""Flows from noise to chunks: along the field's own lines, or with noise on the way, whose probability is known.

Time runs from 0 (noise) to 1 (data). A chunk a and noise ε are joined by the straight line x = time · a + (1 − time)
· ε of velocity a − ε (the optimal-transport path of Lipman et al. 2022, arXiv 2210.02747). A field is the mean of that
velocity over all pairs whose lines pass through x.
"""

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from vla.distribution import Distribution, Sample, noise_like

Field = Callable[[Float[Tensor, "b h a"], Float[Tensor, " b"]], Float[Tensor, "b h a"]]
"""From chunks on their way and the time to their velocity."""


def between(
    actions: Float[Tensor, "b h a"], noise: Float[Tensor, "b h a"], time: Float[Tensor, " b"]
) -> tuple[Float[Tensor, "b h a"], Float[Tensor, "b h a"]]:
    """Where the straight path from noise to actions is at ``time``, and its velocity."""
    share = time[:, None, None]
    return share * actions + (1 - share) * noise, actions - noise


def moments(steps: int, like: Float[Tensor, "b h a"]) -> Iterator[Float[Tensor, " b"]]:
    """The times at which ``steps`` Euler steps begin."""
    for step in range(steps):
        yield torch.full((len(like),), step / steps, dtype=like.dtype, device=like.device)


def flow(field: Field, noise: Float[Tensor, "b h a"], steps: int) -> Float[Tensor, "b h a"]:
    """The chunks that noise comes to in ``steps`` Euler steps."""
    x = noise
    for time in moments(steps, noise):
        x = x + field(x, time) / steps
    return x


class FlowPaths(Distribution):
    """Paths of ``steps`` steps with noise of strength ``level`` on the way.

    Latent (b, steps + 1, h, a): the path, noise first, actions last. Parts (b, steps, h, a): each number of each step,
    given the one before. That of the first noise, which nothing is learned of, is left out.

    Each step follows the stochastic equation dx = [v − g²/(2(1 − t)) (x − t v)] dt + g dw, whose distribution at every
    time t is the field's own for any g, since (x − t v) / (1 − t) is minus the score (Song et al. 2020, arXiv
    2011.13456). g² = level² (1 − t), so that neither end is singular; Flow-GRPO (arXiv 2505.05470) and π_RL (arXiv
    2510.25889) have g² = level² (1 − t) / t, which must be cut off at the noise. The mode follows the field from
    ``start`` without noise.
    """

    action_axis = 2

    def __init__(self, field: Field, start: Float[Tensor, "b h a"], steps: int, level: float) -> None:
        self.field, self.start, self.steps, self.level = field, start, steps, level

    @torch.no_grad()
    def sample(self, generator: torch.Generator | None = None) -> Sample:
        path = [noise_like(self.start, generator)]
        for time in moments(self.steps, self.start):
            mean, std = self._step(path[-1], time)
            path.append(mean + std * noise_like(mean, generator))
        return Sample(actions=path[-1], latent=torch.stack(path, dim=1))

    @torch.no_grad()
    def mode(self) -> Sample:
        path = [self.start]
        for time in moments(self.steps, self.start):
            path.append(path[-1] + self.field(path[-1], time) / self.steps)
        return Sample(actions=path[-1], latent=torch.stack(path, dim=1))

    def evaluate(self, latent: Float[Tensor, "b t h a"]) -> tuple[Float[Tensor, "b s h a"], Float[Tensor, "b s h a"]]:
        log_prob, entropy = [], []
        for step, time in enumerate(moments(self.steps, self.start)):
            mean, std = self._step(latent[:, step], time)
            away = ((latent[:, step + 1] - mean) / std).float()
            log_prob.append(-0.5 * away.square() - std.float().log() - 0.5 * math.log(2 * math.pi))
            entropy.append((std.float().log() + 0.5 * math.log(2 * math.pi * math.e)).expand_as(away))
        return torch.stack(log_prob, dim=1), torch.stack(entropy, dim=1)

    def _step(
        self, x: Float[Tensor, "b h a"], time: Float[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b h a"], Float[Tensor, "b 1 1"]]:
        """Mean and standard deviation of where a step from ``x`` leads."""
        velocity, share = self.field(x, time), time[:, None, None]
        drift = velocity - self.level**2 / 2 * (x - share * velocity)
        return x + drift / self.steps, self.level * ((1 - share) / self.steps).sqrt()
