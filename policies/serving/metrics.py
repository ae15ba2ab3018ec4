"""Latency of a server's stages and sizes of its batches, over the latest requests."""

from collections import Counter, deque
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
        self._batches = deque[int](maxlen=window)

    def add(self, stages_ms: Mapping[str, float], batch: int = 1) -> None:
        """Record one request, answered together with others, ``batch`` in all; ``stages_ms`` has an entry per stage."""
        self.requests += 1
        self._batches.append(batch)
        for stage, values in self._stages.items():
            values.append(stages_ms[stage])

    def summary(self) -> dict[str, float | dict[str, float | None]]:
        """Counts, and once there are any requests p50/p95/p99 per stage and how many were answered in batches of which
        size (JSON-ready). ``queue`` includes waiting for others to come along.
        """
        counts = {"requests": self.requests, "refused": self.refused, "action_violations": self.violations}
        if not self.requests:
            return {**counts}
        stages = {f"{stage}_ms": percentiles(values) for stage, values in self._stages.items()}
        sizes: dict[str, float | None] = {str(size): count for size, count in sorted(Counter(self._batches).items())}
        return {**counts, **stages, "batch": sizes}
