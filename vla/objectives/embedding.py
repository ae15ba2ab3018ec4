"""Embeddings of an encoder to be predicted: layer by layer as in OLA-VLM, or by a projection as in VL2V-ADiP.

The encoder teaches and does not act: what is owned here is of no use to a policy but for what it made the backbone
learn.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from vla.backbone import Backbone
from vla.heads.chunks import over_samples
from vla.objectives.further import FurtherObjective, Learned, Taught
from vla.observation import ActionChunk

if TYPE_CHECKING:
    from vla.model import VLA

CELLS, PICTURE, SENTENCE = "cells", "picture", "sentence"
"""What encoders say: of each view's cells (b, v, k, e), of all views together and of the instruction (b, e)."""


@dataclass(frozen=True, kw_only=True)
class LayersConfig:
    """Of :class:`Layers`: the ``layers`` of the backbone that predict, negative ones counted from the last, in each of
    ``grid`` × ``grid`` cells of every view. ``contrast`` weighs InfoNCE, whose cosines are divided by ``temperature``.
    """

    layers: tuple[int, ...] = (-2,)
    grid: int = 2
    heads: int = 4
    contrast: float = 0.3
    temperature: float = 0.07

    def __post_init__(self) -> None:
        if not self.layers or self.grid < 1 or self.heads < 1:
            raise ValueError(f"expected at least one layer, a grid and heads from 1 on, got {self}")
        if not (self.contrast >= 0 and 0 < self.temperature < math.inf):
            raise ValueError(f"expected a contrast from 0 on and a positive temperature, got {self}")


class Layers(FurtherObjective):
    """OLA-VLM (arXiv 2412.09585): in each chosen layer a predictor says an encoder's embedding of the pictures.

    Sum over the layers of smooth L1 + ``contrast`` · InfoNCE, where the embeddings of the other samples of a batch (of
    a piece of it, with ``accumulate`` or several processes) are what a prediction is not to be like. A predictor is
    learned tokens, one for each cell, that look at the layer's tokens once, and a linear map.
    Departures: its tokens are not part of the decoder's sequence, and the temperature does not learn.
    """

    NEEDS: ClassVar[tuple[str, ...]] = (CELLS,)

    def __init__(self, config: LayersConfig, backbone: Backbone, shape: tuple[int, ...]) -> None:
        """``shape`` (v, k, e) is that of what the encoder says of a sample. ``ValueError`` for layers that are not
        there, and for heads that do not divide the backbone's width.
        """
        super().__init__()
        self.config = config
        depth, (views, cells, numbers) = backbone.depth, shape
        if wrong := [layer for layer in config.layers if not -depth <= layer < depth]:
            raise ValueError(f"expected layers in {-depth}…{depth - 1} of the backbone, got {wrong}")
        if backbone.width % config.heads:
            raise ValueError(f"the heads of layers must divide the width {backbone.width}, got {config.heads}")
        predictors = (Predictor(backbone.width, config.heads, views * cells, numbers) for _ in config.layers)
        self.predictors = nn.ModuleList(predictors)

    def forward(self, vla: "VLA", seen: Any, target: ActionChunk, taught: Taught) -> Learned:
        features, theirs = vla.head.features(seen), taught[CELLS].flatten(1, 2)
        near, apart = [], []
        for layer, predictor in zip(self.config.layers, self.predictors, strict=True):
            said = predictor(features.hidden[layer], features.mask).float()
            near.append(
                over_samples(functional.smooth_l1_loss(said, theirs, reduction="none").mean(dim=(1, 2)), target)
            )
            apart.append(over_samples(info_nce(said.flatten(1), theirs.flatten(1), self.config.temperature), target))
        smooth, contrast = torch.stack(near).sum(), torch.stack(apart).sum()
        numbers = {"layers_smooth_l1": smooth.detach(), "layers_info_nce": contrast.detach()}
        return Learned(smooth + self.config.contrast * contrast, numbers)


class Predictor(nn.Module):
    """Learned tokens that look at a layer's tokens, and what each says."""

    def __init__(self, width: int, heads: int, tokens: int, numbers: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(tokens, width))  # as large as what they find and are added to
        self.norm = nn.LayerNorm(width)
        self.look = nn.MultiheadAttention(width, heads, batch_first=True)
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, numbers))

    def forward(self, hidden: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b k e"]:
        """``mask`` is True for real tokens."""
        tokens, seen = self.tokens.expand(len(hidden), -1, -1), self.norm(hidden)
        found, _ = self.look(tokens, seen, seen, key_padding_mask=~mask, need_weights=False)
        return self.out(tokens + found)


def info_nce(ours: Float[Tensor, "b e"], theirs: Float[Tensor, "b e"], temperature: float) -> Float[Tensor, " b"]:
    """−log of the share that a prediction's own embedding has of exp(cosine / temperature) over the batch's (arXiv
    1807.03748).
    """
    cosine = functional.normalize(ours, dim=-1) @ functional.normalize(theirs, dim=-1).T
    return functional.cross_entropy(cosine / temperature, torch.arange(len(ours), device=ours.device), reduction="none")


@dataclass(frozen=True, kw_only=True)
class CosineConfig:
    """Of :class:`Cosine`: ``pictures`` is λ, the share of the pictures' embedding; the rest is the instruction's."""

    pictures: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.pictures <= 1:
            raise ValueError(f"the share of pictures must lie in 0…1, got {self.pictures}")


class Cosine(FurtherObjective):
    """VL2V-ADiP (arXiv 2310.08255): what the backbone makes of the pictures, projected, is to be near to an encoder's
    embeddings of the pictures and of what is said of them.

    1 − λ·cos(p, picture) − (1 − λ)·cos(p, instruction), where p is a linear map of the mean of the image tokens as they
    enter the network: later layers have read the instruction, and could say it again without looking. The paper's loss
    is the same less the constant 1, on images and names of their classes. In its first stage the projection learns
    alone, in the second what makes tokens of pictures does.
    """

    NEEDS: ClassVar[tuple[str, ...]] = (PICTURE, SENTENCE)

    def __init__(self, config: CosineConfig, backbone: Backbone, numbers: int) -> None:
        super().__init__()
        self.config = config
        self.out = nn.Linear(backbone.width, numbers)

    @property
    def needs(self) -> tuple[str, ...]:
        shares = {PICTURE: self.config.pictures, SENTENCE: 1 - self.config.pictures}
        return tuple(name for name, share in shares.items() if share > 0)

    def forward(self, vla: "VLA", seen: Any, target: ActionChunk, taught: Taught) -> Learned:
        picture = vla.head.features(seen).picture
        assert picture is not None, "heads look at features of whole observations when they learn"
        said = self.out(picture).float()
        cosine = {name: functional.cosine_similarity(said, taught[name], dim=-1) for name in self.needs}
        shares = {PICTURE: self.config.pictures, SENTENCE: 1 - self.config.pictures}
        alike = torch.stack([shares[name] * cosine[name] for name in self.needs]).sum(dim=0)
        numbers = {f"cosine_{name}": over_samples(each, target).detach() for name, each in cosine.items()}
        return Learned(over_samples(1 - alike, target), numbers)
