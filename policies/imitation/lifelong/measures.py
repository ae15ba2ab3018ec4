"""What a sequence of tasks came to: success on every task after every task, and what is said of it in one number.

A *trial* is the outcomes of one evaluation by task, episodes in the same order each time; the first is before anything
was learned, number k after the k-th task. An evaluation may lack tasks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policies.intervals import Interval, PairedDifference, paired_difference, wilson

Trial = Mapping[str, Sequence[bool]]


def rate(won: Sequence[bool]) -> float:
    """The share of successes; ``ValueError`` for none."""
    if not won:
        raise ValueError("the success of no episodes is undefined")
    return sum(won) / len(won)


def complete(tasks: Sequence[str], trials: Sequence[Trial]) -> bool:
    """Whether there is a trial before the first of the tasks and after each: none is where nobody asked for any, and
    some are missing where that was asked for in the middle of a run.
    """
    return bool(tasks) and len(trials) == len(tasks) + 1


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A task that was learned before others: its outcomes in the ``best`` evaluation from its own end on up to that
    before the last, the earliest of equals, and in the ``last``, of the episodes that both have.
    """

    task: str
    best: Sequence[bool]
    last: Sequence[bool]


def learned(tasks: Sequence[str], trials: Sequence[Trial]) -> list[Learned]:
    """All tasks but the last one of the sequence; ``trials`` has one before the first and one after each task."""
    _check(tasks, trials)
    found = []
    for index, task in enumerate(tasks[:-1]):
        before = [trial[task] for trial in trials[index + 1 : -1] if task in trial]
        best, last = max(before, key=rate), trials[-1][task]
        both = min(len(best), len(last))
        found.append(Learned(task=task, best=best[:both], last=last[:both]))
    return found


def average_success(tasks: Sequence[str], trials: Sequence[Trial]) -> Interval:
    """Over all episodes of all tasks in the last evaluation, with Wilson's interval."""
    _check(tasks, trials)
    won = [success for task in tasks for success in trials[-1][task]]
    return wilson(sum(won), len(won))


def forgetting(tasks: Sequence[str], trials: Sequence[Trial]) -> PairedDifference:
    """Best success before the last task minus that at the end, over the tasks but the last, by paired episodes.

    With as many episodes for each task it is the mean over tasks that the literature has (Chaudhry et al. 2018, arXiv
    1801.10112, with best evaluations from a task's own end on).
    """
    pairs = [pair for each in learned(tasks, trials) for pair in zip(each.best, each.last, strict=True)]
    best, last = zip(*pairs, strict=True)
    return paired_difference(best, last)


def retention_percent(tasks: Sequence[str], trials: Sequence[Trial]) -> float:
    """Success at the end, in percent of the best before: over the tasks but the last together, so that one which was
    hardly ever learned does not count as much as the others. More than 100 where later tasks helped.

    NaN where nothing was ever learned.
    """
    found = learned(tasks, trials)
    best = sum(rate(each.best) for each in found)
    return 100 * sum(rate(each.last) for each in found) / best if best else float("nan")


def forward_transfer(tasks: Sequence[str], trials: Sequence[Trial]) -> float | None:
    """How much better tasks are just before they are learned than before the first one was, mean over the tasks from
    the second on (Lopez-Paz & Ranzato 2017, arXiv 1706.08840, against the start instead of chance); None where no
    evaluation says it.
    """
    _check(tasks, trials)
    gains = [
        rate(trials[index][task]) - rate(trials[0][task])
        for index, task in enumerate(tasks)
        if index and task in trials[0] and task in trials[index]
    ]
    return sum(gains) / len(gains) if gains else None


def _check(tasks: Sequence[str], trials: Sequence[Trial]) -> None:
    if not complete(tasks, trials):
        raise ValueError(f"expected an evaluation before {len(tasks)} tasks and one after each, got {len(trials)}")
    for number, trial in enumerate(trials[1:], start=1):
        needed = tasks[:number] if number == len(tasks) else tasks[number - 1 : number]
        if missing := [task for task in needed if task not in trial]:
            raise ValueError(f"the evaluation after task {number} lacks {', '.join(missing)}")
