"""An ensemble of critics of chunks: what a decision is worth, by what is seen and what is done."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rl.robofume.config import CalQLConfig


class EnsembleLinear(nn.Module):
    """e linear layers at once, drawn as torch draws each."""

    def __init__(self, critics: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(critics, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(critics, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Float[Tensor, "#e b i"]) -> Float[Tensor, "e b o"]:
        return torch.baddbmm(self.bias, x.expand(len(self.weight), -1, -1), self.weight)


class Critics(nn.Module):
    """Perceptrons with a LayerNorm behind each layer, which bounds what they say of actions that nobody tried (RLPD,
    arXiv 2302.02948). What is seen goes through its part of the first layer once, for however many actions.
    """

    def __init__(self, config: CalQLConfig, seen: int, action: int) -> None:
        super().__init__()
        e, width = config.critics, config.width
        self.scale = nn.LayerNorm(seen)
        self.seen, self.action = EnsembleLinear(e, seen, width), EnsembleLinear(e, action, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(config.layers))
        self.hidden = nn.ModuleList(EnsembleLinear(e, width, width) for _ in range(config.layers - 1))
        self.last = EnsembleLinear(e, width, 1)

    def forward(self, summary: Float[Tensor, "b d"], actions: Float[Tensor, "b m a"]) -> Float[Tensor, "e b m"]:
        """The values of m actions for each of b summaries."""
        b, m = actions.shape[:2]
        seen = self.seen(self.scale(summary)[None])
        done = self.action(actions.flatten(0, 1)[None]).unflatten(1, (b, m))
        x = nn.functional.gelu(self.norms[0](seen[:, :, None] + done)).flatten(1, 2)
        for layer, norm in zip(self.hidden, self.norms[1:], strict=True):
            x = nn.functional.gelu(norm(layer(x)))
        return self.last(x)[..., 0].unflatten(1, (b, m))

    def target(self) -> "Critics":
        """A copy that learns nothing by itself: see :meth:`follow`."""
        return copy.deepcopy(self).requires_grad_(False)

    @torch.no_grad()
    def follow(self, leading: "Critics", tau: float) -> None:
        """Move towards ``leading`` by a share of ``tau``."""
        for own, theirs in zip(self.parameters(), leading.parameters(), strict=True):
            own.lerp_(theirs, tau)

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Inside, gradients go through to the actions and leave nothing here."""
        self.requires_grad_(False)
        try:
            yield
        finally:
            self.requires_grad_(True)
