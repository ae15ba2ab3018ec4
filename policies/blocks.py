"""The network in blocks of one size, so that an answer does not depend on how many others are asked for beside it.

Matrix products of another size are summed in another order. A world's actions would differ in their last digits with
the number of worlds, which some episodes turn into another outcome.

Where several sizes may be chosen from, as in a server that answers a single robot as fast as it can and many together,
an answer does depend on the size that was chosen, in its last digits, but never on what the others ask.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vla.observation import Begun, Observation, rows

BLOCK = 16
"""Rows that go through the network at once in an evaluation. In blocks of 16 a row's answer was also found not to
depend on its place in the block, which it does in smaller ones, where a layer has few outputs. The price: 21 ms instead
of 6 for a single row, 85 ms instead of 70 for 50 (``nano`` of the default size, one thread of a CPU); so a server has
:func:`growing_blocks`.
"""


def growing_blocks(largest: int) -> tuple[int, ...]:
    """1, 2, 4, … and ``largest``: less than half of a block is ever filled up, and few sizes occur."""
    sizes = [1]
    while 2 * sizes[-1] < largest:
        sizes.append(2 * sizes[-1])
    return (*sizes, largest) if largest > 1 else (1,)


def in_blocks(
    act: Callable[..., Float[Tensor, "b h a"]],
    observation: Observation,
    sizes: Sequence[int] = (BLOCK,),
    begun: Begun | None = None,
) -> Float[Tensor, "n h a"]:
    """``act`` on all rows, in blocks of the largest of ``sizes`` (ascending), the rest in one of the smallest that
    holds it, filled up with copies of the last row.

    ``act`` is given those of the observation, and after them those of ``begun`` if there is any.
    """
    count, start, answers = len(observation.state), 0, []
    while start < count:
        size = next((size for size in sizes if size >= count - start), sizes[-1])
        index = torch.arange(start, start + size, device=observation.state.device).clamp(max=count - 1)
        more = () if begun is None else (rows(begun, index),)
        answers.append(act(rows(observation, index), *more)[: count - start])
        start += size
    return torch.cat(answers)
