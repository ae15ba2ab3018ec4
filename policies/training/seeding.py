"""Random numbers as a function of (seed, step), so that a resumed run draws what an undisturbed one draws."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch


class Draw(IntEnum):
    """What a stream of random numbers is for; streams of one step are independent of each other."""

    INITIAL_WEIGHTS = 0
    AUGMENT = 1
    DROPOUT = 2
    VALIDATION = 3
    LESSONS = 4
    ROLLOUT = 5
    MINIBATCHES = 6


def derive_seed(seed: int, step: int, draw: Draw, rank: int = 0) -> int:
    """A well-mixed 63-bit seed for one purpose at one step, in the process ``rank`` of those that learn together."""
    entropy = [seed, step, int(draw), *([rank] if rank else [])]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]) >> 1


def generator(seed: int, step: int, draw: Draw) -> torch.Generator:
    """A CPU generator for one purpose at one step."""
    return torch.Generator().manual_seed(derive_seed(seed, step, draw))


def seed_everything(seed: int, step: int, draw: Draw, rank: int = 0) -> None:
    """Seed torch's global generators (what dropout and weight initialisation use) for one step."""
    torch.manual_seed(derive_seed(seed, step, draw, rank))


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """Afterwards the generators of Python, numpy and torch (CPU and ``device``) are as they were before."""
    ours, numpys = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(ours)
        np.random.set_state(numpys)
