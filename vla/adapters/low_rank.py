"""Linear layers with low-rank updates (LoRA, Hu et al. 2021, arXiv 2106.09685), of which each sample may have its own.

Weight and bias keep their names and stay the parameters that they were, so a network with updates is saved, loaded and
started from like one without.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Target:
    """The linear layer ``name`` of a network, whose outputs are ``of`` equal ``parts`` of which these are updated.

    Queries, keys and values that one layer makes are three: parts 0 and 2 are queries and values.
    """

    name: str
    of: int = 1
    parts: tuple[int, ...] = (0,)


class Choice:
    """Which update each sample of the batch at hand has, shared by all layers of a network; None: all the first."""

    def __init__(self) -> None:
        self.index: Int[Tensor, " b"] | None = None


class LowRankLinear(nn.Linear):
    """``linear`` with ``count`` updates: y = W x + b + s · U_i (g_i ⊙ D_i x), of which ``choice`` says i.

    D (``down``) is drawn as torch draws linear layers, U (``up``) is 0 at first, s is ``alpha / rank``. With
    ``weighted``, g are the importances of the single ranks, N(0, 1) at first, else they are 1. Each updated part of
    the output has D, g and U of its own.
    """

    def __init__(
        self,
        linear: nn.Linear,
        target: Target,
        *,
        rank: int,
        alpha: float,
        count: int = 1,
        weighted: bool = False,
        choice: Choice | None = None,
    ) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        size, parts = self.out_features // target.of, len(target.parts)
        self.scale, self.whole, self.choice = alpha / rank, (target.of, size), choice or Choice()
        make = self.weight.new_empty
        self.down = nn.Parameter(make(count, parts, rank, self.in_features))
        self.up = nn.Parameter(make(count, parts, size, rank))
        self.importance = nn.Parameter(make(count, parts, rank)) if weighted else None
        self.register_buffer("parts", torch.tensor(target.parts, device=self.weight.device), persistent=False)
        self.start_anew()

    def start_anew(self) -> None:
        """Updates that add nothing yet, drawn from torch's random state."""
        bound = 1 / math.sqrt(self.in_features)
        nn.init.uniform_(self.down, -bound, bound)
        nn.init.zeros_(self.up)
        if self.importance is not None:
            nn.init.normal_(self.importance)

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Where samples choose, they are the first axis."""
        y, index = super().forward(x), self.choice.index
        if index is None:
            through = self._through(x, self.down[0])
            added = torch.einsum("...pr,psr->...ps", self._weighed(through, 0), self.up[0])
        else:
            rows = x.reshape(len(x), -1, self.in_features)
            down = self.down[index]
            through = torch.bmm(rows, down.flatten(1, 2).mT).unflatten(-1, down.shape[1:3])
            added = torch.einsum("bmpr,bpsr->bmps", self._weighed(through, index[:, None]), self.up[index])
        parts = y.reshape(-1, *self.whole)
        added = added.reshape(-1, *added.shape[-2:]).to(parts.dtype)
        return parts.index_add(1, self.get_buffer("parts"), added, alpha=self.scale).view(y.shape)

    def change(self, index: int = 0) -> Float[Tensor, "o i"]:
        """What an update adds to the weight."""
        up = self.up[index] if self.importance is None else self.up[index] * self.importance[index, :, None]
        added = self.scale * torch.einsum("psr,pri->psi", up, self.down[index])
        whole = added.new_zeros(*self.whole, self.in_features)
        return whole.index_add(0, self.get_buffer("parts"), added).flatten(0, 1)

    @torch.no_grad()
    def merge(self) -> None:
        """Add the first update to the weight for good; the layer computes the same, to rounding, until it learns."""
        self.weight += self.change()
        self.up.zero_()

    def _through(self, x: Float[Tensor, "*b i"], down: Float[Tensor, "p r i"]) -> Float[Tensor, "*b p r"]:
        return nn.functional.linear(x, down.flatten(0, 1)).unflatten(-1, down.shape[:2])

    def _weighed(self, through: Tensor, index: int | Tensor) -> Tensor:
        return through if self.importance is None else through * self.importance[index]


def adapt(
    model: nn.Module,
    targets: "list[Target]",
    *,
    rank: int,
    alpha: float,
    count: int = 1,
    weighted: bool = False,
) -> Choice:
    """Give layers of ``model`` updates, in place; returns what says which of them each sample has.

    ``ValueError`` where there are no targets, or a rank below 1.
    """
    if not targets or rank < 1:
        raise ValueError(f"expected layers to update and a rank of at least 1, got {len(targets)} layers, rank {rank}")
    choice = Choice()
    for target in targets:
        parent, _, own = target.name.rpartition(".")
        linear = model.get_submodule(target.name)
        assert isinstance(linear, nn.Linear)
        made = LowRankLinear(linear, target, rank=rank, alpha=alpha, count=count, weighted=weighted, choice=choice)
        setattr(model.get_submodule(parent), own, made)
    return choice


def updated(model: nn.Module) -> dict[str, LowRankLinear]:
    """The layers of ``model`` that have updates, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LowRankLinear)}
