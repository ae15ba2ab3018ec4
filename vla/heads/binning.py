"""Chunks as tokens: what every such code promises, and the plainest one, uniform bins."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vla.observation import ActionChunk


class Code(nn.Module, ABC):
    """Turns chunks (h, a) into at most ``length`` tokens out of ``entries``, and back.

    Where ``end_id`` is not None, chunks have tokens of different number, the last of which is that one, and padding
    after it is that one too; else each has ``length``.
    """

    entries: int
    length: int
    end_id: int | None = None

    def fit(self, target: ActionChunk) -> None:
        """Take from the chunks of a training set what the code depends on."""

    @abstractmethod
    def encode(self, actions: Float[Tensor, "b h a"]) -> Int[Tensor, "b m"]:
        """Tokens of chunks without padding."""

    @abstractmethod
    def decode(self, ids: Int[Tensor, "b m"]) -> Float[Tensor, "b h a"]:
        """The chunks, whatever the tokens; inverse of :meth:`encode` up to rounding."""

    def choose(self, log_p: Float[Tensor, "b m c"]) -> Int[Tensor, "b m"]:
        """The tokens to act by: the likeliest, unless entries lie in an order that says more."""
        return log_p.argmax(dim=-1)

    def allowed(self, ids: Int[Tensor, "b m"]) -> Bool[Tensor, "b n c"] | None:
        """Which entries may come first, and after each of ``ids`` (n = m + 1); None where all may."""
        return None


class UniformBins(Code):
    """Each number of an action in one of ``bins`` equal parts of its range, step by step (RT-2, arXiv 2307.15818).

    The range is −1 … 1, as OpenVLA (arXiv 2406.09246) has it, or wider where :meth:`fit` finds numbers outside. What
    lies outside later goes into the outermost bin.
    """

    low: Tensor
    high: Tensor

    def __init__(self, bins: int, *, horizon: int, action_dim: int) -> None:
        super().__init__()
        self.entries, self.length, self.shape = bins, horizon * action_dim, (horizon, action_dim)
        self.register_buffer("low", -torch.ones(action_dim))
        self.register_buffer("high", torch.ones(action_dim))

    def fit(self, target: ActionChunk) -> None:
        actions = target.actions[target.valid].to(self.low)
        if len(actions):
            self.low.copy_(torch.minimum(actions.amin(dim=0), -torch.ones_like(self.low)))
            self.high.copy_(torch.maximum(actions.amax(dim=0), torch.ones_like(self.high)))

    def encode(self, actions: Float[Tensor, "b h a"]) -> Int[Tensor, "b m"]:
        share = (actions - self.low) / (self.high - self.low)
        return (share * self.entries).floor().long().clamp(0, self.entries - 1).flatten(1)

    def choose(self, log_p: Float[Tensor, "b m c"]) -> Int[Tensor, "b m"]:
        """The median bin. The likeliest of many fine ones is too often the one where numbers are exactly alike, such as
        0 where nothing moves.
        """
        return (log_p.exp().cumsum(dim=-1) < 0.5).sum(dim=-1).clamp(max=self.entries - 1)

    def decode(self, ids: Int[Tensor, "b m"]) -> Float[Tensor, "b h a"]:
        share = (ids.unflatten(1, self.shape) + 0.5) / self.entries
        return self.low + share * (self.high - self.low)
