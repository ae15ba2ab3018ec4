"""The head contract: features in, actions or a loss out."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from vla.features import Features
from vla.observation import ActionChunk


class Head(nn.Module, ABC):
    """Turns features into a chunk of ``horizon`` normalised actions of ``action_dim`` numbers."""

    horizon: int
    action_dim: int

    @abstractmethod
    def loss(self, features: Features, target: ActionChunk) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Scalar loss over the valid actions of ``target``, and detached scalars to log."""

    @abstractmethod
    def act(self, features: Features) -> Float[Tensor, "b h a"]:
        """The chunk to execute."""
