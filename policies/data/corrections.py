"""What a person did in between, out of the episodes of a robot that a policy drives, as demonstrations of their own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from policies.data.dataset import DemonstrationDataset
from policies.data.episode import ACTOR_KEY, ACTORS, Episode
from policies.data.writer import DemonstrationWriter
from vla.durable import new_folder

LEAST_FRAMES = 4
"""Shorter runs of a person's frames are left out: a hand on its way to the keys or from them."""


def copy_corrections(dataset: DemonstrationDataset, target: Path) -> tuple[int, int]:
    """Write every run of a person's frames as an episode of a new store at ``target``; how many, and of how many
    frames.

    They keep instruction, task and seed of their episode, and count as successes whatever became of it: a person's
    hand is what is to be learned, and often nobody said how the episode ended. ``ValueError`` for a dataset that does
    not say who acted, or where nobody but the policy did.
    """
    if ACTOR_KEY not in dataset.keys:
        raise ValueError(f"{dataset.path} does not say who acted; what vla run records does")
    human = ACTORS.index("human")
    actors = [dataset.episode(number).actor for number in range(len(dataset))]
    spans = [(number, span) for number, actor in enumerate(actors) if actor is not None for span in runs(actor, human)]
    if not spans:
        raise ValueError(f"{dataset.path} holds no correction: no person acted for {LEAST_FRAMES} frames on end")
    settings = {**dataset.header.settings, "corrections_of": dataset.fingerprint}
    header = replace(dataset.header, settings=settings, actor=False)
    with new_folder(target) as store, DemonstrationWriter.create_like(store, header) as writer:
        for number, span in spans:
            writer.append(_part(dataset.episode(number), dataset.embodiment.camera_names, span))
    return len(spans), sum(span.stop - span.start for _, span in spans)


def runs(actor: Int[np.ndarray, " t"], who: int) -> list[slice]:
    """The frames in which ``who`` acted, a slice for every ``LEAST_FRAMES`` or more on end."""
    there = np.concatenate([[False], actor == who, [False]])
    starts, stops = np.flatnonzero(~there[:-1] & there[1:]), np.flatnonzero(there[:-1] & ~there[1:])
    return [slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True) if b - a >= LEAST_FRAMES]


def _part(episode: Episode, cameras: tuple[str, ...], span: slice) -> Episode:
    arrays = {key: array[span] for key, array in episode.fields().items() if key != ACTOR_KEY}
    about = {"task": episode.task, "seed": episode.seed, "success": True}
    return Episode.from_fields(arrays, cameras, instruction=episode.instruction, **about)
