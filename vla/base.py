"""A backbone that has learned to look, as a directory that policies start from: ``config.json``, ``model.safetensors``.

Only what was learned is kept, so parts of the network that looking does not use are not among the weights.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from vla.backbone import Backbone
from vla.checkpoint import CheckpointError, write_weights
from vla.config import BACKBONES, BackboneConfig, check_fields, tagged, untagged
from vla.durable import write_text_atomically
from vla.saving import CONFIG_FILE, WEIGHTS_FILE
from vla.scaling import StateScale
from vla.strict_json import strict_json

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """What a backbone's weights mean.

    ``cameras`` names the views in order; images are (height, width) px. ``state_names`` are the numbers of the state,
    scaled by ``state``, of which the waypoint has ``waypoint_dims``. ``vocabulary`` is the backbone's when it learned.
    """

    backbone: BackboneConfig
    vocabulary: str
    cameras: tuple[str, ...]
    image_size_px: tuple[int, int]
    state_names: tuple[str, ...]
    state: StateScale
    waypoint_dims: tuple[int, ...]

    def build(self) -> Backbone:
        """The network with fresh weights from torch's random state."""
        return self.backbone.fresh.build(
            state_dim=len(self.state_names),
            views=len(self.cameras),
            image_size_px=self.image_size_px,
            waypoint_dim=len(self.waypoint_dims),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; :meth:`from_dict` is its inverse."""
        return {"format_version": FORMAT_VERSION, **asdict(self), "backbone": tagged(self.backbone, BACKBONES)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "BaseConfig":
        """``ValueError`` for another format, and for fields that are unknown or missing."""
        values = dict(data)
        if (version := values.pop("format_version", None)) != FORMAT_VERSION:
            raise ValueError(f"expected a backbone of format {FORMAT_VERSION}, got format {version!r}")
        check_fields("a backbone's config", cls, values)
        state = {name: tuple(float(x) for x in column) for name, column in values["state"].items()}
        lists = ("cameras", "image_size_px", "state_names", "waypoint_dims")
        return cls(
            backbone=untagged("backbone", values["backbone"], BACKBONES).fresh,
            vocabulary=values["vocabulary"],
            state=StateScale(**state),
            **{name: tuple(values[name]) for name in lists},
        )


@dataclass(frozen=True, kw_only=True)
class Base:
    """A saved backbone: what it means, the weights that were learned, by their names in it, and their hash."""

    config: BaseConfig
    weights: Mapping[str, Tensor]
    sha256: str

    def build(self) -> Backbone:
        """The network with what was learned, in evaluation mode; parts that do not look are fresh.

        ``CheckpointError`` for weights that the network lacks, and where words are cut otherwise now.
        """
        backbone = self.config.build().eval()
        if backbone.vocabulary != self.config.vocabulary:
            raise CheckpointError(
                f"the backbone learned with the vocabulary {self.config.vocabulary[:12]}…, "
                f"this version's is {backbone.vocabulary[:12]}…"
            )
        own = dict(backbone.named_parameters())
        for name, weight in self.weights.items():
            if name not in own or own[name].shape != weight.shape:
                shape = tuple(own[name].shape) if name in own else "no such weights"
                raise CheckpointError(f"the backbone's {name} has shape {tuple(weight.shape)}, its network {shape}")
            own[name].data.copy_(weight)
        return backbone


def save_base(config: BaseConfig, weights: Mapping[str, Tensor], directory: Path) -> str:
    """Write config and weights, each atomically; weights first. Returns their hash. Inverse: :func:`load_base`."""
    directory.mkdir(parents=True, exist_ok=True)
    write_weights(directory / WEIGHTS_FILE, weights)
    digest = hashlib.sha256((directory / WEIGHTS_FILE).read_bytes()).hexdigest()
    content = {**config.to_dict(), "sha256": digest}
    write_text_atomically(directory / CONFIG_FILE, strict_json(content, indent=2) + "\n")
    return digest


def load_base(directory: Path) -> Base:
    """The backbone saved in ``directory``.

    Raises ``CheckpointError`` where a file is missing or damaged, or is not of a backbone.
    """
    path = directory / WEIGHTS_FILE
    try:
        content = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
        expected = content.pop("sha256")
        config = BaseConfig.from_dict(content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"expected a backbone's config at {directory / CONFIG_FILE}: {error!r}") from error
    try:
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest != expected:
            raise CheckpointError(f"{path} is damaged: its hash is {digest}, {expected} was written")
        weights = safetensors.torch.load(data)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"expected a safetensors file at {path}: {error}") from error
    return Base(config=config, weights=weights, sha256=digest)
