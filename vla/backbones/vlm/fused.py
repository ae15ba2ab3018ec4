"""Two vision encoders side by side before one language model: the backbone of VLA-Adapter and OpenVLA.

Prismatic models (arXiv 2402.07865) let a DINOv2 and a SigLIP look at the same picture: features of a patch stand one
behind the other in one vector, and an MLP of three layers brings them to the language model's width. Transformers has
no class for it, so a checkpoint is a folder of three of its own, one for each part, with ``config.json`` and the
connector's weights beside them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla.checkpoint import write_weights
from vla.durable import write_text_atomically
from vla.strict_json import strict_json

FUSED = "fused"
"""The ``model_type`` of such a checkpoint."""
ENCODERS, LANGUAGE, CONNECTOR = ("vision_tower", "second_vision_tower"), "language_model", "multi_modal_projector"
"""The parts: of all but the connector there is a folder of that name, of the connector a ``.safetensors``."""
CONNECTOR_FILE = f"{CONNECTOR}.safetensors"
_CONFIG_FILE = "config.json"


@dataclass(frozen=True, kw_only=True)
class FusedArchitecture:
    """Configs of transformers of the three parts. ``layer`` is the one of each encoder that the connector sees: the
    last one but one, as the published models have it.
    """

    vision_tower: Any
    second_vision_tower: Any
    language_model: Any
    layer: int = -2
    model_type: ClassVar[str] = FUSED

    @property
    def vision_config(self) -> Any:
        """Of the encoder whose patches are the image tokens: the first."""
        return self.vision_tower

    def get_text_config(self) -> Any:
        """Of the language model, by the name that transformers' own configs have for it."""
        return self.language_model

    @property
    def parts(self) -> dict[str, Any]:
        """The config of each part that transformers has a class for."""
        return {name: getattr(self, name) for name in (*ENCODERS, LANGUAGE)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "FusedArchitecture":
        """Inverse of :meth:`to_dict`; ``ValueError`` or ``KeyError`` where a part is missing or of no known kind."""
        from transformers import AutoConfig

        parts = {name: AutoConfig.for_model(**content[name]) for name in (*ENCODERS, LANGUAGE)}
        return cls(**parts, layer=int(content["layer"]))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        parts = {name: config.to_dict() for name, config in self.parts.items()}
        return {"model_type": FUSED, "layer": self.layer, **parts}

    def save_pretrained(self, folder: Path | str) -> None:
        """Write ``config.json``, as transformers' own configs do."""
        write_text_atomically(Path(folder) / _CONFIG_FILE, strict_json(self.to_dict(), indent=2) + "\n")


class FusedModel(nn.Module):
    """The parts as one network, with the methods of transformers' own vision-language models that a backbone calls."""

    def __init__(self, architecture: FusedArchitecture, parts: Mapping[str, Any]) -> None:
        super().__init__()
        self.architecture = architecture
        self.vision_tower, self.second_vision_tower = (parts[name] for name in ENCODERS)
        self.language_model: Any = parts[LANGUAGE]
        wide = sum(tower.config.hidden_size for tower in (self.vision_tower, self.second_vision_tower))
        width = architecture.language_model.hidden_size
        self.multi_modal_projector = nn.Sequential(
            nn.Linear(wide, 4 * wide), nn.GELU(), nn.Linear(4 * wide, width), nn.GELU(), nn.Linear(width, width)
        )

    def get_image_features(
        self, first: Float[Tensor, "m 3 h w"], second: Float[Tensor, "m 3 y x"]
    ) -> Float[Tensor, "m k d"]:
        """The same pictures, each as its encoder wants them: as many patches wide and high for both."""
        seen = [
            self._patches(tower, images)
            for tower, images in ((self.vision_tower, first), (self.second_vision_tower, second))
        ]
        return self.multi_modal_projector(torch.cat(seen, dim=-1))

    def get_input_embeddings(self) -> nn.Module:
        """Of the language model's words."""
        return self.language_model.get_input_embeddings()

    def get_decoder(self) -> nn.Module:
        """The language model itself."""
        return self.language_model

    def gradient_checkpointing_enable(self, settings: dict[str, Any]) -> None:
        """For all parts."""
        for part in (self.vision_tower, self.second_vision_tower, self.language_model):
            part.gradient_checkpointing_enable(settings)

    def save(self, folder: Path) -> None:
        """Write a checkpoint: each part as transformers writes it, the connector, and ``config.json`` last."""
        for name in self.architecture.parts:
            getattr(self, name).save_pretrained(folder / name)
        write_weights(folder / CONNECTOR_FILE, self.multi_modal_projector.state_dict())
        self.architecture.save_pretrained(folder)

    def _patches(self, tower: Any, images: Float[Tensor, "m 3 h w"]) -> Float[Tensor, "m k e"]:
        """An encoder's features of patches, in raster order; tokens of its own come before them and are left out."""
        side = images.shape[-1]
        asks = side != tower.config.image_size and not tower.config.model_type.startswith("dino")
        stretched = {"interpolate_pos_encoding": True} if asks else {}
        found = tower(pixel_values=images, output_hidden_states=True, **stretched)
        return found.hidden_states[self.architecture.layer][:, -((side // tower.config.patch_size) ** 2) :]


def new_fused(architecture: FusedArchitecture) -> FusedModel:
    """The network with new weights, in float32."""
    from transformers import AutoModel

    parts = {name: AutoModel.from_config(config, dtype=torch.float32) for name, config in architecture.parts.items()}
    return FusedModel(architecture, parts)
