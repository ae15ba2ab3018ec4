"""How one part of a perturbation acts on a scene."""

from collections.abc import Sequence
from typing import Literal

import mujoco
from jaxtyping import Float, Int
from torch import Tensor

from envs.props.base import Prop
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout
from envs.scenes.tabletop import Tabletop
from envs.world import World

Role = Literal["object", "receiver"]


class Effect:
    """One change, in the order in which the methods are called; all of them do nothing by default.

    ``fields`` are those of the model that :meth:`apply` sets, ``props`` things of its own. Draws must come from the
    ``random`` handed in and from nothing else, so that a world's perturbation depends on its seed alone.
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
        """Set fields of ``worlds`` after the scene has been arranged; ``layout`` and ``random`` have a row for each."""


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
