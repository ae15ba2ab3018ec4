"""Everything that fixes a network's shape, as one frozen config, and its JSON form.

``BACKBONES`` and ``HEADS`` name the kinds of parts that there are.
"""

from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from vla.adapters.pool import PoolConfig
from vla.backbones.nano import NanoConfig
from vla.backbones.nano_text import NanoTextConfig
from vla.backbones.vlm.config import VLMConfig
from vla.heads.bridge import BridgeConfig
from vla.heads.chat import ChatConfig
from vla.heads.flow import FlowConfig
from vla.heads.gaussian import GaussianConfig
from vla.heads.heatmap_config import HeatmapConfig
from vla.heads.mapper import MapperConfig
from vla.heads.mlp import MLPConfig
from vla.heads.tokens import TokensConfig
from vla.history import History

if TYPE_CHECKING:
    from vla.model import VLA

BackboneConfig = NanoConfig | NanoTextConfig | VLMConfig
HeadConfig = (
    BridgeConfig | MLPConfig | GaussianConfig | TokensConfig | FlowConfig | ChatConfig | MapperConfig | HeatmapConfig
)

BACKBONES: dict[str, type[BackboneConfig]] = {
    "nano": NanoConfig,
    "nano-text": NanoTextConfig,
    "vlm": VLMConfig,
}
HEADS: dict[str, type[HeadConfig]] = {
    "bridge": BridgeConfig,
    "mlp": MLPConfig,
    "gaussian": GaussianConfig,
    "tokens": TokensConfig,
    "flow": FlowConfig,
    "chat": ChatConfig,
    "mapper": MapperConfig,
    "heatmap": HeatmapConfig,
}

FORMAT_VERSION = 2
"""Of the JSON form. Version 1 said no version, and held the waypoint's weight in the loss, now the training's."""


