"""Between the embodiment's units and the network's: pure, frozen transforms, each with its inverse."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.specs import Dimension, EmbodimentSpec
from policies.data.statistics import DatasetStatistics, FieldStatistics
from vla.scaling import StateScale

RANGE_SHARE = 0.01
"""The least scale, as a share of a dimension's specified range. What arms do in a task is 1 … 25 % of it by standard
deviation; what stands still (a gripper that is never closed, an arm that always starts at home) less than 0.1 %."""
UNIT_FLOORS = {"m": 0.03, "rad": 0.06, "1": 0.02, "m/s": 0.05, "rad/s": 0.4, "N": 1.0, "N m": 0.1}
"""The least scale of a dimension without a finite range, by its unit; dimensions of other units have none."""
STATE_BOUND = 10.0
"""Beyond so many scales a state looks to the network as if it were there; the data themselves stay within."""
CONSTANT_SHARE = 1e-3
"""A dimension whose data lie within this share of its least scale is constant."""


class NormalizationMode(StrEnum):
    """How a vector is scaled, by the names that LeRobot uses."""

    IDENTITY = "IDENTITY"
    MEAN_STD = "MEAN_STD"
    """To zero mean and unit standard deviation."""
    MIN_MAX = "MIN_MAX"
    """The range seen in the data to [−1, 1]."""
    QUANTILES = "QUANTILES"
    """The 1 % … 99 % quantile range to [−1, 1]; what lies outside goes beyond, nothing is clipped."""


@dataclass(frozen=True, kw_only=True)
class Normalizer:
    """``(x − offset) / scale`` per dimension, and back.

    The scale is the data's, but at least ``floor`` (in the field's units, 0 for none), so that what hardly moves in the
    data is not blown up; and so large that the data lie within ±``STATE_BOUND``. Where both leave nothing it is 1.
    ``bound`` clamps what is normalised, None does not.
    """

    mode: NormalizationMode
    stats: FieldStatistics
    floor: tuple[float, ...]
    bound: float | None = None

    def __post_init__(self) -> None:
        if len(self.floor) != self.stats.dim or not all(0 <= least < math.inf for least in self.floor):
            raise ValueError(f"expected a finite floor ≥ 0 for each of {self.stats.dim} dimensions, got {self.floor}")
        if self.bound is not None and not self.bound > 0:
            raise ValueError(f"expected a bound > 0, or None, got {self.bound}")

    def normalize(self, values: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """From the field's units to the network's, within the bound."""
        offset, scale = self._like(values)
        normalized = (values - offset) / scale
        return normalized if self.bound is None else normalized.clamp(-self.bound, self.bound)

    def unnormalize(self, values: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """From the network's units to the field's; the inverse of :meth:`normalize` within the bound.

        A dimension that the data hold constant comes back as that constant, whatever ``values`` say.
        """
        offset, scale = self._like(values)
        value, constant = self._constants
        return torch.where(constant.to(values.device), value.to(values), values * scale + offset)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; :meth:`from_dict` is its inverse."""
        return {
            "mode": self.mode.value,
            "stats": self.stats.to_dict(),
            "floor": list(self.floor),
            "bound": self.bound,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Normalizer":
        return cls(
            mode=NormalizationMode(data["mode"]),
            stats=FieldStatistics.from_dict(data["stats"]),
            floor=tuple(float(least) for least in data["floor"]),
            bound=None if data["bound"] is None else float(data["bound"]),
        )

    def affine(self) -> StateScale:
        """Offset and scale of every dimension, for what learns from both units: see :mod:`vla.base`."""
        offset, scale = self._offset_and_scale
        return StateScale(offset=tuple(offset.tolist()), scale=tuple(scale.tolist()))

    @property
    def constant(self) -> Bool[Tensor, " d"]:
        """Which dimensions the data hold constant."""
        return self._constants[1]

    def nearly_constant(self) -> list[int]:
        """The dimensions that the data hardly move: their scale is the floor, or they are constant."""
        if self.mode is NormalizationMode.IDENTITY:
            return []
        at_floor = self._offset_and_scale[1] <= torch.tensor(self.floor, dtype=torch.float64)
        return (at_floor | self._constants[1]).nonzero()[:, 0].tolist()

    @cached_property
    def _columns(self) -> dict[str, Float[Tensor, " d"]]:
        return {name: torch.tensor(getattr(self.stats, name), dtype=torch.float64) for name in _COLUMNS}

    @cached_property
    def _constants(self) -> tuple[Float[Tensor, " d"], Bool[Tensor, " d"]]:
        """The value in the middle of the data, and where it is all there is."""
        middle, half_range = _middle_and_half_range(self._columns["min"], self._columns["max"])
        return middle, 2 * half_range <= CONSTANT_SHARE * torch.tensor(self.floor, dtype=torch.float64)

    @cached_property
    def _offset_and_scale(self) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
        """Both in float64 on the CPU."""
        stats = self._columns
        match self.mode:
            case NormalizationMode.IDENTITY:
                return torch.zeros_like(stats["mean"]), torch.ones_like(stats["mean"])
            case NormalizationMode.MEAN_STD:
                offset, scale = stats["mean"], stats["std"]
            case NormalizationMode.MIN_MAX:
                offset, scale = _middle_and_half_range(stats["min"], stats["max"])
            case NormalizationMode.QUANTILES:
                offset, scale = _middle_and_half_range(stats["q01"], stats["q99"])
        farthest = torch.maximum(stats["max"] - offset, offset - stats["min"])
        floor = torch.tensor(self.floor, dtype=torch.float64)
        scale = torch.maximum(scale, torch.maximum(floor, farthest / STATE_BOUND))
        return offset, torch.where(scale <= _ROUNDING * offset.abs().clamp(min=1.0), 1.0, scale)

    def _like(self, values: Float[Tensor, "... d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
        """Offset and scale in the dtype and on the device of ``values``."""
        if values.shape[-1] != self.stats.dim:
            raise ValueError(f"expected {self.stats.dim} dimensions on the last axis, got shape {tuple(values.shape)}")
        offset, scale = self._offset_and_scale
        return offset.to(values), scale.to(values)


_ROUNDING = 1e-12
"""A scale below this share of the offset (or of 1) is but rounding."""
_COLUMNS = ("mean", "std", "min", "max", "q01", "q99")


def _middle_and_half_range(
    low: Float[Tensor, " d"], high: Float[Tensor, " d"]
) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    return (low + high) / 2, (high - low) / 2


def scale_floor(dimension: Dimension) -> float:
    """The least scale by which a dimension is divided, in its own unit: a share of its range, else by the unit."""
    span = dimension.high - dimension.low
    return RANGE_SHARE * span if 0 < span < math.inf else UNIT_FLOORS.get(dimension.unit, 0.0)


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """The normalisers of a policy's state and action; they travel with its checkpoint."""

    state: Normalizer
    action: Normalizer

    @classmethod
    def from_statistics(
        cls,
        statistics: DatasetStatistics,
        embodiment: EmbodimentSpec,
        *,
        state: NormalizationMode,
        action: NormalizationMode,
    ) -> "Normalization":
        """Scales from the statistics, floors from the embodiment's ranges; a normalised state is bounded."""
        floors = [tuple(scale_floor(dim) for dim in dims) for dims in (embodiment.state, embodiment.action)]
        bound = None if state is NormalizationMode.IDENTITY else STATE_BOUND
        return cls(
            state=Normalizer(mode=state, stats=statistics.state, floor=floors[0], bound=bound),
            action=Normalizer(mode=action, stats=statistics.action, floor=floors[1]),
        )

    def nearly_constant(self, embodiment: EmbodimentSpec) -> list[str]:
        """What hardly moves in the data, with how far of its range, such as ``state gripper_gap (0.0006 of 0.08)``."""
        return [
            f"{field} {dims[i].name} ({normalizer.stats.max[i] - normalizer.stats.min[i]:.2g} of "
            f"{dims[i].high - dims[i].low:.2g})"
            for field, normalizer, dims in (
                ("state", self.state, embodiment.state),
                ("action", self.action, embodiment.action),
            )
            for i in normalizer.nearly_constant()
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, keyed by type; :meth:`from_dict` is its inverse."""
        return {"STATE": self.state.to_dict(), "ACTION": self.action.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Normalization":
        return cls(state=Normalizer.from_dict(data["STATE"]), action=Normalizer.from_dict(data["ACTION"]))
