"""Named sets of perturbations: the axes and ranges of published benchmarks on our tasks, and one to train under."""

from collections.abc import Mapping
from dataclasses import replace
from math import radians

from envs.choices import chosen
from envs.perturbations.randomised import randomised
from envs.perturbations.spec import (
    Bands,
    CalibrationError,
    CameraJitter,
    CameraOrbit,
    CameraViews,
    DepthErrors,
    Displacement,
    Distractors,
    LampColour,
    LampShift,
    Paint,
    Perturbation,
    Range,
    Rewrite,
    RobotStart,
    Scaled,
    SensorNoise,
    Shade,
    Size,
    Texture,
)

LEVELS = (1, 2, 3, 4, 5)
TRAIN_AZIMUTHS_DEG = (-60, -36, -12, 12, 36, 60)
HELD_OUT_AZIMUTHS_DEG = (-75, -48, -24, 24, 48, 75)


def _colosseum() -> dict[str, Perturbation]:
    """The 14 factors of COLOSSEUM (Pumacay et al. 2024), one at a time and all at once.

    Its ranges: light 0 … 0.5, table colour 0.25 … 1, camera ±0.1 m and ±0.05 rad, size 0.75 … 1.25, friction 0.75 … 1,
    two distractors. Masses, there 0.1 … 15 kg by task, are relative to the thing's own.
    """
    singles: dict[str, object] = {
        "object_colour": Shade(),
        "object_texture": Bands(),
        "object_size": Size(factor=(0.75, 1.25)),
        "receiver_colour": Shade(),
        "receiver_texture": Bands(),
        "receiver_size": Size(factor=(0.75, 1.25)),
        "light": LampColour(),
        "table_colour": Paint(),
        "table_texture": Texture(),
        "distractors": Distractors(),
        "background_texture": Texture(),
        "camera": CameraJitter(),
        "friction": Scaled(factor=(0.75, 1.0)),
        "mass": Scaled(factor=(0.25, 4.0)),
    }
    alone = {name: replace(Perturbation(), **{name: config}) for name, config in singles.items()}
    return alone | {"all": replace(Perturbation(), **singles)}


def _libero_plus() -> dict[str, Perturbation]:
    """The seven axes of LIBERO-Plus (Fei et al. 2025) at five levels.

    Its camera range (±75° of azimuth, 15° of elevation, up to twice the distance, ±10° of roll) and its robot starts
    (a random direction times 0.1, 0.2, … rad) are split into five steps that do not overlap; its levels are by how
    often policies fail, ours by how much changes.
    """
    found: dict[str, Perturbation] = {}
    for level in LEVELS:
        step: Range = ((level - 1) / len(LEVELS), level / len(LEVELS))

        def part(full: float, offset: float = 0.0, step: Range = step) -> Range:
            return offset + full * step[0], offset + full * step[1]

        texture = Texture() if level >= 3 else None
        found |= {
            f"camera/{level}": Perturbation(
                camera=CameraOrbit(
                    azimuth_rad=part(radians(75)),
                    elevation_rad=part(radians(15)),
                    distance=part(1.0, offset=1.0),
                    roll_rad=part(radians(10)),
                )
            ),
            f"robot_start/{level}": Perturbation(robot_start=RobotStart(distance_rad=(0.1 * level, 0.1 * level))),
            f"language/{level}": Perturbation(language=Rewrite(level=level)),
            f"light/{level}": Perturbation(light=LampShift(shift=part(0.45), tilt_rad=part(radians(60)))),
            f"background/{level}": Perturbation(
                table_colour=Paint(rgb=(0.0, 1.0), amount=part(0.8)),
                background_colour=Paint(rgb=(0.0, 1.0), amount=part(1.0)),
                table_texture=texture,
                background_texture=texture,
            ),
            f"noise/{level}": Perturbation(noise=SensorNoise(severity=part(1.0))),
            f"layout/{level}": Perturbation(layout=Displacement(distance_m=part(0.1))),
        }
    return dict(sorted(found.items(), key=lambda item: _LIBERO_ORDER.index(item[0].partition("/")[0])))


_LIBERO_ORDER = ("camera", "robot_start", "language", "light", "background", "noise", "layout")


def _multiview() -> dict[str, Perturbation]:
    """Six training views and six others, between and beyond them, as MV-Bench of 4D-VLA (Zhang et al. 2025) does."""
    views = {"train_views": TRAIN_AZIMUTHS_DEG, "held_out_views": HELD_OUT_AZIMUTHS_DEG}
    return {
        name: Perturbation(camera=CameraViews(azimuths_rad=tuple(radians(degrees) for degrees in azimuths_deg)))
        for name, azimuths_deg in views.items()
    }


def _rgbd() -> dict[str, Perturbation]:
    """What depth cameras get wrong, and calibrations, at three levels that do not overlap; the ranges are our own.

    At the last, up to 60 % of the picture has no reading, readings at 1 m are off by up to 15 mm and in steps of up to
    30 mm, and cameras up to 30 mm and 3.4° from where they are said to be.
    """
    found: dict[str, Perturbation] = {}
    for level in (1, 2, 3):

        def part(full: float, level: int = level) -> Range:
            return full * (level - 1) / 3, full * level / 3

        errors = DepthErrors(holes=part(0.6), noise=part(0.015), step=part(0.03))
        off = CalibrationError(translation_m=part(0.03), rotation_rad=part(0.06))
        found |= {f"depth/{level}": Perturbation(depth=errors), f"calibration/{level}": Perturbation(calibration=off)}
    return dict(sorted(found.items()))


PRESETS: Mapping[str, Mapping[str, Perturbation]] = {
    "colosseum-14": _colosseum(),
    "libero-plus-7": _libero_plus(),
    "multiview": _multiview(),
    "rgbd": _rgbd(),
    "randomised": randomised(),
}
"""By name: a perturbation for each axis, or each level of one (``camera/3``)."""


def axes(preset: str) -> dict[str, Perturbation]:
    """The perturbations of a preset by axis; ``preset:axis`` chooses one axis, with all of its levels, or one level.

    ``ValueError`` lists the presets, or the axes, there are.
    """
    name, _, wanted = preset.partition(":")
    known = chosen("preset", name, PRESETS)
    found = {axis: each for axis, each in known.items() if wanted in ("", axis, axis.partition("/")[0])}
    if not found:
        raise ValueError(f"unknown axis {wanted!r} of {name}; expected one of {', '.join(known)}")
    return found
