"""Which episodes of a store are wanted: by task, outcome, length, words, and who acted."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from policies.data.dataset import DemonstrationDataset
from policies.data.episode import ACTOR_KEY, ACTORS
from policies.data.layout import EpisodeRecord


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """All must hold. Empty ``tasks``: any. ``success``: the outcome, None for either. ``min_frames`` … ``max_frames``,
    0 for no most. ``instruction``: a text that the instruction has in it, whatever the case. ``actor``: who acted in at
    least one frame, one of ``policies.data.episode.ACTORS``.
    """

    tasks: tuple[str, ...] = ()
    success: bool | None = None
    min_frames: int = 1
    max_frames: int = 0
    instruction: str = ""
    actor: str = ""

    def __post_init__(self) -> None:
        if self.max_frames and self.max_frames < self.min_frames:
            raise ValueError(f"no episode has from {self.min_frames} to {self.max_frames} frames")
        if self.actor and self.actor not in ACTORS:
            raise ValueError(f"expected an actor out of {', '.join(ACTORS)}, got {self.actor!r}")

    def choose(self, dataset: DemonstrationDataset) -> list[int]:
        """The numbers of the episodes that are wanted, in order; ``ValueError`` for a task, or actors, that the store
        does not know, and where there is none.
        """
        there = sorted({record.task for record in dataset.records})
        if unknown := sorted(set(self.tasks) - set(there)):
            raise ValueError(f"{dataset.path} has no episodes of {unknown}; its tasks are {there}")
        if self.actor and ACTOR_KEY not in dataset.keys:
            raise ValueError(f"{dataset.path} does not say who acted: it has no field {ACTOR_KEY}")
        chosen = [number for number, record in enumerate(dataset.records) if self._fits(record)]
        if self.actor:
            chosen = [number for number in chosen if self._acted(dataset, number)]
        if not chosen:
            raise ValueError(f"none of the {len(dataset)} episodes of {dataset.path} is wanted: {self.about()}")
        return chosen

    def about(self) -> Mapping[str, object]:
        """The conditions that are set."""
        default = Wanted()
        return {name: value for name, value in vars(self).items() if value != getattr(default, name)}

    def _fits(self, record: EpisodeRecord) -> bool:
        return (
            (not self.tasks or record.task in self.tasks)
            and self.success in (None, record.success)
            and self.min_frames <= record.length <= (self.max_frames or record.length)
            and self.instruction.lower() in record.instruction.lower()
        )

    def _acted(self, dataset: DemonstrationDataset, number: int) -> bool:
        end = int(dataset.end_frames[number])
        actors = dataset.read(ACTOR_KEY, np.arange(end - dataset.records[number].length, end))
        return bool((actors == ACTORS.index(self.actor)).any())
