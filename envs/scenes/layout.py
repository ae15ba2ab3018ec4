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
from envs.random import EpisodeRandom, counters
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

    def with_phrasing(self, phrasing: Float[Tensor, " n"]) -> "Layout":
        """This layout in other words."""
        return replace(self, phrasing=phrasing)

    def remembering(self, **memory: Tensor) -> "Layout":
        """This layout with other or more memories, ``(n, …)`` each."""
        return replace(self, memory={**self.memory, **memory})


def scatter(random: EpisodeRandom, props: Sequence[Prop]) -> Layout:
    """All of ``props`` in drawn cells, turns and colours; nobody plays a role yet.

    ``ValueError`` if a region has fewer cells, or a palette (of more than one colour) fewer colours, than things that
    draw from it.
    """
    return _scatterer(tuple(props), random.device).draw(random)


def places(random: EpisodeRandom, props: Sequence[Prop]) -> Float[Tensor, "n k 2"]:
    """Where :func:`scatter` puts them, (x, y) in metres: for who looks at many tables to take one."""
    return _scatterer(tuple(props), random.device).places(random)


@lru_cache(maxsize=256)
def _scatterer(props: tuple[Prop, ...], device: torch.device) -> "_Scatterer":
    return _Scatterer(props, device)


class _Scatterer:
    """Draws tables of certain things: what does not change is on the device, and all numbers are drawn in one go."""

    def __init__(self, props: tuple[Prop, ...], device: torch.device) -> None:
        self._props, k = props, len(props)
        self._regions = list(_grouped(props, lambda prop: prop.region).items())
        self._palettes = list(_grouped(props, lambda prop: prop.palette).items())
        for region, slots in self._regions:
            if len(slots) > len(region.cells_m):
                raise ValueError(f"region {region.name!r} has {len(region.cells_m)} cells for {len(slots)} things")
        for palette, slots in self._palettes:
            if len(slots) > len(palette) > 1:
                raise ValueError(f"{len(slots)} things need different colours, but {palette} has {len(palette)}")
        self._cells = [torch.tensor(region.cells_m, device=device) for region, _ in self._regions]
        self._colours = [
            torch.tensor([COLOUR_NAMES.index(name) for name in palette], device=device) for palette, _ in self._palettes
        ]
        self._by_region, self._by_palette = (
            torch.tensor(_places(groups), device=device) for groups in (self._regions, self._palettes)
        )
        self._counters, self._widths = self._numbers(device)
        self._placing = 1 + len(self._regions)
        reach = [[prop.region.jitter_m, prop.region.jitter_m, prop.region.yaw_rad] for prop in props]
        self._jitter, self._yaw = (2 * torch.tensor(reach, device=device).reshape(k, 3)).split([2, 1], -1)
        self._height = torch.tensor([prop.rest_height_m - SETTLED_M for prop in props], device=device)

    def draw(self, random: EpisodeRandom) -> Layout:
        n, k, device = len(random), len(self._props), random.device
        drawn = random.drawn(self._counters).split(self._widths, dim=1)
        turn, phrasing, *colours = drawn[self._placing :]
        flat = self._placed(drawn[: self._placing])
        return Layout(
            names=tuple(prop.name for prop in self._props),
            position=torch.cat((flat, self._height[:, None].expand(n, k, 1)), -1),
            quat=quat_from_yaw((turn - 0.5) * self._yaw[:, 0]),
            colour=_dealt(self._colours, colours, self._palettes)[:, self._by_palette],
            present=torch.ones(n, k, dtype=torch.bool, device=device),
            opening=torch.zeros(n, k, device=device),
            scale=torch.ones(n, k, device=device),
            phrasing=phrasing[:, 0],
        )

    def places(self, random: EpisodeRandom) -> Float[Tensor, "n k 2"]:
        widths = self._widths[: self._placing]
        return self._placed(random.drawn(self._counters[: sum(widths)]).split(widths, dim=1))

    def _placed(self, drawn: Sequence[Float[Tensor, "n _"]]) -> Float[Tensor, "n k 2"]:
        """(x, y) from displacements by slot and what deals out the cells of each region."""
        offset, *cells = drawn
        dealt = _dealt(self._cells, cells, self._regions)[:, self._by_region]
        return dealt + (offset.reshape(dealt.shape) - 0.5) * self._jitter

    def _numbers(self, device: torch.device) -> tuple[Int[Tensor, " m"], list[int]]:
        """The counters of all that is drawn, and how many there are of each kind.

        First what :meth:`_placed` takes, then turns by slot, the draw that chooses the words, and what deals out the
        colours of each palette.
        """
        jitter = counters(tuple((f"{region.name}/jitter", 2 * len(slots)) for region, slots in self._regions), device)
        yaw = counters(tuple((f"{region.name}/yaw", len(slots)) for region, slots in self._regions), device)
        parts = [
            jitter.reshape(-1, 2)[self._by_region].flatten(),
            *(counters(((f"{region.name}/cells", len(region.cells_m)),), device) for region, _ in self._regions),
            yaw[self._by_region],
            counters((("phrasing", 1),), device),
            *(counters(((f"colours/{'-'.join(palette)}", len(palette)),), device) for palette, _ in self._palettes),
        ]
        return torch.cat(parts), [len(part) for part in parts]


def _dealt(
    known: Sequence[Tensor], drawn: Sequence[Float[Tensor, "n c"]], groups: Sequence[tuple[Any, list[int]]]
) -> Tensor:
    """For the slots of each group different ones of what is ``known`` there; the same one where there is but one."""
    n = len(drawn[0])
    return torch.cat(
        [
            all_[order.argsort(1)[:, : len(slots)]] if len(all_) > 1 else all_.expand(n, len(slots), *all_.shape[1:])
            for all_, order, (_, slots) in zip(known, drawn, groups, strict=True)
        ],
        1,
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
