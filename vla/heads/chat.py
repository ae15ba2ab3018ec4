"""A text answer and a chunk of actions from one pass: VLA4CD's idea (arXiv 2410.15885)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from vla.backbone import Backbone
from vla.head import Decoder, DecodingHead
from vla.heads.chunks import check_target, over_valid
from vla.heads.condition import condition
from vla.heads.regression import masked_l1
from vla.observation import ActionChunk


@dataclass(frozen=True, kw_only=True)
class ChatConfig:
    """Of :class:`ChatHead`.

    ``text`` and ``action`` weigh the two losses (λ_s and λ_a), ``smoothing`` is the share of the uniform distribution
    in what the text is to be. ``silent`` is the share of the actions' loss that they have without the text before them,
    so that they can be had without it. A text, its end included, has at most ``longest`` tokens. ``width`` and
    ``layers`` are those of the MLP.
    """

    text: float = 1.0
    action: float = 1.0
    smoothing: float = 0.1
    silent: float = 0.5
    longest: int = 16
    width: int = 256
    layers: int = 2

    def __post_init__(self) -> None:
        for name in ("text", "action"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"expected {name} of the chat head as a positive weight, got {getattr(self, name)}")
        if not (0 <= self.smoothing < 1 and 0 < self.silent < 1):
            raise ValueError(
                "expected smoothing of the chat head in [0, 1) and silent in (0, 1), without which actions before or "
                f"after a text are not learned; got {self.smoothing} and {self.silent}"
            )
        for name in ("longest", "width", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} of the chat head of at least 1, got {getattr(self, name)}")

    def build(self, *, backbone: Backbone, state_dim: int, horizon: int, action_dim: int) -> "ChatHead":
        """The head with fresh weights for the features of ``backbone``; ``TypeError`` for one that shows no words."""
        return ChatHead(self, backbone=backbone, state_dim=state_dim, horizon=horizon, action_dim=action_dim)


class ChatHead(DecodingHead):
    """The text's tokens go through the backbone behind what it has seen, one place for each action behind them.

    A token's logits are its embedding's products with a map of the hidden state before it, as in
    :class:`vla.objectives.telling.Telling`, scaled by how large embeddings are; large vocabularies cost memory. Actions
    come from the hidden states of all places, which hold the state and, where there is one, the waypoint.

    Departures from VLA4CD: it reads one action at the text's last token, through seven linear layers with nothing
    between them, and its published code generates texts that no picture goes into. Here each action has a place, the
    MLP has nonlinearities, texts and actions go on from the same prefix, and the loss of actions is L1, also without
    the text. Penalties of range and the reconstruction of images are left out.
    """

    tells = True
    logit_scale: Float[Tensor, ""]

    def __init__(
        self, config: ChatConfig, *, backbone: Backbone, state_dim: int, horizon: int, action_dim: int
    ) -> None:
        super().__init__()
        self.config, self.horizon, self.action_dim = config, horizon, action_dim
        entries, width = backbone.words.shape
        scale = backbone.token_scale()
        self.end_id = backbone.end_id
        self.position = nn.Parameter(scale * torch.randn(config.longest + 1, width))
        self.question = nn.Parameter(scale * torch.randn(width))
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.entry_bias = nn.Parameter(torch.zeros(entries))
        self.register_buffer("logit_scale", torch.tensor(1 / (math.sqrt(width) * scale)))
        self.place = nn.Parameter(scale * torch.randn(horizon, width))
        self.condition = condition(backbone, state_dim)
        layers: list[nn.Module] = [nn.LayerNorm(width)]
        for index in range(config.layers):
            layers += [nn.Linear(config.width if index else width, config.width), nn.GELU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(config.width, action_dim))

    def loss(self, seen: Decoder, target: ActionChunk) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """λ_s · [(1 − smoothing) · NLL + smoothing · uniform] + λ_a · L1, both means over valid actions: a text's mean
        over its tokens counts by those of its chunk. ``ValueError`` where the target has no text.
        """
        check_target(target, (len(seen.features.state), self.horizon, self.action_dim))
        if target.told is None or target.told_mask is None:
            raise ValueError("a chat head learns to tell: expected a target with a text for each chunk, got none")
        told, mask, config = target.told, target.told_mask, self.config
        logits, after = self._told(seen, told, mask)
        log_p = logits.float().log_softmax(dim=-1)
        nll = -log_p.gather(2, told[..., None])[..., 0]
        smoothed = (1 - config.smoothing) * nll - config.smoothing * log_p.mean(dim=-1)
        right = (log_p.detach().argmax(dim=-1) == told).float()
        text, surprise, accuracy = (_per_chunk(x, mask, target.valid) for x in (smoothed, nll.detach(), right))
        spoken, numbers = masked_l1(self._actions(after), target)
        silent, _ = masked_l1(self._actions(seen), target)
        loss = config.text * text + config.action * ((1 - config.silent) * spoken + config.silent * silent)
        return loss, numbers | {"nll": surprise, "accuracy": accuracy, "l1_silent": silent.detach()}

    def act(self, seen: Decoder) -> Float[Tensor, "b h a"]:
        """The chunk without a text, right behind what was seen."""
        return self._actions(seen)

    @torch.no_grad()
    def speak(self, seen: Decoder) -> tuple[Float[Tensor, "b h a"], Int[Tensor, "b m"]]:
        """The chunk behind the text that is told, the likeliest token each time, and the text: its end and further ends
        come last. It is cut after ``longest`` tokens.

        All chunks have as many tokens before them, so that none depends on how long the others' texts are.
        """
        words, b = seen.backbone.words, len(seen.features.state)
        hidden, after = seen.decode(self._question(b), causal=True)
        told = torch.zeros(b, 0, dtype=torch.long, device=hidden.device)
        ended = torch.zeros(b, 1, dtype=torch.bool, device=hidden.device)
        while told.shape[1] < self.config.longest and not bool(ended.all()):
            token = self._logits(hidden, words).argmax(dim=-1).masked_fill(ended, self.end_id)
            told = torch.cat([told, token], dim=1)
            hidden, after = after.decode(self._embedded(token, words, at=told.shape[1]), ~ended, causal=True)
            ended = ended | (token == self.end_id)
        if lacking := self.config.longest - told.shape[1]:
            filling = self._embedded(told[:, -1:].expand(-1, lacking), words, at=told.shape[1] + 1)
            after = after.decode(filling, ended.new_zeros(filling.shape[:2]), causal=True)[1]
        return self._actions(after), told

    def answer_tokens(self, backbone: Backbone, texts: Sequence[str]) -> tuple[Int[Tensor, "b m"], Bool[Tensor, "b m"]]:
        """Ids and mask of texts as they are learned: with their end, and without what a text begins with, if anything.

        ``ValueError`` for more than ``longest`` tokens.
        """
        (begin,) = backbone.tokenize([""], ended=True)[1].sum(dim=1).tolist()
        ids, mask = (x[:, begin - 1 :] for x in backbone.tokenize(texts, ended=True))
        if (tokens := ids.shape[1]) > self.config.longest:
            raise ValueError(
                f"the chat head tells at most {self.config.longest} tokens (longest), {max(texts, key=len)!r} and "
                f"others have up to {tokens}"
            )
        return ids, mask

    def _told(
        self, seen: Decoder, told: Int[Tensor, "b m"], mask: Bool[Tensor, "b m"]
    ) -> tuple[Float[Tensor, "b m c"], Decoder]:
        """Of every entry in the place of each token told, and the decoder behind all of them."""
        words = seen.backbone.words
        embedded = torch.cat([self._question(len(told)), self._embedded(told, words)], dim=1)
        hidden, after = seen.decode(embedded, functional.pad(mask, (1, 0), value=True), causal=True)
        return self._logits(hidden[:, :-1], words), after

    def _question(self, b: int) -> Float[Tensor, "b 1 d"]:
        """The standing question that every text answers: what are you doing?"""
        return (self.question + self.position[:1]).expand(b, 1, -1)

    def _embedded(self, ids: Int[Tensor, "b m"], words: Float[Tensor, "c d"], at: int = 1) -> Float[Tensor, "b m d"]:
        """Tokens for the places from ``at`` on."""
        return functional.embedding(ids, words) + self.position[at : at + ids.shape[1]]

    def _logits(self, hidden: Float[Tensor, "b m d"], words: Float[Tensor, "c d"]) -> Float[Tensor, "b m c"]:
        return self.out(hidden) @ words.T * self.logit_scale + self.entry_bias

    def _actions(self, after: Decoder) -> Float[Tensor, "b h a"]:
        known = [after.features.state] if after.waypoint is None else [after.features.state, after.waypoint]
        places = self.place + self.condition(torch.cat(known, dim=-1))[:, None]
        return self.mlp(after.decode(places, causal=False)[0])


def _per_chunk(
    values: Float[Tensor, "b m"], mask: Bool[Tensor, "b m"], valid: Bool[Tensor, "b h"]
) -> Float[Tensor, ""]:
    """The mean of each text's mean over its tokens, which counts by its chunk's valid actions."""
    of_text = (values * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
    return over_valid(of_text[:, None].expand(-1, valid.shape[1]), valid)
