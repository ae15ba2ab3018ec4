"""Measure the claims of the documentation, cell by cell, and print their tables from the ledger.

    vla bench claims [ROW …] [--seeds 0 1 2] [--jobs 2] [--print] [--again] [--work FOLDER]

A row trains each of its methods on the same demonstrations with every training seed, and evaluates them on the same
episodes under the same conditions; without a name all rows are meant. Only cells that the ledger lacks are measured,
so a grid can be stopped and continued, a training within a cell too; ``--again`` also repeats cells of code that has
changed since, and ``--print`` measures nothing.
"""

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from claim_rows import ROWS, Row
from ledger import Cell, Key, cells, missing, pooled
from measuring import Work, measure
from report import home_path, print_table

from configs.run_directory import OUTPUTS
from configs.terminal import ending_with_the_reader
from policies.intervals import paired_difference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], help=f"out of {', '.join(ROWS)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of training")
    parser.add_argument(
        "--jobs", type=int, default=2, help="cells measured at once; it changes the speed and no result"
    )
    parser.add_argument("--print", action="store_true", help="print the tables of what is measured")
    parser.add_argument("--again", action="store_true", help="repeat cells that code has changed since")
    parser.add_argument(
        "--work", type=home_path, default=OUTPUTS / "claims", help="demonstrations and trainings under way"
    )
    arguments = parser.parse_args()
    rows = [ROWS[name] for name in arguments.rows or ROWS]
    if not arguments.print:
        keys = missing([key for row in rows for key in row.grid(arguments.seeds)], again=arguments.again)
        measure_all(keys, arguments.work, arguments.jobs)
    for row in rows:
        print_row(row, cells(row.name))


def measure_all(keys: list[Key], work: Path, jobs: int) -> None:
    """Measure cells, several at once; what is done is in the ledger whatever becomes of the others."""
    folder = Work(work)
    for recording, count in dict.fromkeys((ROWS[key.claim].recording, key.demonstrations) for key in keys):
        folder.demonstrations(recording, count)
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for cell in pool.map(measure, (ROWS[key.claim] for key in keys), keys, [work] * len(keys)):
            print(f"{cell.key.path}: {sum(cell.won('usual'))}/{len(cell.won('usual'))} in the usual worlds", flush=True)


def print_row(row: Row, found: list[Cell]) -> None:
    """Success by method and condition, every task and training seed; then the methods against the first of them."""
    print(f"\n{row.name}: {row.claim}")
    if not found:
        print("nothing measured yet")
        return
    print_table([line for method in row.methods for line in _lines(row, [c for c in found if c.key.method == method])])
    first, *others = row.methods
    for other in others:
        _print_difference(first, other, found)
    if any(cell.older for cell in found):
        print("* measured by code that has changed since")


def _lines(row: Row, found: list[Cell]) -> list[dict[str, object]]:
    lines = []
    for budget in sorted({(cell.key.demonstrations, cell.key.steps) for cell in found}):
        group = [cell for cell in found if (cell.key.demonstrations, cell.key.steps) == budget]
        for condition in dict.fromkeys(outcome.condition for cell in group for outcome in cell.outcomes):
            tasks = dict.fromkeys(o.task for cell in group for o in cell.outcomes if o.condition == condition)
            rate, episodes = pooled(group, condition)
            lines.append(
                {
                    "method": group[0].key.method + ("*" if any(cell.older for cell in group) else ""),
                    "demonstrations": budget[0],
                    "steps": budget[1],
                    "condition": condition,
                    **(
                        {task: f"{pooled(group, condition, task)[0].value:.1%}" for task in tasks}
                        if len(tasks) < 6
                        else {}
                    ),
                    "all": f"{rate.value:.1%}",
                    "95 % interval": f"{rate.lo:.1%} … {rate.hi:.1%}",
                    "by seed": " ".join(f"{pooled([cell], condition)[0].value:.1%}" for cell in group),
                    "episodes": episodes,
                }
            )
    return lines


def _print_difference(first: str, other: str, found: list[Cell]) -> None:
    """Paired by training seed, budget, task and evaluation seed, in the usual worlds."""
    pairs = [
        (cell, partner)
        for cell in found
        for partner in found
        if cell.key.method == first and partner.key == replace(cell.key, method=other)
    ]
    if not pairs:
        return
    ours = [won for cell, _ in pairs for won in cell.won("usual")]
    theirs = [won for _, partner in pairs for won in partner.won("usual")]
    gap = paired_difference(ours, theirs)
    noise = "inside the noise" if gap.lo <= 0 <= gap.hi else "outside the noise"
    print(
        f"{first} − {other}: {gap.value:+.1%} (95 % interval {gap.lo:+.1%} … {gap.hi:+.1%}, p = {gap.p_value:.3g}), "
        f"{noise} of the episodes; training seeds vary besides"
    )


if __name__ == "__main__":
    with ending_with_the_reader():
        main()
