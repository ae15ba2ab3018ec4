"""The backbone contract: observation in, hidden states of every layer out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Bool, Int
from torch import Tensor, nn

from vla.features import Features
from vla.observation import Observation


class Backbone(nn.Module, ABC):
    """A vision-language network.

    ``width`` is d and ``depth`` is l of the :class:`Features` it returns; ``n_queries`` is the number
    of learned query tokens, which enter as input embeddings and sit last in the sequence.
    ``image_size_px`` is the (height, width) that images must have.
    """

    width: int
    depth: int
    n_queries: int
    image_size_px: tuple[int, int]

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b n"]]:
        """Token ids and mask (True = real token), padded to one length."""

    @abstractmethod
    def forward(self, observation: Observation) -> Features:
        """Run the whole network once."""
