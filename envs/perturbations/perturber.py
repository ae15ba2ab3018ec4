"""Puts a perturbation to work in the worlds of an environment."""

from collections.abc import Sequence
from typing import Any

import mujoco
from jaxtyping import Float, Int
from torch import Tensor

from envs.perturbations.bodies import Bodies, Friction
from envs.perturbations.effect import Effect, slots_of
from envs.perturbations.noise import Spoiler
from envs.perturbations.placing import Clutter, Elsewhere, Posture, largest_size
from envs.perturbations.spec import Perturbation
from envs.perturbations.surfaces import Ground, Looks
from envs.perturbations.views import Camera, Lamp
from envs.perturbations.wording import rewrite
from envs.props.base import Prop
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout
from envs.scenes.tabletop import FLOOR, TABLE, Tabletop
from envs.specs import image_key
from envs.world import World


class Perturber:
    """What a perturbation does to the scene of a task: first :meth:`build` and :meth:`bind`, then at each start of an
    episode :meth:`arrange`, :meth:`start_joints_rad`, :meth:`apply` and :meth:`rewrite`, at each step :meth:`observe`.

    Everything is drawn from the episode's seed under names of its own: the same seed starts the same episode with and
    without, and perturbs it alike whatever the number of worlds and on either engine. ``props`` are the task's things
    and those that are added, in slots after them; ``fields`` those of the model that change per world.
    """

    def __init__(self, perturbation: Perturbation, props: Sequence[Prop]) -> None:
        self.perturbation = perturbation
        self._effects = _effects(perturbation, props)
        self.props = (*props, *(prop for effect in self._effects for prop in effect.props))
        self.fields = tuple(dict.fromkeys(field for effect in self._effects for field in effect.fields))
        self._posture = Posture(perturbation.robot_start) if perturbation.robot_start else None
        self._spoiler = Spoiler(perturbation.noise) if perturbation.noise else None

    @property
    def idle(self) -> bool:
        """Does nothing differ, as when receivers change in a task without any?"""
        language = self.perturbation.language
        return not (self._effects or self._posture or self._spoiler or language)

    @property
    def spoils(self) -> bool:
        """Does :meth:`observe` change anything?"""
        return self._spoiler is not None

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add to the scene what must exist beforehand."""
        for effect in self._effects:
            effect.build(spec)

    def bind(self, scene: Tabletop) -> None:
        """Look up what the compiled, bound scene has where."""
        self._scene = scene
        for effect in self._effects:
            effect.bind(scene)

    def arrange(self, layout: Layout, random: EpisodeRandom) -> Layout:
        """Where things stand instead; ``layout`` is what the task drew."""
        for effect in self._effects:
            layout = effect.arrange(layout, random.fork("perturb"))
        return layout

    def start_joints_rad(self, random: EpisodeRandom) -> Float[Tensor, "n j"] | None:
        """Where the arm starts; None for at home."""
        return None if self._posture is None else self._posture.joints_rad(self._scene, random.fork("perturb"))

    def apply(self, world: World, layout: Layout, random: EpisodeRandom, worlds: Int[Tensor, " k"]) -> None:
        """Set the fields of ``worlds``, after the scene has been arranged."""
        for effect in self._effects:
            effect.apply(world, layout, random.fork("perturb"), worlds)

    def rewrite(self, sentences: Sequence[str], random: EpisodeRandom) -> list[str]:
        """The instructions of the episodes of ``random`` in other words."""
        config = self.perturbation.language
        if config is None:
            return list(sentences)
        draws = random.fork("perturb").uniform("language", 3).tolist()
        return [rewrite(sentence, config, (a, b, c)) for sentence, (a, b, c) in zip(sentences, draws, strict=True)]

    def observe(self, observation: dict[str, Any], random: EpisodeRandom, steps: Int[Tensor, " n"]) -> dict[str, Any]:
        """The observation as the sensors deliver it, ``steps`` control steps into the episodes of ``random``."""
        if self._spoiler is None:
            return observation
        prefix = image_key("")
        spoilt = {
            key: self._spoiler.spoil(value, key, random, steps)
            for key, value in observation.items()
            if key.startswith(prefix)
        }
        return observation | spoilt


def _effects(given: Perturbation, props: Sequence[Prop]) -> list[Effect]:
    """One for each group of axes that change the same fields; bands follow sizes."""
    effects: list[Effect] = []
    if given.distractors:
        effects.append(Clutter(given.distractors, largest_size(given), props))
    if given.layout and any(prop.motion == "free" for prop in props):
        effects.append(Elsewhere(given.layout, props))
    bodies = Bodies(given, props)
    if bodies.fields:
        effects.append(bodies)
    if given.friction:
        effects.append(Friction(given.friction, props))
    if slots_of("object", props) and (given.object_colour or given.object_texture):
        effects.append(Looks("object", given.object_colour, given.object_texture, props))
    if slots_of("receiver", props) and (given.receiver_colour or given.receiver_texture):
        effects.append(Looks("receiver", given.receiver_colour, given.receiver_texture, props))
    if given.table_colour or given.table_texture:
        effects.append(Ground(TABLE, given.table_colour, given.table_texture))
    if given.background_colour or given.background_texture:
        effects.append(Ground(FLOOR, given.background_colour, given.background_texture))
    if given.light:
        effects.append(Lamp(given.light))
    if given.camera:
        effects.append(Camera(given.camera))
    return effects
