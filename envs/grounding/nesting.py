"""Puts a thing into a bin or an open drawer, or onto a mat or another thing, on some of the tables."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.batch import where_worlds
from envs.grounding.things import kind_of
from envs.props.base import Prop
from envs.props.drawer import tray_position
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout

NESTED = 0.4
"""In what share of the tables one thing is put in or on another, where there is room."""
_MOVED = ("cube", "die", "ball", "cylinder", "tile")
_FLOOR_M = {"bin": 0.004, "drawer": 0.004, "mat": 0.001}
"""What things lie on in or on a receiver, above its origin (above its tray's, for a drawer)."""
_STACKED = ("cube",)
_OUT_M = 0.1
"""A drawer takes things from so far out on."""
_ROOM_M = 0.065
_ASIDE_M = 0.02


def nested(layout: Layout, props: Sequence[Prop], random: EpisodeRandom) -> Layout:
    """``layout`` with one thing moved to a receiver that is clear of others, in a share ``NESTED`` of the worlds."""
    kinds = [kind_of(prop) for prop in props]
    device, k = layout.position.device, len(kinds)
    movable = torch.tensor([kind in _MOVED for kind in kinds], device=device)
    heights = torch.tensor([prop.rest_height_m for prop in props], device=device) * layout.scale
    spots, takes = _spots(layout, kinds, heights)
    pair = (movable & layout.present)[:, :, None] & (takes & layout.present)[:, None, :]
    pair &= ~torch.eye(k, dtype=torch.bool, device=device) & _clear(layout, spots)
    wish = random.uniform("nested/pair", k * k) * pair.flatten(1)
    best = wish.argmax(1)
    moved, receiver = best // k, best % k
    here = (random.uniform("nested", 1)[:, 0] < NESTED) & pair.flatten(1).any(1)
    rows = torch.arange(len(layout), device=device)
    aside = random.uniform("nested/aside", 2, -1.0, 1.0)
    stacked = torch.tensor([kind in _STACKED for kind in kinds], device=device)[receiver]
    aside = aside * torch.where(stacked, 0.2 * _ASIDE_M, _ASIDE_M)[:, None]
    place = spots[rows, receiver] + torch.cat((aside, heights[rows, moved][:, None]), 1)
    position = layout.position.clone()
    position[rows, moved] = place
    return replace(layout, position=where_worlds(here, position, layout.position))


def _spots(
    layout: Layout, kinds: Sequence[str], heights: Float[Tensor, "n k"]
) -> tuple[Float[Tensor, "n k 3"], Bool[Tensor, "n k"]]:
    """Where each thing would bear another, and whether it takes one."""
    spots, device = layout.position.clone(), layout.position.device
    takes = torch.zeros_like(layout.present)
    for slot, kind in enumerate(kinds):
        if kind == "drawer":
            where = (layout.position[:, slot], layout.quat[:, slot], layout.opening[:, slot])
            spots[:, slot] = tray_position(*where)
            takes[:, slot] = layout.opening[:, slot] > _OUT_M
        else:
            takes[:, slot] = kind in _FLOOR_M or kind in _STACKED
    floors = torch.tensor([_FLOOR_M.get(kind, 0.0) for kind in kinds], device=device)
    stacked = torch.tensor([kind in _STACKED for kind in kinds], device=device)
    spots[..., 2] += torch.where(stacked, heights, floors * layout.scale)
    return spots, takes


def _clear(layout: Layout, spots: Float[Tensor, "n k 3"]) -> Bool[Tensor, "n k k"]:
    """For each thing to be moved and each receiver: nothing else stands where it would go."""
    k = spots.shape[1]
    away = (spots[:, :, None, :2] - layout.position[:, None, :, :2]).norm(dim=-1)
    near = (away < _ROOM_M) & layout.present[:, None, :]
    near &= ~torch.eye(k, dtype=torch.bool, device=spots.device)
    others = near.sum(-1)[:, None, :] - near.transpose(1, 2).long()
    return others == 0
