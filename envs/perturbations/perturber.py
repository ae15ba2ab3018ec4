"""Puts a perturbation to work in the worlds of an environment."""

from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
from jaxtyping import Float, Int
from torch import Tensor

from envs.perturbations.arm import Delay, Servos, Tremor
from envs.perturbations.bodies import Bodies, Friction
from envs.perturbations.cameras import FrontCamera, Lens, WristCamera
from envs.perturbations.effect import Effect, applied, slots_of
from envs.perturbations.ground import Ground
from envs.perturbations.lamp import Lamp
from envs.perturbations.looks import Looks
from envs.perturbations.noise import Spoiler
from envs.perturbations.placing import Clutter, Elsewhere
from envs.perturbations.posture import Posture
from envs.perturbations.pushes import Knocks
from envs.perturbations.ranging import Ranger, Surveyor
from envs.perturbations.running import Running
from envs.perturbations.spec import Perturbation, Texture
from envs.perturbations.wording import rewrite
from envs.props.base import Prop
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout
from envs.scenes.tabletop import FLOOR, FRONT_CAMERA, TABLE, Sensed, Tabletop
from envs.specs import Dimension, depth_key, extrinsics_key, image_key, intrinsics_key
from envs.world import World

_NAME = "perturb"
"""All draws are made under this name, apart from the task's own."""
_CAMERA, _POSE = extrinsics_key("*").split("*")
"""What keys of where cameras stand begin and end with."""


