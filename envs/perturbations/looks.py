"""Colours and patterns of things.

MuJoCo Warp draws textures on planes alone, so things get their pattern from thin bands of a second colour, which touch
nothing and weigh nothing.
"""

from collections.abc import Sequence

import mujoco
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from envs.perturbations.colour import contrasting, hsv_from_rgb, opaque, rgb_from_hsv
from envs.perturbations.effect import Effect, Role, applied, draw, slots_of, sometimes
from envs.perturbations.spec import Bands, Perturbation, Shade
from envs.props.base import Prop
from envs.props.colours import COLOURS
from envs.random import EpisodeRandom
from envs.rotations import matrix_from_quat
from envs.scenes.layout import Layout
from envs.scenes.tabletop import Tabletop
from envs.world import World

_PROUD_M = 0.0004
_SPECK_M = 1e-5
_OFFSET = 0.5
_BOX, _SPHERE = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_SPHERE
_ROUND = (_SPHERE, mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_CAPSULE)


class Looks(Effect):
    """Shade and bands of the things of one role."""

    fields = ("geom_rgba",)

    def __init__(
        self, role: Role, shade: Shade | None, bands: Bands | None, given: Perturbation, props: Sequence[Prop]
    ) -> None:
        self._role, self._shade, self._bands, self._given = role, shade, bands, given
        self._slots = slots_of(role, props)
        self._painted = [(name, slot) for slot in self._slots for name in props[slot].painted]
        if bands is not None:
            self.fields += ("geom_size", "geom_pos")

    def build(self, spec: mujoco.MjSpec) -> None:
        if self._bands is None:
            return
        for name, _ in self._painted:
            geom = next(geom for geom in spec.geoms if geom.name == name)
            if geom.type not in (_BOX, *_ROUND):
                continue
            for axis in _long_axes(geom):
                geom.parent.add_geom(
                    name=_band(name, axis),
                    type=_BOX if geom.type == _BOX else mujoco.mjtGeom.mjGEOM_CYLINDER,
                    pos=geom.pos,
                    quat=_turned(geom, axis),
                    size=_extents(geom) + _PROUD_M,
                    mass=0,
                    contype=0,
                    conaffinity=0,
                    group=geom.group,
                )

    def bind(self, scene: Tabletop) -> None:
        model, device = scene.model, scene.home_rad.device
        self._palette = torch.tensor(list(COLOURS.values()), device=device)
        names = [model.geom(geom).name for geom in range(model.ngeom)]
        self._geoms = [names.index(name) for name, _ in self._painted]
        self._geom_slots = [slot for _, slot in self._painted]
        found = [
            (names.index(_band(name, axis)), i, axis)
            for i, (name, _) in enumerate(self._painted)
            for axis in range(3)
            if _band(name, axis) in names
        ]
        self._band_geoms = [geom for geom, _, _ in found]
        self._band_of = [i for _, i, _ in found]
        self._band_axis = torch.tensor([axis for _, _, axis in found], device=device)
        self._band_slots = [self._geom_slots[i] for i in self._band_of]
        on = [self._geoms[i] for i in self._band_of]
        self._is_box = torch.tensor([model.geom_type[geom] == _BOX for geom in on], device=device)
        self._half = torch.tensor(model.geom_size[on].reshape(-1, 3), dtype=torch.float32, device=device)
        self._centre = torch.tensor(model.geom_pos[on].reshape(-1, 3), dtype=torch.float32, device=device)
        self._frames = torch.tensor(model.geom_quat[on].reshape(-1, 4), dtype=torch.float32, device=device)

    def apply(self, world: World, layout: Layout, random: EpisodeRandom, worlds: Int[Tensor, " k"]) -> None:
        rgb = self._palette[layout.colour[:, self._geom_slots]]
        if self._shade is not None:
            shaded = _shaded(rgb, self._geom_slots, self._shade, random.fork(self._role))
            rgb = sometimes(self._given, f"{self._role}_colour", random, shaded, rgb)
            world.set_field("geom_rgba", self._geoms, opaque(rgb), worlds)
        if self._bands is not None and self._band_geoms:
            scale = layout.scale[:, self._band_slots, None]
            self._apply_bands(world, rgb, scale, self._bands, random, worlds)

    def _apply_bands(
        self,
        world: World,
        rgb: Float[Tensor, "n g 3"],
        scale: Float[Tensor, "n b 1"],
        bands: Bands,
        random: EpisodeRandom,
        worlds: Int[Tensor, " k"],
    ) -> None:
        """Width and place along its axis are drawn for each axis of each thing, so that its parts match.

        Where bands are not applied they shrink to a speck in the middle of their part.
        """
        n = len(random)
        contrast = draw(random, f"{self._role}_contrast", bands.contrast)
        second = contrasting(rgb, contrast)[:, self._band_of]
        world.set_field("geom_rgba", self._band_geoms, opaque(second), worlds)
        k = 3 * (max(self._band_slots) + 1)
        per_thing = 3 * torch.tensor(self._band_slots, device=rgb.device) + self._band_axis
        width = draw(random, f"{self._role}_width", bands.width, k)[:, per_thing]
        offset = draw(random, f"{self._role}_offset", (-_OFFSET, _OFFSET), k)[:, per_thing]
        along = torch.nn.functional.one_hot(self._band_axis, 3).float()
        box = (self._half * (1 - along) + self._half * along * width[..., None]) * scale + _PROUD_M * (1 - along)
        radius, height = self._half[:, 0], torch.where(self._half[:, 1] > 0, self._half[:, 1], self._half[:, 0])
        ring = torch.stack((radius.expand(n, -1), height * width, torch.zeros_like(width)), -1) * scale
        ring[..., 0] += _PROUD_M
        size = torch.where(self._is_box[:, None], box, ring)
        shift = torch.where(self._is_box, offset, 0.0)[..., None] * along * self._half
        shift = (matrix_from_quat(self._frames) @ shift[..., None]).squeeze(-1)
        here = applied(self._given, f"{self._role}_texture", random)[:, None, None]
        size = torch.where(here, size, _SPECK_M)
        position = torch.where(here, self._centre + shift, self._centre) * scale
        world.set_field("geom_size", self._band_geoms, size, worlds)
        world.set_field("geom_pos", self._band_geoms, position, worlds)


