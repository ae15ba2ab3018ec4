"""Datasets edited: what ``vla dataset remove | split | filter | merge | corrections`` do.

New ones are there whole or not at all.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policies.progress import counting

if TYPE_CHECKING:
    from policies.data.dataset import DemonstrationDataset


def remove(path: Path, episodes: Sequence[int]) -> int:
    """Take these episodes out, all or none."""
    from policies.data.writer import DemonstrationWriter

    with DemonstrationWriter.open(path) as writer:
        writer.remove(episodes)
        print(f"{path}: {len(set(episodes))} removed, {len(writer)} left, numbered from 0")
    return 0


def split(
    dataset: "DemonstrationDataset", into: Sequence[Path], share: float | None, seed: int, tasks: Sequence[str]
) -> int:
    """Copy a share of each task's episodes, or those of some tasks, into one new dataset, the rest into another."""
    from policies.data.split import copy_part, deal, tasks_apart

    _check_free(into)
    parts = tasks_apart(dataset, tasks) if share is None else deal(dataset, share, seed)
    for target, numbers in zip(into, parts, strict=True):
        with counting("split", len(numbers)) as done:
            copy_part(dataset, numbers, target, done)
        print(f"{target}: {len(numbers)} episodes")
    return 0


def keep(dataset: "DemonstrationDataset", target: Path, conditions: Mapping[str, Any]) -> int:
    """Copy the episodes that fit all ``conditions`` (:class:`policies.data.selection.Wanted`) into a new dataset."""
    from policies.data.selection import Wanted
    from policies.data.split import copy_part

    wanted = Wanted(**conditions)
    if not wanted.about():
        raise ValueError("nothing is asked for: say which episodes are wanted, as by --tasks pick --success True")
    _check_free([target])
    numbers = wanted.choose(dataset)
    with counting("filter", len(numbers)) as done:
        copy_part(dataset, numbers, target, done)
    print(f"{target}: {len(numbers)} of {len(dataset)} episodes")
    return 0


def corrections(dataset: "DemonstrationDataset", target: Path) -> int:
    """Copy what a person did in between, each time as an episode, into a new dataset."""
    from policies.data.corrections import copy_corrections

    _check_free([target])
    count, frames = copy_corrections(dataset, target)
    print(f"{target}: {count} corrections, {frames} frames")
    return 0


def join(datasets: "Sequence[DemonstrationDataset]", target: Path) -> int:
    """Copy all episodes of these datasets, one after the other, into a new one."""
    from policies.data.merging import merge, twice

    _check_free([target])
    count = sum(map(len, datasets))
    with counting("merge", count) as done:
        merge(datasets, target, done)
    print(f"{target}: {count} episodes")
    if again := twice(datasets):
        task, seed = again[0]
        print(f"{len(again)} of them have a task and seed that another has too, first {task} {seed}: vla dataset check "
              f"{target} tells whether they are the same")  # fmt: skip
    return 0


def _check_free(targets: Sequence[Path]) -> None:
    if taken := [str(path) for path in targets if path.exists()]:
        raise FileExistsError(f"{taken} exist: choose other folders, or delete them")
