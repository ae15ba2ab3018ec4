"""A task whose things come in colours of our choice, such as some that demonstrations shall not show."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch

from envs.choices import chosen
from envs.props.colours import BRIGHT, COLOUR_NAMES, COLOURS
from envs.random import EpisodeRandom
from envs.tasks.base import Task

_TRIED = 16


def check_palette(palette: Sequence[str]) -> None:
    """``ValueError`` unless these are two colours that there are, or more, and none twice."""
    for name in palette:
        chosen("colour", name, COLOURS)
    if len(set(palette)) < max(2, len(palette)):
        raise ValueError(f"expected a palette of two colours or more, none twice, got {', '.join(palette)}")


def in_colours(task: Task, palette: Sequence[str]) -> Task:
    """``task`` with ``palette`` instead of the bright colours; where things start, episode by episode, stays the same.

    Things that come in other colours, such as white and black bins, keep theirs. ``ValueError`` where
    :func:`check_palette` refuses, for a palette of fewer colours than there are things, and for a task that has no
    thing in any bright colour.
    """
    check_palette(palette)
    bright = [slot for slot, prop in enumerate(task.props) if prop.palette == BRIGHT]
    other = copy.copy(task)
    other.props = tuple(
        replace(prop, palette=tuple(palette)) if slot in bright else prop for slot, prop in enumerate(task.props)
    )
    drawn = other.sample(EpisodeRandom(torch.arange(_TRIED), "learn")).colour[:, bright]
    if not bright or not torch.isin(drawn, torch.tensor([COLOUR_NAMES.index(name) for name in palette])).all():
        raise ValueError(f"the colours of {task.name} are its own: they cannot be {', '.join(palette)}")
    return other
