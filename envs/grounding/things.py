"""The things of a scene and their named parts: what may be referred to, and which pixels and points are theirs."""

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from envs.perturbations.effect import geoms_of, subtree
from envs.props.base import Prop
from envs.props.bin import Bin, tray_panels
from envs.props.block import Block
from envs.props.button import PushButton
from envs.props.cover import Cover
from envs.props.door import HingedDoor
from envs.props.drawer import DrawerUnit
from envs.props.mat import Mat
from envs.props.slider import Slider
from envs.props.socket import Socket
from envs.props.tee import Tee, TeeMark

_CUBE_FROM_M = 0.0175
"""Half an edge; smaller cubes are dice."""
_WHOLE: tuple[tuple[type[Prop], str], ...] = (
    (Bin, "bin"),
    (PushButton, "button"),
    (Cover, "box"),
    (HingedDoor, "door"),
    (DrawerUnit, "drawer"),
    (Mat, "mat"),
    (Slider, "slider"),
    (Socket, "socket"),
    (Tee, "tee"),
    (TeeMark, "mark"),
)
_TAKEN_BY = {"drawer": "knob", "door": "handle"}
_BANDS = "/band"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A thing, or a part of one, in ``slot``; ``kind`` is one of ``envs.grounding.vocabulary.NOUNS``.

    ``centre_m`` and ``half_m`` are the middle and half extents of what ``geoms`` fill (a drawer or door without what
    it is taken by), in the frame of the thing's body as built, its joint at 0. Where it ``moves`` it goes with that
    joint. ``axis`` is what a long thing is long along.
    """

    slot: int
    kind: str
    part: bool
    geoms: tuple[int, ...]
    moves: bool
    centre_m: tuple[float, float, float]
    half_m: tuple[float, float, float]
    axis: int | None = None


def pieces(model: mujoco.MjModel, props: Sequence[Prop]) -> tuple[Piece, ...]:
    """All that may be referred to in a compiled scene: every thing, then its parts. ``TypeError`` for a new kind."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    found: list[Piece] = []
    for slot, prop in enumerate(props):
        found += _of_prop(model, data, slot, prop)
    return tuple(found)


def kind_of(prop: Prop) -> str:
    """What kind of thing it is, blocks by their shape and size."""
    if isinstance(prop, Block):
        return prop.shape if prop.shape != "cube" else _box_kind(prop.half_m)
    for cls, kind in _WHOLE:
        if isinstance(prop, cls):
            return kind
    raise TypeError(f"nothing says what a {type(prop).__name__} is called: name it in envs.grounding.things")


def _box_kind(half_m: tuple[float, float, float]) -> str:
    short, middle, long = sorted(half_m)
    if long < 1.15 * short:
        return "cube" if long > _CUBE_FROM_M else "die"
    if long > 3 * middle:
        return "peg"
    if half_m[2] == long:
        return "post"
    return "tile" if short < 0.7 * middle else "bar"


def _of_prop(model: mujoco.MjModel, data: mujoco.MjData, slot: int, prop: Prop) -> list[Piece]:
    root, *below = subtree(model, prop.name)
    still, moving = geoms_of(model, [root]), geoms_of(model, below)
    kind = kind_of(prop)

    def piece(
        kind: str, geoms: Sequence[int], moves: bool = False, part: bool = True, without: Sequence[int] = ()
    ) -> Piece:
        centre, half = _box(model, data, root, [geom for geom in geoms if geom not in without])
        axis = int(np.argmax(half)) if kind in ("bar", "peg", "post") else None
        return Piece(
            slot=slot,
            kind=kind,
            part=part,
            geoms=tuple(geoms),
            moves=moves,
            centre_m=centre,
            half_m=half,
            axis=axis,
        )

    def named(name: str) -> list[int]:
        names = {geom: model.geom(geom).name for geom in (*still, *moving)}
        return [geom for geom, each in names.items() if each.partition(_BANDS)[0] == f"{prop.name}/{name}"]

    if kind in _TAKEN_BY:
        name, handle = _TAKEN_BY[kind], named(_TAKEN_BY[kind])
        panels = [geom for panel in ("panel", *tray_panels()) for geom in named(panel)]
        without = [geom for geom in moving if geom not in panels]
        parts = [piece(f"{kind} {name}", handle, moves=True), piece(f"{kind} case", still)]
        return [piece(kind, moving, moves=True, part=False, without=without), *parts]
    if kind == "slider":
        return [piece(kind, moving, moves=True, part=False), piece("rail", still)]
    whole = piece(kind, [*still, *moving], part=False)
    return [whole, piece("stem", named("stem")), piece("crossbar", named("bar"))] if kind == "tee" else [whole]


def _box(
    model: mujoco.MjModel, data: mujoco.MjData, root: int, geoms: Sequence[int]
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Middle and half extents of the smallest box along the body's axes around some geoms, but for their bands."""
    solid = [geom for geom in geoms if _BANDS not in model.geom(geom).name]
    corners = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), -1).reshape(-1, 3)
    points = []
    for geom in solid:
        centre, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
        points.append(data.geom_xpos[geom] + (centre + corners * half) @ data.geom_xmat[geom].reshape(3, 3).T)
    local = (np.concatenate(points) - data.xpos[root]) @ data.xmat[root].reshape(3, 3)
    low, high = local.min(0), local.max(0)
    middle, half = (low + high) / 2, (high - low) / 2
    return tuple(middle.tolist()), tuple(half.tolist())
