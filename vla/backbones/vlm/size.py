"""How large a pretrained model is, and about how much memory it needs, before any of its weights are read."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vla.backbones.token_reduction import token_reduction
from vla.backbones.vlm.config import TEXT_TOKENS, VLMConfig
from vla.backbones.vlm.families import family_of
from vla.backbones.vlm.fewer_images import check_reducible
from vla.backbones.vlm.locate import locate
from vla.backbones.vlm.merging_layers import left
from vla.backbones.vlm.pretrained import new_network, read_architecture

FLOAT, HALF = 4, 2
LEARNING = 5 * FLOAT
"""Bytes of a parameter that learns: itself, its gradient, two moments and the average, all in float32."""


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """What a model is made of. ``parts`` are its parameters by part; ``layers`` the (inputs, outputs) of those of its
    linear layers that low-rank updates are learned of; ``also`` counts the parameters that learn in any case;
    ``side_px`` is that of an image, whose tokens are a ``grid`` and, in some families, one more.
    """

    family: str
    parts: dict[str, int]
    layers: tuple[tuple[int, int], ...]
    also: int
    width: int
    depth: int
    heads: int
    side_px: int
    grid: tuple[int, int]
    tokens_per_image: int
    leaving: int
    """Tokens of an image behind the vision encoder: fewer than the grid's where it merges them."""

    @property
    def parameters(self) -> int:
        """All of them."""
        return sum(self.parts.values())

    def tokens(self, config: VLMConfig, views: int) -> int:
        """About how long a sequence is: images, text window, state and queries."""
        reduction = token_reduction(
            self.grid, views, budget=config.image_budget, merged=config.merged_tokens, entering=self.leaving
        )
        image = self.tokens_per_image if reduction is None else reduction.tokens
        return views * image + (config.max_text_tokens or TEXT_TOKENS) + 1 + config.n_queries

    def learned(self, config: VLMConfig) -> int:
        """Parameters of the model itself that learn."""
        return self.parameters if config.tuning == "full" else self._updates(config) + self.also

    def acting_bytes(self, config: VLMConfig, views: int, extra: int, *, cuda: bool) -> int:
        """Memory for one robot: weights (``extra`` are those of the head and others of ours), and hidden states."""
        hidden = self.tokens(config, views) * self.width * (self.depth + 12) * FLOAT
        return self._weights(config, cuda=cuda) + FLOAT * (extra + self._updates(config)) + hidden

    def training_bytes(self, config: VLMConfig, views: int, extra: int, batch: int, *, cuda: bool) -> int:
        """Memory for steps of ``batch`` samples with AdamW, ``extra`` learned parameters of ours among them.

        Activations are those of Korthikanti et al. 2022 (arXiv 2205.05198, eq. 2) in the decoder, twice as large in
        float32; the vision encoder's are left out where it is frozen, and counted as if it were as wide where not.
        """
        learned = self.learned(config)
        frozen = 0 if config.tuning == "full" else self._weights(config, cuda=cuda)
        digits = 1 if cuda and config.half and config.tuning != "full" else 2
        length, layers = self.tokens(config, views), self.depth * (2 if config.tuning == "full" else 1)
        each = 34 * length * self.width + 5 * self.heads * length**2
        if config.gradient_checkpointing:
            layer, kept = each, 2 * length * self.width * layers
            activations = batch * digits * (layer + kept)
        else:
            activations = batch * digits * layers * each
        return frozen + LEARNING * (learned + extra) + activations

    def _weights(self, config: VLMConfig, *, cuda: bool) -> int:
        return self.parameters * (HALF if cuda and config.half and config.tuning != "full" else FLOAT)

    def _updates(self, config: VLMConfig) -> int:
        each = config.lora_rank if config.tuning == "lora" else 0
        return sum(each * (inputs + outputs) for inputs, outputs in self.layers)


def model_size(config: VLMConfig, folder: Path | None = None) -> ModelSize:
    """That of the checkpoint that ``config`` names, from its own config alone; errors as in building it. ``folder`` is
    where its architecture lies, if elsewhere.
    """
    architecture = read_architecture(folder or locate(config.checkpoint, weights=False))
    family = family_of(architecture)
    side_px = config.side_px or family.learned_px
    family.check(side_px)
    check_reducible(config, family)
    with torch.device("meta"):
        model = new_network(architecture)
    family.trim(model)
    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    tuned = [layer for name, layer in linear if re.fullmatch(config.lora_targets, name)]
    text, grid, r = architecture.get_text_config(), family.grid(side_px), config.merge_per_layer
    cells = grid[0] * grid[1]
    return ModelSize(
        family=architecture.model_type,
        parts=_parts(model),
        layers=tuple((layer.in_features, layer.out_features) for layer in tuned),
        also=sum(p.numel() for name, p in model.named_parameters() if re.fullmatch(config.also_learns, name)),
        width=text.hidden_size,
        depth=text.num_hidden_layers,
        heads=text.num_attention_heads,
        side_px=side_px,
        grid=grid,
        tokens_per_image=family.tokens(side_px),
        leaving=left(cells, len(family.merging(model)[0]), r) if r else cells,
    )


def _parts(model: Any) -> dict[str, int]:
    """Parameters by the model's own parts, the embedding of words apart."""
    words = model.get_input_embeddings().weight.numel()
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    decoder = next(name for name, part in model.named_children() if model.get_input_embeddings() in part.modules())
    return {**parts, decoder: parts[decoder] - words, "embedding of words": words}
