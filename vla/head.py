"""The head contract: what a backbone sees in, actions, a loss or a distribution out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vla.backbone import Backbone
from vla.distribution import Distribution
from vla.features import Features, Prefix, TokenRole
from vla.observation import ActionChunk, Begun, Keyframe, Observation

Seen = TypeVar("Seen")
"""What a head is given of an observation."""
_NO_HIDDEN = "{} has no hidden states that a chunk is read off: take a bridge, mapper or mlp head"


class Head(nn.Module, ABC, Generic[Seen]):
    """Turns what a backbone sees into a chunk of ``horizon`` normalised actions of ``action_dim`` numbers.

    Most heads are a :class:`FeaturesHead`, those that decode token by token with the backbone a :class:`DecodingHead`.
    """

    horizon: int
    action_dim: int
    goes_on: ClassVar[bool] = False
    """Whether it has :meth:`go_on`."""
    tells: ClassVar[bool] = False
    """Whether it has :meth:`speak`, and learns from what the target says of each chunk."""
    aims: ClassVar[bool] = False
    """Whether it has :meth:`aim` instead of :meth:`act`, and learns from the target's keyframes."""

    @abstractmethod
    def perceive(self, backbone: Backbone, observation: Observation) -> Seen:
        """What the other methods need of the observation."""

    @abstractmethod
    def features(self, seen: Seen) -> Features:
        """Those of the backbone, in what is seen."""

    @abstractmethod
    def loss(self, seen: Seen, target: ActionChunk) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Scalar loss, a mean over the valid actions of ``target``, and detached scalars to log."""

    @abstractmethod
    def act(self, seen: Seen) -> Float[Tensor, "b h a"]:
        """The chunk to execute: the same for the same observation."""

    def go_on(self, seen: Seen, begun: Begun) -> Float[Tensor, "b h a"]:
        """The chunk to execute after what is ``begun``, which its first actions are; ``TypeError`` where it cannot."""
        raise TypeError(f"{type(self).__name__} cannot go on from a chunk that is being executed: take a flow head")

    def speak(self, seen: Seen) -> tuple[Float[Tensor, "b h a"], Int[Tensor, "b m"]]:
        """The chunk to execute and the tokens of what is said of it; ``TypeError`` for a head that does not tell."""
        raise TypeError(f"{type(self).__name__} says nothing of what it does: take a chat head")

    def aim(self, seen: Seen) -> Keyframe:
        """Where to go next; ``TypeError`` for a head that answers chunks."""
        raise TypeError(f"{type(self).__name__} aims at no keyframe: take a heatmap head")

    def hidden(self, seen: Seen) -> Float[Tensor, "b k d"]:
        """What the chunk is read off by :attr:`last`: a vector for each action (k = h), or one for all of them (k = 1).

        ``TypeError`` for a head that reads its chunk off no such vectors.
        """
        raise TypeError(_NO_HIDDEN.format(type(self).__name__))

    @property
    def hidden_shape(self) -> tuple[int, int]:
        """(k, d) of :meth:`hidden`."""
        raise TypeError(_NO_HIDDEN.format(type(self).__name__))

    @property
    def last(self) -> nn.Module:
        """The layer that makes actions of :meth:`hidden`."""
        raise TypeError(_NO_HIDDEN.format(type(self).__name__))

    def distribution(self, seen: Seen) -> Distribution:
        """Over all chunks; ``TypeError`` for a head that knows but the one to execute."""
        raise TypeError(
            f"{type(self).__name__} knows one chunk and no distribution over chunks, which learning from reward needs: "
            "take a gaussian, tokens or flow head"
        )

    def fit(self, target: ActionChunk) -> None:
        """Take from the chunks of a training set what is measured rather than learned; nothing by default.

        To be called once, before the first step. What comes of it is kept in buffers, hence saved with the weights.
        """


class FeaturesHead(Head[Features]):
    """A head that looks at the features of one pass through the backbone, query tokens included.

    It ``reads`` the tokens of these roles; features without the others are the same to it.
    """

    reads: tuple[TokenRole, ...] = tuple(TokenRole)

    def perceive(self, backbone: Backbone, observation: Observation) -> Features:
        return backbone(observation)

    def features(self, seen: Features) -> Features:
        return seen


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """A backbone, and what it has made of the observations and of all that was decoded so far."""

    backbone: Backbone
    prefix: Prefix

    @property
    def features(self) -> Features:
        """Those of the observations."""
        return self.prefix.features

    @property
    def waypoint(self) -> Float[Tensor, "b w"] | None:
        return self.features.waypoint

    def decode(
        self, embedded: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"] | None = None, *, causal: bool
    ) -> tuple[Float[Tensor, "b m d"], "Decoder"]:
        """The last hidden states of further tokens, all real without ``mask``, and the decoder behind them.

        See :meth:`vla.backbone.Backbone.decode`.
        """
        real = self.features.mask.new_ones(embedded.shape[:2]) if mask is None else mask
        hidden, prefix = self.backbone.decode(self.prefix, embedded, real, causal=causal)
        return hidden[-1], Decoder(backbone=self.backbone, prefix=prefix)

    def at(self, about: Int[Tensor, " n"]) -> "Decoder":
        """That of each row; one may come several times."""
        return Decoder(backbone=self.backbone, prefix=self.prefix.at(about))


class DecodingHead(Head[Decoder]):
    """A head whose tokens go through the backbone itself, behind the observation; query tokens are not there."""

    def perceive(self, backbone: Backbone, observation: Observation) -> Decoder:
        return Decoder(backbone=backbone, prefix=backbone.encode(observation))

    def features(self, seen: Decoder) -> Features:
        return seen.features