class Perturber:
    """What a perturbation does to the scene of a task: first :meth:`build` and :meth:`bind`; at each start of an
    episode :meth:`arrange`, :meth:`start_joints_rad`, :meth:`apply`, :meth:`begin` and :meth:`rewrite`; at each step
    :meth:`disturb`, :meth:`kicks` and :meth:`observe`.

    Everything is drawn from the episode's seed under names of its own: the same seed starts the same episode with and
    without, and perturbs it alike whatever the number of worlds and on either engine. ``props`` are the task's things
    and those that are added, in slots after them; ``fields`` those of the model that change per world.
    """

    def __init__(self, perturbation: Perturbation, props: Sequence[Prop]) -> None:
        self.perturbation = given = perturbation
        self._task_props = tuple(props)
        self._effects = _effects(given, props)
        self.props = (*props, *(prop for effect in self._effects for prop in effect.props))
        self.fields = tuple(dict.fromkeys(field for effect in self._effects for field in effect.fields))
        movable = any(prop.motion == "free" for prop in props)
        self._posture = Posture(given.robot_start, given) if given.robot_start else None
        self._spoiler = Spoiler(given.noise, given) if given.noise else None
        self._ranger = Ranger(given.depth, given) if given.depth else None
        self._surveyor = Surveyor(given.calibration, given) if given.calibration else None
        self._delay = Delay(given.latency, given) if given.latency else None
        self._tremor = Tremor(given.action_noise, given) if given.action_noise else None
        self._knocks = Knocks(given.pushes, given, props) if given.pushes and movable else None
        self._lens = next((effect for effect in self._effects if isinstance(effect, Lens)), None)

    def idle(self, *, depth: bool = True, calibration: bool = True) -> bool:
        """Does nothing differ, as when receivers change in a task without any? Or for who sees no ``depth``, or is not
        told where cameras stand (``calibration``), when nothing else does.
        """
        unseen = {self._ranger} if not depth else set()
        unseen |= {self._surveyor} if not calibration else set()
        running = [part for part in self._running if part not in unseen]
        return not (self._effects or self._posture or running or self.perturbation.language)

    @property
    def senses(self) -> bool:
        """Does :meth:`observe` change anything?"""
        return any(part is not None for part in (self._spoiler, self._lens, self._ranger, self._surveyor))

    @property
    def interferes(self) -> bool:
        """Do :meth:`disturb` and :meth:`kicks` change anything?"""
        return not (self._delay is self._tremor is self._knocks is None)

    @property
    def history_steps(self) -> int:
        """How many actions :meth:`disturb` must be told of."""
        return self._delay.history_steps if self._delay else 0

    @property
    def _running(self) -> list[Running]:
        sensing = (self._spoiler, self._ranger, self._surveyor)
        parts = (*sensing, self._delay, self._tremor, self._knocks, self._lens)
        return [part for part in parts if part is not None]

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add to the scene what must exist beforehand."""
        for effect in self._effects:
            effect.build(spec)

    def bind(self, scene: Tabletop, action: Sequence[Dimension]) -> None:
        """Look up what the compiled, bound scene has where, and what the robot's ``action`` consists of."""
        self._scene, self._action = scene, tuple(action)
        for effect in self._effects:
            effect.bind(scene)
        if self._tremor is not None:
            self._tremor.bind(scene, action)
        if self._knocks is not None:
            self._knocks.bind(scene)

    def replaced(self, perturbation: Perturbation) -> "Perturber":
        """The same axes in the same scene with other ranges; what runs goes on until its episode ends.

        ``ValueError`` if that needs another scene: other axes, another number of distractors, other patterns.
        """
        _check_replaceable(self.perturbation, perturbation)
        other = Perturber(perturbation, self._task_props)
        if set(other.fields) - set(self.fields):
            raise ValueError(
                f"expected a perturbation that changes {sorted(self.fields)} of the model, got one that changes "
                f"{sorted(set(other.fields) - set(self.fields))} as well"
            )
        other.bind(self._scene, self._action)
        for theirs, ours in zip(other._running, self._running, strict=True):
            theirs.numbers = ours.numbers
        return other

    def arrange(self, layout: Layout, random: EpisodeRandom) -> Layout:
        """Where things stand instead; ``layout`` is what the task drew."""
        for effect in self._effects:
            layout = effect.arrange(layout, random.fork(_NAME))
        return layout

    def start_joints_rad(self, random: EpisodeRandom) -> Float[Tensor, "n j"] | None:
        """Where the arm starts; None for at home."""
        return None if self._posture is None else self._posture.joints_rad(self._scene, random.fork(_NAME))

    def apply(self, world: World, layout: Layout, random: EpisodeRandom, worlds: Int[Tensor, " k"]) -> None:
        """Set the fields of the starting ``worlds``, after the scene has been arranged."""
        for effect in self._effects:
            effect.apply(world, layout, random.fork(_NAME), worlds)

    def begin(self, random: EpisodeRandom, worlds: Int[Tensor, " k"], num_worlds: int) -> None:
        """Draw what acts throughout the episodes that start in ``worlds``, of all ``num_worlds``."""
        for part in self._running:
            part.begin(random.fork(_NAME), worlds, num_worlds)

    @property
    def numbers(self) -> dict[str, Tensor]:
        """What :meth:`begin` drew for the running episodes, (n, …) each."""
        parts = ((type(part).__name__, part) for part in self._running)
        return {f"{name}.{key}": numbers for name, part in parts for key, numbers in part.numbers.items()}

    def recall(self, numbers: Mapping[str, Tensor]) -> None:
        """Go on with other episodes, those of :attr:`numbers`; ``KeyError`` if they do not fit."""
        for part in self._running:
            part.numbers = {key: numbers[f"{type(part).__name__}.{key}"].clone() for key in part.numbers}

    def rewrite(self, sentences: Sequence[str], random: EpisodeRandom) -> list[str]:
        """The instructions of the episodes of ``random`` in other words."""
        config = self.perturbation.language
        if config is None:
            return list(sentences)
        random = random.fork(_NAME)
        draws, here = random.uniform("language", 4).tolist(), applied(self.perturbation, "language", random).tolist()
        return [
            rewrite(sentence, config, (a, b, c, d)) if reworded else sentence
            for sentence, (a, b, c, d), reworded in zip(sentences, draws, here, strict=True)
        ]

    def disturb(
        self,
        actions: Float[Tensor, "n a"],
        history: Float[Tensor, "n l a"],
        random: EpisodeRandom,
        steps: Int[Tensor, " n"],
    ) -> Float[Tensor, "n a"]:
        """What the arm executes when it is told ``actions``, ``steps`` control steps into the running episodes.

        ``history`` are the ``history_steps`` actions that it was told before, newest first; before the episode it was
        told to stay.
        """
        if self._delay is not None:
            actions = self._delay.delayed(actions, history)
        return actions if self._tremor is None else self._tremor.shaken(actions, random.fork(_NAME), steps)

    def kicks(
        self, random: EpisodeRandom, steps: Int[Tensor, " n"], sensed: Sensed, layout: Layout
    ) -> Float[Tensor, "n v"] | None:
        """By how much the generalised velocities change before this step; None if they never do."""
        return None if self._knocks is None else self._knocks.kicks(random.fork(_NAME), steps, sensed, layout)

    def observe(self, observation: dict[str, Any], random: EpisodeRandom, steps: Int[Tensor, " n"]) -> dict[str, Any]:
        """The observation as the sensors deliver it, ``steps`` control steps into the running episodes."""
        changed: dict[str, Any] = {}
        lens = intrinsics_key(FRONT_CAMERA)
        if self._lens is not None and lens in observation:
            changed[lens] = self._lens.intrinsics(observation[lens])
        if self._spoiler is not None:
            for key in (key for key in observation if key.startswith(image_key(""))):
                changed[key] = self._spoiler.spoil(observation[key], key, random.fork(_NAME), steps)
        if self._ranger is not None:
            for key in (key for key in observation if key.startswith(depth_key(""))):
                changed[key] = self._ranger.measured(observation[key], key, random.fork(_NAME), steps)
        if self._surveyor is not None:
            for key in (key for key in observation if key.startswith(_CAMERA) and key.endswith(_POSE)):
                changed[key] = self._surveyor.said(observation[key], key, random.fork(_NAME))
        return observation | changed


