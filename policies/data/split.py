"""Parts of a demonstration store as stores of their own; the source stays as it is."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from policies.data.dataset import DemonstrationDataset
from policies.data.layout import EpisodeRecord
from policies.data.left_out import LeftOut, by_task, tried_seeds
from policies.data.writer import DemonstrationWriter
from vla.durable import new_folder


def deal(dataset: DemonstrationDataset, share: float, seed: int) -> tuple[list[int], list[int]]:
    """The numbers of a ``share`` of each task's episodes, drawn by ``seed``, and of the rest; both in order.

    The same share and seed draw the same episodes of a task whatever other tasks there are. ``ValueError`` where
    a part would have none at all.
    """
    if not 0 < share < 1:
        raise ValueError(f"expected a share between 0 and 1, got {share}")
    first: list[int] = []
    for task in sorted({record.task for record in dataset.records}):
        numbers = [number for number, record in enumerate(dataset.records) if record.task == task]
        drawn = np.random.default_rng((seed, *task.encode())).permutation(len(numbers))
        first += [numbers[place] for place in drawn[: round(share * len(numbers))]]
    return _both(dataset, sorted(first), f"a share of {share}")


def tasks_apart(dataset: DemonstrationDataset, tasks: Sequence[str]) -> tuple[list[int], list[int]]:
    """The numbers of the episodes of ``tasks``, and of all others; ``ValueError`` names the tasks there are."""
    there = sorted({record.task for record in dataset.records})
    if unknown := sorted(set(tasks) - set(there)):
        raise ValueError(f"{dataset.path} has no episodes of {unknown}; its tasks are {there}")
    chosen = [number for number, record in enumerate(dataset.records) if record.task in tasks]
    return _both(dataset, chosen, f"the tasks {sorted(tasks)}")


def copy_part(
    dataset: DemonstrationDataset, numbers: Sequence[int], target: Path, done: Callable[[int], None] = lambda _: None
) -> None:
    """Copy the episodes of these numbers, in this order, into a new store at ``target``, which is there whole or not.

    Every chunk's checksum is compared on the way. All other seeds that the source's recording ever tried are noted
    as lying elsewhere: adding to the copy with the source's settings never records what another part holds. ``done`` is
    told how many episodes have been copied.
    """
    left_out = left_out_beside(dataset, [dataset.records[number] for number in numbers])
    with new_folder(target) as store:
        with DemonstrationWriter.create_like(store, dataset.header) as writer:
            for number in numbers:
                done(writer.append(dataset.episode(number)) + 1)
        left_out.write(store)


def left_out_beside(dataset: DemonstrationDataset, records: Sequence[EpisodeRecord]) -> LeftOut:
    """What a store that has only these episodes of ``dataset`` leaves out of all that its recording ever tried."""
    here, failed = by_task((record.task, record.seed) for record in records), LeftOut.read(dataset.path).failed
    elsewhere = {
        task: seeds - here.get(task, set()) - failed.get(task, set())
        for task, seeds in tried_seeds(dataset.path).items()
    }
    return LeftOut(failed=failed, elsewhere=elsewhere)


def _both(dataset: DemonstrationDataset, first: list[int], asked: str) -> tuple[list[int], list[int]]:
    rest = sorted(set(range(len(dataset))) - set(first))
    if not first or not rest:
        raise ValueError(
            f"{asked} of the {len(dataset)} episodes of {dataset.path} would leave a part empty "
            f"({len(first)} and {len(rest)} episodes)"
        )
    return first, rest
