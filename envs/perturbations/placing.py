"""Where things start: more of them, and elsewhere."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle

import mujoco
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.perturbations.effect import Effect, applied, draw, first, geoms_of, slots_of, sometimes, subtree
from envs.perturbations.spec import Displacement, Distractors, Perturbation
from envs.props.base import Prop, Region
from envs.props.block import Block
from envs.props.colours import COLOUR_NAMES
from envs.random import EpisodeRandom
from envs.rotations import quat_from_yaw
from envs.scenes.layout import Layout
from envs.scenes.tabletop import Tabletop

_CELL_M = 0.1
_GRID = tuple((0.26 + _CELL_M * i, -0.5 + _CELL_M * j) for i in range(6) for j in range(11))
_JITTER_M = 0.01
_GAP_M = 0.01
_REACH_M = ((0.32, 0.66), (-0.27, 0.27))
_MIDDLE_M = (0.5, 0.0)
_CANDIDATES = 12


def _distractors(count: int) -> tuple[Prop, ...]:
    """Grey tiles and brown bars in turn."""
    region = Region(name="distractors", cells_m=_GRID, jitter_m=_JITTER_M)
    kinds = (("grey", (0.025, 0.025, 0.01)), ("brown", (0.015, 0.03, 0.015)))
    return tuple(
        Block(name=f"distractor{i}", region=region, palette=(colour,), half_m=half_m)
        for i, (colour, half_m) in zip(range(count), cycle(kinds), strict=False)
    )


class Clutter(Effect):
    """Distractors in cells that are clear of wherever the task's things may start and their parts may move."""

    def __init__(self, config: Distractors, given: Perturbation, props: Sequence[Prop]) -> None:
        self.props = _distractors(config.count)
        self._given, self._task_props = given, tuple(props)

    def bind(self, scene: Tabletop) -> None:
        radii = {prop.name: radius_m(scene.model, prop) for prop in scene.props}
        own_m = max(radii[prop.name] for prop in self.props) + _JITTER_M * math.sqrt(2)
        cells = torch.tensor(_GRID)
        clearance = torch.full((len(cells),), math.inf)
        for prop in self._task_props:
            taken = torch.tensor(prop.region.cells_m)
            radius = radii[prop.name] * largest_size(self._given) + prop.region.jitter_m * math.sqrt(2)
            clearance = torch.minimum(clearance, torch.cdist(cells, taken).amin(-1) - radius)
        clear = cells[clearance > own_m + _GAP_M]
        # Those near the middle are seen and met most.
        nearest = (clear - torch.tensor(_MIDDLE_M)).norm(dim=-1).argsort(stable=True)[: max(8, len(self.props))]
        self._cells = clear[nearest].to(scene.home_rad.device)

    def arrange(self, layout: Layout, random: EpisodeRandom) -> Layout:
        n, k, device = len(layout), len(self.props), random.device
        places = min(k, len(self._cells))
        order = random.permutation("clutter_cells", len(self._cells))[:, :places]
        position = torch.zeros(n, k, 3, device=device)
        position[:, :places, :2] = self._cells[order]
        position[..., :2] += draw(random, "clutter_jitter", (-_JITTER_M, _JITTER_M), 2 * k).reshape(n, k, 2)
        position[..., 2] = torch.tensor([prop.rest_height_m for prop in self.props], device=device)
        present = (torch.arange(k, device=device) < places) & applied(self._given, "distractors", random)[:, None]
        colour = torch.tensor([COLOUR_NAMES.index(prop.palette[0]) for prop in self.props], device=device)

        def joined(old: Tensor, new: Tensor) -> Tensor:
            return torch.cat((old, new), 1)

        return replace(
            layout,
            names=(*layout.names, *(prop.name for prop in self.props)),
            position=joined(layout.position, position),
            quat=joined(layout.quat, quat_from_yaw(draw(random, "clutter_yaw", (-1.5, 1.5), k))),
            colour=joined(layout.colour, colour.expand(n, k)),
            present=joined(layout.present, present),
            opening=joined(layout.opening, torch.zeros(n, k, device=device)),
            scale=joined(layout.scale, torch.ones(n, k, device=device)),
        )


