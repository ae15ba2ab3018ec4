"""Several things on the table, one of them meant: what makes an instruction worth reading."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from envs.constants import constant
from envs.props.base import Region
from envs.props.block import Block
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout


def blocks(region: Region, count: int = 4, **settings: Any) -> tuple[Block, ...]:
    """``count`` blocks called block0, block1, … in one region."""
    return tuple(Block(name=f"block{i}", region=region, **settings) for i in range(count))


def choose_named(
    random: EpisodeRandom, layout: Layout, names: Sequence[str], at_least: int = 2, role: str = "block"
) -> Layout:
    """``layout`` with the first ``at_least`` … all of the things ``names`` present, one of them in ``role``."""
    drawn, target = random.uniforms((("count", 1), ("target", 1)))
    count = at_least + (drawn * (len(names) - at_least + 1)).long()
    slots = [layout.slot(name) for name in names]
    rank = constant([slots.index(i) if i in slots else -1 for i in range(len(layout.names))], random.device)
    chosen = constant(slots, random.device)[(target * count).long()[:, 0]]
    return replace(layout, present=layout.present & (rank < count)).with_roles(**{role: chosen})


def chance_among(counts: Sequence[int], receivers: int = 1) -> float:
    """Probability of guessing right when each of ``counts`` things is as likely, and so is each receiver."""
    return fmean(1 / count for count in counts) / receivers
