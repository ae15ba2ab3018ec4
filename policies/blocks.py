"""The network in blocks of one size, so that an answer does not depend on how many others are asked for beside it.

Matrix products of another size are summed in another order. A world's actions would differ in their last digits with
the number of worlds, which some episodes turn into another outcome.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from vla.observation import Begun, Observation, rows

BLOCK = 16
"""Rows that go through the network at once in an evaluation. In blocks of 16 a row's answer was also found not to
depend on its place in the block, which it does in smaller ones, where a layer has few outputs. The price: 21 ms instead
of 6 for a single row, 85 ms instead of 70 for 50 (``nano`` of the default size, one thread of a CPU); so a server,
which answers one robot at a time, has blocks of 1.
"""


def in_blocks(
    act: Callable[..., Float[Tensor, "b h a"]], observation: Observation, block: int = BLOCK, begun: Begun | None = None
) -> Float[Tensor, "n h a"]:
    """``act`` on all rows, ``block`` at a time; the last block is filled up with copies of the last row.

    ``act`` is given those of the observation, and after them those of ``begun`` if there is any.
    """
    count = len(observation.state)
    answers = []
    for start in range(0, count, block):
        index = torch.arange(start, start + block, device=observation.state.device).clamp(max=count - 1)
        more = () if begun is None else (rows(begun, index),)
        answers.append(act(rows(observation, index), *more)[: count - start])
    return torch.cat(answers)
