"""What a sequence of tasks came to, in a report: success on every task after every task, and its measures."""

from collections.abc import Mapping, Sequence
from typing import Any

from configs.report.charts import Curve
from configs.report.document import CurvesSection, FactsSection, Section, TableSection
from policies.imitation.lifelong.config import LifelongConfig
from policies.imitation.lifelong.measures import (
    Trial,
    average_success,
    complete,
    forgetting,
    forward_transfer,
    rate,
    retention_percent,
)

START = "at the start"


def measures_of(tasks: Sequence[str], trials: Sequence[Trial]) -> dict[str, Any]:
    """All measures by name, JSON-ready: shares, and retention in percent; bounds are of 95 % intervals."""
    average, lost = average_success(tasks, trials), forgetting(tasks, trials)
    return {
        "average_success": average.value,
        "average_success_lo": average.lo,
        "average_success_hi": average.hi,
        "forgetting": lost.value,
        "forgetting_lo": lost.lo,
        "forgetting_hi": lost.hi,
        "retention_percent": retention_percent(tasks, trials),
        "forward_transfer": forward_transfer(tasks, trials),
    }


def described(found: Mapping[str, Any]) -> str:
    """``average success 80.0 % (71.1 … 86.7), forgetting …, retention …``"""
    transfer = found["forward_transfer"]
    return (
        f"average success {_range(found, 'average_success')}, forgetting {_range(found, 'forgetting')}, "
        f"retention {found['retention_percent']:.1f} %"
        + ("" if transfer is None else f", forward transfer {100 * transfer:+.1f} points")
    )


def sequence_sections(config: LifelongConfig, trials: Sequence[Trial]) -> list[Section]:
    """Measures, matrix, and the learning and forgetting curves; none where it was not tried out after every task."""
    tasks = config.tasks
    if not complete(tasks, trials):
        return []
    found = measures_of(tasks, trials)
    transfer = found["forward_transfer"]
    facts = {
        "method": config.method,
        "replay": f"{config.replay:.0%} of every batch",
        "average success at the end": _range(found, "average_success"),
        "forgetting (best before − at the end)": _range(found, "forgetting"),
        "retention (at the end / best before)": f"{found['retention_percent']:.1f} %",
        "forward transfer": "not tried" if transfer is None else f"{100 * transfer:+.1f} points",
    }
    rows = [
        (START if number == 0 else f"after {tasks[number - 1]}", *(_cell(trial, task) for task in tasks))
        for number, trial in enumerate(trials)
    ]
    return [
        FactsSection(title="Tasks one after the other", facts=facts),
        TableSection(title="Success on every task after every task", header=("", *tasks), rows=tuple(rows)),
        CurvesSection(
            title="Learning and forgetting",
            note="Success by how many tasks were learned; a task's own turn ends at its number in the sequence.",
            charts={"success on each task": curves(tasks, trials), "mean success": [_mean_curve(tasks, trials)]},
        ),
    ]


def curves(tasks: Sequence[str], trials: Sequence[Trial]) -> list[Curve]:
    """Success on each task over the number of tasks learned."""
    found = []
    for index, task in enumerate(tasks, start=1):
        there = [(number, rate(trial[task])) for number, trial in enumerate(trials) if task in trial]
        numbers, rates = zip(*there, strict=True)
        found.append(Curve(name=f"{index} {task}", steps=numbers, values=rates))
    return found


def _mean_curve(tasks: Sequence[str], trials: Sequence[Trial]) -> Curve:
    """Over the tasks learned so far."""
    numbers = range(1, len(trials))
    means = [sum(rate(trials[n][task]) for task in tasks[:n]) / n for n in numbers]
    return Curve(name="of the tasks learned so far", steps=tuple(numbers), values=tuple(means))


def _cell(trial: Trial, task: str) -> str:
    return f"{rate(trial[task]):.0%}" if task in trial else ""


def _range(found: Mapping[str, Any], name: str) -> str:
    value, lo, hi = (100 * found[f"{name}{end}"] for end in ("", "_lo", "_hi"))
    return f"{value:.1f} % ({lo:.1f} … {hi:.1f})"
