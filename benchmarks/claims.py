"""Measure the claims of the documentation, cell by cell, and print their tables from the ledger.

    vla bench claims [ROW …] [--seeds 0 1 2] [--only TEXT …] [--jobs 2] [--teacher FOLDER] [--again]
    vla bench claims [ROW …] --print [--page FILE] [--into FILE …]

A row trains each of its methods on the same demonstrations with every training seed, and evaluates them on the same
episodes under the same conditions; without a name all rows are meant. Only cells that the ledger lacks are measured, so
a grid can be stopped and continued, a training within a cell too, as long as the code that decides them stays as it is;
``--again`` also repeats cells of code that has changed since, from the demonstrations on, and ``--print`` measures
nothing. ``--into`` brings the tables up to date that other pages have of a row. Bases that methods start from are pre-
trained first, each once, and share the scenes that they have rendered.
"""

import argparse
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor

from claim_methods import Base, Recording
from claim_rows import ROWS, Row
from claim_tables import cells_for, success_lines, write_into, write_page
from ledger import Cell, Key, code_digest, missing
from measuring import Work, measure, train_policy
from report import home_path, print_table

from configs.run_directory import OUTPUTS
from configs.side_by_side import end_with_the_parent
from configs.terminal import ending_with_the_reader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], help=f"out of {', '.join(ROWS)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of training")
    parser.add_argument(
        "--only", nargs="+", default=[], help="measure cells whose file's name has all of these, such as 350x1000"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, help="cells measured at once; it changes the speed and no result"
    )
    parser.add_argument("--print", action="store_true", help="print the tables of what is measured")
    parser.add_argument("--page", type=home_path, help="also write all measured rows as a page of Markdown")
    parser.add_argument(
        "--into", type=home_path, nargs="+", default=[], help="bring the tables of these pages up to date"
    )
    parser.add_argument("--again", action="store_true", help="repeat cells that code has changed since")
    parser.add_argument(
        "--work", type=home_path, default=OUTPUTS / "claims", help="demonstrations, bases, trainings and scenes"
    )
    parser.add_argument("--teacher", type=home_path, help="sentence encoder's folder, where bases learn from one")
    arguments = parser.parse_args()
    rows = [ROWS[name] for name in arguments.rows or ROWS]
    if not arguments.print:
        grid = dict.fromkeys(key for row in rows for key in row.grid(arguments.seeds))
        keys = missing(grid, again=arguments.again)
        keys = [key for key in keys if all(text in key.path for text in arguments.only)]
        folder = arguments.work / code_digest()
        work = Work(folder=folder, scenes=arguments.work / "scenes", teacher=arguments.teacher)
        try:
            work.check(ROWS[claim].methods[method] for claim, method in {(key.claim, key.method) for key in keys})
        except ValueError as error:
            parser.error(str(error))
        measure_all(ROWS, keys, work, arguments.jobs)
    found = {name: cells_for(row) for name, row in ROWS.items()}
    for row in rows:
        print_row(row, found[row.name])
    if arguments.page:
        write_page(arguments.page, list(ROWS.values()), found)
    for path in arguments.into:
        write_into(path, list(ROWS.values()), found)


def measure_all(rows: Mapping[str, Row], keys: Sequence[Key], work: Work, jobs: int) -> None:
    """Measure cells, several at once; what is done is in the ledger whatever becomes of the others."""
    for recording, count in recordings_of(rows, keys):
        work.record(recording, count)
    for base in bases_of(rows, keys):
        work.train_base(base)
    for key in starts_of(rows, keys):
        train_policy(rows[key.claim], key, work)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=end_with_the_parent) as pool:
        for cell in pool.map(measure, (rows[key.claim] for key in keys), keys, [work] * len(keys)):
            condition = rows[cell.key.claim].conditions[0]
            won = cell.won(condition)
            print(f"{cell.key.path}: {sum(won)}/{len(won)} under {condition}", flush=True)


def recordings_of(rows: Mapping[str, Row], keys: Sequence[Key]) -> list[tuple[Recording, int]]:
    """The recordings that these cells learn from, with so many demonstrations per task, each once."""
    return list(dict.fromkeys((rows[key.claim].recording_of(key.method), key.demonstrations) for key in keys))


def bases_of(rows: Mapping[str, Row], keys: Sequence[Key]) -> list[Base]:
    """The bases that these cells start from, each once."""
    bases = (rows[key.claim].methods[key.method].base for key in keys)
    return list(dict.fromkeys(base for base in bases if base is not None))


def starts_of(rows: Mapping[str, Row], keys: Sequence[Key]) -> list[Key]:
    """The cells whose policies these cells improve, each once."""
    starts = (rows[key.claim].start_of(key) for key in keys)
    return list(dict.fromkeys(start for start in starts if start is not None))


def print_row(row: Row, found: Sequence[Cell]) -> None:
    """Success by method and condition over all training seeds, and the methods against the first of them."""
    print(f"\n{row.name}: {row.claim}")
    if not found:
        print("nothing measured yet")
        return
    print_table(success_lines(row, found, mark_older=True))
    if any(cell.older for cell in found):
        print("* measured by code that has changed since")


if __name__ == "__main__":
    with ending_with_the_reader():
        main()
