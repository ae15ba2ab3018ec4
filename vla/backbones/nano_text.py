"""``nano`` that reads with a pretrained text encoder, such as all-MiniLM-L6-v2, instead of its own words."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vla.backbones.nano_config import NanoConfig
from vla.backbones.text_window import window_for

if TYPE_CHECKING:
    from vla.backbones.nano_reading import NanoReading


@dataclass(frozen=True, kw_only=True)
class NanoTextConfig(NanoConfig):
    """Sizes as of :class:`NanoConfig`, and the encoder that it reads with: ``text``, a folder with a model of
    transformers that encodes texts, or its id on the hub.

    The encoder stays as it is; what brings its tokens to the network's width, and asks with them, learns. Of the
    shipped weights the network takes all but the text part, so it has to learn anew which words mean what it sees.
    ``sha256`` is that of the encoder's weights. It is filled in when they are read, and others are refused then.
    """

    text: str
    sha256: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.text:
            raise ValueError("expected text: a folder with a text encoder of transformers, or an id on the hub")

    @property
    def plain(self) -> NanoConfig:
        """The network with words of its own."""
        return NanoConfig(**{field.name: getattr(self, field.name) for field in fields(NanoConfig)})

    @property
    def fresh(self) -> "NanoTextConfig":
        return replace(self, weights="fresh")

    def reading(self, sentences: Sequence[str]) -> "NanoTextConfig":
        if self.max_text_tokens is not None or not sentences:
            return self
        from vla.backbones.pretrained_text import text_tokenizer
        from vla.backbones.vlm.locate import locate

        return replace(self, max_text_tokens=window_for(text_tokenizer(locate(self.text)).longest(sentences)))

    def build(
        self,
        *,
        state_dim: int,
        views: int,
        image_size_px: tuple[int, int],
        waypoint_dim: int = 0,
        saved: Path | None = None,
    ) -> "NanoReading":
        """The network for these inputs. Errors are those of :meth:`NanoConfig.build` and of reading the encoder."""
        from vla.backbones.nano_reading import NanoReading
        from vla.backbones.pretrained_text import open_text

        nano = NanoReading(
            self,
            open_text(self.text, self.sha256, saved),
            state_dim=state_dim,
            views=views,
            image_size_px=image_size_px,
            waypoint_dim=waypoint_dim,
        )
        if self.weights == "shipped":
            from vla.adopting import adopt_looks
            from vla.shipped import shipped_for

            adopt_looks(nano, nano.config, shipped_for(nano.config, nano.vocabulary))
        return nano
