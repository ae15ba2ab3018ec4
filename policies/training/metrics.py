"""What a run writes down as it learns: ``metrics.jsonl`` and TensorBoard events."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from torch.utils.tensorboard import SummaryWriter

from vla.durable import write_text_atomically
from vla.strict_json import finite, strict_json

METRICS_FILE, TIMINGS_FILE = "metrics.jsonl", "timings.jsonl"


class RunningMean:
    """Mean of each metric since the last report, over the steps that had it.

    Its state is JSON-ready, so that a checkpoint can hold it: None stands for a sum that is not finite.
    """

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self._sums: dict[str, float] = _numbers(state["sums"]) if state else {}
        self._counts: dict[str, int] = dict(state["counts"]) if state else {}

    def add(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """The means; starts anew."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def state(self) -> dict[str, Any]:
        return {"sums": finite(self._sums), "counts": dict(self._counts)}


class MetricsLog:
    """Appends one JSON object per report to ``metrics.jsonl``, and the same numbers to TensorBoard.

    There a number belongs to ``train/``, unless its name says to what (``success/reach``). In the file null stands for
    a number that is not finite. Opened at ``step`` the log drops what was reported after that step, so that the file of
    a resumed run equals that of an undisturbed one. Times and rates differ between the two, so they have a file of
    their own, ``timings.jsonl``.
    """

    def __init__(self, run_dir: Path, step: int) -> None:
        self._file, self._timings = (_opened(run_dir / name, step) for name in (METRICS_FILE, TIMINGS_FILE))
        self._events = SummaryWriter(str(run_dir / "tensorboard"), purge_step=step + 1)

    def report(self, step: int, values: Mapping[str, float], timings: Mapping[str, float]) -> None:
        """Write down the values of 1-based ``step``."""
        self._file.write(strict_json(finite({"step": step, **values})) + "\n")
        self._file.flush()
        if timings:
            self._timings.write(strict_json(finite({"step": step, **timings})) + "\n")
            self._timings.flush()
        for name, value in {**values, **timings}.items():
            self._events.add_scalar(name if "/" in name else f"train/{name}", value, step)

    def sync(self) -> None:
        """Make all reports durable; call before a checkpoint that builds on them."""
        os.fsync(self._file.fileno())
        self._events.flush()

    def close(self) -> None:
        self._file.close()
        self._timings.close()
        self._events.close()


def read_metrics(run_dir: Path, name: str = METRICS_FILE) -> list[dict[str, float]]:
    """All reports of a run, oldest first, NaN where null stands; a last line that was cut short is left out.

    ``name`` is the file: that of the metrics, or of the times.
    """
    path = run_dir / name
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [_numbers(json.loads(line)) for line in lines if line.endswith("\n")]


def _opened(path: Path, step: int) -> TextIO:
    """To be appended to, without what was reported after ``step``."""
    kept = [] if step == 0 or not path.exists() else _lines_up_to(path, step)
    write_text_atomically(path, "".join(kept))
    return path.open("a", encoding="utf-8")


def _lines_up_to(path: Path, step: int) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = (line for line in lines if line.endswith("\n"))
    return [line for line in whole if json.loads(line)["step"] <= step]


def _numbers(values: Mapping[str, float | None]) -> dict[str, float]:
    """``values`` with NaN for what was written as null."""
    return {name: math.nan if value is None else value for name, value in values.items()}
