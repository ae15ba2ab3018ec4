"""Latency of a server's stages, as percentiles over the latest requests."""

from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np

STAGES = ("decode", "queue", "infer", "encode")
_PERCENTILES = {"p50": 50, "p95": 95, "p99": 99}


def percentiles(values_ms: Iterable[float | None]) -> dict[str, float | None]:
    """p50, p95 and p99 of the values that are known; None where there are none (JSON has no NaN)."""
    values = np.array([value for value in values_ms if value is not None], np.float64)
    if not values.size:
        return dict.fromkeys(_PERCENTILES)
    found = np.percentile(values, list(_PERCENTILES.values()))
    return {name: round(float(value), 3) for name, value in zip(_PERCENTILES, found, strict=True)}


class LatencyMetrics:
    """Milliseconds spent per stage of the latest ``window`` answered requests, and counts since the start."""

    def __init__(self, window: int = 10_000) -> None:
        self.requests = 0
        self.refused = 0
        self.violations = 0
        self._stages = {stage: deque[float](maxlen=window) for stage in STAGES}

    def add(self, stages_ms: Mapping[str, float]) -> None:
        """Record one answered request; ``stages_ms`` has an entry per stage."""
        self.requests += 1
        for stage, values in self._stages.items():
            values.append(stages_ms[stage])

    def summary(self) -> dict[str, float | dict[str, float | None]]:
        """Counts, and p50/p95/p99 per stage once there are any (JSON-ready)."""
        counts = {"requests": self.requests, "refused": self.refused, "action_violations": self.violations}
        if not self.requests:
            return {**counts}
        return {**counts, **{f"{stage}_ms": percentiles(values) for stage, values in self._stages.items()}}
