"""Datasets looked through: what ``vla dataset stats`` and ``vla dataset check`` print."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.report.tables import wide_console
from policies.progress import counting
from vla.strict_json import strict_json

if TYPE_CHECKING:
    from policies.data.checks.finding import Finding
    from policies.data.dataset import DemonstrationDataset


def print_statistics(dataset: "DemonstrationDataset", as_json: bool) -> int:
    """Tasks, every dimension of state and action, and every camera, as tables or as JSON."""
    from policies.data.summary import summarize

    frames = dataset.num_frames * max(len(dataset.embodiment.cameras), 1)
    with counting("stats", frames, "frames", show=not as_json) as done:
        found = summarize(dataset, done)
    if as_json:
        print(strict_json(found, indent=2))
    else:
        _print_summary(found)
    return 0


def check(dataset: "DemonstrationDataset", as_json: bool, report: Path | None) -> int:
    """Print what is wrong with a dataset, the worst first; 1 where anything is, 0 for a clean one."""
    from policies.data.checks.checking import find_faults

    if report and report.is_dir():
        raise IsADirectoryError(f"{report} is a folder: name the page's file")
    with counting("check", len(dataset), show=not as_json) as done:
        findings = find_faults(dataset, done)
    if as_json:
        print(strict_json([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
    elif findings:
        _print_findings(findings)
    if report:
        from configs.report.faults import write_fault_report

        write_fault_report(report, dataset, findings)
        print(report)
    if not as_json:
        errors = sum(finding.severity == "error" for finding in findings)
        said = f"{errors} errors, {len(findings) - errors} warnings" if findings else "nothing wrong"
        print(f"{dataset.path}: {len(dataset)} episodes, {dataset.num_frames} frames: {said}")
    return int(bool(findings))


def place_of(finding: "Finding") -> tuple[str, str]:
    """Episode and frame, as tables show them."""
    episode = "all" if finding.episode is None else str(finding.episode)
    return episode, "" if finding.frame is None else str(finding.frame)


def _print_findings(findings: "Sequence[Finding]") -> None:
    from rich.table import Column, Table

    table = Table(
        *("", "check", "episode", "frame", "camera"),
        Column("what", overflow="fold", ratio=3),
        Column("what to do", overflow="fold", ratio=2),
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    for f in findings:
        table.add_row(f.severity, f.check, *place_of(f), f.camera or "", f.what, f.remedy)
    wide_console().print(table)


def _print_summary(found: dict[str, Any]) -> None:
    from rich.table import Table

    console = wide_console()

    def show(*columns: str, rows: list[tuple[str, ...]]) -> None:
        table = Table(*columns, box=None, header_style="bold", pad_edge=False)
        for row in rows:
            table.add_row(*row)
        console.print(table, "")

    said = "{path}: {episodes} episodes, {frames} frames, {instructions} instructions"
    console.print(said.format(**found), "", highlight=False)
    numbers = ("episodes", "successes", "instructions", "shortest", "median", "longest")
    rows = [(task, *(f"{about[name]:g}" for name in numbers)) for task, about in found["tasks"].items()]
    show("task", *numbers[:3], "shortest, frames", "median", "longest", rows=rows)
    columns = ("low", "min", "q01", "mean", "q99", "max", "high", "std")
    for vector in ("state", "action"):
        dimensions = found[vector].items()
        rows = [(name, about["unit"], *(f"{about[column]:.4g}" for column in columns)) for name, about in dimensions]
        show(vector, "unit", "bound", *columns[1:-2], "bound", "std", rows=rows)
    rows = [
        (
            name,
            "×".join(map(str, about["size_px"])),
            *(f"{about['brightness'][part]:.2f}" for part in ("min", "mean", "max")),
            f"{about['contrast']:.3f}",
        )
        for name, about in found["cameras"].items()
    ]
    if rows:
        show("camera", "px", "darkest frame", "mean", "brightest frame", "contrast", rows=rows)
