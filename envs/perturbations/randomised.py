"""The preset ``randomised``: what to train under, kept apart from what the other presets test.

Every axis has a rule that says what part of the test presets' range training leaves out:

- *beyond*: the named test axes lie wholly outside of the training range;
- *half*: the training range covers at most half of the test range, which is around the scene as built;
- *names*: training knows at most half of the names;
- *words*: training and test share no polite form and no address, and other nouns and verbs are for tests alone;
- *untested*: no test preset varies it.

The views of ``multiview`` are held out from its own training views, not from these: of the held-out ones, those at 48°
and 75° lie beyond.
"""

from dataclasses import dataclass, replace
from math import radians
from typing import Literal

from envs.perturbations.colour import HUES
from envs.perturbations.ranges import Axis
from envs.perturbations.spec import (
    ActionNoise,
    Bands,
    CalibrationError,
    CameraJitter,
    CameraOrbit,
    DepthErrors,
    Displacement,
    Distractors,
    FieldOfView,
    Gains,
    LampShift,
    Latency,
    Paint,
    Perturbation,
    Pushes,
    Rewrite,
    RobotStart,
    Scaled,
    SensorNoise,
    Shade,
    Size,
    Texture,
)

Rule = Literal["beyond", "half", "names", "words", "untested"]
PROBABILITY = 0.5
"""In what share of the episodes each axis of ``randomised:all`` is applied."""


@dataclass(frozen=True, kw_only=True)
class Apart:
    """How one number of an axis' config is kept apart from ``tests``, axes of other presets (PRESET:AXIS)."""

    rule: Rule
    number: str = ""
    tests: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Randomised:
    """The training range of an axis, and what is withheld from it."""

    training: Axis
    apart: tuple[Apart, ...]


def _levels_4_and_5(axis: str, *numbers: str) -> tuple[Apart, ...]:
    tests = tuple(f"libero-plus-7:{axis}/{level}" for level in (4, 5))
    return tuple(Apart(rule="beyond", number=number, tests=tests) for number in numbers)


def _level_3(axis: str, *numbers: str) -> tuple[Apart, ...]:
    return tuple(Apart(rule="beyond", number=number, tests=(f"rgbd:{axis}/3",)) for number in numbers)


def _half(axis: str, *numbers: str) -> tuple[Apart, ...]:
    return tuple(Apart(rule="half", number=number, tests=(f"colosseum-14:{axis}",)) for number in numbers)


_SHADE = Shade(hue_rad=(-0.1, 0.1), saturation=(0.8, 1.0), value=(0.8, 1.05), tint=0.125)
_SHADE_NUMBERS = ("hue_rad", "saturation", "value", "tint")
_BANDS = Bands(contrast=(0.1, 0.35), width=(0.15, 0.4))
_SIZE = Size(factor=(0.88, 1.12))
_PAINT = Paint(rgb=(0.1, 1.0), amount=(0.0, 1.0), hues=HUES[::2])
_TEXTURE = Texture(names=("checker", "gradient"))
_BACKGROUND = "libero-plus-7:background"
_UNTESTED = (Apart(rule="untested"),)

