"""Random numbers as a function of (seed, step), so that a resumed run draws what an undisturbed one draws."""

from enum import IntEnum

import numpy as np
import torch


class Draw(IntEnum):
    """What a stream of random numbers is for; streams of one step are independent of each other."""

    INITIAL_WEIGHTS = 0
    AUGMENT = 1
    DROPOUT = 2
    LESSONS = 3


def derive_seed(seed: int, step: int, draw: Draw) -> int:
    """A well-mixed 63-bit seed for one purpose at one step."""
    return int(np.random.SeedSequence([seed, step, int(draw)]).generate_state(1, np.uint64)[0]) >> 1


def generator(seed: int, step: int, draw: Draw) -> torch.Generator:
    """A CPU generator for one purpose at one step."""
    return torch.Generator().manual_seed(derive_seed(seed, step, draw))


def seed_everything(seed: int, step: int, draw: Draw) -> None:
    """Seed torch's global generators (what dropout and weight initialisation use) for one step."""
    torch.manual_seed(derive_seed(seed, step, draw))
