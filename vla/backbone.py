"""The backbone contract: observation in, hidden states of every layer out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vla.features import Features
from vla.observation import Observation


class Backbone(nn.Module, ABC):
    """A vision-language network.

    ``width`` is d and ``depth`` is l of the :class:`Features` it returns; ``n_queries`` is the number
    of learned query tokens, which enter as input embeddings and sit last in the sequence.
    ``image_size_px`` is the (height, width) that images must have. ``waypoint_dim`` is the size of the waypoint that it
    predicts, 0 where it predicts none.
    """

    width: int
    depth: int
    n_queries: int
    image_size_px: tuple[int, int]
    waypoint_dim: int = 0

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b n"]]:
        """Token ids and mask (True = real token), padded to one length."""

    @abstractmethod
    def forward(self, observation: Observation) -> Features:
        """Run the whole network once."""

    def locate(self, observation: Observation) -> Float[Tensor, "b w"]:
        """The waypoint alone, without the cost of the whole network; ``TypeError`` where there is none."""
        raise TypeError(f"{type(self).__name__} predicts no waypoint")
