"""Colours and patterns of the table's top and of the floor around it.

MuJoCo Warp draws textures on planes alone, so the table gets a cover, a plane just over its top.
"""

import mujoco
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.perturbations.colour import HUES, in_sixth, opaque, sixth
from envs.perturbations.effect import Effect, applied, draw, read, sometimes
from envs.perturbations.spec import Paint, Perturbation, Texture
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout
from envs.scenes.tabletop import FLOOR, TABLE, Tabletop
from envs.world import World

_COVER_M = 0.0002
_HIDDEN_M = 0.01
_PLAIN = -1
"""In ``geom_matid``: no material."""
_WHITE, _DARK = [1.0, 1.0, 1.0], [0.35, 0.35, 0.35]


class Ground(Effect):
    """Colour and pattern of the table's top, or of the floor."""

    def __init__(self, surface: str, paint: Paint | None, texture: Texture | None, given: Perturbation) -> None:
        self._surface, self._paint, self._texture, self._given = surface, paint, texture, given
        self._axis = "table" if surface == TABLE else "background"
        self._materials = [f"{surface}/{name}" for name in texture.names] if texture else []
        self._plane = f"{TABLE}/cover" if surface == TABLE and texture else surface
        self.fields = ("geom_rgba",) if paint else ()
        if texture:
            self.fields += ("mat_rgba", "geom_matid", *(("geom_pos",) if surface == TABLE else ()))

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
        self._cover_m = read(model, "geom_pos", device)[self._geoms[-1]]
        self._rgb = torch.tensor(model.geom(self._surface).rgba[:3], dtype=torch.float32, device=device)

    def apply(self, world: World, layout: Layout, random: EpisodeRandom, worlds: Int[Tensor, " k"]) -> None:
        n = len(random)
        rgb = self._rgb.expand(n, 3)
        if self._paint is not None:
            rgb = sometimes(self._given, f"{self._axis}_colour", random, self._painted(self._paint, random), self._rgb)
            world.set_field("geom_rgba", self._geoms, opaque(rgb)[:, None].expand(n, len(self._geoms), 4), worlds)
        if self._texture is not None:
            rgba = opaque(rgb)[:, None].expand(n, len(self._material_ids), 4)
            world.set_field("mat_rgba", self._material_ids, rgba, worlds)
            choice = random.integers(f"{self._surface}_texture", 1, len(self._material_ids))
            known = torch.tensor(self._material_ids, dtype=torch.int32, device=random.device)
            self._lay(world, known[choice], applied(self._given, f"{self._axis}_texture", random)[:, None], worlds)

    def _painted(self, paint: Paint, random: EpisodeRandom) -> Float[Tensor, "n 3"]:
        other = draw(random, f"{self._surface}_colour", paint.rgb, 3)
        amount = draw(random, f"{self._surface}_amount", paint.amount)
        rgb = self._rgb + amount * (other - self._rgb)
        if set(paint.hues) == set(HUES):
            return rgb
        hues = torch.tensor([HUES.index(name) for name in paint.hues], device=rgb.device)
        drawn = hues[random.integers(f"{self._surface}_hue", 1, len(hues))[:, 0]]
        fits = torch.isin(sixth(rgb), hues)
        return torch.where(fits[:, None], rgb, in_sixth(rgb, drawn))

    def _lay(
        self, world: World, materials: Int[Tensor, "n 1"], here: Bool[Tensor, "n 1"], worlds: Int[Tensor, " k"]
    ) -> None:
        """A pattern on the surface where it is ``here``; elsewhere the table's cover is inside of the table."""
        patterned = self._geoms[-1:]
        if self._surface == TABLE:
            height = torch.where(here, self._cover_m[2], self._cover_m[2] - _HIDDEN_M)
            place = torch.cat((self._cover_m[:2].expand(len(height), 2), height), -1)
            world.set_field("geom_pos", patterned, place[:, None], worlds)
        else:
            materials = torch.where(here, materials, _PLAIN)
        world.set_field("geom_matid", patterned, materials, worlds)


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
