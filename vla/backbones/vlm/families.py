"""What the families of vision-language models differ in: how images go in, and where tokens stand.

All else is one adapter's (:mod:`vla.backbones.vlm.backbone`): image features take the place of embeddings, and the
decoder runs on embeddings with masks and positions of our own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vla.backbones.token_reduction import Reduced
from vla.backbones.vlm.attention import Pattern
from vla.backbones.vlm.encoder import BartEncoder
from vla.backbones.vlm.pictures import patchify

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a vision encoder makes of m images: k tokens of the decoder's width each, in raster order.

    ``deep`` are added to the decoder's first layers at the same places, one layer after the other. ``reduced`` says how
    the tokens became fewer than the encoder's grid has, if they did.
    """

    tokens: Float[Tensor, "m k d"]
    deep: tuple[Float[Tensor, "m k d"], ...] = ()
    reduced: Reduced | None = None

    def at(self, rows: Int[Tensor, " n"], views: int) -> "Seen":
        """The images of each row of samples with so many views."""
        tokens, *deep = (x.unflatten(0, (-1, views))[rows].flatten(0, 1) for x in (self.tokens, *self.deep))
        if self.reduced is None:
            return Seen(tokens=tokens, deep=tuple(deep))
        pictures = (rows[:, None] * views + torch.arange(views, device=rows.device)).flatten()
        return Seen(tokens=tokens, deep=tuple(deep), reduced=self.reduced.at(pictures))


