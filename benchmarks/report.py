"""How benchmarks report: the machine, the versions, a table on the screen, figures in a file."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from configs import machine as recorded
from configs import run_directory

PEERS = ("openpi-client", "robosuite", "mujoco-warp", "stable-baselines3")


def machine() -> dict[str, Any]:
    """Processor, cores, memory, system, Python and source revision."""
    return dict(recorded.machine())


def versions() -> dict[str, str]:
    """Versions of our dependencies and of the peers that are installed."""
    return recorded.versions((*recorded.RECORDED_PACKAGES, *PEERS))


def write_json(path: Path, name: str, figures: Mapping[str, Any], seeds: Sequence[int]) -> None:
    """Write ``figures`` with everything needed to judge and repeat them."""
    content = {
        "benchmark": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "seeds": list(seeds),
        "figures": figures,
    }
    run_directory.write_json(content, path)


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Aligned columns, one per key in order of first appearance; text to the left, numbers to the right."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in [columns, *cells]) for i in range(len(columns))]
    textual = [all(isinstance(row.get(column), str | None) for row in rows) for column in columns]
    for line in [columns, ["-" * width for width in widths], *cells]:
        aligned = (f"{c:<{w}}" if left else f"{c:>{w}}" for c, w, left in zip(line, widths, textual, strict=True))
        print("  ".join(aligned).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
