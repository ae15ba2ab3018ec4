"""What ``vla eval`` prints: success by task, and under each axis of a preset of perturbations."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from policies.conditions import Instructions
from policies.intervals import Interval, paired_difference, wilson

if TYPE_CHECKING:
    from rich.console import Console

    from policies.evaluation import EvaluationResult

UNPERTURBED = "none"


def print_table(results: "Sequence[EvaluationResult]") -> None:
    """Success with its interval, one row per result; several tasks have their total in the last row."""
    from rich.table import Table

    columns = ["task", "instructions", "success", "95 % interval", "episodes"]
    shuffled = any(result.instructions == "shuffled" for result in results)
    staged = any(result.episodes[0].stages > 1 for result in results)
    table = Table(
        *columns,
        *(["equal goals"] if shuffled else []),
        *(["stages done"] if staged else []),
        box=None,
        header_style="bold",
    )
    for result in results:
        cells = [result.task, result.instructions, *_rate_cells(result.success, len(result.episodes))]
        if shuffled:
            cells.append(f"{result.same_goal_share:.1%}")
        if staged:
            cells.append(f"{result.mean_stages_done:.2f} of {result.episodes[0].stages}")
        table.add_row(*cells)
    kinds: list[Instructions] = list(dict.fromkeys(result.instructions for result in results))
    for kind in kinds:
        outcomes = _outcomes(results, kind)
        if len(results) > 1:
            table.add_row("all", kind, *_rate_cells(wilson(sum(outcomes), len(outcomes)), len(outcomes)))
    wide_console().print(table)


def print_axes(results: "Mapping[str, Sequence[EvaluationResult]]", kind: Instructions) -> None:
    """Success under each axis over the tasks in which it acts, with instructions of one kind, and the difference to the
    usual worlds, paired by task and seed.
    """
    from rich.table import Table

    columns = (f"axis ({kind})", "success", "95 % interval", "episodes", "change", "95 % interval", "p")
    table = Table(*columns, box=None)
    for axis, found in results.items():
        outcomes = _outcomes(found, kind)
        if not outcomes:
            table.add_row(axis.rpartition(":")[2], "changes nothing in these tasks")
            continue
        cells = [axis.rpartition(":")[2], *_rate_cells(wilson(sum(outcomes), len(outcomes)), len(outcomes))]
        if axis != UNPERTURBED:
            tasks = {result.task for result in found}
            usual = _outcomes([result for result in results[UNPERTURBED] if result.task in tasks], kind)
            change = paired_difference(outcomes, usual)
            cells += [f"{change.value:+.1%}", f"{change.lo:+.1%} … {change.hi:+.1%}", f"{change.p_value:.2g}"]
        table.add_row(*cells)
    wide_console().print(table)


def wide_console() -> "Console":
    """A console that does not break the lines of tables, also where the output goes to a file."""
    from rich.console import Console

    return Console(width=max(Console().width, 110))


def _outcomes(results: "Sequence[EvaluationResult]", kind: Instructions) -> list[bool]:
    """Success of every episode with instructions of one kind, in the order of tasks and seeds."""
    return [outcome for result in results if result.instructions == kind for outcome in result.outcomes]


def _rate_cells(rate: Interval, episodes: int) -> tuple[str, str, str]:
    return f"{rate.value:.1%}", f"{rate.lo:.1%} … {rate.hi:.1%}", str(episodes)