class Family:
    """A family whose encoder takes square images of the size that it learned with; subclasses say what else is so.

    ``pattern`` is how its prefix attends, ``first`` the first position, ``around`` the text before and after each
    image. The beginning-of-sequence token stands after the images with ``begins_text``. ``whole`` tokens of an image
    come before those of its grid and stand for no place in it.
    """

    pattern: ClassVar[Pattern] = "causal"
    first: ClassVar[int] = 0
    whole: ClassVar[int] = 0
    around: ClassVar[tuple[str, str]] = ("", "")
    begins_text: ClassVar[bool] = False

    def __init__(self, config: Any) -> None:
        self.config, self.vision = config, config.vision_config

    @property
    def learned_px(self) -> int:
        """The side of the images that the encoder learned with."""
        return _one(self.vision.image_size)

    def check(self, side_px: int) -> None:
        """``ValueError`` for a side of images that the family cannot take, which says what it can."""
        if side_px != self.learned_px:
            raise ValueError(f"{self.name} takes images of {self.learned_px} px only, got side_px {side_px}")

    def grid(self, side_px: int) -> Size:
        """Rows and columns of an image's tokens."""
        return _square(side_px // _one(self.vision.patch_size))

    def tokens(self, side_px: int) -> int:
        """Of an image, in all."""
        rows, columns = self.grid(side_px)
        return self.whole + rows * columns

    def sides(self, side_px: int) -> tuple[int, ...]:
        """The side of the images that each of its encoders is given, of which most families have one."""
        return (side_px,)

    def see(self, model: Any, images: Sequence[Float[Tensor, "m 3 _ _"]]) -> Seen:
        """Normalised images, once for each of its encoders, through what ``model`` sees with, up to the decoder's
        width.
        """
        return Seen(tokens=_stacked(model.get_image_features(*images), len(images[0])))

    def trim(self, model: Any) -> None:
        """Take out of a whole model what a backbone has no use for; most have nothing of the kind."""

    def decoder(self, model: Any) -> Any:
        """What runs on the embeddings of a sequence."""
        return model.get_decoder()

    def merging(self, model: Any) -> tuple[list[nn.Module], int]:
        """The layers of the vision encoder that lead to the tokens which the decoder sees, and how many tokens of no
        place in the picture come first in them; ``ValueError`` for a family that needs the whole grid behind them.
        """
        raise ValueError(
            f"merge_per_layer is for families that take an encoder's tokens one by one, which {self.name} does not; "
            "merged_tokens merges behind the encoder"
        )

    def positions(
        self, model: Any, view: Int[Tensor, " n"], mask: Bool[Tensor, "b n"], grid: Size
    ) -> tuple[Int[Tensor, "*r b n"], Int[Tensor, " b"]]:
        """Where the tokens of a sequence stand, and where the next one does; those that are not there take no place.

        ``view`` is the camera whose image is at each place, or −1.
        """
        places = mask.cumsum(dim=1) - 1 + self.first
        return places.clamp(min=0), mask.sum(dim=1) + self.first

    def along(self, places: Int[Tensor, "b m"]) -> Int[Tensor, "*r b m"]:
        """Positions of tokens that are no images, from their places in the sequence."""
        return places

    @property
    def name(self) -> str:
        """As transformers calls it."""
        return self.config.model_type


class Interpolating(Family):
    """A family whose encoder stretches its positions over images of other sizes."""

    def check(self, side_px: int) -> None:
        if side_px % (patch_px := _one(self.vision.patch_size)):
            raise ValueError(
                f"{self.name} takes images whose side is a multiple of {patch_px} px, got side_px {side_px}"
            )

    def see(self, model: Any, images: Sequence[Float[Tensor, "m 3 _ _"]]) -> Seen:
        (given,) = images
        asks = given.shape[-1] != self.learned_px and not self.vision.model_type.startswith("dinov2")
        stretched = {"interpolate_pos_encoding": True} if asks else {}
        return Seen(tokens=_stacked(model.get_image_features(given, **stretched), len(given)))


class PaliGemma(Interpolating):
    """PaliGemma (arXiv 2407.07726) and PaliGemma 2 (arXiv 2412.03555): the prefix attends in both directions."""

    pattern = "prefix"
    first = 1
    begins_text = True

    def merging(self, model: Any) -> tuple[list[nn.Module], int]:
        return encoder_layers(model.vision_tower), 0


class Llava(Interpolating):
    """LLaVA (arXiv 2304.08485): a SigLIP, CLIP or DINOv2 encoder before any decoder."""

    around = ("", "\n")

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        kind, strategy = self.vision.model_type, config.vision_feature_select_strategy
        if kind.startswith(("clip", "dinov2")) and strategy == "full":
            raise ValueError(f"llava is supported without the class token of its {kind} alone, got strategy 'full'")

    def merging(self, model: Any) -> tuple[list[nn.Module], int]:
        layer = self.config.vision_feature_layer
        if not isinstance(layer, int) or not self.vision.model_type.startswith(("clip", "siglip")):
            raise ValueError(
                f"merge_per_layer is for one layer of a CLIP or SigLIP encoder, got layer {layer} of a "
                f"{self.vision.model_type}"
            )
        layers = encoder_layers(model.vision_tower)
        return layers[: layer % (len(layers) + 1)], int(self.config.vision_feature_select_strategy == "default")


class Fused(Interpolating):
    """Two encoders side by side (Prismatic, arXiv 2402.07865): see :mod:`vla.backbones.vlm.fused`.

    The first one's patches are the grid. Where those of the second are of another size, it is given the picture larger
    or smaller, so that it has as many: features are never resampled.
    """

    @property
    def learned_px(self) -> int:
        """That with the grid of the encoder that learned with fewer patches (DINOv2 learned with 37 × 37)."""
        encoders = self.vision, self.config.second_vision_tower
        return _one(self.vision.patch_size) * min(_one(e.image_size) // _one(e.patch_size) for e in encoders)

    def sides(self, side_px: int) -> tuple[int, ...]:
        rows, _ = self.grid(side_px)
        return side_px, rows * _one(self.config.second_vision_tower.patch_size)

    def see(self, model: Any, images: Sequence[Float[Tensor, "m 3 _ _"]]) -> Seen:
        first, second = images
        return Seen(tokens=model.get_image_features(first, second))


class InternVL(Family):
    """InternVL (arXiv 2312.14238): neighbouring patches are merged before the decoder."""

    around = ("<img>", "</img>")

    def grid(self, side_px: int) -> Size:
        return _square(round(side_px // _one(self.vision.patch_size) * self.config.downsample_ratio))


class Gemma3(Family):
    """Gemma 3 (arXiv 2503.19786): an image's tokens, pooled to a fixed number, attend to one another."""

    pattern = "blocks"
    around = ("\n\n<start_of_image>", "<end_of_image>\n\n")

    def grid(self, side_px: int) -> Size:
        return _square(round(self.config.mm_tokens_per_image**0.5))


class Idefics3(Family):
    """Idefics3 (arXiv 2408.12637) and SmolVLM (arXiv 2504.05299): images whole, never cut into tiles."""

    around = ("<fake_token_around_image><global-img>", "<fake_token_around_image>")

    def check(self, side_px: int) -> None:
        step = _one(self.vision.patch_size) * self.config.scale_factor
        if side_px % step or side_px > self.learned_px:
            raise ValueError(
                f"{self.name} takes images whose side is a multiple of {step} px up to {self.learned_px}, "
                f"got side_px {side_px}"
            )

    def grid(self, side_px: int) -> Size:
        return _square(side_px // _one(self.vision.patch_size) // self.config.scale_factor)

    def see(self, model: Any, images: Sequence[Float[Tensor, "m 3 _ _"]]) -> Seen:
        """Images that are zero everywhere would be dropped; no picture of bytes is, once normalised."""
        (given,) = images
        return Seen(tokens=_stacked(model.get_image_features(given[:, None]), len(given)))


class Florence2(Family):
    """Florence-2 (arXiv 2311.06242): an encoder-decoder, of which the encoder is used alone, so that text and images
    attend to one another. An image's mean stands before its grid.
    """

    pattern = "prefix"
    begins_text = True
    whole = 1
    TOKEN_PX = 32
    FIRST_LEARNED_PX = 384

    @property
    def learned_px(self) -> int:
        """The smaller of the two sizes that it learned with: at the other, 768, two views are longer than its text
        encoder takes.
        """
        return self.FIRST_LEARNED_PX

    def check(self, side_px: int) -> None:
        most = self.vision.max_position_embeddings * self.TOKEN_PX
        if side_px % self.TOKEN_PX or side_px > most:
            raise ValueError(
                f"{self.name} takes images whose side is a multiple of {self.TOKEN_PX} px up to {most}, "
                f"got side_px {side_px}"
            )

    def grid(self, side_px: int) -> Size:
        return _square(side_px // self.TOKEN_PX)

    def trim(self, model: Any) -> None:
        model.language_model.decoder = None
        model.language_model.encoder.embed_tokens = None  # the same as the model's own

    def decoder(self, model: Any) -> Any:
        return BartEncoder(model.language_model.encoder)


class QwenVL(Family):
    """Qwen2-VL (arXiv 2409.12191), Qwen2.5-VL (arXiv 2502.13923) and Qwen3-VL: images of any size, and positions of
    three numbers (time, row, column).
    """

    around = ("<|vision_start|>", "<|vision_end|>")
    USUAL_PX = 224

    @property
    def learned_px(self) -> int:
        """The multiple of a token's side that is nearest to 224, what most encoders take: it learned with any."""
        return max(1, round(self.USUAL_PX / self._token_px)) * self._token_px

    def check(self, side_px: int) -> None:
        if side_px % self._token_px:
            raise ValueError(
                f"{self.name} takes images whose side is a multiple of {self._token_px} px, got side_px {side_px}"
            )

    def grid(self, side_px: int) -> Size:
        return _square(side_px // self._token_px)

    def see(self, model: Any, images: Sequence[Float[Tensor, "m 3 _ _"]]) -> Seen:
        (given,) = images
        vision, m = self.vision, len(given)
        shape = self._shape(given.shape[-1]).to(given.device)
        patches = patchify(given, vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size)
        found = model.get_image_features(patches, image_grid_thw=shape.expand(m, 3))
        deep = getattr(found, "deepstack_features", None) or ()
        return Seen(tokens=_stacked(found, m), deep=tuple(torch.stack(list(layer)) for layer in deep))

    def positions(
        self, model: Any, view: Int[Tensor, " n"], mask: Bool[Tensor, "b n"], grid: Size
    ) -> tuple[Int[Tensor, "*r b n"], Int[Tensor, " b"]]:
        """The model's own, asked once for each of the patterns of missing tokens up to the last image; what comes after
        that stands in line.
        """
        end = int((view >= 0).nonzero().max()) + 1
        patterns, which = mask[:, :end].unique(dim=0, return_inverse=True)
        is_image = (view[:end] >= 0).int()
        shapes = self._shape(grid[0] * self._token_px).expand(int(view.max()) + 1, 3)
        places = torch.zeros(3, len(patterns), end, dtype=torch.long)
        for i, there in enumerate(patterns.cpu()):
            if there.any():
                one = {"mm_token_type_ids": is_image[None].cpu(), "attention_mask": there[None].long()}
                places[:, i : i + 1] = model.get_rope_index(torch.zeros(1, end).long(), image_grid_thw=shapes, **one)[0]
                places[:, i, ~there] = -1
        following = places.amax(dim=(0, 2)).to(mask.device)[which] + 1
        places = places.clamp(min=0).to(mask.device)[:, which]
        after = mask[:, end:]
        line = (following[:, None] + after.cumsum(dim=1) - 1).clamp(min=0)
        return torch.cat([places, self.along(line)], dim=2), following + after.sum(dim=1)

    def along(self, places: Int[Tensor, "b m"]) -> Int[Tensor, "*r b m"]:
        return places.expand(3, -1, -1)

    @property
    def _token_px(self) -> int:
        return self.vision.patch_size * self.vision.spatial_merge_size

    def _shape(self, side_px: int) -> Int[Tensor, "1 3"]:
        patches = side_px // self.vision.patch_size
        return torch.tensor([[1, patches, patches]])


FAMILIES: dict[str, type[Family]] = {
    "florence2": Florence2,
    "fused": Fused,
    "gemma3": Gemma3,
    "idefics3": Idefics3,
    "internvl": InternVL,
    "llava": Llava,
    "paligemma": PaliGemma,
    "qwen2_5_vl": QwenVL,
    "qwen2_vl": QwenVL,
    "qwen3_vl": QwenVL,
    "smolvlm": Idefics3,
}
"""By the ``model_type`` of a checkpoint's config."""


def family_of(config: Any) -> Family:
    """``ValueError`` for a model of another family, which names those that there are."""
    if config.model_type not in FAMILIES:
        raise ValueError(
            f"expected a vision-language model of the families {', '.join(FAMILIES)}, got {config.model_type!r}"
        )
    return FAMILIES[config.model_type](config)


def encoder_layers(encoder: nn.Module) -> list[nn.Module]:
    """The transformer layers of a vision encoder, first to last."""
    return list(next(part for part in encoder.modules() if isinstance(part, nn.ModuleList)))


def _square(side: int) -> Size:
    return side, side


def _one(side: int | Sequence[int]) -> int:
    """The side of a square that some configs give as two numbers."""
    return side if isinstance(side, int) else side[0]


def _stacked(found: Any, m: int) -> Float[Tensor, "m k d"]:
    """The features of m images, which families give as one tensor, as a list by image, or by sample."""
    features = getattr(found, "pooler_output", found)
    features = torch.cat(list(features)) if isinstance(features, list | tuple) else features
    return features.reshape(m, -1, features.shape[-1])