@dataclass(frozen=True, kw_only=True)
class VLAConfig:
    """Everything that fixes a network's shape.

    ``cameras`` names the views in order; images are (height, width) px. ``waypoint_dims`` are the numbers of the state
    (usually the tool's position) whose value at the next keyframe the backbone predicts; none for a backbone that
    predicts no waypoint. ``pool`` are modulators of its layers, of which each sample chooses one
    (:mod:`vla.adapters.pool`); None where there are none.
    """

    backbone: BackboneConfig = field(default_factory=NanoConfig)
    head: HeadConfig = field(default_factory=BridgeConfig)
    cameras: tuple[str, ...]
    image_size_px: tuple[int, int]
    state_dim: int
    action_dim: int
    horizon: int
    waypoint_dims: tuple[int, ...] = ()
    pool: PoolConfig | None = None

    def __post_init__(self) -> None:
        sizes = (self.state_dim, self.action_dim, self.horizon, *self.image_size_px)
        if min(sizes) < 1 or len(self.image_size_px) != 2:
            raise ValueError(f"expected positive state_dim, action_dim, horizon and image (height, width), got {sizes}")
        if any(not 0 <= index < self.state_dim for index in self.waypoint_dims):
            raise ValueError(f"waypoint_dims must lie in 0…{self.state_dim - 1} (the state), got {self.waypoint_dims}")
        if not self.cameras or len(set(self.cameras)) < len(self.cameras):
            raise ValueError(f"expected at least one camera and no name twice, got {self.cameras}")

    @property
    def aims(self) -> bool:
        """Whether the head aims at keyframes and draws what the backbone sees of clouds of the cameras' RGB-D."""
        return isinstance(self.head, HeatmapConfig)

    @property
    def views(self) -> tuple[str, ...]:
        """What the backbone sees: the cameras' pictures, or those that are drawn of what they saw."""
        return self.head.views if isinstance(self.head, HeatmapConfig) else self.cameras

    @property
    def view_size_px(self) -> tuple[int, int]:
        """(height, width) of the views."""
        if isinstance(self.head, HeatmapConfig):
            return self.head.side_px, self.head.side_px
        return self.image_size_px

    @property
    def needs_cameras(self) -> bool:
        """It must be told where cameras stand and how they see."""
        return self.aims or self.backbone.needs_cameras

    @property
    def needs_depth(self) -> bool:
        """It must be given depth images."""
        return self.aims or self.backbone.needs_depth

    @property
    def history(self) -> History:
        """Which moments it is shown."""
        return self.backbone.history

    def build(self) -> "VLA":
        """The network to learn with: its backbone takes what it can of the weights that its config names.

        The way to the waypoint depends on how a robot's state is scaled and stays fresh: see :mod:`vla.adopting`.
        ``VLA(config)`` is the network with fresh weights. Errors are those of the backbone's own ``build``.
        """
        from vla.adopting import adopt
        from vla.model import VLA
        from vla.shipped import shipped_for

        vla = VLA(self)
        if self.backbone.weights == "shipped":
            adopt(vla, shipped_for(self.backbone, vla.backbone.vocabulary))
        return vla

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, each union tagged by its ``type``; :meth:`from_dict` is its inverse."""
        parts = {"backbone": tagged(self.backbone, BACKBONES), "head": tagged(self.head, HEADS)}
        whole = {"format_version": FORMAT_VERSION, **asdict(self), **parts}
        if self.pool is None:  # as it was written before there were any
            del whole["pool"]
        return whole

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "VLAConfig":
        """The config, of this or an older version: fields that it lacks take their defaults, and weights are fresh.

        Raises ``ValueError`` for a newer version, unknown types and fields, and missing fields without a default.
        """
        values = _of_this_version(data)
        check_fields("a VLA config", cls, values)
        for name, types in (("backbone", BACKBONES), ("head", HEADS)):
            if name in values:
                values[name] = untagged(name, values[name], types)
        if values.get("pool") is not None:
            check_fields("a pool of modulators", PoolConfig, values["pool"])
            values["pool"] = PoolConfig(**values["pool"])
        for name in ("cameras", "image_size_px", "waypoint_dims"):
            if name in values:
                values[name] = tuple(values[name])
        config = cls(**values)
        return replace(config, backbone=config.backbone.fresh)


def _of_this_version(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"expected a VLA config as a JSON object, got {data!r}")
    values = dict(data)
    version = values.pop("format_version", 1)
    if version not in range(1, FORMAT_VERSION + 1):
        raise ValueError(f"this version reads VLA configs of format 1…{FORMAT_VERSION}, got format {version!r}")
    if version == 1:
        values.pop("waypoint_weight", None)
    return values


def tagged(config: Any, types: dict[str, Any]) -> dict[str, Any]:
    """JSON-ready form of one of several kinds of config, with its ``type``; :func:`untagged` is its inverse.

    Fields that count for no equality are left out.
    """
    name = next(name for name, kind in types.items() if type(config) is kind)
    compared = {field_.name for field_ in fields(config) if field_.compare}
    return {"type": name, **{key: value for key, value in asdict(config).items() if key in compared}}


def untagged(part: str, data: Any, types: dict[str, Any]) -> Any:
    """``ValueError``, which names ``part``, for an unknown type and for fields that do not fit."""
    if not isinstance(data, dict) or data.get("type") not in types:
        given = data.get("type") if isinstance(data, dict) else data
        raise ValueError(f"expected a {part} type out of {sorted(types)}, got {given!r}")
    kind, values = types[data["type"]], {name: value for name, value in data.items() if name != "type"}
    check_fields(f"{part} {data['type']!r}", kind, values)
    return kind(**values)


def check_fields(what: str, kind: type, values: dict[str, Any]) -> None:
    """``ValueError`` for unknown fields, for missing ones without a default, and for numbers of another type."""
    known = {field_.name: field_ for field_ in fields(kind)}
    if unknown := sorted(values.keys() - known.keys()):
        raise ValueError(f"{what} has no field {unknown}; its fields are {sorted(known)}")
    if missing := sorted(name for name, field_ in known.items() if name not in values and _is_required(field_)):
        raise ValueError(f"{what} lacks the fields {missing}, which have no default; it has {sorted(values)}")
    for name, value in values.items():
        expected = known[name].type
        if expected in (int, bool) and type(value) is not expected:
            raise ValueError(f"expected {name} of {what} as {expected.__name__}, got {value!r}")


def _is_required(field_: "Field[Any]") -> bool:
    return field_.default is MISSING and field_.default_factory is MISSING
