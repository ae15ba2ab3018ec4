"""One page that ranks several evaluations: tasks and runs with intervals, what is a tie, and links to their videos."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from configs.machine import check_output_file
from configs.run_directory import OUTPUTS
from policies.conditions import Condition

if TYPE_CHECKING:
    from configs.eval_record import EvaluatedRun
    from configs.report.document import Link, Section, TableSection
    from policies.episode_log import EpisodeRecord
    from policies.intervals import Interval


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which evaluations, and where the page goes."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Runs of vla eval."""
    output: Path = OUTPUTS / "leaderboard.html"
    """The page; its links lead to the runs' videos from there."""


def run(config: Config) -> int:
    """Write the page, with one part per condition that was evaluated, the usual one first."""
    from configs.eval_record import EvaluatedRun, run_names
    from configs.report.document import FactsSection, write_report

    if not config.runs:
        raise ValueError("name at least one run of vla eval")
    check_output_file(config.output)
    runs = [EvaluatedRun.read(path) for path in dict.fromkeys(config.runs)]
    entries = [Entry(name=name, run=each) for name, each in zip(run_names(runs), runs, strict=True)]
    kinds = dict.fromkeys(replace(record.condition, task="") for each in runs for record in each.records)
    parts = [part for kind in sorted(kinds, key=_usual_first) for part in _parts(entries, kind, config.output.parent)]
    about = [FactsSection(title=each.name, facts=each.run.provenance) for each in entries]
    lead = "Runs in the order of their success, with 95 % intervals (Wilson); behind a tie the order says nothing."
    write_report(config.output, "Leaderboard", [*parts, *about], lead=lead)
    print(f"leaderboard: {config.output}")
    return 0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A run under the name that it has on the page."""

    name: str
    run: "EvaluatedRun"

    def of(self, kind: Condition, task: str | None = None) -> "list[EpisodeRecord]":
        """Its episodes under a condition, of a task or of all."""
        return [
            record
            for record in self.run.records
            if replace(record.condition, task="") == kind and task in (None, record.condition.task)
        ]


def rate_of(records: "Sequence[EpisodeRecord]") -> "Interval":
    """Success over all of them."""
    from policies.intervals import wilson

    return wilson(sum(record.episode.result.success for record in records), len(records))


def against(best: Entry, other: Entry, kind: Condition) -> str:
    """How ``other`` does beside the best, in words: the difference, or why there is none."""
    from configs.eval_record import check_same_worlds
    from policies.comparison import UnpairedError, compare

    try:
        check_same_worlds(other.run, best.run)
        found = compare(other.of(kind), best.of(kind))[-1]
    except UnpairedError:
        return "not the same episodes"
    gap = found.difference
    told = f"{100 * gap.value:+.1f} ({100 * gap.lo:+.1f} … {100 * gap.hi:+.1f}), p = {gap.p_value:.2g}"
    return told if gap.decided else f"{told}: a tie"


def _parts(entries: Sequence[Entry], kind: Condition, folder: Path) -> "list[Section]":
    from configs.report.charts import SuccessBar
    from configs.report.document import SuccessSection
    from policies.comparison import label

    there = sorted((each for each in entries if each.of(kind)), key=lambda each: -rate_of(each.of(kind)).value)
    words = label(kind).removeprefix(", ") or "the usual worlds"
    tasks = sorted({record.condition.task for each in there for record in each.of(kind)})
    bars = []
    for task in tasks:
        for each in (each for each in there if each.of(kind, task)):
            rate, count = rate_of(each.of(kind, task)), len(each.of(kind, task))
            bars.append(
                SuccessBar(task=task, condition=each.name, value=rate.value, lo=rate.lo, hi=rate.hi, episodes=count)
            )
    ranking = _ranking(there, tasks, kind, title=f"Ranking: {words}")
    films = _films(there, kind, folder, title=f"Videos: {words}")
    return [ranking, SuccessSection(title=f"Success by task: {words}", bars=tuple(bars)), *films]


def _ranking(there: Sequence[Entry], tasks: Sequence[str], kind: Condition, title: str) -> "TableSection":
    """A row per run, the most successful first, with its success in every task."""
    from configs.report.document import TableSection

    rows = []
    for each in there:
        behind = "" if each is there[0] else against(there[0], each, kind)
        cells = [_cell(each.of(kind, task)) for task in tasks]
        rows.append((each.name, str(each.run.provenance["policy"]), _cell(each.of(kind)), behind, *cells))
    return TableSection(
        title=title,
        note="Behind the first: the difference in points over paired episodes with its 95 % interval, and McNemar's p.",
        header=("run", "policy", "all tasks", "behind the first", *tasks),
        rows=tuple(rows),
        numeric_from=2,
    )


def _films(there: Sequence[Entry], kind: Condition, folder: Path, title: str) -> "list[TableSection]":
    """A row per task with links to what was filmed; no section where nothing was."""
    from configs.report.document import TableSection

    films: dict[str, dict[str, list[Link]]] = {}
    for each in there:
        for record in sorted(each.of(kind), key=lambda record: record.episode.result.seed):
            if record.video is not None:
                of_task = films.setdefault(record.condition.task, {})
                of_task.setdefault(each.name, []).append(_link(each, record, folder))
    if not films:
        return []
    rows = tuple((task, *(tuple(films[task].get(each.name, ())) for each in there)) for task in sorted(films))
    names = tuple(each.name for each in there)
    return [TableSection(title=title, note="By seed.", header=("task", *names), rows=rows, numeric_from=len(names) + 1)]


def _link(entry: Entry, record: "EpisodeRecord", folder: Path) -> "Link":
    from configs.report.document import Link

    result = record.episode.result
    path = os.path.relpath(entry.run.path.resolve() / str(record.video), folder.resolve())
    return Link(f"{result.seed} {'✓' if result.success else '✗'}", Path(path).as_posix())


def _cell(records: "Sequence[EpisodeRecord]") -> str:
    if not records:
        return ""
    rate = rate_of(records)
    return f"{rate.value:.1%} [{rate.lo:.1%}, {rate.hi:.1%}] of {len(records)}"


def _usual_first(kind: Condition) -> tuple[str, bool, bool, tuple[str, ...]]:
    return kind.perturbation or "", kind.instructions == "none", kind.instructions == "shuffled", kind.without