def _shaded(
    rgb: Float[Tensor, "n g 3"], slots: Sequence[int], shade: Shade, random: EpisodeRandom
) -> Float[Tensor, "n g 3"]:
    """One shade for each thing, whatever the number of its geoms."""
    k = max(slots) + 1
    turn, faded, darker = (
        draw(random, name, span, k)[:, slots]
        for name, span in (("hue", shade.hue_rad), ("saturation", shade.saturation), ("value", shade.value))
    )
    tint, any_hue = (
        draw(random, "tint", (0.0, shade.tint), k)[:, slots],
        draw(random, "any_hue", (0.0, 6.28), k)[:, slots],
    )
    hue, saturation, value = hsv_from_rgb(rgb).unbind(-1)
    grey = saturation < 0.15
    hue = torch.where(grey, any_hue, hue + turn)
    saturation = torch.where(grey, saturation + tint, saturation * faded)
    # Black, times anything, stays black: dark things get lighter instead.
    value = torch.where(value < 0.2, value + 0.3 * (1 - darker).clamp_min(0), (value * darker).clamp(max=1.0))
    return rgb_from_hsv(torch.stack((hue, saturation.clamp(0, 1), value), -1))


def _band(geom: str, axis: int) -> str:
    return f"{geom}/band{axis}"


def _long_axes(geom: mujoco.MjsGeom) -> list[int]:
    """Across which axes its bands go: a box's two longest, the last of round things."""
    if geom.type != _BOX:
        return [0, 2] if geom.type == _SPHERE else [2]
    return sorted(sorted(range(3), key=lambda axis: -float(geom.size[axis]))[:2])


def _extents(geom: mujoco.MjsGeom) -> np.ndarray:
    return geom.size if geom.type != _SPHERE else np.full(3, geom.size[0])


def _turned(geom: mujoco.MjsGeom, axis: int) -> list[float]:
    """A ring around a ball's x axis is a cylinder lying down."""
    return [0.5**0.5, 0.0, 0.5**0.5, 0.0] if geom.type == _SPHERE and axis == 0 else list(geom.quat)
