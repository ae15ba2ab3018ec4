"""Measure the claims of the documentation, cell by cell, and print their tables from the ledger.

    vla bench claims [ROW …] [--seeds 0 1 2] [--jobs 2] [--print] [--page FILE] [--again] [--work FOLDER]

A row trains each of its methods on the same demonstrations with every training seed, and evaluates them on the same
episodes under the same conditions; without a name all rows are meant. Only cells that the ledger lacks are measured,
so a grid can be stopped and continued, a training within a cell too, as long as the code that decides them stays as it
is; ``--again`` also repeats cells of code that has changed since, from the demonstrations on, and ``--print`` measures
nothing.
"""

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from claim_rows import ROWS, Row
from claim_tables import differences, success_lines, write_page
from ledger import Cell, Key, cells, code_digest, missing
from measuring import Work, measure
from report import home_path, print_table

from configs.run_directory import OUTPUTS
from configs.terminal import ending_with_the_reader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], help=f"out of {', '.join(ROWS)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of training")
    parser.add_argument(
        "--jobs", type=int, default=2, help="cells measured at once; it changes the speed and no result"
    )
    parser.add_argument("--print", action="store_true", help="print the tables of what is measured")
    parser.add_argument("--page", type=home_path, help="also write all measured rows as a page of Markdown")
    parser.add_argument("--again", action="store_true", help="repeat cells that code has changed since")
    parser.add_argument("--work", type=home_path, default=OUTPUTS / "claims", help="demonstrations and trainings")
    arguments = parser.parse_args()
    rows = [ROWS[name] for name in arguments.rows or ROWS]
    if not arguments.print:
        keys = missing([key for row in rows for key in row.grid(arguments.seeds)], again=arguments.again)
        measure_all(keys, arguments.work / code_digest(), arguments.jobs)
    for row in rows:
        print_row(row, cells(row.name))
    if arguments.page:
        write_page(arguments.page, list(ROWS.values()), {name: cells(name) for name in ROWS})


def measure_all(keys: list[Key], work: Path, jobs: int) -> None:
    """Measure cells, several at once; what is done is in the ledger whatever becomes of the others."""
    folder = Work(work)
    for recording, count in dict.fromkeys((ROWS[key.claim].recording, key.demonstrations) for key in keys):
        folder.demonstrations(recording, count)
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for cell in pool.map(measure, (ROWS[key.claim] for key in keys), keys, [work] * len(keys)):
            print(f"{cell.key.path}: {sum(cell.won('usual'))}/{len(cell.won('usual'))} in the usual worlds", flush=True)


def print_row(row: Row, found: list[Cell]) -> None:
    """Success by method and condition over all training seeds; then the methods against the first of them."""
    print(f"\n{row.name}: {row.claim}")
    if not found:
        print("nothing measured yet")
        return
    print_table(success_lines(row, found, mark_older=True))
    print(*differences(row, found), sep="\n")
    if any(cell.older for cell in found):
        print("* measured by code that has changed since")


if __name__ == "__main__":
    with ending_with_the_reader():
        main()