def _effects(given: Perturbation, props: Sequence[Prop]) -> list[Effect]:
    """One for each group of axes that change the same fields; bands follow sizes."""
    effects: list[Effect] = []
    if given.distractors:
        effects.append(Clutter(given.distractors, given, props))
    if given.layout and any(prop.motion == "free" for prop in props):
        effects.append(Elsewhere(given.layout, given, props))
    bodies = Bodies(given, props)
    if bodies.fields:
        effects.append(bodies)
    if given.friction:
        effects.append(Friction(given.friction, given, props))
    if given.gains:
        effects.append(Servos(given.gains, given))
    return effects + _seen(given, props)


def _seen(given: Perturbation, props: Sequence[Prop]) -> list[Effect]:
    """Those that only cameras notice."""
    effects: list[Effect] = []
    if slots_of("object", props) and (given.object_colour or given.object_texture):
        effects.append(Looks("object", given.object_colour, given.object_texture, given, props))
    if slots_of("receiver", props) and (given.receiver_colour or given.receiver_texture):
        effects.append(Looks("receiver", given.receiver_colour, given.receiver_texture, given, props))
    if given.table_colour or given.table_texture:
        effects.append(Ground(TABLE, given.table_colour, given.table_texture, given))
    if given.background_colour or given.background_texture:
        effects.append(Ground(FLOOR, given.background_colour, given.background_texture, given))
    if given.light:
        effects.append(Lamp(given.light, given))
    if given.camera:
        effects.append(FrontCamera(given.camera, given))
    if given.field_of_view:
        effects.append(Lens(given.field_of_view, given))
    if given.wrist_camera:
        effects.append(WristCamera(given.wrist_camera, given))
    return effects


def _check_replaceable(old: Perturbation, new: Perturbation) -> None:
    if old.changed != new.changed:
        raise ValueError(f"expected ranges for the axes {', '.join(old.changed)}; got {', '.join(new.changed)}")
    if old.distractors and new.distractors and old.distractors.count != new.distractors.count:
        raise ValueError(
            f"expected {old.distractors.count} distractors, as many as the scene was built with; "
            f"got {new.distractors.count}"
        )
    for axis, was in old.axes.items():
        now = new.axes[axis]
        if isinstance(was, Texture) and was != now:
            raise ValueError(f"expected the patterns of {axis} that the scene was built with, {was}; got {now}")