RANDOMISED: dict[str, Randomised] = {
    "object_colour": Randomised(training=_SHADE, apart=_half("object_colour", *_SHADE_NUMBERS)),
    "object_texture": Randomised(
        training=_BANDS, apart=(Apart(rule="beyond", number="contrast", tests=("colosseum-14:object_texture",)),)
    ),
    "object_size": Randomised(training=_SIZE, apart=_half("object_size", "factor")),
    "receiver_colour": Randomised(training=_SHADE, apart=_half("receiver_colour", *_SHADE_NUMBERS)),
    "receiver_texture": Randomised(
        training=_BANDS, apart=(Apart(rule="beyond", number="contrast", tests=("colosseum-14:receiver_texture",)),)
    ),
    "receiver_size": Randomised(training=_SIZE, apart=_half("receiver_size", "factor")),
    "light": Randomised(
        training=LampShift(shift=(0.0, 0.2), tilt_rad=(0.0, radians(36))),
        apart=(*_levels_4_and_5("light", "shift", "tilt_rad"), *_half("light", "rgb")),
    ),
    "table_colour": Randomised(
        training=_PAINT,
        apart=(Apart(rule="names", number="hues", tests=("colosseum-14:table_colour", _BACKGROUND)),),
    ),
    "table_texture": Randomised(
        training=_TEXTURE,
        apart=(Apart(rule="names", number="names", tests=("colosseum-14:table_texture", _BACKGROUND)),),
    ),
    "background_colour": Randomised(training=_PAINT, apart=(Apart(rule="names", number="hues", tests=(_BACKGROUND,)),)),
    "background_texture": Randomised(
        training=_TEXTURE,
        apart=(Apart(rule="names", number="names", tests=("colosseum-14:background_texture", _BACKGROUND)),),
    ),
    "distractors": Randomised(training=Distractors(count=1), apart=_half("distractors", "count")),
    "camera": Randomised(
        training=CameraOrbit(
            azimuth_rad=(0.0, radians(45)),
            elevation_rad=(0.0, radians(9)),
            distance=(1.0, 1.6),
            roll_rad=(0.0, radians(6)),
        ),
        apart=(
            *_levels_4_and_5("camera", "azimuth_rad", "elevation_rad", "distance", "roll_rad"),
            *_half("camera", "aside_rad"),
        ),
    ),
    "field_of_view": Randomised(training=FieldOfView(factor=(0.85, 1.15)), apart=_UNTESTED),
    "wrist_camera": Randomised(training=CameraJitter(translation_m=0.01, rotation_rad=0.05), apart=_UNTESTED),
    "friction": Randomised(training=Scaled(factor=(0.875, 1.2)), apart=_half("friction", "factor")),
    "mass": Randomised(training=Scaled(factor=(0.5, 2.0)), apart=_half("mass", "factor")),
    "robot_start": Randomised(
        training=RobotStart(distance_rad=(0.0, 0.3)), apart=_levels_4_and_5("robot_start", "distance_rad")
    ),
    "gains": Randomised(training=Gains(stiffness=(0.8, 1.25), damping=(0.8, 1.25)), apart=_UNTESTED),
    "latency": Randomised(training=Latency(steps=(0, 2)), apart=_UNTESTED),
    "action_noise": Randomised(training=ActionNoise(std=(0.0, 0.1)), apart=_UNTESTED),
    "pushes": Randomised(training=Pushes(probability=(0.0, 0.02), speed_m_s=(0.05, 0.2)), apart=_UNTESTED),
    "language": Randomised(
        training=Rewrite(level=(1, 2), words="training"),
        apart=(Apart(rule="words", number="words", tests=("libero-plus-7:language",)),),
    ),
    "noise": Randomised(
        training=SensorNoise(severity=(0.0, 0.6), kinds=("gaussian", "motion")),
        apart=(
            *_levels_4_and_5("noise", "severity"),
            Apart(rule="names", number="kinds", tests=("libero-plus-7:noise",)),
        ),
    ),
    "depth": Randomised(
        training=DepthErrors(holes=(0.0, 0.4), noise=(0.0, 0.01), step=(0.0, 0.02)),
        apart=_level_3("depth", "holes", "noise", "step"),
    ),
    "calibration": Randomised(
        training=CalibrationError(translation_m=(0.0, 0.02), rotation_rad=(0.0, 0.04)),
        apart=_level_3("calibration", "translation_m", "rotation_rad"),
    ),
    "layout": Randomised(training=Displacement(distance_m=(0.0, 0.06)), apart=_levels_4_and_5("layout", "distance_m")),
}
"""By axis; a test holds each to its rules, and the table in ``docs/simulation.md`` is printed from it."""


RGBD = ("depth", "calibration")
"""Axes of what depth cameras give. ``all`` leaves them out, so that it stays what policies were trained under that know
their cameras and see no depth; ``all_rgbd`` has them.
"""


def randomised() -> dict[str, Perturbation]:
    """Each axis alone, applied in every episode; and ``all`` or ``all_rgbd`` at once, each with its probability."""
    configs = {axis: row.training for axis, row in RANDOMISED.items()}
    alone = {axis: replace(Perturbation(), **{axis: config}) for axis, config in configs.items()}  # pyright: ignore[reportArgumentType]
    without = {axis: config for axis, config in configs.items() if axis not in RGBD}
    return alone | {"all": _together(without), "all_rgbd": _together(configs)}


def _together(configs: dict[str, Axis]) -> Perturbation:
    return replace(Perturbation(), **configs, probability=dict.fromkeys(configs, PROBABILITY))  # pyright: ignore[reportArgumentType]
