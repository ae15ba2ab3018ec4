"""What may differ from the scenes that demonstrations show: one optional config per axis.

*Objects* are the things that are handled: those that can be carried, or, in a scene without any, those with a moving
part. *Receivers* are all other things that stand on the table. A range is ``(low, high)``, drawn from uniformly once
per episode.
"""

from dataclasses import dataclass, fields
from math import isfinite

Range = tuple[float, float]
THING_SIZES = (0.5, 2.0)
NOISES = ("gaussian", "motion", "zoom", "fog", "glass")
TEXTURES = ("checker", "gradient", "tiles", "speckles")


@dataclass(frozen=True, kw_only=True)
class Shade:
    """Another shade of the colour that a thing is called by, each thing its own: the name still fits.

    The hue turns by ``hue_rad``; saturation and value are multiplied; greys take on up to ``tint`` of some hue.
    """

    hue_rad: Range = (-0.2, 0.2)
    saturation: Range = (0.6, 1.0)
    value: Range = (0.6, 1.1)
    tint: float = 0.25

    def __post_init__(self) -> None:
        _check_range("hue_rad", self.hue_rad, -0.35, 0.35)
        _check_range("saturation", self.saturation, 0.3, 1.0)
        _check_range("value", self.value, 0.4, 1.5)


@dataclass(frozen=True, kw_only=True)
class Bands:
    """Bands around each part of a thing, ``contrast`` of the way from its colour to black, or to white if it is dark;
    ``width`` is relative to the part's extent.
    """

    contrast: Range = (0.35, 0.6)
    width: Range = (0.15, 0.4)

    def __post_init__(self) -> None:
        _check_range("contrast", self.contrast, 0.0, 1.0)
        _check_range("width", self.width, 0.05, 0.5)


@dataclass(frozen=True, kw_only=True)
class Paint:
    """Another colour of a surface: ``amount`` of the way from its own to one with channels from ``rgb``."""

    rgb: Range = (0.25, 1.0)
    amount: Range = (1.0, 1.0)

    def __post_init__(self) -> None:
        _check_range("rgb", self.rgb, 0.0, 1.0)
        _check_range("amount", self.amount, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Texture:
    """One of several patterns on a surface, multiplied with its colour."""

    names: tuple[str, ...] = TEXTURES

    def __post_init__(self) -> None:
        _check_names("texture", self.names, TEXTURES)


@dataclass(frozen=True, kw_only=True)
class Size:
    """All lengths of the things times ``factor``, at constant density: mass grows with its cube, inertia with its fifth
    power. Things that are not resizable keep their size.
    """

    factor: Range

    def __post_init__(self) -> None:
        _check_range("factor", self.factor, *THING_SIZES)


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """A physical quantity of the things times ``factor``."""

    factor: Range

    def __post_init__(self) -> None:
        _check_range("factor", self.factor, 0.01, 100.0)


@dataclass(frozen=True, kw_only=True)
class LampColour:
    """Each channel of the lamp's diffuse light is drawn anew; as built it is 0.45."""

    rgb: Range = (0.0, 0.5)

    def __post_init__(self) -> None:
        _check_range("rgb", self.rgb, 0.0, 2.0)


@dataclass(frozen=True, kw_only=True)
class LampShift:
    """Each channel of the lamp's diffuse light rises or falls by ``shift``; its direction tilts by ``tilt_rad``."""

    shift: Range
    tilt_rad: Range

    def __post_init__(self) -> None:
        _check_range("shift", self.shift, 0.0, 0.45)
        _check_range("tilt_rad", self.tilt_rad, 0.0, 1.4)


@dataclass(frozen=True, kw_only=True)
class CameraJitter:
    """The front camera moves by ±``translation_m`` along, and turns by ±``rotation_rad`` about, each of its axes."""

    translation_m: float = 0.1
    rotation_rad: float = 0.05

    def __post_init__(self) -> None:
        _check_range("translation_m", (0.0, self.translation_m), 0.0, 0.3)
        _check_range("rotation_rad", (0.0, self.rotation_rad), 0.0, 0.5)


@dataclass(frozen=True, kw_only=True)
class CameraOrbit:
    """The front camera goes around the point of the table that it looks at, and goes on looking at it.

    ``azimuth_rad`` to either side; ``elevation_rad`` upwards; ``distance`` relative to its own; ``roll_rad`` to either
    side about the optical axis.
    """

    azimuth_rad: Range
    elevation_rad: Range = (0.0, 0.0)
    distance: Range = (1.0, 1.0)
    roll_rad: Range = (0.0, 0.0)

    def __post_init__(self) -> None:
        _check_range("azimuth_rad", self.azimuth_rad, 0.0, 1.6)
        _check_range("elevation_rad", self.elevation_rad, -0.6, 0.5)
        _check_range("distance", self.distance, 0.5, 3.0)
        _check_range("roll_rad", self.roll_rad, 0.0, 0.5)


@dataclass(frozen=True, kw_only=True)
class CameraViews:
    """The front camera looks from one of some places: azimuths (rad, positive to its right) around the point of the
    table that it looks at.
    """

    azimuths_rad: tuple[float, ...]

    def __post_init__(self) -> None:
        for azimuth in self.azimuths_rad or (float("nan"),):
            _check_range("azimuths_rad", (azimuth, azimuth), -1.6, 1.6)


@dataclass(frozen=True, kw_only=True)
class Distractors:
    """Up to ``count`` more things, of shapes and colours that no instruction names, beside where the task's stand."""

    count: int = 2

    def __post_init__(self) -> None:
        _check_range("count", (1, self.count), 1, 6)


@dataclass(frozen=True, kw_only=True)
class RobotStart:
    """The arm starts ``distance_rad`` from home along a random direction in joint space."""

    distance_rad: Range

    def __post_init__(self) -> None:
        _check_range("distance_rad", self.distance_rad, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """The instruction in other words; ``level`` 1 (a polite word more) … 5 (hardly a word in common)."""

    level: int

    def __post_init__(self) -> None:
        _check_range("level", (self.level, self.level), 1, 5)


@dataclass(frozen=True, kw_only=True)
class SensorNoise:
    """Colour images of all cameras are spoilt in one of some ways per episode; ``severity`` 0 (none) … 1."""

    severity: Range
    kinds: tuple[str, ...] = NOISES

    def __post_init__(self) -> None:
        _check_range("severity", self.severity, 0.0, 1.0)
        _check_names("noise", self.kinds, NOISES)


@dataclass(frozen=True, kw_only=True)
class Displacement:
    """Things that can be carried start ``distance_m`` from where the task put them, clear of all others.

    Where things look alike, so that only their place tells which is meant, all move together.
    """

    distance_m: Range

    def __post_init__(self) -> None:
        _check_range("distance_m", self.distance_m, 0.0, 0.3)


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """Everything that differs; nothing by default."""

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
    friction: Scaled | None = None
    mass: Scaled | None = None
    robot_start: RobotStart | None = None
    language: Rewrite | None = None
    noise: SensorNoise | None = None
    layout: Displacement | None = None

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the axes on which something differs."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is not None)


def _check_range(name: str, given: Range, low: float, high: float) -> None:
    if not (all(isfinite(end) for end in given) and low <= given[0] <= given[1] <= high):
        raise ValueError(f"expected {low} <= low <= high <= {high} for {name}, got {given}")


def _check_names(what: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    if not given or not set(given) <= set(known):
        raise ValueError(f"expected at least one {what} out of {', '.join(known)}; got {given}")
