"""The critic: what return a policy may still expect, from what it sees."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rl.agent import Agent
from rl.config import CriticConfig


class Critic(nn.Module):
    """An MLP on an agent's summary; its last layer is drawn small (std 0.02, no bias), so that values begin near 0."""

    def __init__(self, config: CriticConfig, width_in: int) -> None:
        super().__init__()
        self.detach = config.detach
        layers: list[nn.Module] = [nn.LayerNorm(width_in)] if config.norm else []
        for _ in range(config.layers):
            layers += [nn.Linear(width_in, config.width), nn.GELU()]
            width_in = config.width
        last = nn.Linear(width_in, 1, bias=False)
        nn.init.normal_(last.weight, std=0.02)
        self.layers = nn.Sequential(*layers, last)

    def forward(self, summary: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """The value of each decision."""
        return self.layers(summary.detach() if self.detach else summary)[:, 0]


class ActorCritic(nn.Module):
    """What a run improves: the agent, and a critic where one is needed."""

    def __init__(self, actor: Agent[Any], critic: Critic | None) -> None:
        super().__init__()
        self.actor, self.critic = actor, critic

    def is_critic(self, name: str) -> bool:
        """Whether a parameter is the critic's."""
        return name.startswith("critic.")

    def current(self) -> dict[str, Tensor]:
        """Copies of what changes as it learns: weights with a gradient, and buffers."""
        weights = {name: weight for name, weight in self.named_parameters() if weight.requires_grad}
        return {name: x.detach().clone() for name, x in {**weights, **dict(self.named_buffers())}.items()}

    @torch.no_grad()
    def become(self, weights: Mapping[str, Tensor]) -> None:
        """Take over what another one's :meth:`current` gave."""
        own = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        for name, weight in weights.items():
            own[name].copy_(weight)

    def frozen_copy(self) -> "ActorCritic":
        """One that acts and learns nothing; what does not learn here either is shared."""
        critic = None if self.critic is None else copy.deepcopy(self.critic).requires_grad_(False)
        return ActorCritic(self.actor.frozen_copy(), critic)


def no_value(like: Tensor) -> Float[Tensor, " b"]:
    """What stands for the values of decisions where there is no critic."""
    return torch.zeros(len(like), device=like.device)
