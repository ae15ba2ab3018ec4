"""The text part of ``nano``: tokens in context, and the vector that asks the images where things are."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class TextEncoder(nn.Module):
    """Embeds tokens, mixes neighbours, and pools them into one vector.

    Two residual convolutions of five tokens give each word its context ("the *red* cube" against
    "into the *red* bin"), so that the pooled vector knows which object the instruction is about.
    """

    def __init__(self, vocabulary_size: int, max_tokens: int, width: int, pools: int = 4) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary_size, width)
        self.position = nn.Parameter(0.02 * torch.randn(max_tokens, width))
        self.context = nn.ModuleList(_silent(nn.Conv1d(width, width, 5, padding=2)) for _ in range(2))
        self.pool_score, self.pool_out = pooling(width, pools)

    @property
    def words(self) -> Float[Tensor, "c d"]:
        """The embedding of each entry of the vocabulary."""
        return self.token.weight

    def forward(
        self, ids: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b d"]]:
        """Token embeddings and pooled vector; padding has no influence on real tokens nor on the vector."""
        real = mask[..., None]
        x = self.token(ids) + self.position[: ids.shape[1]]
        for conv in self.context:
            x = x + nn.functional.gelu(conv((x * real).mT).mT)
        return x, self.pool_out(averages(x, self.pool_score(x), mask))


def pooling(width: int, pools: int = 4) -> tuple[nn.Linear, nn.Sequential]:
    """What scores tokens for each of ``pools`` averages, and what makes one vector of these."""
    mix = nn.Linear(width, pools)
    return mix, nn.Sequential(nn.Linear(pools * width, width), nn.GELU(), nn.Linear(width, width), nn.LayerNorm(width))


def averages(
    x: Float[Tensor, "b n d"], score: Float[Tensor, "b n p"], mask: Bool[Tensor, "b n"]
) -> Float[Tensor, "b e"]:
    """Of the tokens that are there, weighted by the softmax of each column of ``score``; e = p · d. Of a text without
    any, of its padding.
    """
    score = score.float().masked_fill(~mask[..., None], torch.finfo(torch.float32).min)
    return torch.einsum("bnp,bnd->bpd", score.softmax(dim=1), x).flatten(1)


def _silent(conv: nn.Conv1d) -> nn.Conv1d:
    """A layer that adds nothing yet: words stand for themselves at first, and gain context as they need it."""
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
