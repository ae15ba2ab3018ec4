"""The reward lab: what a score says of fresh episodes, of the expert and of failures that were made on purpose.

A score is worth learning from where it ranks successes above failures (AUC), grows along a success (order), and, with a
threshold chosen on other episodes, seldom calls a failure done (false positives). It must also be quick.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from policies.intervals import Interval, mean_interval
from rl.rewards.classifier import Calibration, calibrate, false_positives, precision_of, recall_of, vote_scores
from rl.rewards.config import LabConfig
from rl.rewards.measures import auc, auc_interval, spearman
from rl.rewards.reward import Scorer
from rl.rewards.traces import Trace, apart, batches
from vla.durable import write_text_atomically
from vla.strict_json import finite, strict_json

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class TaskReport:
    """What a score came to on one task, or on all together.

    ``auc`` compares the last frames of successes and failures, ``auc_of`` those of each kind of failure alone.
    ``order`` is the mean over successes of the rank correlation of score and time. ``false_positives`` is the share of
    failures that were called done at any time; ``precision`` and ``recall`` are of the same verdicts.
    """

    task: str
    successes: int
    failures: int
    auc: Interval
    auc_of: dict[str, float]
    order: Interval
    false_positives: Interval
    precision: Interval
    recall: Interval


@dataclass(frozen=True, kw_only=True)
class ScorerReport:
    """All that was found out about one score. ``ms_per_frame`` is the mean over all frames, in batches."""

    name: str
    calibration: Calibration
    ms_per_frame: float
    tasks: tuple[TaskReport, ...]

    def of(self, task: str) -> TaskReport:
        """``KeyError`` for a task that was not tried."""
        return {report.task: report for report in self.tasks}[task]


def examine(scorer: Scorer, calibration: Sequence[Trace], trial: Sequence[Trace], config: LabConfig) -> ScorerReport:
    """Choose a threshold on the ``calibration`` episodes and try it, and the score itself, on those of ``trial``.

    ``ValueError`` where there are no episodes.
    """
    if not calibration or not trial:
        raise ValueError(f"expected episodes to calibrate on and to try, got {len(calibration)} and {len(trial)}")
    chosen = calibrate_on(scorer, calibration, config)
    scores, seconds = score(scorer, trial)
    tasks = sorted({trace.task for trace in trial})
    groups = [(task, [i for i, trace in enumerate(trial) if trace.task == task]) for task in tasks]
    groups += [(ALL, list(range(len(trial))))] if len(tasks) > 1 else []
    return ScorerReport(
        name=scorer.name,
        calibration=chosen,
        ms_per_frame=1e3 * seconds / sum(map(len, trial)),
        tasks=tuple(
            report(task, [trial[i] for i in rows], [scores[i] for i in rows], chosen.threshold, config)
            for task, rows in groups
        ),
    )


def calibrate_on(scorer: Scorer, traces: Sequence[Trace], config: LabConfig) -> Calibration:
    """The threshold that is precise enough on these episodes, each judged by the best of its votes."""
    scores, _ = score(scorer, traces)
    verdicts = [_verdict(each, config.votes) for each in scores]
    return calibrate(verdicts, [trace.success for trace in traces], config.precision)


def score(scorer: Scorer, traces: Sequence[Trace]) -> tuple[list[Float[Tensor, " t"]], float]:
    """The score of every frame, by trace, on the host, and how many seconds that took."""
    began = time.perf_counter()
    rows = torch.cat([scorer(*batch).float().cpu() for batch in batches(traces)])
    return apart(rows, traces), time.perf_counter() - began


def report(
    task: str, traces: Sequence[Trace], scores: Sequence[Float[Tensor, " t"]], threshold: float, config: LabConfig
) -> TaskReport:
    """What the scores of some episodes come to."""
    last = [float(each[-1]) for each in scores]
    success = [trace.success for trace in traces]
    won = [value for value, done in zip(last, success, strict=True) if done]
    lost = [value for value, done in zip(last, success, strict=True) if not done]
    kinds = sorted({trace.kind for trace in traces if not trace.success})
    orders = [
        spearman(each.tolist(), trace.steps.tolist())
        for each, trace in zip(scores, traces, strict=True)
        if trace.success and trace.kind != "other goal"
    ]
    # Where the score does not change at all along an episode, time and score are unrelated.
    orders = [0.0 if math.isnan(order) else order for order in orders]
    verdicts = [_verdict(each, config.votes) for each in scores]
    nothing = Interval(value=math.nan, lo=-1.0, hi=1.0)
    return TaskReport(
        task=task,
        successes=len(won),
        failures=len(lost),
        auc=auc_interval(won, lost, config.resample_seed),
        auc_of={
            kind: auc(won, [last[i] for i, trace in enumerate(traces) if trace.kind == kind and not trace.success])
            for kind in kinds
        },
        order=_within_reach(mean_interval(orders)) if orders else nothing,
        false_positives=false_positives(verdicts, success, threshold),
        precision=precision_of(verdicts, success, threshold),
        recall=recall_of(verdicts, success, threshold),
    )


def _within_reach(correlation: Interval) -> Interval:
    """Without the part beyond −1 … 1 that an interval about the mean of a few correlations has."""
    return replace(correlation, lo=max(correlation.lo, -1.0), hi=min(correlation.hi, 1.0))


def save_reports(reports: Sequence[ScorerReport], about: dict[str, Any], path: Path) -> None:
    """Write all numbers, and what they are ``about``, as JSON, whole or not at all; NaN and infinity are null."""
    content = {**about, "scores": [asdict(each) for each in reports]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, strict_json(finite(content), indent=2) + "\n")


def rows_of(reports: Sequence[ScorerReport]) -> list[tuple[str, ...]]:
    """The table that ``COLUMNS`` heads: a row for each score and task."""
    return [
        (
            each.name,
            task.task,
            f"{task.successes}/{task.failures}",
            told(task.auc),
            told(task.order),
            told(task.false_positives),
            told(task.recall),
            f"{each.ms_per_frame:.2f}",
        )
        for each in reports
        for task in each.tasks
    ]


COLUMNS = ("score", "task", "successes/failures", "AUC", "order", "false positives", "recall", "ms per frame")


def told(interval: Interval) -> str:
    """An estimate with its 95 % interval."""
    value = "–" if math.isnan(interval.value) else f"{interval.value:.2f}"
    return f"{value} ({interval.lo:.2f} … {interval.hi:.2f})"


def _verdict(scores: Float[Tensor, " t"], votes: int) -> float:
    """The highest threshold at which an episode is ever called done."""
    return float(vote_scores(scores, votes).max())
