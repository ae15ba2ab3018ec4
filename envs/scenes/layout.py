"""What is drawn for an episode: where each thing stands, its colour, and which of them the instruction means."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.props.base import Prop, Region
from envs.props.colours import COLOUR_NAMES
from envs.random import EpisodeRandom
from envs.rotations import quat_from_yaw

SETTLED_M = 7e-5
"""How far contacts give way under a thing that rests. Things start so deep, or engines that round differently would
differ in whether they touch at first.
"""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """n episodes of a scene with k things, its *slots*; metres, radians, world frame, quaternions wxyz.

    ``colour`` indexes ``COLOUR_NAMES``; ``scale`` is a thing's size relative to its prop's. Things that are not
    ``present`` are out of sight. ``opening`` is where a jointed thing's part starts. ``roles`` says which slot plays
    which part of the instruction, ``draws`` holds whatever else a task drew. ``phrasing`` in [0, 1) chooses the words.
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
        return values[torch.arange(len(slots), device=slots.device), slots]

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

    def updated(self, fresh: "Layout", mask: Bool[Tensor, " n"]) -> "Layout":
        """``fresh`` in the worlds of ``mask``, this layout elsewhere."""

        def choose(old: Tensor, new: Tensor) -> Tensor:
            return torch.where(mask.reshape(-1, *(1,) * (old.dim() - 1)), new, old)

        merged: dict[str, object] = {}
        for name in (f.name for f in fields(self) if f.name != "names"):
            old, new = getattr(self, name), getattr(fresh, name)
            merged[name] = (
                choose(old, new) if isinstance(old, Tensor) else {key: choose(old[key], new[key]) for key in old}
            )
        return replace(self, **merged)


def scatter(random: EpisodeRandom, props: Sequence[Prop]) -> Layout:
    """All of ``props`` in drawn cells, turns and colours; nobody plays a role yet.

    ``ValueError`` if a region has fewer cells, or a palette (of more than one colour) fewer colours, than things that
    draw from it.
    """
    n, k, device = len(random), len(props), random.device
    position, yaw_rad = torch.zeros(n, k, 3, device=device), torch.zeros(n, k, device=device)
    colour = torch.zeros(n, k, dtype=torch.long, device=device)
    for region, slots in _grouped(props, lambda prop: prop.region).items():
        position[:, slots, :2] = _cells(random, region, len(slots))
        yaw_rad[:, slots] = random.uniform(f"{region.name}/yaw", len(slots), -region.yaw_rad, region.yaw_rad)
    position[..., 2] = torch.tensor([prop.rest_height_m - SETTLED_M for prop in props], device=device)
    for palette, slots in _grouped(props, lambda prop: prop.palette).items():
        if len(palette) == 1:
            colour[:, slots] = COLOUR_NAMES.index(palette[0])
            continue
        if len(slots) > len(palette):
            raise ValueError(f"{len(slots)} things need different colours, but {palette} has {len(palette)}")
        choice = torch.tensor([COLOUR_NAMES.index(name) for name in palette], device=device)
        order = random.permutation(f"colours/{'-'.join(palette)}", len(palette))
        colour[:, slots] = choice[order[:, : len(slots)]]
    return Layout(
        names=tuple(prop.name for prop in props),
        position=position,
        quat=quat_from_yaw(yaw_rad),
        colour=colour,
        present=torch.ones(n, k, dtype=torch.bool, device=device),
        opening=torch.zeros(n, k, device=device),
        scale=torch.ones(n, k, device=device),
        phrasing=random.uniform("phrasing", 1)[:, 0],
    )


def _cells(random: EpisodeRandom, region: Region, count: int) -> Float[Tensor, "n count 2"]:
    if count > len(region.cells_m):
        raise ValueError(f"region {region.name!r} has {len(region.cells_m)} cells for {count} things")
    cells = torch.tensor(region.cells_m, device=random.device)
    order = random.permutation(f"{region.name}/cells", len(cells))[:, :count]
    jitter = random.uniform(f"{region.name}/jitter", 2 * count, -region.jitter_m, region.jitter_m)
    return cells[order] + jitter.reshape(len(random), count, 2)


def _grouped(props: Sequence[Prop], key: Callable[[Prop], Any]) -> dict[Any, list[int]]:
    """Slots by what ``key`` says of their things, in order of first appearance."""
    groups: dict[Any, list[int]] = {}
    for slot, prop in enumerate(props):
        groups.setdefault(key(prop), []).append(slot)
    return groups
