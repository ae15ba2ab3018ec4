"""VITA-VLA's action mapper and decoder (arXiv 2510.09607): a query token for each action, led to its hidden state."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from vla.backbone import Backbone
from vla.features import Features, TokenRole
from vla.head import FeaturesHead
from vla.heads.regression import masked_l1
from vla.observation import ActionChunk


@dataclass(frozen=True, kw_only=True)
class MapperConfig:
    """Of :class:`MapperHead`: the ``width`` of an action's hidden state, a teacher's where one is to be matched, and
    the ``layers`` of the mapper to it.
    """

    width: int = 96
    layers: int = 3

    def __post_init__(self) -> None:
        if self.width < 1 or self.layers < 1:
            raise ValueError(f"expected a width and layers of the mapper head from 1 on, got {self}")

    def build(self, *, backbone: Backbone, state_dim: int, horizon: int, action_dim: int) -> "MapperHead":
        """The head with fresh weights for the features of ``backbone``."""
        return MapperHead(self, backbone=backbone, state_dim=state_dim, horizon=horizon, action_dim=action_dim)


class MapperHead(FeaturesHead):
    """Query token i in the backbone's last layer → an MLP, the mapper → hidden state of action i → the action.

    The last layer is the bridge head's, so that a trained one's can be taken over. ``ValueError`` unless the backbone
    has a query token for each action. Departures: the paper repeats one learned token where each has its own here, and
    its decoder, which is its teacher's, has two layers and ends in tanh; hidden states are normalised before the mapper
    (LayerNorm). Loss: L1 on the chunk.
    """

    def __init__(
        self, config: MapperConfig, *, backbone: Backbone, state_dim: int, horizon: int, action_dim: int
    ) -> None:
        super().__init__()
        self.config, self.horizon, self.action_dim = config, horizon, action_dim
        if backbone.n_queries != horizon:
            raise ValueError(
                f"the mapper head has a query token for each of {horizon} actions, the backbone's n_queries is "
                f"{backbone.n_queries}: make them equal"
            )
        layers: list[nn.Module] = [nn.LayerNorm(backbone.width)]
        width_in = backbone.width
        for _ in range(config.layers - 1):
            layers += [nn.Linear(width_in, config.width), nn.GELU()]
            width_in = config.width
        self.mapper = nn.Sequential(*layers, nn.Linear(width_in, config.width))
        self.output = nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, action_dim))

    def loss(self, features: Features, target: ActionChunk) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        return masked_l1(self.act(features), target)

    def act(self, features: Features) -> Float[Tensor, "b h a"]:
        return self.output(self.hidden(features))

    def hidden(self, features: Features) -> Float[Tensor, "b h d"]:
        queries, _ = features.select(TokenRole.QUERY)
        return self.mapper(queries[-1])

    @property
    def hidden_shape(self) -> tuple[int, int]:
        return self.horizon, self.config.width

    @property
    def last(self) -> nn.Module:
        return self.output
