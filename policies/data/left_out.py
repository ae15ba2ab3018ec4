"""Seeds that a recording tried and a store does not hold, so that adding to it later does not try them again."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from policies.data.layout import DatasetError, all_records, read_json
from vla.durable import write_text_atomically
from vla.strict_json import strict_json

LEFT_OUT_FILE = "left_out.json"
Seeds = dict[str, set[int]]
"""Seeds by task."""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Seeds by task: those that ``failed`` and were left out, and those of episodes that lie ``elsewhere``, in the
    other parts of the store that this one was split from.
    """

    failed: Seeds = field(default_factory=dict)
    elsewhere: Seeds = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "LeftOut":
        """Those of the store at ``path``; ``DatasetError`` for a file that cannot be read."""
        file = path / LEFT_OUT_FILE
        remedy = "delete it to have the seeds that failed tried again"
        content = read_json(file, remedy, default={})
        try:
            return cls.from_dict(content)
        except (AttributeError, TypeError, ValueError) as error:
            raise DatasetError(f"{file} is corrupt: {error}; {remedy}") from error

    @classmethod
    def from_dict(cls, content: Mapping[str, Mapping[str, Iterable[int]]]) -> "LeftOut":
        """The inverse of :meth:`to_dict`."""
        return cls(**{kind: {task: set(map(int, s)) for task, s in tasks.items()} for kind, tasks in content.items()})

    def to_dict(self) -> dict[str, dict[str, list[int]]]:
        """JSON-ready form."""
        return {"failed": ordered(self.failed), "elsewhere": ordered(self.elsewhere)}

    def write(self, path: Path) -> None:
        """Keep them in the store at ``path``."""
        write_text_atomically(path / LEFT_OUT_FILE, strict_json(self.to_dict()))

    def note_failure(self, path: Path, task: str, seed: int) -> None:
        """Add a seed that failed, here and in the store at ``path``."""
        self.failed.setdefault(task, set()).add(seed)
        self.write(path)


def tried_seeds(path: Path) -> Seeds:
    """All seeds that were ever tried for the store at ``path``: recorded, removed again, failed or lying elsewhere."""
    left_out = LeftOut.read(path)
    return merged(
        by_task((record.task, record.seed) for record in all_records(path)), left_out.failed, left_out.elsewhere
    )


def by_task(pairs: Iterable[tuple[str, int]]) -> Seeds:
    """Seeds by task, from pairs of both."""
    seeds: Seeds = {}
    for task, seed in pairs:
        seeds.setdefault(task, set()).add(seed)
    return seeds


def merged(*parts: Mapping[str, set[int]]) -> Seeds:
    """All seeds of several tables."""
    return by_task((task, seed) for part in parts for task, seeds in part.items() for seed in seeds)


def ordered(seeds: Mapping[str, set[int]]) -> dict[str, list[int]]:
    """Seeds by task, JSON-ready and in order."""
    return {task: sorted(numbers) for task, numbers in sorted(seeds.items()) if numbers}
