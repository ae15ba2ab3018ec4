"""A pretrained vision-language model as a backbone, whatever its family.

Sequence: what opens the prompt, the images one after the other, each in the tokens that its family puts around it, the
text, the state, the queries. Image features take the place of embeddings, as do state and queries, and the decoder runs
on embeddings with a mask and positions of our own. So families differ in :mod:`vla.backbones.vlm.families` alone, and
images and text give what the model gives without us: they do not attend to what is new to it.
"""

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vla.backbone import Backbone
from vla.backbones.vlm.attention import bias_of, prefix_pattern, suffix_pattern, with_suffix, within
from vla.backbones.vlm.config import TEXT_TOKENS, VLMConfig
from vla.backbones.vlm.families import Seen
from vla.backbones.vlm.lora import add_lora
from vla.backbones.vlm.memory import Memory, TokenSequence, cache_of, longer, memory_of
from vla.backbones.vlm.pretrained import Parts, save_parts
from vla.features import Features, Prefix, TokenLayout, TokenRole
from vla.observation import Observation, about_rows


class VLM(Backbone):
    """The network of a checkpoint with query tokens, zero at first (arXiv 2509.09372), and one token of the state.

    A missing view is black, and nothing attends to it. Raises ``ValueError`` for an observation that does not fit.
    """

    pretrained = frozenset({"model"})
    frame_ids: Int[Tensor, " n"]
    frame_view: Int[Tensor, " n"]
    frame_cell: Int[Tensor, "n 2"]

    def __init__(
        self, config: VLMConfig, parts: Parts, *, state_dim: int, views: int, image_size_px: tuple[int, int]
    ) -> None:
        super().__init__()
        self.config = replace(config, sha256=parts.sha256)
        self._parts = parts
        text = parts.family.config.get_text_config()
        self.width, self.depth, self.n_queries = text.hidden_size, text.num_hidden_layers, config.n_queries
        self.image_size_px, self.views, self.state_dim = image_size_px, views, state_dim
        self.text_window = config.max_text_tokens or TEXT_TOKENS
        self.vocabulary = parts.tokenizer.fingerprint
        self.side_px = config.side_px or parts.family.learned_px
        parts.family.check(self.side_px)
        self.grid, self._per_image = parts.family.grid(self.side_px), parts.family.tokens(self.side_px)
        self._windows = _windows(text)
        self.model = parts.model
        self._tune()
        ids, view, cell = self._frame()
        self.register_buffer("frame_ids", ids, persistent=False)
        self.register_buffer("frame_view", view, persistent=False)
        self.register_buffer("frame_cell", cell, persistent=False)
        self._check_sizes(text)
        self.state_encoder = nn.Sequential(
            nn.Linear(state_dim, self.width), nn.GELU(), nn.Linear(self.width, self.width)
        )
        self.queries = nn.Parameter(torch.zeros(config.n_queries, self.width))
        self._start_like_words()

    @property
    def given(self) -> frozenset[str]:
        """Frozen weights of the checkpoint, which a policy does not keep."""
        return self._given

    def save(self, directory: Path) -> None:
        save_parts(self._parts, directory)

    def tokenize(self, texts: Sequence[str], ended: bool = False) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b n"]]:
        return self._parts.tokenizer.encode(texts, ended)

    def lost_words(self, text: str) -> str:
        return self._parts.tokenizer.beyond(text, self.text_window)

    @property
    def end_id(self) -> int:
        return self._parts.tokenizer.end_id

    def read(self, ids: Int[Tensor, "n m"]) -> list[str]:
        return [self._parts.tokenizer.decode(row) for row in ids.tolist()]

    @property
    def words(self) -> Float[Tensor, "c d"]:
        embeddings = self.model.get_input_embeddings()
        return embeddings(torch.arange(embeddings.num_embeddings, device=self.queries.device)).float()

    def forward(self, observation: Observation) -> Features:
        """Prefix and queries in one pass, without a cache: what :meth:`encode` and :meth:`decode` give in two."""
        sequence = self._sequence(observation)
        n = len(sequence.mask)
        queries = self.queries.expand(n, -1, -1)
        there = sequence.mask.new_ones(n, self.n_queries)
        allowed = with_suffix(self._allowed(sequence), sequence.mask, there, causal=True)
        mask = torch.cat([sequence.mask, there], dim=1)
        hidden, _ = self._decode(
            torch.cat([sequence.embedded, queries], dim=1),
            allowed,
            mask,
            torch.cat([sequence.places, self._suffix_places(sequence.following, there)], dim=-1),
            sequence,
        )
        return Features(
            hidden=hidden,
            mask=mask,
            layout=longer(sequence.layout, TokenRole.QUERY, self.n_queries),
            state=observation.state,
        )

    def encode(self, observation: Observation) -> Prefix:
        return self._encode(self._sequence(observation), observation.state)

    def decode(
        self, prefix: Prefix, embedded: Float[Tensor, "n m d"], mask: Bool[Tensor, "n m"], *, causal: bool
    ) -> tuple[Float[Tensor, "l n m d"], Prefix]:
        memory: Memory = prefix.cache
        places = self._suffix_places(memory.following, mask)
        allowed = suffix_pattern(memory.mask, mask, causal=causal)
        together = torch.cat([memory.mask, mask], dim=1)
        hidden, cache = self._decode(embedded, allowed, together, places, None, cache=cache_of(memory))
        cache = memory_of(cache, together, memory.following + mask.sum(dim=1))
        return hidden, Prefix(features=prefix.features, cache=cache)

    def tell(
        self,
        observation: Observation,
        about: Int[Tensor, " n"],
        told: Float[Tensor, "n m d"],
        told_mask: Bool[Tensor, "n m"],
        seen: Seen | None = None,
    ) -> Float[Tensor, "n m d"]:
        prefix = self._encode(self._sequence(observation, about, seen), observation.state[about])
        return self.decode(prefix, told, told_mask, causal=True)[0][-1]

    def see(self, observation: Observation) -> Seen:
        """Image features of all views, one sample after the other."""
        self._check(observation)
        there = observation.view_mask[:, -1, :, None, None, None]
        pictures = observation.images[:, -1].masked_fill(~there, 0.0)
        images = [
            numbers.prepare(pictures, (side, side)).flatten(0, 1).to(self._dtype)
            for numbers, side in zip(self._parts.pictures, self._parts.family.sides(self.side_px), strict=True)
        ]
        with self._mixed():
            seen = self._parts.family.see(self.model, images)
        if seen.tokens.shape[1] != self._per_image:
            raise ValueError(f"expected {self._per_image} tokens of an image, got {seen.tokens.shape[1]}")
        return seen

    def _apply(self, fn: Any, recurse: bool = True) -> "VLM":
        """Move the network; weights have the digits that suit the device, before it holds them as well as after."""
        there = fn(self.queries.detach().new_empty(0)).device
        wanted = torch.bfloat16 if self.config.half and there.type == "cuda" else torch.float32
        self._round_given(wanted)
        super()._apply(fn, recurse)
        self._round_given(wanted)
        return self

    def _round_given(self, wanted: torch.dtype) -> None:
        """Buffers stay: rotary frequencies need all digits."""
        for name, parameter in self.named_parameters():
            if name in self._given:
                parameter.data = parameter.data.to(wanted)

    @property
    def _dtype(self) -> torch.dtype:
        return self.model.get_input_embeddings().weight.dtype

    def _mixed(self) -> AbstractContextManager[Any]:
        """Frozen weights of bfloat16 go together with learned ones of float32."""
        mixed = self._dtype == torch.bfloat16 and self.config.also_learns
        return torch.autocast(self.queries.device.type, torch.bfloat16) if mixed else nullcontext()

    def _tune(self) -> None:
        """Let learn of the checkpoint's network what ``tuning`` says."""
        if self.config.tuning == "lora":
            add_lora(self.model, self.config)
        else:
            self.model.requires_grad_(self.config.tuning == "full")
        if chosen := self.config.also_learns:
            names = {name: p for name, p in self.model.named_parameters() if re.fullmatch(chosen, name)}
            if not names:
                raise ValueError(f"also_learns {chosen!r} matches no weights of a {self._parts.family.name}")
            for parameter in names.values():
                parameter.requires_grad_(True)
        learning = {name for name, p in self.named_parameters() if p.requires_grad}
        self._given = frozenset(self.state_dict()) - learning if self.config.tuning != "full" else frozenset()
        if self.config.gradient_checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})

    @torch.no_grad()
    def _start_like_words(self) -> None:
        """Begin with states as large as the embeddings of words are."""
        words = self.model.get_input_embeddings()
        typical = words(torch.arange(min(64, words.num_embeddings))).float().std()
        last = self.state_encoder[2]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=float(typical) / self.width**0.5)
        nn.init.zeros_(last.bias)

    def _frame(self) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"], Int[Tensor, "n 2"]]:
        """Token ids of all before the text (0 for images), the camera of each image token, and its cell."""
        tokenizer, (rows, columns) = self._parts.tokenizer, self.grid
        before, after = (tokenizer.wrapping(text) for text in self._parts.family.around)
        image = [0] * self._per_image
        ids, view = list(tokenizer.opening), [-1] * len(tokenizer.opening)
        for v in range(self.views):
            ids += before + image + after
            view += [-1] * len(before) + [v] * len(image) + [-1] * len(after)
        views = torch.tensor(view)
        cell = torch.full((len(ids), 2), -1)
        cells = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
        whole = torch.full((self._per_image - len(cells), 2), -1)
        cell[views >= 0] = torch.cat([whole, cells]).repeat(self.views, 1)
        self._wraps = (len(before), len(after))
        return torch.tensor(ids), views, cell

    def _check_sizes(self, text: Any) -> None:
        tokenizer, rows = self._parts.tokenizer, self.model.get_input_embeddings().num_embeddings
        if tokenizer.size > rows:
            raise ValueError(
                f"the tokenizer is of another model: it has {tokenizer.size} tokens, the network's embedding {rows}"
            )
        longest = len(self.frame_ids) + self.text_window + 1 + self.n_queries
        most = getattr(text, "max_position_embeddings", longest)
        if longest > most:
            raise ValueError(
                f"{self.views} views of {self._per_image} tokens, a text window of {self.text_window} "
                f"and {self.n_queries} queries are {longest} tokens, the model takes {most}"
            )

    def _sequence(
        self, observation: Observation, about: Int[Tensor, " n"] | None = None, seen: Seen | None = None
    ) -> TokenSequence:
        """Everything before the decoder but what comes last; ``about`` and ``seen`` are as in :meth:`tell`."""
        seen = self.see(observation) if seen is None else seen
        if about is not None:
            observation, seen = about_rows(observation, about), seen.at(about, self.views)
        b, view = len(observation.state), self.frame_view
        embed = self.model.get_input_embeddings()
        frame = embed(self.frame_ids).expand(b, -1, -1)
        is_image = (view >= 0).expand(b, -1)
        frame = frame.masked_scatter(is_image[..., None], seen.tokens.to(frame))
        state = self.state_encoder(observation.state)[:, None].to(frame)
        mask = torch.cat(
            [self._frame_mask(observation), observation.text_mask, observation.text_mask.new_ones(b, 1)], dim=1
        )
        layout = self._layout(observation.text.shape[1])
        places, following = self._parts.family.positions(self.model, layout.view, mask, self.grid)
        return TokenSequence(
            embedded=torch.cat([frame, embed(observation.text), state], dim=1),
            mask=mask,
            places=places,
            following=following,
            layout=layout,
            deep=tuple(layer.flatten(0, 1) for layer in seen.deep),
        )

    def _frame_mask(self, observation: Observation) -> Bool[Tensor, "b n"]:
        """Which tokens before the text are there: those of a missing view are not, nor what stands around it."""
        there, opening = observation.view_mask[:, -1], len(self._parts.tokenizer.opening)
        each = sum(self._wraps) + self._per_image
        return torch.cat([there.new_ones(len(there), opening), there.repeat_interleave(each, dim=1)], dim=1)

    def _layout(self, text_tokens: int) -> TokenLayout:
        """Role, view and cell of every token of a prefix."""
        role = torch.where(self.frame_view >= 0, int(TokenRole.IMAGE), int(TokenRole.TEXT))
        layout = TokenLayout(role=role, view=self.frame_view, cell=self.frame_cell)
        return longer(longer(layout, TokenRole.TEXT, text_tokens), TokenRole.STATE, 1)

    def _encode(self, sequence: TokenSequence, state: Float[Tensor, "b s"]) -> Prefix:
        hidden, cache = self._decode(
            sequence.embedded,
            self._allowed(sequence),
            sequence.mask,
            sequence.places,
            sequence,
            cache=cache_of(None),
        )
        features = Features(hidden=hidden, mask=sequence.mask, layout=sequence.layout, state=state)
        return Prefix(features=features, cache=memory_of(cache, sequence.mask, sequence.following))

    def _allowed(self, sequence: TokenSequence) -> Bool[Tensor, "b n n"]:
        return prefix_pattern(self._parts.family.pattern, sequence.layout.view, sequence.mask, last=1)

    def _suffix_places(self, following: Int[Tensor, " b"], mask: Bool[Tensor, "b m"]) -> Int[Tensor, "*r b m"]:
        places = following[:, None] + mask.cumsum(dim=1) - 1
        return self._parts.family.along(places.clamp(min=0))

    def _decode(
        self,
        embedded: Float[Tensor, "b m d"],
        allowed: Bool[Tensor, "b m k"],
        mask: Bool[Tensor, "b k"],
        places: Int[Tensor, "*r b m"],
        sequence: TokenSequence | None,
        cache: Any = None,
    ) -> tuple[Float[Tensor, "l b m d"], Any]:
        """Hidden states of every layer, the last one normalised; ``sequence`` is the prefix that ``embedded`` begins
        with, if it does, and ``mask`` that of all tokens that there are.
        """
        decoder, given = self._parts.family.decoder(self.model), embedded.to(self._dtype)
        bias: Any = bias_of(allowed, given.dtype)
        if self._windows is not None:
            whole = 0 if sequence is None or self._parts.family.pattern != "prefix" else sequence.mask.shape[1] - 1
            near = bias_of(within(self._windows, allowed, mask, whole), given.dtype)
            bias = {"full_attention": bias, "sliding_attention": near}
        deep = {}
        if sequence is not None and sequence.deep:
            where = nn.functional.pad(sequence.layout.view >= 0, (0, given.shape[1] - len(sequence.layout.view)))
            deep = {"visual_pos_masks": where.expand(len(given), -1), "deepstack_visual_embeds": list(sequence.deep)}
        if self.config.gradient_checkpointing:
            for layer in decoder.layers:  # frozen ones too, through which the gradient goes
                layer.training = self.training and cache is None
        with self._mixed():
            found = decoder(
                inputs_embeds=given,
                attention_mask=bias,
                position_ids=places,
                past_key_values=cache,
                use_cache=cache is not None,
                output_hidden_states=True,
                **deep,
            )
        return torch.stack(found.hidden_states[1:]).float(), cache

    def _check(self, observation: Observation) -> None:
        """Raise ``ValueError`` that says which shape was expected and which came."""
        b = len(observation.images)
        image = (b, 1, self.views, 3, *self.image_size_px)
        expected = {"images": image, "view_mask": image[:3], "state": (b, self.state_dim)}
        for name, shape in expected.items():
            given = tuple(getattr(observation, name).shape)
            if given != shape:
                raise ValueError(f"expected {name} of shape {shape}, got {given}")
        if observation.text.shape[1] > self.text_window:
            raise ValueError(f"expected at most {self.text_window} text tokens, got {observation.text.shape[1]}")


def _windows(text: Any) -> int | None:
    """How many tokens the layers with a window attend to, where there are any."""
    return text.sliding_window if "sliding_attention" in (getattr(text, "layer_types", None) or ()) else None
