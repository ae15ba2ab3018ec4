"""Sizes, masses and friction of things, with every field of the model that follows from them."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from envs.perturbations.effect import Effect, Role, draw, geoms_of, read, slots_of, sometimes, subtree
from envs.perturbations.spec import Perturbation, Scaled, Size
from envs.props.base import Prop
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout
from envs.scenes.tabletop import TABLE_TOP, Tabletop
from envs.world import World

_LENGTHS = ("geom_size", "geom_pos", "geom_rbound", "geom_aabb", "body_ipos")
_MASSES = ("body_mass", "body_inertia", "body_subtreemass", "body_invweight0", "dof_invweight0", "dof_M0")


class Bodies(Effect):
    """Sizes and masses of what can be carried, sizes of what only stands.

    With λ the factor of length and μ a factor of mass beside it, masses go with μλ³ and inertias with μλ⁵.
    """

    def __init__(self, given: Perturbation, props: Sequence[Prop]) -> None:
        self._given = given
        self._weighed = [slot for slot in slots_of("object", props) if given.mass and props[slot].motion == "free"]
        sizes: dict[Role, Size | None] = {"object": given.object_size, "receiver": given.receiver_size}
        self._sized: dict[Role, tuple[Size, list[int]]] = {
            role: (size, [slot for slot in slots_of(role, props) if _may_grow(props[slot])])
            for role, size in sizes.items()
            if size is not None
        }
        slots = {slot for _, each in self._sized.values() for slot in each}
        self._props = {slot: props[slot] for slot in sorted(slots | set(self._weighed))}
        self.fields = (*(_LENGTHS if slots else ()), *(_MASSES if self._props else ()))

    def bind(self, scene: Tabletop) -> None:
        model, device = scene.model, scene.home_rad.device
        self._slots, self._bodies, self._geom_slots, self._geoms = [], [], [], []
        self._dof_slots, self._dofs = [], []
        for slot, prop in self._props.items():
            body = model.body(prop.name).id
            geoms = geoms_of(model, [body])
            dofs = range(model.body_dofadr[body], model.body_dofadr[body] + model.body_dofnum[body])
            self._slots, self._bodies = [*self._slots, slot], [*self._bodies, body]
            self._geoms, self._geom_slots = [*self._geoms, *geoms], self._geom_slots + [slot] * len(geoms)
            self._dofs, self._dof_slots = [*self._dofs, *dofs], self._dof_slots + [slot] * len(dofs)
        self._turning = torch.tensor([i % 6 >= 3 for i in range(len(self._dofs))], device=device)
        self._built = {name: read(model, name, device) for name in self.fields}
        self._heights = torch.tensor([prop.rest_height_m for prop in scene.props], device=device)

    def arrange(self, layout: Layout, random: EpisodeRandom) -> Layout:
        """Things stand higher or lower with their size, never inside what is under them."""
        factors = self._scales(layout, random)
        height = layout.position[..., 2]
        grown = torch.maximum(height * factors, height + (factors - 1) * self._heights)
        position = layout.position.clone()
        position[..., 2] = torch.where(factors == 1, height, grown)
        return replace(layout, position=position, scale=factors)

    def apply(self, world: World, layout: Layout, random: EpisodeRandom, worlds: Int[Tensor, " k"]) -> None:
        length = layout.scale
        mass = length**3
        if self._given.mass is not None:
            factor = draw(random, "mass", self._given.mass.factor)
            mass[:, self._weighed] *= sometimes(self._given, "mass", random, factor, 1.0)
        inertia = mass * length**2
        if "geom_size" in self.fields:
            for name in ("geom_size", "geom_pos", "geom_rbound", "geom_aabb"):
                self._scale(world, name, self._geoms, length[:, self._geom_slots], worlds)
            self._scale(world, "body_ipos", self._bodies, length[:, self._slots], worlds)
        if not self._bodies:
            return
        self._scale(world, "body_mass", self._bodies, mass[:, self._slots], worlds)
        self._scale(world, "body_inertia", self._bodies, inertia[:, self._slots], worlds)
        of_body = torch.stack((1 / mass, 1 / inertia), -1)[:, self._slots]
        self._scale(world, "body_invweight0", self._bodies, of_body, worlds)
        if self._dofs:
            of_dof = torch.where(self._turning, 1 / inertia[:, self._dof_slots], 1 / mass[:, self._dof_slots])
            self._scale(world, "dof_invweight0", self._dofs, of_dof, worlds)
            self._scale(world, "dof_M0", self._dofs, 1 / of_dof, worlds)
        built = self._built["body_subtreemass"]
        gained = (mass[:, self._slots] - 1) * self._built["body_mass"][self._bodies]
        totals = torch.cat((built[0] + gained.sum(-1, keepdim=True), built[self._bodies] + gained), -1)
        world.set_field("body_subtreemass", [0, *self._bodies], totals, worlds)

    def _scales(self, layout: Layout, random: EpisodeRandom) -> Float[Tensor, "n k"]:
        """How large things are: one factor for all objects of a world, one for all its receivers."""
        scale = layout.scale.clone()
        for role, (size, slots) in self._sized.items():
            factor = draw(random, f"{role}_size", size.factor)
            scale[:, slots] = sometimes(self._given, f"{role}_size", random, factor, 1.0)
        return scale

    def _scale(
        self, world: World, name: str, index: list[int], factors: Float[Tensor, "n k ..."], worlds: Int[Tensor, " k"]
    ) -> None:
        """The field as built times ``factors``, which may lack its last axis."""
        built = self._built[name][index]
        world.set_field(
            name, index, built * factors.reshape(*factors.shape, *(1,) * (built.dim() + 1 - factors.dim())), worlds
        )


class Friction(Effect):
    """Sliding friction of the objects, the table and the fingers, since of two things the larger friction counts."""

    fields = ("geom_friction",)

    def __init__(self, config: Scaled, given: Perturbation, props: Sequence[Prop]) -> None:
        self._config, self._given = config, given
        self._things = [props[slot].name for slot in slots_of("object", props)]

    def bind(self, scene: Tabletop) -> None:
        model, arm = scene.model, scene.arm
        fingers = [model.joint(arm.prefix + finger).bodyid[0] for finger in arm.fingers]
        bodies = [body for name in self._things for body in subtree(model, name)]
        self._geoms = [model.geom(TABLE_TOP).id, *geoms_of(model, [*fingers, *bodies])]
        self._built = read(model, "geom_friction", scene.home_rad.device)[self._geoms]

    def apply(self, world: World, layout: Layout, random: EpisodeRandom, worlds: Int[Tensor, " k"]) -> None:
        factor = draw(random, "friction", self._config.factor)
        values = self._built.repeat(len(random), 1, 1)
        values[..., 0] *= sometimes(self._given, "friction", random, factor, 1.0)
        world.set_field("geom_friction", self._geoms, values, worlds)


def _may_grow(prop: Prop) -> bool:
    return prop.resizable and prop.motion != "jointed"
