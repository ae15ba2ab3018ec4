"""How one part of a perturbation acts on a scene."""

import math
from collections.abc import Sequence
from typing import Literal

import mujoco
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.perturbations.spec import Perturbation
from envs.props.base import Prop
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout
from envs.scenes.tabletop import Tabletop
from envs.world import World

Role = Literal["object", "receiver"]


class Effect:
    """One change, in the order in which the methods are called; all of them do nothing by default.

    ``fields`` are those of the model that :meth:`apply` sets, ``props`` things of its own. Draws must come from the
    ``random`` handed in and from nothing else, so that a world's perturbation depends on its seed alone. Where an
    axis is not applied, the fields must be set as built.
    """

    fields: tuple[str, ...] = ()
    props: tuple[Prop, ...] = ()

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add what must exist beforehand to a scene that holds all props and is not yet compiled."""

    def bind(self, scene: Tabletop) -> None:
        """Look up what the compiled scene has where."""

    def arrange(self, layout: Layout, random: EpisodeRandom) -> Layout:
        """Change where things stand."""
        return layout

    def apply(self, world: World, layout: Layout, random: EpisodeRandom, worlds: Int[Tensor, " k"]) -> None:
        """Set fields of ``worlds`` once the scene has been arranged; ``layout`` and ``random`` have a row for each."""


def slots_of(role: Role, props: Sequence[Prop]) -> list[int]:
    """Which of a task's things are handled, and which receive."""
    free = [slot for slot, prop in enumerate(props) if prop.motion == "free"]
    objects = free or [slot for slot, prop in enumerate(props) if prop.motion == "jointed"]
    return objects if role == "object" else [slot for slot in range(len(props)) if slot not in objects]


def subtree(model: mujoco.MjModel, name: str) -> list[int]:
    """A body and all below it."""
    found = [model.body(name).id]
    for body in range(found[0] + 1, model.nbody):
        if model.body_parentid[body] in found:
            found.append(body)
    return found


def geoms_of(model: mujoco.MjModel, bodies: Sequence[int]) -> list[int]:
    """The geoms of some bodies."""
    return [geom for geom in range(model.ngeom) if model.geom_bodyid[geom] in bodies]


def draw(random: EpisodeRandom, name: str, span: tuple[float, float], k: int = 1) -> Float[Tensor, "n k"]:
    """k uniform numbers from a range."""
    return random.uniform(name, k, *span)


def sign(random: EpisodeRandom, name: str, k: int = 1) -> Float[Tensor, "n k"]:
    """k times −1 or 1."""
    return 2.0 * random.integers(name, k, 2) - 1


def normal(random: EpisodeRandom, name: str, k: int) -> Float[Tensor, "n k"]:
    """k standard normal numbers (Box & Muller 1958)."""
    u, v = random.uniform(f"{name}_u", k), random.uniform(f"{name}_v", k)
    return (-2 * (1 - u).log()).sqrt() * (2 * math.pi * v).cos()


def applied(given: Perturbation, axis: str, random: EpisodeRandom) -> Bool[Tensor, " n"]:
    """In which episodes the axis is applied at all."""
    return random.uniform(f"{axis}/applied", 1)[:, 0] < given.probability.get(axis, 1.0)


def sometimes(
    given: Perturbation, axis: str, random: EpisodeRandom, drawn: Float[Tensor, "n ..."], built: Tensor | float
) -> Float[Tensor, "n ..."]:
    """``drawn`` in the episodes in which the axis is applied, ``built`` in the others."""
    here = applied(given, axis, random).reshape(-1, *(1,) * (drawn.dim() - 1))
    return torch.where(here, drawn, torch.as_tensor(built, dtype=drawn.dtype, device=drawn.device))


def read(model: mujoco.MjModel, name: str, device: torch.device) -> Float[Tensor, "k ..."]:
    """A field of the model as built."""
    return torch.tensor(getattr(model, name), dtype=torch.float32, device=device)


def first(
    fine: Bool[Tensor, "n c"], choices: Float[Tensor, "n c d"], otherwise: Float[Tensor, "n d"]
) -> Float[Tensor, "n d"]:
    """Each world's first choice that is fine."""
    chosen = torch.take_along_dim(choices, fine.int().argmax(-1)[:, None, None], 1)[:, 0]
    return torch.where(fine.any(-1, keepdim=True), chosen, otherwise)