class Elsewhere(Effect):
    """Moves things away from where the task puts them, within reach and clear of the others."""

    def __init__(self, config: Displacement, given: Perturbation, props: Sequence[Prop]) -> None:
        self._config, self._given, self._task_props = config, given, tuple(props)
        self._movable = [slot for slot in slots_of("object", props) if props[slot].motion == "free"]

    def bind(self, scene: Tabletop) -> None:
        device = scene.home_rad.device
        self._radii = torch.tensor([radius_m(scene.model, prop) for prop in scene.props], device=device)
        nouns = [prop.noun for prop in self._task_props]
        self._nouns = torch.tensor([nouns.index(noun) for noun in nouns], device=device)
        self._low, self._high = torch.tensor(_REACH_M, device=device).unbind(-1)

    def arrange(self, layout: Layout, random: EpisodeRandom) -> Layout:
        position = layout.position.clone()
        together = self._look_alike(layout)
        for slot in self._movable:
            moved = self._moved(position, layout.present, slot, random.fork(f"slot{slot}"))
            position[:, slot, :2] = torch.where(together[:, None], position[:, slot, :2], moved)
        position[..., :2] += torch.where(together[:, None], self._common(layout, random), 0.0)[:, None]
        return replace(layout, position=sometimes(self._given, "layout", random, position, layout.position))

    def _moved(
        self, position: Float[Tensor, "n k 3"], present: Bool[Tensor, "n k"], slot: int, random: EpisodeRandom
    ) -> Float[Tensor, "n 2"]:
        """A place for one thing: the first of several that is clear; its own if none is, or if it touches something."""
        own = position[:, slot, None, :2]
        places = own + self._offsets(random)
        away = (places[:, :, None] - position[:, None, :, :2]).norm(dim=-1) - self._radii - self._radii[slot]
        absent = ~present
        absent[:, slot] = True
        clear = (away.masked_fill(absent[:, None], math.inf) > _GAP_M).all(-1) & self._within_reach(places)
        touching = (own - position[..., :2]).norm(dim=-1) < self._radii + self._radii[slot]
        clear &= ~(touching & ~absent).any(-1, keepdim=True)
        return first(clear, places, own[:, 0])

    def _common(self, layout: Layout, random: EpisodeRandom) -> Float[Tensor, "n 2"]:
        """One offset for all things that keeps the movable ones within reach; none if there is not any."""
        offsets = self._offsets(random)
        things = layout.position[:, None, self._movable, :2] + offsets[:, :, None]
        fine = (self._within_reach(things) | ~layout.present[:, None, self._movable]).all(-1)
        return first(fine, offsets, torch.zeros_like(offsets[:, 0]))

    def _offsets(self, random: EpisodeRandom) -> Float[Tensor, "n c 2"]:
        heading = draw(random, "displacement_heading", (0.0, 2 * math.pi), _CANDIDATES)
        distance = draw(random, "displacement", self._config.distance_m, _CANDIDATES)
        return distance[..., None] * torch.stack((heading.cos(), heading.sin()), -1)

    def _within_reach(self, places: Float[Tensor, "... 2"]) -> Bool[Tensor, "..."]:
        return ((places > self._low) & (places < self._high)).all(-1)

    def _look_alike(self, layout: Layout) -> Bool[Tensor, " n"]:
        """Are two movable things called the same?"""
        called = (100 * self._nouns + layout.colour[:, : len(self._nouns)])[:, self._movable]
        present = layout.present[:, self._movable]
        same = (called[:, :, None] == called[:, None]) & present[:, :, None] & present[:, None]
        return same.triu(1).any(-1).any(-1)


def radius_m(model: mujoco.MjModel, prop: Prop) -> float:
    """How far from the body's origin, over the table, anything of it reaches; its moving part wherever it may be."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    bodies = subtree(model, prop.name)
    reach, corners = 0.0, torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3).numpy()
    for geom in geoms_of(model, bodies):
        centre, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
        turned = data.geom_xmat[geom].reshape(3, 3)
        points = data.geom_xpos[geom] + (centre + corners * half) @ turned.T - data.xpos[bodies[0]]
        reach = max(reach, float((points[:, :2] ** 2).sum(-1).max() ** 0.5))
    if prop.motion != "jointed":
        return reach
    joint = model.joint(prop.name)
    if joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE:
        return reach + float(abs(joint.range).max())
    off_centre = data.xanchor[joint.id][:2] - data.xpos[bodies[0]][:2]
    return reach + 2 * float((off_centre**2).sum() ** 0.5)


def largest_size(perturbation: Perturbation) -> float:
    """The largest factor by which any thing may grow."""
    sizes = (perturbation.object_size, perturbation.receiver_size)
    return max([1.0, *(size.factor[1] for size in sizes if size is not None)])
