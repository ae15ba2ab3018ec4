"""The backbone contract: observation in, hidden states of every layer out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vla.backbones.token_reduction import TokenReduction
from vla.features import Features, Prefix, Sight
from vla.observation import Observation


class Backbone(nn.Module, ABC):
    """A vision-language network.

    ``width`` is d and ``depth`` is l of the :class:`Features` it returns; ``n_queries`` is the number
    of learned query tokens, which enter as input embeddings and sit last in the sequence.
    ``image_size_px`` is the (height, width) that images must have. ``text_window`` is the most tokens of an instruction
    that it can take in, and ``vocabulary`` a hash of how it cuts texts into tokens. ``waypoint_dim`` is the size of the
    waypoint that it predicts, 0 where it predicts none. ``reduction`` says how tokens of images become fewer than their
    grid has, where they do.
    """

    width: int
    depth: int
    n_queries: int
    image_size_px: tuple[int, int]
    text_window: int
    vocabulary: str
    waypoint_dim: int = 0
    reduction: TokenReduction | None = None
    config: Any
    """The config that it was built from, with what had to be read from elsewhere."""
    pretrained: frozenset[str] = frozenset()
    """Parts whose first weights are those of a checkpoint."""

    @property
    def given(self) -> frozenset[str]:
        """Names of its weights that come from elsewhere and stay as they are; a checkpoint holds the others."""
        return frozenset()

    @property
    def layers_apart(self) -> list[nn.Module]:
        """Large layers that run one after the other, each by its ``forward``: where processes share the network out,
        no two need be whole at once. None by default.
        """
        return []

    def save(self, directory: Path) -> None:
        """Write what rebuilding it needs beside config and weights into a policy's folder; nothing by default."""

    @abstractmethod
    def tokenize(self, texts: Sequence[str], ended: bool = False) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b n"]]:
        """Token ids and mask (True = real token) of whole texts, padded to the longest. Nothing is cut: ``forward``
        refuses what is longer than the window. Texts that are to be told are ``ended`` by ``end_id``.
        """

    @abstractmethod
    def lost_words(self, text: str) -> str:
        """The end of ``text``, in whole words, that the window does not hold; empty where it holds all."""

    @abstractmethod
    def forward(self, observation: Observation) -> Features:
        """Run the whole network once."""

    def encode(self, observation: Observation) -> Prefix:
        """What the observation holds, without query tokens, to be gone on from any number of times."""
        raise TypeError(f"{type(self).__name__} cannot decode step by step")

    def decode(
        self, prefix: Prefix, embedded: Float[Tensor, "n m d"], mask: Bool[Tensor, "n m"], *, causal: bool
    ) -> tuple[Float[Tensor, "l n m d"], Prefix]:
        """The hidden states of further tokens in every layer, and the prefix with them behind.

        They attend to all of the prefix and to each other where ``mask`` is True; ``causal`` ones only to those before
        them. The prefix that was given stays as it was. Masked tokens are padding, of no meaning.
        """
        raise TypeError(f"{type(self).__name__} cannot decode step by step")

    def see(self, observation: Observation) -> Any:
        """What the pictures are to ``look``, ``patches`` and ``tell``, which take it as ``seen`` if it is at hand."""
        raise TypeError(f"{type(self).__name__} has no pictures apart from the text")

    def look(self, observation: Observation, about: Int[Tensor, " n"] | None = None, seen: Any = None) -> Sight:
        """Where the text's words are, at the cost of a part of the network; ``TypeError`` where nothing tells it.

        With ``about`` the observation's n texts are about fewer pictures: text i about those, and the state, of row
        ``about[i]``, so that several sentences share one picture.
        """
        raise TypeError(f"{type(self).__name__} has no heatmaps")

    @property
    def heatmap_shape(self) -> tuple[int, int, int]:
        """Of the :class:`Sight` of its features: channels of the maps, heatmaps of a view, and how many pixels of a
        picture one of their cells is wide; ``TypeError`` where there is none.
        """
        raise TypeError(f"{type(self).__name__} has no heatmaps")

    def patches(self, observation: Observation, seen: Any = None) -> tuple[Float[Tensor, "b n d"], Bool[Tensor, "b n"]]:
        """Tokens of the pictures alone, whatever the text says, and which of them are real."""
        raise TypeError(f"{type(self).__name__} has no tokens of pictures alone")

    def sentence(self, text: Int[Tensor, "n m"], text_mask: Bool[Tensor, "n m"]) -> Float[Tensor, "n d"]:
        """One vector for each text, whatever the pictures show."""
        raise TypeError(f"{type(self).__name__} has no vector of a text alone")

    @property
    def words(self) -> Float[Tensor, "c d"]:
        """The embedding of each entry of the vocabulary."""
        raise TypeError(f"{type(self).__name__} shows no embeddings of its vocabulary")

    def token_scale(self) -> float:
        """How large embeddings of the vocabulary are (their standard deviation), and so how large what joins a sequence
        of them is to begin with, such as a token's place: what is much smaller is lost, what is much larger hides them.
        1 where they are not shown.
        """
        try:
            return max(float(self.words.detach().std()), 1e-6)
        except TypeError:
            return 1.0

    def tell(
        self,
        observation: Observation,
        about: Int[Tensor, " n"],
        told: Float[Tensor, "n m d"],
        told_mask: Bool[Tensor, "n m"],
        seen: Any = None,
    ) -> Float[Tensor, "n m d"]:
        """The last hidden states of the tokens embedded as ``told``, after all that the observation holds.

        They attend to it and to those before them. ``about`` is as in :meth:`look`; ``TypeError`` where the network
        cannot tell anything.
        """
        raise TypeError(f"{type(self).__name__} cannot tell anything")

    @property
    def end_id(self) -> int:
        """The token that ends what is told."""
        raise TypeError(f"{type(self).__name__} cannot tell anything")

    def read(self, ids: Int[Tensor, "n m"]) -> list[str]:
        """The texts of tokens, each up to its ``end_id``; inverse of :meth:`tokenize` up to spelling."""
        raise TypeError(f"{type(self).__name__} cannot tell anything")

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
