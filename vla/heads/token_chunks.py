"""The distribution over chunks of a head whose actions are tokens."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from vla.distribution import Distribution, Sample, chosen
from vla.head import Decoder

if TYPE_CHECKING:
    from vla.heads.tokens import TokensHead

Choose = Callable[[Float[Tensor, "b m c"]], Int[Tensor, "b m"]]
"""From logarithms of probabilities to tokens."""


class TokenChunks(Distribution):
    """Latent: the tokens. With one for each number of an action, latent and parts are (b, h, a).

    With tokens of variable number both are (b, m), m being the most that there can be: after the end, the latent holds
    more ends, and log-probability and entropy are 0. The mode is what the code chooses each time, the likeliest token
    or the median bin; the whole need not be the likeliest.
    """

    def __init__(self, head: "TokensHead", seen: Decoder) -> None:
        self.head, self.seen = head, seen
        self.shape = (head.horizon, head.action_dim) if head.code.end_id is None else None
        self.action_axis = None if self.shape is None else 1

    @torch.no_grad()
    def sample(self, generator: torch.Generator | None = None) -> Sample:
        return self._decoded(lambda log_p: chosen(log_p.exp(), generator))

    @torch.no_grad()
    def mode(self) -> Sample:
        return self._decoded(self.head.code.choose)

    def evaluate(self, latent: Int[Tensor, "b ..."]) -> tuple[Float[Tensor, "b ..."], Float[Tensor, "b ..."]]:
        ids = latent.flatten(1)
        if self.shape is None:
            return self._evaluate_told(ids)
        log_prob, entropy = self._evaluate(ids)
        return log_prob.unflatten(1, self.shape), entropy.unflatten(1, self.shape)

    def _evaluate_told(self, ids: Int[Tensor, "b m"]) -> tuple[Float[Tensor, "b m"], Float[Tensor, "b m"]]:
        """Up to each row's end, at the cost of the longest; 0 behind it."""
        told = self.head.told(ids)
        width = max(1, int(told.sum(dim=1).max()))
        padding = (0, ids.shape[1] - width)
        log_prob, entropy = (functional.pad(x, padding) for x in self._evaluate(ids[:, :width]))
        return log_prob.masked_fill(~told, 0.0), entropy.masked_fill(~told, 0.0)

    def _evaluate(self, ids: Int[Tensor, "b m"]) -> tuple[Float[Tensor, "b m"], Float[Tensor, "b m"]]:
        log_p = self.head.log_probabilities(self.seen, ids)
        finite = log_p.masked_fill(log_p.isneginf(), 0.0)  # what may not come, whose probability is 0
        return log_p.gather(2, ids[..., None])[..., 0], -(log_p.exp() * finite).sum(dim=-1)

    def _decoded(self, choose: Choose) -> Sample:
        """The chunk of tokens that are chosen one after the other, or all at once in parallel."""
        head, first = self.head, self.head.first(self.seen)
        hidden, decoder = self.seen.decode(first, causal=not head.parallel)
        ids = hidden.new_zeros(len(hidden), 0, dtype=torch.long)
        ended = torch.zeros(len(hidden), dtype=torch.bool, device=hidden.device)
        while True:
            token = choose(head.normalised(head.out(hidden), ids))
            if head.code.end_id is not None:
                token = token.masked_fill(ended[:, None], head.code.end_id)
                ended = ended | (token[:, 0] == head.code.end_id)
            ids = torch.cat([ids, token], dim=1)
            if ids.shape[1] >= head.code.length or bool(ended.all()):
                break
            hidden, decoder = decoder.decode(head.embed(token, at=ids.shape[1]), causal=True)
        if self.shape is None:
            latent = functional.pad(ids, (0, head.code.length - ids.shape[1]), value=head.code.end_id or 0)
        else:
            latent = ids.unflatten(1, self.shape)
        return Sample(actions=head.code.decode(ids), latent=latent)
