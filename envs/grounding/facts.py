"""What the simulator knows of n tables: where each thing and part is, in the world and in each view, and its state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import torch
from jaxtyping import Bool, Float, Int, Int32
from torch import Tensor

from envs.batch import Batch
from envs.grounding.things import Piece
from envs.rotations import matrix_from_quat, rotate
from envs.scenes.layout import Layout
from envs.scenes.tabletop import Sensed, Tabletop
from envs.specs import extrinsics_key, intrinsics_key, segmentation_key

SEEN_SHARE = 0.001
"""A thing is seen where it covers at least this share of the picture: four pixels of 64 × 64."""
LEAST_PX = 4
_ON_TABLE_M = ((-0.1, 0.9), (-0.6, 0.6))
_UPRIGHT, _LYING = 0.9, 0.3
_OPEN, _SHUT = 0.5, 0.08
_CLOSE_M = 1e-3
_FARTHEST = 4.0
"""Pixels of points far outside of a picture, or behind its camera, are brought this near."""


@dataclass(frozen=True, kw_only=True)
class Facts(Batch):
    """n tables and p pieces, things and parts, in v views. World frame, metres.

    ``present``: on the table. ``colour`` indexes ``COLOUR_NAMES``. ``point_m`` is a piece's middle and ``half_m`` how
    far it reaches from there along the world's axes. ``open_state`` and ``upright_state`` are 1 for open and for
    upright, −1 for shut and for lying, 0 for neither or where it means nothing. ``pixel`` is where the middle is in
    each view, −1 … 1 from one edge of the picture to the other and beyond that outside of it, ``shown_px`` how many
    pixels show the piece, ``seen`` whether these are enough.
    """

    present: Bool[Tensor, "n p"]
    colour: Int[Tensor, "n p"]
    point_m: Float[Tensor, "n p 3"]
    half_m: Float[Tensor, "n p 3"]
    open_state: Int[Tensor, "n p"]
    upright_state: Int[Tensor, "n p"]
    pixel: Float[Tensor, "n p v 2"]
    shown_px: Int[Tensor, "n p v"]
    seen: Bool[Tensor, "n p v"]


class FactFinder:
    """Finds the :class:`Facts` of a scene's worlds; what does not change is looked up once."""

    def __init__(self, scene: Tabletop, found: Sequence[Piece], device: torch.device) -> None:
        self.pieces = tuple(found)
        model = scene.model

        def tensor(values: list[Any], dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        self._slots = tensor([piece.slot for piece in found], torch.long)
        self._centre = tensor([piece.centre_m for piece in found])
        self._half = tensor([piece.half_m for piece in found])
        self._moves = tensor([piece.moves for piece in found], torch.bool)
        joints = [_joint(model, scene.props[piece.slot].name) if piece.moves else _STILL for piece in found]
        self._hinged = tensor([joint.hinge for joint in joints], torch.bool)
        self._axis = tensor([joint.axis for joint in joints])
        self._anchor = tensor([joint.anchor_m for joint in joints])
        self._widest = tensor([joint.widest for joint in joints])
        opens = [piece.kind in ("drawer", "door") for piece in found]
        self._opens = tensor(opens, torch.bool)
        self._long = tensor([-1 if piece.axis is None else piece.axis for piece in found], torch.long)
        self.owned = torch.zeros(model.ngeom + 1, len(found), dtype=torch.bool, device=device)
        """Which geoms are whose, the last row for no geom at all."""
        for i, piece in enumerate(found):
            self.owned[list(piece.geoms), i] = True

    def find(self, sensed: Sensed, layout: Layout, observation: Mapping[str, Tensor], cameras: Sequence[str]) -> Facts:
        """The facts of the worlds of an observation with segmentation, by the keys of ``envs.specs``."""
        slots = self._slots
        opening = sensed.opening[:, slots]
        point, half, turned = self._placed(sensed, layout, opening)
        low, high = torch.tensor(_ON_TABLE_M, device=point.device).unbind(-1)
        here = ((point[..., :2] > low) & (point[..., :2] < high)).all(-1) & layout.present[:, slots]
        along = torch.take_along_dim(turned[..., 2, :], self._long.clamp_min(0)[None, :, None], 2)[..., 0].abs()
        share = opening / self._widest
        segmentation = torch.stack([observation[segmentation_key(camera)] for camera in cameras], 1)
        shown = self._shown(segmentation)
        height, width = segmentation.shape[-2:]
        pixels = [
            projected(point, observation[intrinsics_key(c)], observation[extrinsics_key(c)], (height, width))
            for c in cameras
        ]
        return Facts(
            present=here,
            colour=layout.colour[:, slots],
            point_m=point,
            half_m=half,
            open_state=_state(share, _OPEN, _SHUT) * self._opens,
            upright_state=_state(along, _UPRIGHT, _LYING) * (self._long >= 0),
            pixel=torch.stack(pixels, 2),
            shown_px=shown,
            seen=shown >= max(LEAST_PX, round(SEEN_SHARE * height * width)),
        )

    def cover(
        self, segmentation: Int32[Tensor, "n v h w"], table: Int[Tensor, " m"], piece: Int[Tensor, " m"]
    ) -> Bool[Tensor, "m v h w"]:
        """The pixels that show ``piece`` at ``table``, for m pairs of them."""
        owned = self.owned.T[piece]
        seen = segmentation[table].long().flatten(1)
        return owned.gather(1, torch.where(seen < 0, len(self.owned) - 1, seen)).reshape(-1, *segmentation.shape[1:])

    def _placed(
        self, sensed: Sensed, layout: Layout, opening: Float[Tensor, "n p"]
    ) -> tuple[Float[Tensor, "n p 3"], Float[Tensor, "n p 3"], Float[Tensor, "n p 3 3"]]:
        """Middles, half extents along the world's axes, and how the pieces are turned."""
        slots, scale = self._slots, layout.scale[:, self._slots, None]
        body = matrix_from_quat(sensed.quat[:, slots])
        angle = torch.where(self._hinged, opening, 0.0)
        half = angle[..., None] / 2
        swing = matrix_from_quat(torch.cat((half.cos(), half.sin() * self._axis), -1))
        slid = torch.where(self._moves & ~self._hinged, opening, 0.0)[..., None] * self._axis
        local = self._anchor + rotate(swing, self._centre - self._anchor) + slid
        turned = (body[..., :, :, None] * swing[..., None, :, :]).sum(-2)
        point = sensed.position[:, slots] + rotate(body, local * scale)
        return point, rotate(turned.abs(), self._half * scale), turned

    def _shown(self, segmentation: Int32[Tensor, "n v h w"]) -> Int[Tensor, "n p v"]:
        n, v = segmentation.shape[:2]
        seen = segmentation.long().reshape(n * v, -1)
        seen = torch.where(seen < 0, len(self.owned) - 1, seen)
        counts = torch.zeros(n * v, len(self.owned), device=segmentation.device)
        counts.scatter_add_(1, seen, torch.ones_like(seen, dtype=counts.dtype))
        return (counts @ self.owned.float()).long().reshape(n, v, -1).transpose(1, 2)


def projected(
    point_m: Float[Tensor, "n p 3"],
    intrinsics: Float[Tensor, "n 3 3"],
    T_world_cam: Float[Tensor, "n 4 4"],
    size_px: tuple[int, int],
) -> Float[Tensor, "n p 2"]:
    """Where points are in a picture of ``size_px`` (height, width): −1 … 1 from one edge to the other, x and y."""
    turn, eye = T_world_cam[:, None, :3, :3], T_world_cam[:, None, :3, 3]
    local = rotate(turn.mT, point_m - eye)
    ahead = local[..., 2:].clamp_min(_CLOSE_M)
    focal, middle = intrinsics[:, None, [0, 1], [0, 1]], intrinsics[:, None, :2, 2]
    size = torch.tensor(size_px[::-1], dtype=point_m.dtype, device=point_m.device)
    return ((focal * local[..., :2] / ahead + middle) * (2 / size) - 1).clamp(-_FARTHEST, _FARTHEST)


@dataclass(frozen=True, kw_only=True)
class _Joint:
    """How a moving part moves, in the frame of its thing's body."""

    hinge: bool = False
    axis: tuple[float, ...] = (0.0, 0.0, 0.0)
    anchor_m: tuple[float, ...] = (0.0, 0.0, 0.0)
    widest: float = 1.0


_STILL = _Joint()


def _joint(model: mujoco.MjModel, name: str) -> _Joint:
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    joint, body = model.joint(name).id, model.body(name).id
    return _Joint(
        hinge=bool(model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_HINGE),
        axis=tuple(data.xaxis[joint].tolist()),
        anchor_m=tuple((data.xanchor[joint] - data.xpos[body]).tolist()),
        widest=float(model.jnt_range[joint].max()),
    )


def _state(value: Float[Tensor, "n p"], yes: float, no: float) -> Int[Tensor, "n p"]:
    return (value > yes).long() - (value < no).long()
