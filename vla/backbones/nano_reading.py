"""The network of :class:`vla.backbones.nano_text.NanoTextConfig`."""

from dataclasses import replace
from pathlib import Path

from vla.backbones.nano import Nano
from vla.backbones.nano_config import TEXT_TOKENS
from vla.backbones.nano_text import NanoTextConfig
from vla.backbones.pretrained_text import PretrainedText, TextParts, save_text


class NanoReading(Nano):
    """``nano`` whose text tokens are those of a frozen encoder."""

    def __init__(
        self,
        config: NanoTextConfig,
        parts: TextParts,
        *,
        state_dim: int,
        views: int,
        image_size_px: tuple[int, int],
        waypoint_dim: int,
    ) -> None:
        text = PretrainedText(parts.model, config.max_text_tokens or TEXT_TOKENS, config.width)
        super().__init__(
            config,
            state_dim=state_dim,
            views=views,
            image_size_px=image_size_px,
            waypoint_dim=waypoint_dim,
            reader=(parts.tokenizer, text),
        )
        self.config = replace(config, sha256=parts.sha256)
        self._parts = parts

    @property
    def given(self) -> frozenset[str]:
        """The encoder's weights."""
        return frozenset(f"text_encoder.model.{name}" for name in self._parts.model.state_dict())

    def save(self, directory: Path) -> None:
        save_text(self._parts, directory)
