"""How benchmarks report: the machine, the versions, a table on the screen, figures in a file."""

import argparse
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from configs import machine as recorded
from configs import run_directory
from envs.suites import task_names

PEERS = ("open3d", "openpi-client", "robosuite", "mujoco-warp", "stable-baselines3")


def machine() -> dict[str, Any]:
    """Processor, cores, memory, system, Python and source revision."""
    return dict(recorded.machine())


def versions() -> dict[str, str]:
    """Versions of our dependencies and of the peers that are installed."""
    return recorded.versions((*recorded.RECORDED_PACKAGES, *PEERS))


def write_json(path: Path, name: str, figures: Mapping[str, Any], seeds: Sequence[int]) -> None:
    """Write ``figures`` with everything needed to judge and repeat them; a number that is not finite becomes null."""
    content = {
        "benchmark": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "seeds": list(seeds),
        "figures": figures,
    }
    run_directory.write_json(content, path)


def home_path(text: str) -> Path:
    """An option's path, in the home folder where it starts with ``~``."""
    return Path(text).expanduser()


def known_task(text: str) -> str:
    """An option's task or suite; the parser says which there are."""
    try:
        task_names([text])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def natural(text: str) -> int:
    """An option's whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


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
