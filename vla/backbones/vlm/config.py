"""What fixes a backbone made of a pretrained vision-language model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from vla.backbones.text_window import window_for
from vla.backbones.vlm.words import split_prompt
from vla.history import PRESENT, History

if TYPE_CHECKING:
    from vla.backbones.vlm.backbone import VLM

Tuning = Literal["frozen", "lora", "full"]
LANGUAGE_LAYERS = (
    r".*(text_model|language_model).*\.(q_proj|k_proj|v_proj|o_proj|out_proj|gate_proj|up_proj|down_proj|fc1|fc2)"
)
"""The linear layers of the language model, in every family: those of the vision encoder have the same last names."""
PROMPT = "In: What action should the robot take to {instruction}?\nOut:"
TEXT_TOKENS = 128
"""Text window where nobody says which."""


@dataclass(frozen=True, kw_only=True)
class VLMConfig:
    """A pretrained vision-language model of transformers, and how it is tuned; everything else its checkpoint says.

    ``checkpoint`` is a folder or an id on the hub. What learns beside the head, the ``n_queries`` query tokens (arXiv
    2509.09372) and what reads the robot's state is, by ``tuning``, nothing (``frozen``); low-rank updates (``lora``,
    arXiv 2106.09685, extra ``peft``) of ``lora_rank``, scaled by ``lora_alpha`` / rank, of the linear layers whose full
    name ``lora_targets`` matches, by default those of the language model; or the whole model (``full``). Weights whose
    full name ``also_learns`` matches learn in any case: ``multi_modal_projector.*`` are those of LLaVA's connector.

    ``side_px`` is the side of the square that each view is resized to, by default the size that the vision encoder
    learned with. ``max_text_tokens`` is the longest prompt that it takes in: where it is None, training asks
    :meth:`reading`. ``prompt`` has ``{instruction}`` once, and ``{images}`` where they do not come first.
    With ``half`` frozen weights are bfloat16 on CUDA; on the CPU, which is slower with it, they are float32.
    ``gradient_checkpointing`` computes layers again in the backward pass, for less memory; not those of the decoder
    for heads whose tokens go through it.

    Fewer tokens of images: ``merge_per_layer`` similar ones are merged after each layer of the vision encoder
    (:mod:`vla.backbones.vlm.merging_layers`). Before the decoder, ``image_budget`` is the most that all views may have
    together, to which each view's grid is averaged down, and ``merged_tokens`` to how many a view's are merged
    (:mod:`vla.backbones.token_reduction`); families with tokens of an image beside its grid's have neither.
    ``position_prompt`` puts a learned frame around each picture, normalised as the encoder sees it, and one for each
    encoder (:mod:`vla.backbones.position_prompt`); the gradient to it goes through the vision encoder, also where that
    is frozen. All are off by default.

    ``sha256`` is that of the checkpoint's weights. It is filled in when they are read, and others are refused then.
    """

    checkpoint: str
    tuning: Tuning = "lora"
    n_queries: int = 64
    lora_rank: int = 64
    lora_alpha: int = 128
    lora_dropout: float = 0.0
    lora_targets: str = LANGUAGE_LAYERS
    also_learns: str = ""
    side_px: int | None = None
    max_text_tokens: int | None = None
    prompt: str = PROMPT
    half: bool = True
    gradient_checkpointing: bool = False
    image_budget: int | None = None
    merged_tokens: int | None = None
    merge_per_layer: int = 0
    position_prompt: bool = False
    sha256: str = ""

    def __post_init__(self) -> None:
        if not self.checkpoint:
            raise ValueError("expected a checkpoint: a folder with a model of transformers, or an id on the hub")
        if self.tuning not in get_args(Tuning):
            raise ValueError(f"expected tuning out of {', '.join(get_args(Tuning))}, got {self.tuning!r}")
        numbers = ("n_queries", "lora_rank", "lora_alpha", "side_px", "max_text_tokens")
        for name in (*numbers, "image_budget", "merged_tokens"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.merge_per_layer < 0:
            raise ValueError(f"merge_per_layer must not be negative, got {self.merge_per_layer}")
        if self.merge_per_layer and (self.image_budget is not None or self.gradient_checkpointing):
            raise ValueError(
                "merge_per_layer leaves no grid to average down to an image_budget, and no layers to compute again "
                f"with gradient_checkpointing: got image_budget {self.image_budget}, gradient_checkpointing "
                f"{self.gradient_checkpointing}"
            )
        if not 0 <= self.lora_dropout < 1:
            raise ValueError(f"lora_dropout must lie in [0, 1), got {self.lora_dropout}")
        for name in ("lora_targets", "also_learns"):
            try:
                re.compile(getattr(self, name))
            except re.error as error:
                given = getattr(self, name)
                raise ValueError(f"{name} must be a regular expression, got {given!r}: {error}") from None
        split_prompt(self.prompt)

    weights = "checkpoint"
    """What a new network starts from: always the checkpoint's, so there is nothing to choose."""

    @property
    def fresh(self) -> "VLMConfig":
        """Itself: what the checkpoint's weights are is part of what the network is."""
        return self

    @property
    def locates(self) -> bool:
        """It predicts no waypoint."""
        return False

    @property
    def needs_cameras(self) -> bool:
        """It need not be told where cameras stand."""
        return False

    @property
    def needs_depth(self) -> bool:
        """It sees colours alone."""
        return False

    @property
    def history(self) -> History:
        """It sees the present alone."""
        return PRESENT

    @property
    def needs(self) -> str:
        """What it must be fed beside colour images of the present: nothing."""
        return ""

    def reading(self, sentences: Sequence[str]) -> "VLMConfig":
        """This config with a window for all of ``sentences`` and a quarter more, if it does not say what window.

        Errors are those of reading the checkpoint's tokenizer.
        """
        if self.max_text_tokens is not None or not sentences:
            return self
        from vla.backbones.vlm.pretrained import tokenizer_of

        return replace(self, max_text_tokens=window_for(tokenizer_of(self).longest(sentences)))

    def build(
        self,
        *,
        state_dim: int,
        views: int,
        image_size_px: tuple[int, int],
        waypoint_dim: int = 0,
        saved: Path | None = None,
    ) -> "VLM":
        """The network for these inputs; ``image_size_px`` is the (height, width) that images come with.

        ``saved`` is the folder of a policy, whose network has the architecture and the tokenizer that were saved there;
        of the checkpoint only frozen weights are read then. ``CheckpointError`` where the checkpoint is not there,
        damaged, or another one; ``ValueError`` for a family that is not supported, for sizes that it refuses, and for a
        waypoint, which it does not predict.
        """
        if waypoint_dim:
            raise ValueError(f"a pretrained model predicts no waypoint, got waypoint_dim {waypoint_dim}")
        from vla.backbones.vlm.backbone import VLM
        from vla.backbones.vlm.pretrained import open_checkpoint, open_saved

        parts = open_checkpoint(self) if saved is None else open_saved(self, saved)
        return VLM(self, parts, state_dim=state_dim, views=views, image_size_px=image_size_px)
