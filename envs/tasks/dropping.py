"""Expert moves that bring things into trays: bins and drawers."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.constants import constant
from envs.props.bin import BIN_HALF_M
from envs.props.block import CUBE_HALF_M
from envs.scenes.tabletop import Sensed
from envs.tasks.motion import GRASP_WITHIN_M, Width, carry, holds, let_go, lift, move_to

CARRY_M = 0.14
LET_FALL_M = 0.07
CRUISE_M = 0.13
RELEASE_M = 0.057
SPREAD_M = 0.03


def put_into(
    sensed: Sensed,
    thing: Float[Tensor, "n 3"],
    receiver: Float[Tensor, "n 3"],
    width_m: Width = 2 * CUBE_HALF_M,
    within_m: float = GRASP_WITHIN_M,
) -> Float[Tensor, "n 7"]:
    """Grasp ``thing`` as ``lift`` does, carry it over the middle of ``receiver``, and let it fall."""
    grasp = lift(sensed, thing, CARRY_M, width_m, within_m)
    held = holds(sensed, thing, width_m)
    sideways = (receiver - thing)[:, :2].norm(dim=-1)
    # A funnel upwards and then down: rise before moving, move, then lower over the receiver.
    high_enough = (sensed.tool_position[:, 2] > CARRY_M - 0.03) | (sideways < 0.08)
    height = LET_FALL_M + (3 * (sideways - 0.015)).clamp(0, CARRY_M - LET_FALL_M)
    over_bin = torch.cat((receiver[:, :2], height[:, None]), -1)
    release = (sideways < 0.04) & (sensed.tool_position[:, 2] < LET_FALL_M + 0.045)
    carried = move_to(sensed, over_bin, (~release).float())
    # Once let go inside, back off upwards with the fingers open.
    released = (sideways < BIN_HALF_M) & (thing[:, 2] < LET_FALL_M + 0.045) & ~held
    up = torch.cat((sensed.tool_position[:, :2], torch.full_like(height[:, None], CARRY_M)), -1)
    retreat = move_to(sensed, up, torch.zeros_like(height))
    action = torch.where((held & high_enough)[:, None], carried, grasp)
    return torch.where(released[:, None], retreat, action)


def drop_into(
    sensed: Sensed,
    things: Float[Tensor, "n k 3"],
    slot: Int[Tensor, " n"],
    receiver: Float[Tensor, "n 3"],
    spots_m: Sequence[tuple[float, float]],
    width_m: Width,
    lies: Bool[Tensor, " n"],
    size: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, "n 7"]:
    """Carry the cube in ``slot`` of ``things``, ``width_m`` wide, to the freest spot of ``receiver``.

    ``spots_m`` are (x, y) from the receiver's middle; the freest is the one from which other things are farthest.
    From what already ``lies`` in the receiver the tool withdraws. ``size`` is the receiver's, by which spots lie apart;
    1 when None.
    """
    cube = things[torch.arange(len(slot), device=slot.device), slot]
    spots = constant([(x, y) for x, y in spots_m], receiver.device)
    spots = spots.expand(len(slot), -1, 2) if size is None else size[:, None, None] * spots
    goal = _free_spot(receiver, things, slot, spots)
    offset = goal - cube
    near_m = torch.where(sensed.gap > width_m + 0.006, 0.03, 0.01)
    released = lies | ((offset[:, :2].norm(dim=-1) < near_m) & (offset[:, 2].abs() < 0.005))
    bring = carry(sensed, cube, goal, cruise_m=CRUISE_M, width_m=width_m)
    return torch.where(released[:, None], let_go(sensed, width_m), bring)


def _free_spot(
    receiver: Float[Tensor, "n 3"],
    things: Float[Tensor, "n k 3"],
    slot: Int[Tensor, " n"],
    spots_m: Float[Tensor, "n m 2"],
) -> Float[Tensor, "n 3"]:
    """Where to drop the thing in ``slot``."""
    spots = receiver[:, None] + torch.nn.functional.pad(spots_m, (0, 1), value=RELEASE_M)
    apart = (spots[:, :, None, :2] - things[:, None, :, :2]).norm(dim=-1)
    itself = torch.arange(things.shape[1], device=slot.device) == slot[:, None]
    free_m = torch.where(itself[:, None], torch.inf, apart).amin(-1).clamp_max(2 * SPREAD_M - 0.01)
    # Where several are as free, the first.
    best = (free_m - 1e-4 * torch.arange(spots_m.shape[1], device=slot.device)).argmax(-1)
    return spots[torch.arange(len(best), device=best.device), best]
