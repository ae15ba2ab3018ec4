"""The baseline head: the last layer's query tokens and the state through a small MLP."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla.backbone import Backbone
from vla.features import Features, TokenRole
from vla.head import FeaturesHead
from vla.heads.regression import masked_l1
from vla.observation import ActionChunk


@dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """Width and number of hidden layers of :class:`MLPHead`."""

    width: int = 256
    layers: int = 2

    def build(self, *, backbone: Backbone, state_dim: int, horizon: int, action_dim: int) -> "MLPHead":
        """The head with fresh weights for the features of ``backbone``."""
        return MLPHead(self, backbone=backbone, state_dim=state_dim, horizon=horizon, action_dim=action_dim)


class MLPHead(FeaturesHead):
    """Mean of the last layer's query tokens ⊕ state → MLP → (h, a)."""

    reads = (TokenRole.QUERY,)

    def __init__(self, config: MLPConfig, *, backbone: Backbone, state_dim: int, horizon: int, action_dim: int) -> None:
        super().__init__()
        self.horizon, self.action_dim = horizon, action_dim
        self.norm = nn.LayerNorm(backbone.width)
        layers: list[nn.Module] = []
        width_in = backbone.width + state_dim
        for _ in range(config.layers):
            layers += [nn.Linear(width_in, config.width), nn.GELU()]
            width_in = config.width
        self.mlp = nn.Sequential(*layers, nn.Linear(width_in, horizon * action_dim))

    def loss(self, features: Features, target: ActionChunk) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        return masked_l1(self.act(features), target)

    def act(self, features: Features) -> Float[Tensor, "b h a"]:
        return self.last(self.hidden(features)[:, 0]).unflatten(-1, (self.horizon, self.action_dim))

    def hidden(self, features: Features) -> Float[Tensor, "b 1 d"]:
        queries, _ = features.select(TokenRole.QUERY)
        pooled = self.norm(queries[-1]).mean(dim=1)
        return self.mlp[:-1](torch.cat([pooled, features.state], dim=-1))[:, None]

    @property
    def hidden_shape(self) -> tuple[int, int]:
        return 1, self.mlp[-1].in_features  # pyright: ignore[reportReturnType]

    @property
    def last(self) -> nn.Module:
        return self.mlp[-1]
