"""What the ledger says of tasks that were learned one after the other: what was learned, and what is left of it."""

from collections.abc import Sequence

from claim_rows import USUAL, Row, after
from ledger import Cell, pooled

from policies.imitation.lifelong.measures import forgetting, learned, rate, retention_percent


def sequence_lines(row: Row, found: Sequence[Cell]) -> list[dict[str, object]]:
    """A line per method and budget, over all training seeds: success on each task in the best evaluation before the
    last task was learned and at the end, by the same episodes; forgetting in points with its 95 % interval over paired
    episodes, and retention. None of a row that has no sequence.
    """
    tasks, lines = row.recording.tasks, []
    if after(1) not in row.conditions:
        return lines
    for method, each in row.methods.items():
        group = [cell for cell in found if cell.key.method == method and each.policy.lifelong]
        for budget in dict.fromkeys(cell.key.budget for cell in group):
            trials = _trials(row, [cell for cell in group if cell.key.budget == budget])
            lost = forgetting(tasks, trials)
            shown = {one.task: f"{rate(one.best):.0%} → {rate(one.last):.0%}" for one in learned(tasks, trials)}
            lines.append(
                {
                    "method": method,
                    "demonstrations": budget[0],
                    "steps": budget[1],
                    **shown,
                    tasks[-1]: f"{rate(trials[-1][tasks[-1]]):.0%}",
                    "forgetting": f"{100 * lost.value:+.1f} ({100 * lost.lo:+.1f} … {100 * lost.hi:+.1f})",
                    "retention": f"{retention_percent(tasks, trials):.1f} %",
                    "all at the end": f"{100 * pooled(group, USUAL)[0].value:.1f} %",
                }
            )
    return lines


def _trials(row: Row, cells: Sequence[Cell]) -> list[dict[str, list[bool]]]:
    """Outcomes before the first task (none) and after each, of all cells one after the other; at the end those of the
    episodes that there were before, too, but for the last task.
    """
    tasks = row.recording.tasks
    trials: list[dict[str, list[bool]]] = [{} for _ in range(len(tasks) + 1)]
    for cell in cells:
        tried = {outcome.condition: {} for outcome in cell.outcomes}
        for outcome in cell.outcomes:
            tried[outcome.condition][outcome.task] = [character == "1" for character in outcome.won]
        for number in range(1, len(tasks) + 1):
            condition = USUAL if number == len(tasks) else after(number)
            for task in tasks[:number]:
                shown = len(tried[after(number - 1)][task]) if task != tasks[number - 1] else None
                won = tried[condition][task]
                trials[number].setdefault(task, []).extend(won if condition != USUAL else won[:shown])
    return trials
