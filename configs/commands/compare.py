"""Compare two evaluations by the episodes that both have: is one policy better, or is it a tie within the noise?

Both are runs of vla eval over the same tasks, seeds and conditions. The difference is A's success minus B's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from configs.machine import check_output_file

if TYPE_CHECKING:
    from configs.eval_record import EvaluatedRun
    from policies.comparison import Comparison
    from policies.intervals import Interval

Across = Literal[
    "perturbation",
    "instructions",
    "without",
    "simulator",
    "split",
    "engine",
    "robot",
    "profile",
    "suite_profile",
    "suite_steps",
    "palette",
]
PLANNED = 0.1
"""After a tie it is told how many episodes a difference so large takes."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which two evaluations, and how to print what comes of it."""

    run_a: Annotated[Path, tyro.conf.Positional]
    """A run of vla eval."""
    run_b: Annotated[Path, tyro.conf.Positional]
    """The run that it is compared with."""
    across: tuple[Across, ...] = ()
    """In what the two are meant to differ beside the policy, such as without, for an ablation; all else must be the
    same."""
    common: bool = False
    """Compare the episodes that both have, and in which both were asked and told the same, and leave the others out,
    rather than refuse."""
    format: Literal["table", "markdown", "json"] = "table"
    """How to print the comparison."""
    report: Path | None = None
    """Also write a page with charts to this file."""


def run(config: Config) -> int:
    """Print one row per task and one over all; the exit status is 0 whoever is better."""
    from configs.eval_record import EvaluatedRun, check_same_worlds
    from policies import comparison

    if config.report is not None:
        check_output_file(config.report)
    runs = EvaluatedRun.read(config.run_a), EvaluatedRun.read(config.run_b)
    check_same_worlds(*runs, across=config.across)
    parts: list[comparison.Across] = [part for part in comparison.PARTS if part in config.across]
    found = comparison.compare(runs[0].records, runs[1].records, across=parts, common=config.common)
    _print(config, runs, found)
    if config.report is not None:
        _report(config.report, runs, found)
    return 0


def lines_of(found: "Sequence[Comparison]") -> list[dict[str, object]]:
    """One line per comparison, in words."""
    from policies.comparison import label

    return [
        {
            "task": label(each.condition),
            "episodes": each.episodes,
            "A": f"{each.a.value:.1%}",
            "B": f"{each.b.value:.1%}",
            "difference": f"{100 * each.difference.value:+.1f}",
            "95 % interval": f"{100 * each.difference.lo:+.1f} … {100 * each.difference.hi:+.1f}",
            "only A, only B": f"{each.difference.only_a}, {each.difference.only_b}",
            "McNemar p": f"{each.difference.p_value:.2g}",
            "verdict": each.verdict,
        }
        for each in found
    ]


def needed(comparison: "Comparison") -> str:
    """How many episodes would have told a difference of ten points, going by how alike the two are."""
    from policies.intervals import paired_episodes

    gap = comparison.difference
    discordant = (gap.only_a + gap.only_b) / comparison.episodes
    count = paired_episodes(PLANNED, max(discordant, PLANNED))
    return (
        f"the two differ in {discordant:.0%} of {comparison.episodes} episodes; where they differ so often, a "
        f"difference of {100 * PLANNED:.0f} points is found in nine of ten evaluations with {count} episodes."
    )


def left_out(comparison: "Comparison") -> str:
    """How many pairs do not count, and why."""
    pairs = comparison.left_out + comparison.episodes
    return f"{comparison.left_out} of {pairs} pairs left out, in which the two were not asked or not told the same."


def _print(config: Config, runs: "Sequence[EvaluatedRun]", found: "Sequence[Comparison]") -> None:
    from configs.report.markdown import markdown
    from policies.comparison import TIE, label
    from vla.strict_json import strict_json

    if config.format == "json":
        print(strict_json(_to_dict(runs, found), indent=2, ensure_ascii=False))
        return
    print("\n".join(_named(runs)), end="\n\n")
    if config.format == "markdown":
        print(markdown(lines_of(found)))
    else:
        _print_table(lines_of(found))
    for each in (each for each in found if each.left_out):
        print(f"\n{label(each.condition)}: {left_out(each)}")
    if (whole := found[-1]).verdict == TIE:
        print(f"\n{label(whole.condition)}: {needed(whole)}")
    if len(found) > 2:
        print("\nIntervals are each row's own: of twenty rows without any difference, one is expected to show one.")


def _print_table(lines: Sequence[dict[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*lines[0], box=None, header_style="bold")
    for line in lines:
        table.add_row(*map(str, line.values()))
    Console(width=max(Console().width, 140)).print(table)


def _named(runs: "Sequence[EvaluatedRun]") -> list[str]:
    return [f"{name}: {run.provenance['policy']} ({run.path})" for name, run in zip("AB", runs, strict=True)]


def _to_dict(runs: "Sequence[EvaluatedRun]", found: "Sequence[Comparison]") -> dict[str, Any]:
    a, b = ({"run": str(run.path), "provenance": dict(run.provenance)} for run in runs)
    return {"a": a, "b": b, "comparisons": [each.to_dict() for each in found]}


def _report(path: Path, runs: "Sequence[EvaluatedRun]", found: "Sequence[Comparison]") -> None:
    from configs.report.charts import SuccessBar
    from configs.report.document import FactsSection, SuccessSection, TableSection, write_report
    from policies.comparison import label

    def bar(each: "Comparison", name: str, rate: "Interval") -> SuccessBar:
        task = label(each.condition)
        return SuccessBar(task=task, condition=name, value=rate.value, lo=rate.lo, hi=rate.hi, episodes=each.episodes)

    lines = lines_of(found)
    bars = [bar(each, *side) for each in found for side in (("A", each.a), ("B", each.b))]
    note = "A's success minus B's in points, over paired episodes; the p value is that of McNemar's exact test."
    note = " ".join([note, *(f"{label(each.condition)}: {left_out(each)}" for each in found if each.left_out)])
    write_report(
        path,
        "Comparison of two evaluations",
        [
            TableSection(
                title="Difference",
                note=note,
                header=tuple(lines[0]),
                rows=tuple(tuple(map(str, line.values())) for line in lines),
            ),
            SuccessSection(bars=tuple(bars)),
            *(FactsSection(title=name, facts=run.provenance) for name, run in zip("AB", runs, strict=True)),
        ],
        lead="; ".join(_named(runs)),
    )
