"""What a quickstart came to: its summary, the sections of its report, and the tables that it prints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from configs.report.charts import Curve, SuccessBar
from configs.report.document import CurvesSection, FactsSection, Section, SuccessSection, VideosSection
from configs.report.results import pooled_bar, remarks_sections, shuffling_note, success_bar, videos_of
from envs.suites import find_task
from policies.collect import CollectSummary
from policies.evaluation import EvaluationResult
from policies.serving.rollout import EpisodeReport

USUAL = "usual worlds"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was recorded, and what the policy and the expert did, task by task.

    ``demonstrations`` are what the recordings came to, by store and task. ``conditions`` is what the policy did under
    each test condition (PRESET:AXIS), in the tasks where it changes anything; ``served`` how it answered on a server.
    """

    demonstrations: Mapping[str, Mapping[str, CollectSummary]]
    given: Sequence[EvaluationResult]
    shuffled: Sequence[EvaluationResult]
    expert: Sequence[EvaluationResult]
    conditions: Mapping[str, Sequence[EvaluationResult]]
    served: EpisodeReport

    @property
    def worlds(self) -> str:
        """What the worlds of demonstrations and of ``given`` are called."""
        return self.given[0].perturbation or USUAL


def summary_of(outcome: Outcome) -> dict[str, Any]:
    """Success with intervals by task and by condition, and what else was found; JSON-ready."""
    tasks = {}
    for given, shuffled, expert in zip(outcome.given, outcome.shuffled, outcome.expert, strict=True):
        tasks[given.task] = {
            **_rate(success_bar(given, outcome.worlds)),
            "expert_success": expert.success.value,
            "shuffled_success": shuffled.success.value,
            "shuffled_same_goal_share": shuffled.same_goal_share,
            "chance": find_task(given.task).chance,
        }
    return {
        "mean_success": sum(task["success"] for task in tasks.values()) / len(tasks),
        "tasks": tasks,
        "all_tasks": {"worlds": outcome.worlds, **_rate(pooled_bar(outcome.given, outcome.worlds))},
        "conditions": {
            condition: {
                **_rate(pooled_bar(results, condition)),
                "tasks": {result.task: _rate(success_bar(result, condition)) for result in results},
            }
            for condition, results in outcome.conditions.items()
        },
        "demonstrations": {
            store: {task: {"recorded": found.recorded, "failed": found.failed} for task, found in by_task.items()}
            for store, by_task in outcome.demonstrations.items()
        },
        "server": {"success": outcome.served.success, "round_trip_ms": outcome.served.round_trip_ms},
    }


def sections_of(outcome: Outcome, curves: Mapping[str, Sequence[Curve]]) -> list[Section]:
    """Success task by task beside the expert's and under the test conditions, learning ``curves``, films, and what the
    demonstrations came to.
    """
    labels = ("instruction given", "instruction shuffled", "scripted expert")
    bars = [
        success_bar(result, label)
        for row in zip(outcome.given, outcome.shuffled, outcome.expert, strict=True)
        for result, label in zip(row, labels, strict=True)
    ]
    facts = {
        f"{store}: {task}": f"{found.recorded} recorded, {found.failed} failed"
        for store, by_task in outcome.demonstrations.items()
        for task, found in by_task.items()
    }
    return [
        SuccessSection(
            bars=tuple(bars),
            note=f"{_episodes(outcome.given)}, in phrasings that no demonstration has. "
            f"{shuffling_note(outcome.shuffled)}",
        ),
        *remarks_sections(outcome.given),
        *([_conditions_section(outcome)] if outcome.conditions else []),
        CurvesSection(charts=curves),
        VideosSection(videos=tuple(video for result in outcome.given for video in videos_of(result))),
        FactsSection(title="Demonstrations", facts=facts),
    ]


def print_tables(summary: Mapping[str, Any]) -> None:
    """Success task by task, then over all tasks by condition, from what :func:`summary_of` made."""
    columns = ("task", "success", "95 % interval", "shuffled", "equal goals", "chance", "expert", "episodes")
    by_task = Table(*columns, box=None, header_style="bold")
    for name, task in summary["tasks"].items():
        measured = ("shuffled_success", "shuffled_same_goal_share", "chance", "expert_success")
        rates = ["–" if task[key] is None else f"{task[key]:.1%}" for key in measured]
        by_task.add_row(name, *_success_cells(task), *rates, str(task["episodes"]))
    usual = summary["all_tasks"]
    by_condition = Table("all tasks in", "success", "95 % interval", "episodes", box=None, header_style="bold")
    for name, found in {usual["worlds"]: usual, **summary["conditions"]}.items():
        by_condition.add_row(name, *_success_cells(found), str(found["episodes"]))
    Console().print("", by_task, "", by_condition)


def _conditions_section(outcome: Outcome) -> SuccessSection:
    """Success over the tasks under each condition, after that in the worlds of the demonstrations."""
    bars = [pooled_bar(results, condition) for condition, results in outcome.conditions.items()]
    tested = next(iter(outcome.conditions.values()))
    return SuccessSection(
        title="Under test conditions",
        bars=(pooled_bar(outcome.given, outcome.worlds), *bars),
        note=f"The instruction given; under each condition {_episodes(tested)}, in the tasks in which it changes "
        f"anything, beside {_episodes(outcome.given)} in {outcome.worlds}.",
    )


def _episodes(results: Sequence[EvaluationResult]) -> str:
    seeds = [episode.seed for episode in results[0].episodes]
    return f"{len(seeds)} episodes per task (seeds {seeds[0]} … {seeds[-1]} of the stream {results[0].stream})"


def _rate(bar: SuccessBar) -> dict[str, float]:
    return {"success": bar.value, "lo": bar.lo, "hi": bar.hi, "episodes": bar.episodes}


def _success_cells(rate: Mapping[str, float]) -> tuple[str, str]:
    return f"{rate['success']:.1%}", f"{rate['lo']:.1%} … {rate['hi']:.1%}"
