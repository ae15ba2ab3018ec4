"""A Gaussian over chunks: the simplest head that can learn from reward."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vla.backbone import Backbone
from vla.distribution import Distribution, Sample, noise_like
from vla.features import Features
from vla.head import FeaturesHead
from vla.heads.bridge import BridgeConfig
from vla.heads.chunks import check_target, over_numbers, over_valid
from vla.heads.mlp import MLPConfig
from vla.heads.regression import masked_l1
from vla.observation import ActionChunk

Mean = Literal["bridge", "mlp"]
Spread = Literal["dimension", "state"]
Loss = Literal["nll", "l1"]
LOG_STD_MIN, LOG_STD_MAX = -5.0, 1.0
"""Between them the logarithm of a standard deviation moves freely; it cannot leave them."""
_INSIDE = 1 - 1e-3
"""How far out a squashed target lies at most: at 1 its latent would be infinite."""
_NODES = 64


@dataclass(frozen=True, kw_only=True)
class GaussianConfig:
    """Of :class:`GaussianHead`.

    ``mean`` is the network that says the mean: the bridge head's, with attention ``heads``, or the MLP's, of ``width``
    and ``layers``. ``spread`` says what the standard deviation, at first ``std``, depends on: on the ``dimension`` of
    the action alone, or on the ``state`` and all else that is seen. ``squash`` bends the action by tanh into −1 … 1.
    With a ``refined`` width, a perceptron of that width adds to the mean, at first nothing, from what that is read off
    (its hidden states) and the robot's state: so little can learn while the rest stays.
    ``loss`` of supervised learning: the negative log-likelihood, or L1 of the mode, which leaves the spread as it is.
    """

    mean: Mean = "bridge"
    heads: int = 4
    width: int = 256
    layers: int = 2
    spread: Spread = "dimension"
    std: float = 0.3
    squash: bool = False
    loss: Loss = "nll"
    refined: int = 0

    def __post_init__(self) -> None:
        for name, choices in (("mean", Mean), ("spread", Spread), ("loss", Loss)):
            if (given := getattr(self, name)) not in get_args(choices):
                raise ValueError(
                    f"expected {name} of the gaussian head out of {', '.join(get_args(choices))}, got {given!r}"
                )
        if self.refined < 0:
            raise ValueError(f"expected refined to be a width, or 0 for nothing, got {self.refined}")
        check_std(self.std)

    def build(self, *, backbone: Backbone, state_dim: int, horizon: int, action_dim: int) -> "GaussianHead":
        """The head with fresh weights for the features of ``backbone``."""
        return GaussianHead(self, backbone=backbone, state_dim=state_dim, horizon=horizon, action_dim=action_dim)


class GaussianHead(FeaturesHead):
    """Independent numbers of all actions, about a mean that another head's network says."""

    def __init__(
        self, config: GaussianConfig, *, backbone: Backbone, state_dim: int, horizon: int, action_dim: int
    ) -> None:
        super().__init__()
        self.config, self.horizon, self.action_dim = config, horizon, action_dim
        network = (
            BridgeConfig(heads=config.heads)
            if config.mean == "bridge"
            else MLPConfig(width=config.width, layers=config.layers)
        )
        numbers = action_dim if config.spread == "dimension" else 2 * action_dim
        self.mean = network.build(backbone=backbone, state_dim=state_dim, horizon=horizon, action_dim=numbers)
        self.reads = self.mean.reads
        self.spread = nn.Parameter(freely(torch.full((action_dim,), config.std).log()))
        self.refinement: nn.Sequential | None = None
        if config.refined:
            k, width = self.mean.hidden_shape
            self.refinement = _refinement(k * width + state_dim, config.refined, horizon * action_dim)

    def loss(self, seen: Features, target: ActionChunk) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        check_target(target, (len(seen.state), self.horizon, self.action_dim))
        chunks = self.distribution(seen)
        loss, numbers = masked_l1(chunks.squashed(chunks.mean), target)
        if self.config.loss == "nll":
            latent = target.actions.masked_fill(~target.valid[..., None], 0.0)
            latent = latent.clamp(-_INSIDE, _INSIDE).atanh() if self.config.squash else latent
            loss = over_valid(over_numbers(-chunks.log_prob(latent), target), target.valid)
            numbers |= {"nll": loss.detach(), "std": chunks.log_std.detach().exp().mean()}
        return loss, numbers

    def hidden(self, seen: Features) -> Float[Tensor, "b k d"]:
        return self.mean.hidden(seen)

    @property
    def hidden_shape(self) -> tuple[int, int]:
        return self.mean.hidden_shape

    @property
    def last(self) -> nn.Module:
        return self.mean.last

    def act(self, seen: Features) -> Float[Tensor, "b h a"]:
        return self.distribution(seen).mode().actions

    def distribution(self, seen: Features) -> "GaussianChunks":
        if self.refinement is None:
            return self._about(self.mean.act(seen))
        return self.read_off(self.hidden(seen), seen.state)

    def read_off(self, hidden: Float[Tensor, "b k d"], state: Float[Tensor, "b s"]) -> "GaussianChunks":
        """The distribution, from the :meth:`hidden` states of what is seen, and the robot's state."""
        chunk = self._about(self.last(hidden).reshape(len(hidden), self.horizon, -1))
        if self.refinement is None:
            return chunk
        further = self.refinement(torch.cat([hidden.flatten(1), state], dim=-1))
        return GaussianChunks(chunk.mean + further.view_as(chunk.mean).float(), chunk.log_std, squash=chunk.squash)

    def _about(self, mean: Float[Tensor, "b h e"]) -> "GaussianChunks":
        """About what the network of the mean says, which may speak of the spread too."""
        spread = self.spread
        if self.config.spread == "state":
            mean, change = mean.chunk(2, dim=-1)
            spread = spread + change
        return GaussianChunks(mean.float(), log_std_of(spread), squash=self.config.squash)


