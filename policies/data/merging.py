"""Several demonstration stores as one; the sources stay as they are."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from policies.data.dataset import DemonstrationDataset
from policies.data.differences import differences
from policies.data.layout import StoreHeader
from policies.data.left_out import LeftOut, Seeds, by_task, merged, tried_seeds
from policies.data.writer import DemonstrationWriter
from vla.durable import new_folder

MERGED = "merged"
"""Where a store of several recordings keeps the settings of each."""


def merge(datasets: Sequence[DemonstrationDataset], target: Path, done: Callable[[int], None] = lambda _: None) -> None:
    """Copy all episodes, store after store, into a new one at ``target``, which is there whole or not.

    ``ValueError`` says what differs where they are not of one robot with the same fields. Stores that were recorded
    alike give one that can be added to as they could; of others every settings are kept, and nothing can be added.
    """
    header = common_header(datasets)
    held = by_task((record.task, record.seed) for dataset in datasets for record in dataset.records)
    failed = merged(*(LeftOut.read(dataset.path).failed for dataset in datasets))
    tried = merged(*(tried_seeds(dataset.path) for dataset in datasets))
    elsewhere = without(tried, merged(held, failed))
    with new_folder(target) as store:
        with DemonstrationWriter.create_like(store, header) as writer:
            for dataset in datasets:
                for number in range(len(dataset)):
                    done(writer.append(dataset.episode(number)) + 1)
        LeftOut(failed=without(failed, held), elsewhere=elsewhere).write(store)


def common_header(datasets: Sequence[DemonstrationDataset]) -> StoreHeader:
    """The header of a store that can hold the episodes of all; ``ValueError`` says what differs."""
    if len(datasets) < 2:
        raise ValueError(f"expected at least two stores to merge, got {len(datasets)}")
    first = datasets[0]
    for dataset in datasets[1:]:
        attributes = [{k: v for k, v in d.header.to_attributes().items() if k != "settings"} for d in (first, dataset)]
        if lines := differences(*attributes):
            raise ValueError(f"{first.path} (there) and {dataset.path} (now) are not of one robot:\n{lines}")
    settings = [dict(dataset.settings) for dataset in datasets]
    alike = all(each == settings[0] for each in settings)
    return first.header if alike else replace(first.header, settings={MERGED: settings})


def twice(datasets: Sequence[DemonstrationDataset]) -> list[tuple[str, int]]:
    """Task and seed of every episode that a later store holds as well as an earlier one."""
    seen: set[tuple[str, int]] = set()
    found = []
    for dataset in datasets:
        own = {(record.task, record.seed) for record in dataset.records}
        found += sorted(own & seen)
        seen |= own
    return found


def without(seeds: Seeds, others: Seeds) -> Seeds:
    """Those seeds of every task that the others have not."""
    return {task: numbers - others.get(task, set()) for task, numbers in seeds.items()}
