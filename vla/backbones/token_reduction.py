"""Fewer tokens of the pictures: each view's grid averaged down to a budget, and similar tokens merged."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vla.backbones.merging import Groups, bipartite_groups, rounds

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Reduced:
    """How p tokens of each of m pictures became k: groups of tokens, one stage after the other, with the tokens' sizes
    by which each stage takes its means; and the ``size`` that is left, which is what a token counts for.
    """

    stages: tuple[tuple[Groups, Float[Tensor, "m _"]], ...]
    size: Float[Tensor, "m k"]

    def of(self, x: Float[Tensor, "m p d"]) -> Float[Tensor, "m k d"]:
        """What of each token becomes of it."""
        for groups, size in self.stages:
            x = groups.mean(x, size)
        return x

    def then(self, groups: Groups) -> "Reduced":
        """One more stage, of tokens that count for what they stand for."""
        return Reduced(stages=(*self.stages, (groups, self.size)), size=groups.total(self.size))

    def after(self, before: "Reduced | None") -> "Reduced":
        """What is left to do for tokens that have become what they are ``before``."""
        done = 0 if before is None else len(before.stages)
        return Reduced(stages=self.stages[done:], size=self.size)

    def at(self, rows: Int[Tensor, " n"]) -> "Reduced":
        """That of each picture; one may come several times."""
        return Reduced(
            stages=tuple((groups.at(rows), size[rows]) for groups, size in self.stages), size=self.size[rows]
        )


@dataclass(frozen=True, kw_only=True)
class TokenReduction:
    """From a view's ``grid`` of tokens to means, a grid ``pooled`` (rows, columns), and on to ``tokens`` by merging.

    A mean of the grid counts for one token. A merged token counts for as many as it stands for: that is what attention
    to it is to be proportional to (ToMe §3.3).
    """

    grid: Size
    pooled: Size
    tokens: int

    def reduced(
        self, tokens: Float[Tensor, "m p d"], there: Bool[Tensor, " m"], before: Reduced | None = None
    ) -> Reduced:
        """What becomes of pictures with these tokens, of which those that are not ``there`` count for nothing.

        ``before`` is what was merged of them already, if anything.
        """
        found = before or untouched(there, tokens.shape[1])
        if self.pooled != self.grid:
            groups = self._pooling(there)
            found = Reduced(stages=((groups, found.size),), size=_sizes(there, groups.count))
            tokens = found.of(tokens)
        for r in rounds(found.size.shape[1], self.tokens):
            groups = bipartite_groups(tokens, found.size, r)
            tokens, found = groups.mean(tokens, found.size), found.then(groups)
        return found

    def cells(self, reduced: Reduced) -> Float[Tensor, "m k 2"]:
        """The mean (row, column) of the cells of the grid that each token stands for; −1 in a view that is missing."""
        rows, columns = (torch.arange(side, device=reduced.size.device) for side in self.grid)
        cells = torch.cartesian_prod(rows, columns).to(reduced.size)
        return reduced.of(cells.expand(len(reduced.size), -1, -1)).masked_fill(reduced.size[..., None] == 0, -1.0)

    def _pooling(self, there: Bool[Tensor, " m"]) -> Groups:
        row, column = (
            torch.arange(side, device=there.device) * pooled // side
            for side, pooled in zip(self.grid, self.pooled, strict=True)
        )
        index = (row[:, None] * self.pooled[1] + column).flatten()
        return Groups(index=index.expand(len(there), -1), count=self.pooled[0] * self.pooled[1])


def token_reduction(
    grid: Size, views: int, *, budget: int | None, merged: int | None, entering: int | None = None
) -> TokenReduction | None:
    """The reduction to at most ``budget`` tokens of ``views`` views by averaging, and to ``merged`` tokens of each view
    by merging; None where neither is asked for. ``entering`` are a view's tokens that are left of its grid already.

    ``ValueError`` for a budget below one token of each view, and for more merged tokens than there are.
    """
    pooled, whole = grid, grid[0] * grid[1]
    if budget is not None:
        if budget < views:
            raise ValueError(f"image_budget must be at least one token of each of {views} views, got {budget}")
        pooled = _largest_grid(grid, budget // views)
    count = pooled[0] * pooled[1] if entering in (None, whole) else entering
    if merged is not None and not 1 <= merged <= count:
        raise ValueError(f"merged_tokens must lie in 1…{count}, the tokens of a view, got {merged}")
    tokens = count if merged is None else merged
    if pooled == grid and tokens == whole:
        return None
    return TokenReduction(grid=grid, pooled=pooled, tokens=tokens)


def untouched(there: Bool[Tensor, " m"], tokens: int) -> Reduced:
    """Pictures of so many tokens, of which nothing has become anything else."""
    return Reduced(stages=(), size=_sizes(there, tokens))


def _sizes(there: Bool[Tensor, " m"], tokens: int) -> Float[Tensor, "m n"]:
    return there.float()[:, None].expand(-1, tokens)


def _largest_grid(grid: Size, tokens: int) -> Size:
    """Of the widest grids with at most so many cells, one for each number of rows, the nearest in shape to ``grid``."""
    shapes = [(rows, min(grid[1], tokens // rows)) for rows in range(1, min(grid[0], tokens) + 1)]
    return min(shapes, key=lambda shape: abs(math.log((shape[0] / grid[0]) / (shape[1] / grid[1]))))