def check_std(std: float) -> None:
    """``ValueError`` for a standard deviation that a Gaussian cannot have."""
    if not math.exp(LOG_STD_MIN) < std < math.exp(LOG_STD_MAX):
        bounds = f"{math.exp(LOG_STD_MIN):.4f} and {math.exp(LOG_STD_MAX):.4f}"
        raise ValueError(f"expected the std of a Gaussian between {bounds}, got {std}")


def freely(log_std: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The inverse of :func:`log_std_of`, of what lies between the bounds or is brought there."""
    return ((log_std - LOG_STD_MIN) / (LOG_STD_MAX - LOG_STD_MIN)).logit(eps=1e-4)


def log_std_of(spread: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Between the bounds, which it nears and never reaches, so that a gradient leads back from everywhere."""
    return LOG_STD_MIN + (LOG_STD_MAX - LOG_STD_MIN) * spread.float().sigmoid()


def _refinement(numbers: int, width: int, outputs: int) -> nn.Sequential:
    """Says 0 until it has learned."""
    last = nn.Linear(width, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.LayerNorm(numbers), nn.Linear(numbers, width), nn.GELU(), last)


class GaussianChunks(Distribution):
    """Latent (b, h, a): the actions before they are squashed, or else the actions. Parts (b, h, a): each number."""

    action_axis = 1

    def __init__(self, mean: Float[Tensor, "b h a"], log_std: Float[Tensor, "*#b #h a"], *, squash: bool) -> None:
        self.mean, self.log_std, self.squash = mean, log_std.expand_as(mean), squash

    @torch.no_grad()
    def sample(self, generator: torch.Generator | None = None) -> Sample:
        latent = self.mean + self.log_std.exp() * noise_like(self.mean, generator)
        return Sample(actions=self.squashed(latent), latent=latent)

    @torch.no_grad()
    def mode(self) -> Sample:
        """Squashed, it is the median: the mode of the latent."""
        return Sample(actions=self.squashed(self.mean), latent=self.mean)

    def evaluate(self, latent: Float[Tensor, "b h a"]) -> tuple[Float[Tensor, "b h a"], Float[Tensor, "b h a"]]:
        """Densities are those of the actions: tanh's derivative counts where they are squashed."""
        away = (latent - self.mean) * (-self.log_std).exp()
        log_prob = -0.5 * away.square() - self.log_std - 0.5 * math.log(2 * math.pi)
        entropy = self.log_std + 0.5 * math.log(2 * math.pi * math.e)
        if self.squash:
            log_prob, entropy = log_prob - _log_slope(latent), entropy + self._mean_log_slope()
        return log_prob, entropy

    def squashed(self, latent: Float[Tensor, "b h a"]) -> Float[Tensor, "b h a"]:
        """The actions that a latent stands for."""
        return latent.tanh() if self.squash else latent

    def _mean_log_slope(self) -> Float[Tensor, "b h a"]:
        """By Gauss-Hermite quadrature."""
        nodes, weights = (self.mean.new_tensor(x) for x in np.polynomial.hermite_e.hermegauss(_NODES))
        latent = self.mean[..., None] + self.log_std.exp()[..., None] * nodes
        return _log_slope(latent) @ weights / math.sqrt(2 * math.pi)


def _log_slope(latent: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """log tanh′(latent) = log(1 − tanh²), without loss of digits far out."""
    return 2 * (math.log(2) - latent - functional.softplus(-2 * latent))
