"""Colours and patterns of things, of the table and of the floor around it.

MuJoCo Warp draws textures on planes alone, so things get their pattern from thin bands of a second colour, which touch
nothing and weigh nothing; the table gets a cover, a plane just over its top.
"""

from collections.abc import Sequence

import mujoco
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.perturbations.colour import contrasting, hsv_from_rgb, rgb_from_hsv
from envs.perturbations.effect import Effect, Role, draw, slots_of
from envs.perturbations.spec import Bands, Paint, Shade, Texture
from envs.props.base import Prop
from envs.props.colours import COLOURS
from envs.random import EpisodeRandom
from envs.rotations import matrix_from_quat
from envs.scenes.layout import Layout
from envs.scenes.tabletop import FLOOR, TABLE, Tabletop
from envs.world import World

_PROUD_M = 0.0004
_COVER_M = 0.0002
_OFFSET = 0.5
_BOX, _SPHERE = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_SPHERE
_ROUND = (_SPHERE, mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_CAPSULE)
_WHITE, _DARK = [1.0, 1.0, 1.0], [0.35, 0.35, 0.35]


class Looks(Effect):
    """Shade and bands of the things of one role."""

    fields = ("geom_rgba",)

    def __init__(self, role: Role, shade: Shade | None, bands: Bands | None, props: Sequence[Prop]) -> None:
        self._role, self._shade, self._bands = role, shade, bands
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

    def apply(self, world: World, layout: Layout, random: EpisodeRandom, mask: Bool[Tensor, " n"]) -> None:
        rgb = self._palette[layout.colour[:, self._geom_slots]]
        if self._shade is not None:
            rgb = _shaded(rgb, self._geom_slots, self._shade, random.fork(self._role))
            world.set_field("geom_rgba", self._geoms, _opaque(rgb), mask)
        if self._bands is not None and self._band_geoms:
            scale = layout.scale[:, self._band_slots, None]
            self._apply_bands(world, rgb, scale, self._bands, random, mask)

    def _apply_bands(
        self,
        world: World,
        rgb: Float[Tensor, "n g 3"],
        scale: Float[Tensor, "n b 1"],
        bands: Bands,
        random: EpisodeRandom,
        mask: Bool[Tensor, " n"],
    ) -> None:
        """Width and place along its axis are drawn for each axis of each thing, so that its parts match."""
        n = len(random)
        contrast = draw(random, f"{self._role}_contrast", bands.contrast)
        second = contrasting(rgb, contrast)[:, self._band_of]
        world.set_field("geom_rgba", self._band_geoms, _opaque(second), mask)
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
        world.set_field("geom_size", self._band_geoms, size, mask)
        world.set_field("geom_pos", self._band_geoms, (self._centre + shift) * scale, mask)


class Ground(Effect):
    """Colour and pattern of the table's top, or of the floor."""

    def __init__(self, surface: str, paint: Paint | None, texture: Texture | None) -> None:
        self._surface, self._paint, self._texture = surface, paint, texture
        self._materials = [f"{surface}/{name}" for name in texture.names] if texture else []
        self._plane = f"{TABLE}/cover" if surface == TABLE and texture else surface
        self.fields = ("geom_rgba",) if paint else ()
        if texture:
            self.fields += ("geom_matid", "mat_rgba")

    def build(self, spec: mujoco.MjSpec) -> None:
        if self._texture is None:
            return
        surface = next(geom for geom in spec.geoms if geom.name == self._surface)
        for name, material in zip(self._texture.names, self._materials, strict=True):
            _add_texture(spec, name, material)
            made = spec.add_material(
                name=material, rgba=surface.rgba, texrepeat=_REPEAT[self._surface], texuniform=True
            )
            made.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = material
        if self._surface == TABLE:
            top = float(surface.pos[2] + surface.size[2])
            surface = spec.worldbody.add_geom(
                name=self._plane,
                type=mujoco.mjtGeom.mjGEOM_PLANE,
                pos=(*surface.pos[:2], top + _COVER_M),
                size=(*surface.size[:2], 1),
                rgba=surface.rgba,
                contype=0,
                conaffinity=0,
            )
        surface.material = self._materials[0]

    def bind(self, scene: Tabletop) -> None:
        model, device = scene.model, scene.home_rad.device
        self._geoms = list(dict.fromkeys((model.geom(self._surface).id, model.geom(self._plane).id)))
        self._material_ids = [model.material(name).id for name in self._materials]
        self._rgb = torch.tensor(model.geom(self._surface).rgba[:3], dtype=torch.float32, device=device)

    def apply(self, world: World, layout: Layout, random: EpisodeRandom, mask: Bool[Tensor, " n"]) -> None:
        n = len(random)
        if self._paint is not None:
            other = draw(random, f"{self._surface}_colour", self._paint.rgb, 3)
            amount = draw(random, f"{self._surface}_amount", self._paint.amount)
            rgba = _opaque(self._rgb + amount * (other - self._rgb))[:, None]
            world.set_field("geom_rgba", self._geoms, rgba.expand(n, len(self._geoms), 4), mask)
            if self._texture is not None:
                world.set_field("mat_rgba", self._material_ids, rgba.expand(n, len(self._material_ids), 4), mask)
        if self._texture is not None:
            choice = random.integers(f"{self._surface}_texture", 1, len(self._material_ids))
            materials = torch.tensor(self._material_ids, dtype=torch.int32, device=random.device)
            world.set_field("geom_matid", self._geoms[-1:], materials[choice], mask)


_REPEAT = {TABLE: [8.0, 8.0], FLOOR: [4.0, 4.0]}
"""Tiles per two metres."""


def _add_texture(spec: mujoco.MjSpec, kind: str, name: str) -> None:
    """A procedural texture of 64 × 64 px, white and grey, to be multiplied with a colour."""
    builtin, mark = mujoco.mjtBuiltin, mujoco.mjtMark
    made = {
        "checker": (builtin.mjBUILTIN_CHECKER, mark.mjMARK_NONE),
        "gradient": (builtin.mjBUILTIN_GRADIENT, mark.mjMARK_NONE),
        "tiles": (builtin.mjBUILTIN_FLAT, mark.mjMARK_EDGE),
        "speckles": (builtin.mjBUILTIN_FLAT, mark.mjMARK_RANDOM),
    }[kind]
    spec.add_texture(
        name=name,
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=made[0],
        mark=made[1],
        rgb1=_WHITE,
        rgb2=_DARK if kind != "tiles" and kind != "speckles" else _WHITE,
        markrgb=_DARK,
        random=0.15,
        width=64,
        height=64,
    )


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


def _opaque(rgb: Float[Tensor, "... 3"]) -> Float[Tensor, "... 4"]:
    return torch.cat((rgb, torch.ones_like(rgb[..., :1])), -1)


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
