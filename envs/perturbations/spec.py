"""What may differ from the scenes that demonstrations show: one optional config per axis.

*Objects* are the things that are handled: those that can be carried, or, in a scene without any, those with a moving
part. *Receivers* are all other things that stand on the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from envs.perturbations.felt import (
    THING_SIZES,
    ActionNoise,
    Displacement,
    Distractors,
    Gains,
    Latency,
    Pushes,
    RobotStart,
    Scaled,
    Size,
)
from envs.perturbations.ranges import Axis, Range, check_range
from envs.perturbations.seen import (
    NOISES,
    TEXTURES,
    Bands,
    CalibrationError,
    CameraJitter,
    CameraOrbit,
    CameraViews,
    DepthErrors,
    FieldOfView,
    LampColour,
    LampShift,
    Paint,
    SensorNoise,
    Shade,
    Texture,
)
from envs.perturbations.words import ADDRESSED, Wordlist

__all__ = [
    "NOISES",
    "TEXTURES",
    "THING_SIZES",
    "ActionNoise",
    "Axis",
    "Bands",
    "CalibrationError",
    "CameraJitter",
    "CameraOrbit",
    "CameraViews",
    "DepthErrors",
    "Displacement",
    "Distractors",
    "FieldOfView",
    "Gains",
    "LampColour",
    "LampShift",
    "Latency",
    "Paint",
    "Perturbation",
    "Pushes",
    "Range",
    "Rewrite",
    "RobotStart",
    "Scaled",
    "SensorNoise",
    "Shade",
    "Size",
    "Texture",
]


@dataclass(frozen=True, kw_only=True)
class Rewrite(Axis):
    """The instruction in other words.

    ``level``, or one from a range drawn per episode: 1 a polite form, 2 addressed to the robot as well, 3 other nouns,
    4 other verbs, 5 much talk around it. Colours and places stay. The words are those of the "test" lists; the
    "training" lists, of levels 1 and 2, share none of their polite forms and addresses.
    """

    level: int | tuple[int, int]
    words: Wordlist = "test"

    def __post_init__(self) -> None:
        if self.words not in ADDRESSED:
            raise ValueError(f"expected one of {', '.join(ADDRESSED)} for words, got {self.words!r}")
        check_range("level", self._levels, 1, 5 if self.words == "test" else 2)

    @property
    def _levels(self) -> tuple[int, int]:
        return self.level if isinstance(self.level, tuple) else (self.level, self.level)

    def level_of(self, drawn: float) -> int:
        """The level for ``drawn`` in [0, 1)."""
        low, high = self._levels
        return low + int(drawn * (high - low + 1))


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """Everything that differs; nothing by default.

    ``friction`` is that of objects, fingers and table, ``mass`` that of what can be carried, ``camera`` the front
    camera. ``probability`` says for some axes in what share of the episodes they are applied, such as
    ``{"camera": 0.5}``; in the others the world is as built. Axes that it does not name are applied in all.
    """

    object_colour: Shade | None = None
    object_texture: Bands | None = None
    object_size: Size | None = None
    receiver_colour: Shade | None = None
    receiver_texture: Bands | None = None
    receiver_size: Size | None = None
    light: LampColour | LampShift | None = None
    table_colour: Paint | None = None
    table_texture: Texture | None = None
    background_colour: Paint | None = None
    background_texture: Texture | None = None
    distractors: Distractors | None = None
    camera: CameraJitter | CameraOrbit | CameraViews | None = None
    field_of_view: FieldOfView | None = None
    wrist_camera: CameraJitter | None = None
    friction: Scaled | None = None
    mass: Scaled | None = None
    robot_start: RobotStart | None = None
    gains: Gains | None = None
    latency: Latency | None = None
    action_noise: ActionNoise | None = None
    pushes: Pushes | None = None
    language: Rewrite | None = None
    noise: SensorNoise | None = None
    depth: DepthErrors | None = None
    calibration: CalibrationError | None = None
    layout: Displacement | None = None
    probability: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.probability) - set(self.changed))
        if unknown:
            raise ValueError(f"expected probabilities of {', '.join(self.changed) or 'no axis'}; got {unknown}")
        for axis, share in self.probability.items():
            check_range(f"probability of {axis}", (share, share), 0.0, 1.0)

    @property
    def axes(self) -> dict[str, Axis]:
        """The configs of the axes on which something differs."""
        given = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "probability"}
        return {name: config for name, config in given.items() if config is not None}

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the axes on which something differs."""
        return tuple(self.axes)

    def scaled(self, strength: float) -> "Perturbation":
        """The same axes, as far from the scene as built as ``strength`` says: 0 changes nothing, 1 is this.

        Ranges shrink towards what they are as built, so that a seed's draws do, in proportion. What has no range
        (patterns, words, distractors) becomes less probable instead. ``ValueError`` outside 0 … 1.
        """
        check_range("strength", (strength, strength), 0.0, 1.0)
        probability = {axis: self.probability.get(axis, 1.0) for axis in self.axes}
        for axis, config in self.axes.items():
            probability[axis] *= (strength > 0) if config.built else strength
        named = {axis: share for axis, share in probability.items() if share < 1 or axis in self.probability}
        nearer = {axis: config.scaled(strength) for axis, config in self.axes.items()}
        return replace(self, **nearer, probability=named)  # pyright: ignore[reportArgumentType]
