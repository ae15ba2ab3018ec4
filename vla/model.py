"""A VLA: backbone and head, built from one frozen config, saved to and loaded from a directory."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla.backbones.nano import NanoConfig
from vla.checkpoint import CheckpointError, read_weights, write_weights
from vla.durable import write_atomically
from vla.heads.bridge import BridgeConfig
from vla.heads.mlp import MLPConfig
from vla.heads.regression import waypoint_l1
from vla.observation import ActionChunk, Observation

BackboneConfig = NanoConfig
HeadConfig = BridgeConfig | MLPConfig

BACKBONES: dict[str, type[BackboneConfig]] = {"nano": NanoConfig}
HEADS: dict[str, type[BridgeConfig] | type[MLPConfig]] = {"bridge": BridgeConfig, "mlp": MLPConfig}

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class VLAConfig:
    """Everything that fixes a network's shape, and its training objective.

    ``cameras`` names the views in order; images are (height, width) px. ``waypoint_dims`` are the numbers of the state
    (usually the tool's position) whose value at the next keyframe the backbone learns to predict beside the
    head's own loss, weighted by ``waypoint_weight``; none for a backbone that predicts no waypoint.
    """

    backbone: BackboneConfig = field(default_factory=NanoConfig)
    head: HeadConfig = field(default_factory=BridgeConfig)
    cameras: tuple[str, ...]
    image_size_px: tuple[int, int]
    state_dim: int
    action_dim: int
    horizon: int
    waypoint_dims: tuple[int, ...] = ()
    waypoint_weight: float = 1.0

    def __post_init__(self) -> None:
        sizes = (self.state_dim, self.action_dim, self.horizon, *self.image_size_px)
        if min(sizes) < 1 or len(self.image_size_px) != 2:
            raise ValueError(f"expected positive state_dim, action_dim, horizon and image (height, width), got {sizes}")
        if any(not 0 <= index < self.state_dim for index in self.waypoint_dims):
            raise ValueError(f"waypoint_dims must lie in 0…{self.state_dim - 1} (the state), got {self.waypoint_dims}")
        if not self.cameras or len(set(self.cameras)) < len(self.cameras):
            raise ValueError(f"expected at least one camera and no name twice, got {self.cameras}")

    def build(self) -> "VLA":
        """The network with fresh weights from torch's random state."""
        return VLA(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, each union tagged by its ``type``; :meth:`from_dict` is its inverse."""
        return asdict(self) | {"backbone": _tag(self.backbone, BACKBONES), "head": _tag(self.head, HEADS)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "VLAConfig":
        """Raises ``ValueError`` for unknown types, and for fields that are unknown or missing."""
        _expect_fields("a VLA config", cls, data)
        values = data | {
            "backbone": _untag("backbone", data["backbone"], BACKBONES),
            "head": _untag("head", data["head"], HEADS),
            "cameras": tuple(data["cameras"]),
            "image_size_px": tuple(data["image_size_px"]),
            "waypoint_dims": tuple(data["waypoint_dims"]),
        }
        return cls(**values)


class VLA(nn.Module):
    """Backbone and head; normalised actions out. Processing of raw observations is the caller's."""

    def __init__(self, config: VLAConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = config.backbone.build(
            state_dim=config.state_dim,
            views=len(config.cameras),
            image_size_px=config.image_size_px,
            waypoint_dim=len(config.waypoint_dims),
        )
        self.head = config.head.build(
            backbone=self.backbone, state_dim=config.state_dim, horizon=config.horizon, action_dim=config.action_dim
        )

    def forward(
        self, observation: Observation, target: ActionChunk, *, locate_only: bool = False
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The loss, so that wrappers which hook ``forward`` (DDP, FSDP) see the training step."""
        if locate_only:
            return waypoint_l1(self.backbone.locate(observation), target)
        features = self.backbone(observation)
        loss, numbers = self.head.loss(features, target)
        if target.waypoint is None or features.waypoint is None:
            return loss, numbers
        waypoint_loss, waypoint_numbers = waypoint_l1(features.waypoint, target)
        return loss + self.config.waypoint_weight * waypoint_loss, numbers | waypoint_numbers

    def loss(
        self, observation: Observation, target: ActionChunk, *, locate_only: bool = False
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Scalar loss and detached scalars to log; with ``locate_only`` that of the waypoint alone."""
        return self(observation, target, locate_only=locate_only)

    @torch.no_grad()
    def act(self, observation: Observation) -> Float[Tensor, "b h a"]:
        """The chunk of normalised actions to execute."""
        return self.head.act(self.backbone(observation))

    def save(self, directory: Path | str) -> None:
        """Write ``config.json`` and ``model.safetensors``, each atomically; weights first."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_weights(directory / WEIGHTS_FILE, self.state_dict())
        write_atomically(directory / CONFIG_FILE, json.dumps(self.config.to_dict(), indent=2).encode())

    @classmethod
    def load(cls, directory: Path | str, device: torch.device | str = "cpu") -> "VLA":
        """The network saved in ``directory``, in evaluation mode.

        Raises ``CheckpointError`` when a file is missing, damaged, or does not match the config.
        """
        directory = Path(directory)
        model = cls(read_config(directory / CONFIG_FILE))
        model.load_state_dict(read_weights(directory / WEIGHTS_FILE, model.state_dict()))
        return model.to(device).eval()


def read_config(path: Path) -> VLAConfig:
    """The config stored at ``path``; ``CheckpointError`` says what is wrong with it."""
    try:
        return VLAConfig.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"expected a VLA config at {path}: {error}") from error


def _tag(config: Any, types: dict[str, Any]) -> dict[str, Any]:
    name = next(name for name, kind in types.items() if type(config) is kind)
    return {"type": name, **asdict(config)}


def _untag(part: str, data: Any, types: dict[str, Any]) -> Any:
    if not isinstance(data, dict) or data.get("type") not in types:
        given = data.get("type") if isinstance(data, dict) else data
        raise ValueError(f"expected a {part} type out of {sorted(types)}, got {given!r}")
    kind, values = types[data["type"]], {name: value for name, value in data.items() if name != "type"}
    _expect_fields(f"{part} {data['type']!r}", kind, values)
    return kind(**values)


def _expect_fields(what: str, kind: type, data: Any) -> None:
    expected = {field.name for field in fields(kind)}
    if not isinstance(data, dict) or set(data) != expected:
        given = sorted(data) if isinstance(data, dict) else data
        raise ValueError(f"expected {what} with fields {sorted(expected)}, got {given}")
    for field_ in fields(kind):
        value = data[field_.name]
        if field_.type in (int, bool) and type(value) is not field_.type:
            raise ValueError(f"expected {field_.name} of {what} as {field_.type.__name__}, got {value!r}")
