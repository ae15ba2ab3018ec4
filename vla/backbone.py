"""The backbone contract: observation in, hidden states of every layer out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vla.features import Features, Sight
from vla.observation import Observation


class Backbone(nn.Module, ABC):
    """A vision-language network.

    ``width`` is d and ``depth`` is l of the :class:`Features` it returns; ``n_queries`` is the number
    of learned query tokens, which enter as input embeddings and sit last in the sequence.
    ``image_size_px`` is the (height, width) that images must have. ``text_window`` is the most tokens of an instruction
    that it can take in, and ``vocabulary`` a hash of how it cuts texts into tokens. ``waypoint_dim`` is the size of the
    waypoint that it predicts, 0 where it predicts none.
    """

    width: int
    depth: int
    n_queries: int
    image_size_px: tuple[int, int]
    text_window: int
    vocabulary: str
    waypoint_dim: int = 0

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b n"]]:
        """Token ids and mask (True = real token) of whole texts, padded to the longest. Nothing is cut: ``forward``
        refuses what is longer than the window.
        """

    @abstractmethod
    def lost_words(self, text: str) -> str:
        """The end of ``text``, in whole words, that the window does not hold; empty where it holds all."""

    @abstractmethod
    def forward(self, observation: Observation) -> Features:
        """Run the whole network once."""

    def look(self, observation: Observation, about: Int[Tensor, " n"] | None = None) -> Sight:
        """Where the text's words are, at the cost of a part of the network; ``TypeError`` where nothing tells it.

        With ``about`` the observation's n texts are about fewer pictures: text i about those, and the state, of row
        ``about[i]``, so that several sentences share one picture.
        """
        raise TypeError(f"{type(self).__name__} has no heatmaps")

    def locate(self, observation: Observation) -> Float[Tensor, "b w"]:
        """The waypoint alone, without the cost of the whole network; ``TypeError`` where there is none."""
        raise TypeError(f"{type(self).__name__} predicts no waypoint")

    def check_texts(self, texts: Sequence[str]) -> None:
        """``ValueError`` that names the longest of ``texts`` and its tokens, unless the window holds it."""
        lengths = self.tokenize(texts)[1].sum(dim=1).tolist() if texts else []
        tokens, text = max(zip(lengths, texts, strict=True), default=(0, ""))
        if tokens > self.text_window:
            raise ValueError(
                f"expected instructions of at most {self.text_window} tokens (the network's text window), "
                f"got {tokens} tokens: {text!r}"
            )
