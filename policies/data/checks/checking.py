"""All checks of a demonstration store, in one pass over its episodes."""

from collections.abc import Callable, Iterator, Sequence

from policies.data.checks.digest import Recording, digest
from policies.data.checks.episodes import near_duplicates, useless_words, wrong_endings
from policies.data.checks.finding import Finding
from policies.data.checks.numbers import clipped_dimensions, constant_dimensions, gripper_sign, out_of_bounds
from policies.data.checks.pictures import blank_pictures, equal_cameras, stuck_pictures, swapped_cameras
from policies.data.checks.response import out_of_step
from policies.data.checks.time import drifting_clock, dropped_frames
from policies.data.dataset import DemonstrationDataset

CHECKS: Sequence[Callable[[Recording], Iterator[Finding]]] = (
    constant_dimensions,
    clipped_dimensions,
    gripper_sign,
    out_of_step,
    dropped_frames,
    drifting_clock,
    stuck_pictures,
    blank_pictures,
    equal_cameras,
    swapped_cameras,
    wrong_endings,
    near_duplicates,
    useless_words,
)


def find_faults(dataset: DemonstrationDataset, done: Callable[[int], None] = lambda _: None) -> list[Finding]:
    """What is wrong with a store, errors first, then by episode; empty for a clean one.

    Every episode is decoded once, and ``done`` is told how many have been; vectors of all are kept in memory.
    ``DatasetError`` for what cannot be decoded, or a store without episodes.
    """
    return check_recording(recording_of(dataset, done))


def recording_of(dataset: DemonstrationDataset, done: Callable[[int], None] = lambda _: None) -> Recording:
    """The digests of a store's episodes."""
    digests = []
    for number in range(len(dataset)):
        digests.append(digest(number, dataset.episode(number)))
        done(number + 1)
    return Recording(dataset.embodiment, tuple(digests))


def check_recording(recording: Recording) -> list[Finding]:
    """Every check's findings, in the order that :func:`find_faults` says.

    An episode with what is no number is told of as that, and not looked at further.
    """
    found = list(out_of_bounds(recording))
    finite = recording.finite()
    found += [finding for check in CHECKS for finding in check(finite)] if finite.episodes else []
    return sorted(found, key=lambda f: (f.severity != "error", f.episode is not None, f.episode or 0, f.frame or 0))
