"""What is drawn for an episode: where each thing stands, its colour, and which of them the instruction means."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.batch import Batch
from envs.props.base import Prop
from envs.props.colours import COLOUR_NAMES
from envs.random import EpisodeRandom
from envs.rotations import quat_from_yaw

SETTLED_M = 7e-5
"""How far contacts give way under a thing that rests. Things start so deep, or engines that round differently would
differ in whether they touch at first.
"""


@dataclass(frozen=True, kw_only=True)
class Layout(Batch):
    """n episodes of a scene with k things, its *slots*; metres, radians, world frame, quaternions wxyz.

    ``colour`` indexes ``COLOUR_NAMES``; ``scale`` is a thing's size relative to its prop's. Things that are not
    ``present`` are out of sight. ``opening`` is where a jointed thing's part starts. ``roles`` says which slot plays
    which part of the instruction, ``draws`` holds whatever else a task drew. ``phrasing`` in [0, 1) chooses the words.
    ``memory`` is what an episode remembers of its past, see ``envs.tasks.base.Task.advance``.
    """

    names: tuple[str, ...]
    position: Float[Tensor, "n k 3"]
    quat: Float[Tensor, "n k 4"]
    colour: Int[Tensor, "n k"]
    present: Bool[Tensor, "n k"]
    opening: Float[Tensor, "n k"]
    scale: Float[Tensor, "n k"]
    phrasing: Float[Tensor, " n"]
    roles: Mapping[str, Int[Tensor, " n"]] = field(default_factory=dict)
    draws: Mapping[str, Tensor] = field(default_factory=dict)
    memory: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.position)

    def slot(self, name: str) -> int:
        """The slot of the thing called ``name``; ``KeyError`` lists the things there are."""
        if name not in self.names:
            raise KeyError(f"nothing here is called {name!r}; the scene has {list(self.names)}")
        return self.names.index(name)

    def slots(self, names: Sequence[str]) -> Int[Tensor, " m"]:
        """The slots of several things."""
        return torch.tensor([self.slot(name) for name in names], device=self.position.device)

    def of(self, values: Float[Tensor, "n k ..."], role: str) -> Float[Tensor, "n ..."]:
        """Each world's row of ``values`` for the thing that plays ``role``."""
        slots = self.roles[role]
        index = slots.reshape(-1, *(1,) * (values.dim() - 1)).expand(-1, 1, *values.shape[2:])
        return values.gather(1, index).squeeze(1)

    def with_roles(self, **roles: Int[Tensor, " n"] | str) -> "Layout":
        """This layout with more roles, each a slot per world or one thing by name in all of them."""
        n, device = len(self), self.position.device
        slots = {
            role: torch.full((n,), self.slot(given), device=device) if isinstance(given, str) else given
            for role, given in roles.items()
        }
        return replace(self, roles={**self.roles, **slots})

    def with_draws(self, **draws: Tensor) -> "Layout":
        """This layout with more numbers, ``(n, …)`` each."""
        return replace(self, draws={**self.draws, **draws})

    def remembering(self, **memory: Tensor) -> "Layout":
        """This layout with other or more memories, ``(n, …)`` each."""
        return replace(self, memory={**self.memory, **memory})


def scatter(random: EpisodeRandom, props: Sequence[Prop]) -> Layout:
    """All of ``props`` in drawn cells, turns and colours; nobody plays a role yet.

    ``ValueError`` if a region has fewer cells, or a palette (of more than one colour) fewer colours, than things that
    draw from it.
    """
    return _scatterer(tuple(props), random.device).draw(random)


@lru_cache(maxsize=256)
def _scatterer(props: tuple[Prop, ...], device: torch.device) -> "_Scatterer":
    return _Scatterer(props, device)


class _Scatterer:
    """Draws tables of certain things: what does not change is on the device, and all numbers are drawn in one go."""

    def __init__(self, props: tuple[Prop, ...], device: torch.device) -> None:
        self._props, k = props, len(props)
        self._regions = list(_grouped(props, lambda prop: prop.region).items())
        self._palettes = list(_grouped(props, lambda prop: prop.palette).items())
        sizes: list[tuple[str, int]] = []
        for region, slots in self._regions:
            if len(slots) > len(region.cells_m):
                raise ValueError(f"region {region.name!r} has {len(region.cells_m)} cells for {len(slots)} things")
            sizes += [(f"{region.name}/cells", len(region.cells_m)), (f"{region.name}/jitter", 2 * len(slots))]
            sizes += [(f"{region.name}/yaw", len(slots))]
        for palette, slots in self._palettes:
            if len(slots) > len(palette) > 1:
                raise ValueError(f"{len(slots)} things need different colours, but {palette} has {len(palette)}")
            sizes += [(f"colours/{'-'.join(palette)}", len(palette))]
        self._sizes = (*sizes, ("phrasing", 1))
        self._cells = [torch.tensor(region.cells_m, device=device) for region, _ in self._regions]
        self._colours = [
            torch.tensor([COLOUR_NAMES.index(name) for name in palette], device=device) for palette, _ in self._palettes
        ]
        self._by_region = torch.tensor(_places(self._regions), device=device)
        self._by_palette = torch.tensor(_places(self._palettes), device=device)
        reach = [[prop.region.jitter_m, prop.region.jitter_m, prop.region.yaw_rad] for prop in props]
        self._jitter, self._yaw = (2 * torch.tensor(reach, device=device).reshape(k, 3)).split([2, 1], -1)
        self._height = torch.tensor([prop.rest_height_m - SETTLED_M for prop in props], device=device)

    def draw(self, random: EpisodeRandom) -> Layout:
        n, k, device = len(random), len(self._props), random.device
        *drawn, phrasing = random.uniforms(self._sizes)
        cells, jitter, yaw = [], [], []
        for (_, slots), known in zip(self._regions, self._cells, strict=True):
            cells.append(known[drawn.pop(0).argsort(1)[:, : len(slots)]])
            jitter.append(drawn.pop(0).reshape(n, len(slots), 2))
            yaw.append(drawn.pop(0))
        flat = torch.cat(cells, 1)[:, self._by_region] + (torch.cat(jitter, 1)[:, self._by_region] - 0.5) * self._jitter
        turned = (torch.cat(yaw, 1)[:, self._by_region] - 0.5) * self._yaw[:, 0]
        colour = [
            known[order.argsort(1)[:, : len(slots)]] if len(known) > 1 else known.expand(n, len(slots))
            for (_, slots), known, order in zip(self._palettes, self._colours, drawn, strict=True)
        ]
        return Layout(
            names=tuple(prop.name for prop in self._props),
            position=torch.cat((flat, self._height[:, None].expand(n, k, 1)), -1),
            quat=quat_from_yaw(turned),
            colour=torch.cat(colour, 1)[:, self._by_palette],
            present=torch.ones(n, k, dtype=torch.bool, device=device),
            opening=torch.zeros(n, k, device=device),
            scale=torch.ones(n, k, device=device),
            phrasing=phrasing[:, 0],
        )


def _places(groups: Sequence[tuple[Any, list[int]]]) -> list[int]:
    """Where each slot comes when its groups are put one after the other."""
    order = [slot for _, slots in groups for slot in slots]
    return [order.index(slot) for slot in range(len(order))]


def _grouped(props: Sequence[Prop], key: Callable[[Prop], Any]) -> dict[Any, list[int]]:
    """Slots by what ``key`` says of their things, in order of first appearance."""
    groups: dict[Any, list[int]] = {}
    for slot, prop in enumerate(props):
        groups.setdefault(key(prop), []).append(slot)
    return groups
