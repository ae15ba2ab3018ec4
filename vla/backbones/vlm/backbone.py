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
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor, nn

from vla.backbone import Backbone
from vla.backbones.merging import counted
from vla.backbones.position_prompt import PositionPrompt
from vla.backbones.token_reduction import Reduced, token_reduction
from vla.backbones.vlm.attention import bias_of, prefix_pattern, suffix_pattern, with_suffix, within
from vla.backbones.vlm.config import TEXT_TOKENS, VLMConfig
from vla.backbones.vlm.families import Seen
from vla.backbones.vlm.fewer_images import at_images, check_reducible
from vla.backbones.vlm.frame import Frame
from vla.backbones.vlm.lora import add_lora
from vla.backbones.vlm.memory import Memory, TokenSequence, cache_of, memory_of
from vla.backbones.vlm.merging_layers import left, merging_layers
from vla.backbones.vlm.pretrained import Parts, save_parts
from vla.features import Features, Prefix, mean_picture
from vla.observation import Observation, about_rows

SOME_WORDS = 1024
"""Enough to know how large the embeddings of a vocabulary are."""


class VLM(Backbone):
    """The network of a checkpoint with query tokens, zero at first (arXiv 2509.09372), and one token of the state.

    A missing view is black, and nothing attends to it. Raises ``ValueError`` for an observation that does not fit.
    """

    pretrained = frozenset({"model"})

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
        check_reducible(config, parts.family)
        self.grid = parts.family.grid(self.side_px)
        self._windows = _windows(text)
        self.model = parts.model
        self.reduction = token_reduction(
            self.grid,
            views,
            budget=config.image_budget,
            merged=config.merged_tokens,
            entering=self._leaving if config.merge_per_layer else None,
        )
        self.frame = Frame(parts.tokenizer, parts.family, views=views, side_px=self.side_px, reduction=self.reduction)
        self._tune()
        self._check_sizes(text)
        self.state_encoder = nn.Sequential(
            nn.Linear(state_dim, self.width), nn.GELU(), nn.Linear(self.width, self.width)
        )
        self.queries = nn.Parameter(torch.zeros(config.n_queries, self.width))
        sides = parts.family.sides(self.side_px) if config.position_prompt else ()
        self.position_prompts = nn.ModuleList(PositionPrompt((side, side)) for side in sides)
        self._start_like_words()

    @property
    def given(self) -> frozenset[str]:
        """Frozen weights of the checkpoint, which a policy does not keep."""
        return self._given

    @property
    def layers_apart(self) -> list[nn.Module]:
        from transformers.modeling_layers import GradientCheckpointingLayer

        return [module for module in self.modules() if isinstance(module, GradientCheckpointingLayer)]

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

    @torch.no_grad()
    def token_scale(self) -> float:
        embeddings = self.model.get_input_embeddings()
        some = torch.linspace(0, embeddings.num_embeddings - 1, SOME_WORDS, device=self.queries.device).long()
        return max(float(embeddings(some).float().std()), 1e-6)

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
            size=sequence.size,
        )
        return Features(
            hidden=hidden,
            mask=mask,
            layout=self.frame.layout(observation.text.shape[1], self.n_queries, sequence.layout.position),
            state=observation.state,
            picture=mean_picture(sequence.embedded, sequence.mask, sequence.layout).float(),
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
        hidden, cache = self._decode(
            embedded, allowed, together, places, None, size=memory.size, cache=cache_of(memory)
        )
        cache = memory_of(cache, together, memory.following + mask.sum(dim=1), memory.size)
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
        images = self._pictures(observation)
        with self._mixed():
            seen = self._see(images, observation.view_mask[:, -1].flatten())
        if seen.tokens.shape[1] != self._leaving:
            raise ValueError(f"expected {self._leaving} tokens of an image, got {seen.tokens.shape[1]}")
        return seen

    def _pictures(self, observation: Observation) -> list[Float[Tensor, "m 3 _ _"]]:
        """All views as each of the family's encoders takes them, framed where the config says so."""
        there = observation.view_mask[:, -1, :, None, None, None]
        pictures = observation.images[:, -1].masked_fill(~there, 0.0)
        images = [
            numbers.prepare(pictures, (side, side)).flatten(0, 1)
            for numbers, side in zip(self._parts.pictures, self._parts.family.sides(self.side_px), strict=True)
        ]
        if self.position_prompts:
            images = [framed(x) for framed, x in zip(self.position_prompts, images, strict=True)]
        return [x.to(self._dtype) for x in images]

    def _see(self, images: Sequence[Float[Tensor, "m 3 _ _"]], there: Bool[Tensor, " m"]) -> Seen:
        """Image features, with tokens merged on the way where the config says so."""
        family, r = self._parts.family, self.config.merge_per_layer
        if not r:
            return family.see(self.model, images)
        layers, first = family.merging(self.model)
        with merging_layers(layers, r, first, there, self.grid[0] * self.grid[1]) as merging:
            seen = family.see(self.model, images)
        return replace(seen, reduced=merging.reduced)

    @property
    def _leaving(self) -> int:
        """How many tokens of an image there are behind the vision encoder."""
        whole = self._parts.family.tokens(self.side_px)
        if not self.config.merge_per_layer:
            return whole
        return left(whole, len(self._parts.family.merging(self.model)[0]), self.config.merge_per_layer)

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

    def _check_sizes(self, text: Any) -> None:
        tokenizer, rows = self._parts.tokenizer, self.model.get_input_embeddings().num_embeddings
        if tokenizer.size > rows:
            raise ValueError(
                f"the tokenizer is of another model: it has {tokenizer.size} tokens, the network's embedding {rows}"
            )
        longest = len(self.frame) + self.text_window + 1 + self.n_queries
        most = getattr(text, "max_position_embeddings", longest)
        if longest > most:
            raise ValueError(
                f"{self.views} views of {self.frame.image_tokens} tokens, a text window of {self.text_window} and "
                f"{self.n_queries} queries are {longest} tokens, the model takes {most}"
            )

    def _sequence(
        self, observation: Observation, about: Int[Tensor, " n"] | None = None, seen: Seen | None = None
    ) -> TokenSequence:
        """Everything before the decoder but what comes last; ``about`` and ``seen`` are as in :meth:`tell`."""
        seen = self.see(observation) if seen is None else seen
        if about is not None:
            observation, seen = about_rows(observation, about), seen.at(about, self.views)
        seen, reduced = self._fewer(observation, seen)
        b, view = len(observation.state), self.frame.view
        embed = self.model.get_input_embeddings()
        frame = embed(self.frame.ids).expand(b, -1, -1)
        is_image = (view >= 0).expand(b, -1)
        frame = frame.masked_scatter(is_image[..., None], seen.tokens.to(frame))
        state = self.state_encoder(observation.state)[:, None].to(frame)
        mask = self.frame.mask(observation)
        cells = None
        if self.reduction is not None and reduced is not None:
            cells = at_images(self.reduction.cells(reduced), view, -1.0)
        layout = self.frame.layout(observation.text.shape[1], 0, cells)
        places, following = self.frame.places(self.model, observation, mask, reduced)
        return TokenSequence(
            embedded=torch.cat([frame, embed(observation.text), state], dim=1),
            mask=mask,
            places=places,
            following=following,
            layout=layout,
            deep=tuple(layer.flatten(0, 1) for layer in seen.deep),
            size=None if reduced is None else at_images(reduced.size, layout.view, 1.0),
        )

    def _fewer(self, observation: Observation, seen: Seen) -> tuple[Seen, Reduced | None]:
        """Images in the tokens that go into the decoder, and how those came of the encoder's grid, if by anything."""
        if self.reduction is None:
            return seen, None
        there = observation.view_mask[:, -1].flatten()
        reduced = self.reduction.reduced(seen.tokens, there, seen.reduced)
        further = reduced.after(seen.reduced)
        return Seen(tokens=further.of(seen.tokens), deep=tuple(further.of(layer) for layer in seen.deep)), reduced

    def _encode(self, sequence: TokenSequence, state: Float[Tensor, "b s"]) -> Prefix:
        hidden, cache = self._decode(
            sequence.embedded,
            self._allowed(sequence),
            sequence.mask,
            sequence.places,
            sequence,
            size=sequence.size,
            cache=cache_of(None),
        )
        picture = mean_picture(sequence.embedded, sequence.mask, sequence.layout).float()
        features = Features(hidden=hidden, mask=sequence.mask, layout=sequence.layout, state=state, picture=picture)
        return Prefix(features=features, cache=memory_of(cache, sequence.mask, sequence.following, sequence.size))

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
        places: Real[Tensor, "*r b m"],
        sequence: TokenSequence | None,
        *,
        size: Float[Tensor, "b n"] | None,
        cache: Any = None,
    ) -> tuple[Float[Tensor, "l b m d"], Any]:
        """Hidden states of every layer, the last one normalised; ``sequence`` is the prefix that ``embedded`` begins
        with, if it does, ``mask`` that of all tokens that there are, and ``size`` what the first of them count for.
        """
        decoder, given = self._parts.family.decoder(self.model), embedded.to(self._dtype)
        bias: Any = counted(bias_of(allowed, given.dtype), size)
        if self._windows is not None:
            whole = 0 if sequence is None or self._parts.family.pattern != "prefix" else sequence.mask.shape[1] - 1
            near = counted(bias_of(within(self._windows, allowed, mask, whole), given.dtype), size)
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
