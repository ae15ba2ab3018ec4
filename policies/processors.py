"""Between the embodiment's units and the network's: pure, frozen transforms, each with its inverse."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from policies.data.statistics import DatasetStatistics, FieldStatistics

CONSTANT_SPAN = 1e-6
"""A dimension whose scale is below this share of its offset (or of 1) is taken as constant."""


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

    A dimension that the data hold constant is only shifted (scale 1), so that nothing is divided by
    zero and a policy that meets another value there still sees by how much.
    """

    mode: NormalizationMode
    stats: FieldStatistics

    def normalize(self, values: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """From the field's units to the network's."""
        offset, scale = self._like(values)
        return (values - offset) / scale

    def unnormalize(self, values: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """From the network's units to the field's; the inverse of :meth:`normalize`."""
        offset, scale = self._like(values)
        return values * scale + offset

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; :meth:`from_dict` is its inverse."""
        return {"mode": self.mode.value, "stats": self.stats.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Normalizer":
        return cls(mode=NormalizationMode(data["mode"]), stats=FieldStatistics.from_dict(data["stats"]))

    @cached_property
    def _offset_and_scale(self) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
        """Both in float64 on the CPU."""
        stats = {name: torch.tensor(getattr(self.stats, name), dtype=torch.float64) for name in _COLUMNS}
        match self.mode:
            case NormalizationMode.IDENTITY:
                return torch.zeros_like(stats["mean"]), torch.ones_like(stats["mean"])
            case NormalizationMode.MEAN_STD:
                offset, scale = stats["mean"], stats["std"]
            case NormalizationMode.MIN_MAX:
                offset, scale = _middle_and_half_range(stats["min"], stats["max"])
            case NormalizationMode.QUANTILES:
                offset, scale = _middle_and_half_range(stats["q01"], stats["q99"])
        constant = scale <= CONSTANT_SPAN * offset.abs().clamp(min=1.0)
        return offset, torch.where(constant, 1.0, scale)

    def _like(self, values: Float[Tensor, "... d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
        """Offset and scale in the dtype and on the device of ``values``."""
        if values.shape[-1] != self.stats.dim:
            raise ValueError(f"expected {self.stats.dim} dimensions on the last axis, got shape {tuple(values.shape)}")
        offset, scale = self._offset_and_scale
        return offset.to(values), scale.to(values)


_COLUMNS = ("mean", "std", "min", "max", "q01", "q99")


def _middle_and_half_range(
    low: Float[Tensor, " d"], high: Float[Tensor, " d"]
) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    return (low + high) / 2, (high - low) / 2


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """The normalisers of a policy's state and action; they travel with its checkpoint."""

    state: Normalizer
    action: Normalizer

    @classmethod
    def from_statistics(
        cls, statistics: DatasetStatistics, *, state: NormalizationMode, action: NormalizationMode
    ) -> "Normalization":
        return cls(
            state=Normalizer(mode=state, stats=statistics.state),
            action=Normalizer(mode=action, stats=statistics.action),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, keyed by type; :meth:`from_dict` is its inverse."""
        return {"STATE": self.state.to_dict(), "ACTION": self.action.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Normalization":
        return cls(state=Normalizer.from_dict(data["STATE"]), action=Normalizer.from_dict(data["ACTION"]))
