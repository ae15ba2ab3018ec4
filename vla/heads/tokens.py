"""Actions as tokens, which the backbone itself decodes: OpenVLA's head, OpenVLA-OFT's parallel one, and FAST's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from vla.backbone import Backbone
from vla.head import Decoder, DecodingHead
from vla.heads.binning import Code, UniformBins
from vla.heads.chunks import check_target, held, over_numbers, over_valid
from vla.heads.condition import condition
from vla.heads.fast import FastCode
from vla.heads.regression import masked_l1
from vla.heads.token_chunks import TokenChunks
from vla.observation import ActionChunk

Binning = Literal["uniform", "fast"]
Decoding = Literal["autoregressive", "parallel"]


@dataclass(frozen=True, kw_only=True)
class TokensConfig:
    """Of :class:`TokensHead`.

    ``binning`` "uniform" has one token of ``bins`` for each number of each action. They are decoded one after the
    other ("autoregressive", OpenVLA, arXiv 2406.09246) or all at once, none knowing of the others ("parallel",
    OpenVLA-OFT, arXiv 2502.19645). "fast" has fewer tokens, out of a ``vocabulary`` fitted to the training set, for
    cosine coefficients times ``scale``; or that of a published FAST tokenizer in ``folder``, whose size must be
    ``vocabulary``. The folder is needed when training begins and never again.
    """

    binning: Binning = "uniform"
    decoding: Decoding = "autoregressive"
    bins: int = 256
    vocabulary: int = 1024
    scale: float = 10.0
    folder: str | None = None

    def __post_init__(self) -> None:
        for name, choices in (("binning", Binning), ("decoding", Decoding)):
            if (given := getattr(self, name)) not in get_args(choices):
                raise ValueError(
                    f"expected {name} of the tokens head out of {', '.join(get_args(choices))}, got {given!r}"
                )
        if self.binning == "fast" and self.decoding == "parallel":
            raise ValueError("FAST's tokens depend on those before them: decode them autoregressively")
        if self.bins < 2 or self.vocabulary < 2 or not self.scale > 0:
            raise ValueError(
                f"expected at least 2 bins and entries and a positive scale, got bins {self.bins}, "
                f"vocabulary {self.vocabulary} and scale {self.scale}"
            )
        if self.folder is not None and self.binning != "fast":
            raise ValueError(f"expected a folder for FAST alone, got {self.folder!r} for {self.binning} binning")

    def build(self, *, backbone: Backbone, state_dim: int, horizon: int, action_dim: int) -> "TokensHead":
        """The head with fresh weights for the features of ``backbone``."""
        return TokensHead(self, backbone=backbone, state_dim=state_dim, horizon=horizon, action_dim=action_dim)

    def code(self, *, horizon: int, action_dim: int) -> Code:
        """How chunks become tokens."""
        if self.binning == "uniform":
            return UniformBins(self.bins, horizon=horizon, action_dim=action_dim)
        folder = None if self.folder is None else Path(self.folder)
        return FastCode(self.vocabulary, self.scale, folder, horizon=horizon, action_dim=action_dim)


class TokensHead(DecodingHead):
    """Cross-entropy on a chunk's tokens, which go through the backbone behind what it has seen.

    The first place, or every one in parallel, also holds the state and, where there is one, the waypoint.
    """

    def __init__(
        self, config: TokensConfig, *, backbone: Backbone, state_dim: int, horizon: int, action_dim: int
    ) -> None:
        super().__init__()
        self.config, self.horizon, self.action_dim = config, horizon, action_dim
        self.parallel = config.decoding == "parallel"
        self.code = config.code(horizon=horizon, action_dim=action_dim)
        width, scale = backbone.width, backbone.token_scale()
        self.position = nn.Parameter(scale * torch.randn(self.code.length, width))
        self.condition = condition(backbone, state_dim)
        tokens = scale * torch.randn(self.code.entries, width)
        self.token = None if self.parallel else nn.Embedding.from_pretrained(tokens, freeze=False)
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, self.code.entries))

    def fit(self, target: ActionChunk) -> None:
        self.code.fit(target)

    def loss(self, seen: Decoder, target: ActionChunk) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """FAST's tokens are of a chunk as a whole: what is not valid is as the last valid action, and a chunk's mean
        over its tokens counts by its valid actions.
        """
        check_target(target, (len(seen.features.state), self.horizon, self.action_dim))
        ids = self.code.encode(held(target))
        log_p = self.log_probabilities(seen, ids)
        surprise = functional.nll_loss(log_p.mT, ids, reduction="none")
        right = (log_p.argmax(dim=-1) == ids).float()
        if self.code.end_id is None:
            shape = (self.horizon, self.action_dim)
            surprise, right = over_numbers(surprise.unflatten(1, shape), target), right.unflatten(1, shape).mean(dim=-1)
        else:
            told = self.told(ids)
            surprise, right = (
                ((x * told).sum(dim=1) / told.sum(dim=1))[:, None].expand(-1, self.horizon) for x in (surprise, right)
            )
            surprise = surprise if target.weight is None else surprise * target.weight.mean(dim=-1)
        loss = over_valid(surprise, target.valid)
        numbers = {"nll": loss.detach(), "accuracy": over_valid(right, target.valid)}
        if self.code.end_id is None:
            numbers |= masked_l1(self.code.decode(self.code.choose(log_p.detach())), target)[1]
        return loss, numbers

    def act(self, seen: Decoder) -> Float[Tensor, "b h a"]:
        return self.distribution(seen).mode().actions

    def distribution(self, seen: Decoder) -> TokenChunks:
        return TokenChunks(self, seen)

    def told(self, ids: Int[Tensor, "b m"]) -> Tensor:
        """Which tokens count: those up to the first end (b, m)."""
        ended = (ids == self.code.end_id).long()
        return ended.cumsum(dim=1) - ended == 0

    def first(self, seen: Decoder) -> Float[Tensor, "b m d"]:
        """What is decoded before any token is known: one place, or all of them in parallel."""
        known = [seen.features.state] if seen.waypoint is None else [seen.features.state, seen.waypoint]
        places = self.position if self.parallel else self.position[:1]
        return places + self.condition(torch.cat(known, dim=-1))[:, None]

    def embed(self, ids: Int[Tensor, "b m"], at: int = 1) -> Float[Tensor, "b m d"]:
        """Tokens for the places from ``at`` on: each is at that of the token which comes after it."""
        assert self.token is not None
        return self.token(ids) + self.position[at : at + ids.shape[1]]

    def log_probabilities(self, seen: Decoder, ids: Int[Tensor, "b m"]) -> Float[Tensor, "b m c"]:
        """Of every entry in the place of each of ``ids``, given those before it unless they are decoded in parallel."""
        first = self.first(seen)
        embedded = first if self.parallel else torch.cat([first, self.embed(ids[:, :-1])], dim=1)
        hidden, _ = seen.decode(embedded, causal=not self.parallel)
        return self.normalised(self.out(hidden), ids[:, :-1])

    def normalised(self, logits: Float[Tensor, "b m c"], before: Int[Tensor, "b k"]) -> Float[Tensor, "b m c"]:
        """Logarithms of probabilities over what may come in the last m places, given all tokens ``before`` them."""
        logits = logits.float()
        if (allowed := self.code.allowed(before)) is not None:
            logits = logits.masked_fill(~allowed[:, -logits.shape[1] :], float("-inf"))
        return logits.log_softmax(dim=-1)
