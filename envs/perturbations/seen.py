"""Configs of what only cameras notice: colours, patterns, light, cameras and what spoils their pictures.

A range is ``(low, high)``, drawn from uniformly once per episode.
"""

from dataclasses import dataclass
from typing import ClassVar

from envs.perturbations.colour import HUES
from envs.perturbations.ranges import Axis, Range, check_names, check_range

NOISES = ("gaussian", "motion", "zoom", "fog", "glass")
TEXTURES = ("checker", "gradient", "tiles", "speckles")
LAMP_AS_BUILT = 0.45
"""Every channel of the lamp's diffuse light in the scene as built."""


@dataclass(frozen=True, kw_only=True)
class Shade(Axis):
    """Another shade of the colour that a thing is called by, each thing its own: the name still fits.

    The hue turns by ``hue_rad``; saturation and value are multiplied. Greys have no hue to turn: they take on up to
    ``tint`` of some hue instead. Black, which times anything stays black, gets lighter.
    """

    hue_rad: Range = (-0.2, 0.2)
    saturation: Range = (0.6, 1.0)
    value: Range = (0.6, 1.1)
    tint: float = 0.25
    built: ClassVar = {"hue_rad": 0.0, "saturation": 1.0, "value": 1.0, "tint": 0.0}

    def __post_init__(self) -> None:
        check_range("hue_rad", self.hue_rad, -0.35, 0.35)
        check_range("saturation", self.saturation, 0.3, 1.0)
        check_range("value", self.value, 0.4, 1.5)
        check_range("tint", (0.0, self.tint), 0.0, 0.5)


@dataclass(frozen=True, kw_only=True)
class Bands(Axis):
    """Bands around each part of a thing, ``contrast`` of the way from its colour to black, or to white if it is dark;
    ``width`` is relative to the part's extent.
    """

    contrast: Range = (0.35, 0.6)
    width: Range = (0.15, 0.4)
    built: ClassVar = {"contrast": 0.0}

    def __post_init__(self) -> None:
        check_range("contrast", self.contrast, 0.0, 1.0)
        check_range("width", self.width, 0.05, 0.5)


@dataclass(frozen=True, kw_only=True)
class Paint(Axis):
    """Another colour of a surface: ``amount`` of the way from its own to one with channels from ``rgb``.

    What does not come to lie in one of ``hues`` exchanges its channels so that it does.
    """

    rgb: Range = (0.25, 1.0)
    amount: Range = (1.0, 1.0)
    hues: tuple[str, ...] = HUES
    built: ClassVar = {"amount": 0.0}

    def __post_init__(self) -> None:
        check_names("hue", self.hues, HUES)
        check_range("rgb", self.rgb, 0.0, 1.0)
        check_range("amount", self.amount, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Texture(Axis):
    """One of several patterns on a surface, multiplied with its colour."""

    names: tuple[str, ...] = TEXTURES

    def __post_init__(self) -> None:
        check_names("texture", self.names, TEXTURES)


@dataclass(frozen=True, kw_only=True)
class LampColour(Axis):
    """Each channel of the lamp's diffuse light is drawn anew; as built it is 0.45."""

    rgb: Range = (0.0, 0.5)
    built: ClassVar = {"rgb": LAMP_AS_BUILT}

    def __post_init__(self) -> None:
        check_range("rgb", self.rgb, 0.0, 2.0)


@dataclass(frozen=True, kw_only=True)
class LampShift(Axis):
    """Each channel of the lamp's diffuse light rises or falls by ``shift``; its direction tilts by ``tilt_rad``."""

    shift: Range
    tilt_rad: Range
    built: ClassVar = {"shift": 0.0, "tilt_rad": 0.0}

    def __post_init__(self) -> None:
        check_range("shift", self.shift, 0.0, LAMP_AS_BUILT)
        check_range("tilt_rad", self.tilt_rad, 0.0, 1.4)

    @property
    def rgb(self) -> Range:
        """The channels that it can reach."""
        return LAMP_AS_BUILT - self.shift[1], LAMP_AS_BUILT + self.shift[1]


@dataclass(frozen=True, kw_only=True)
class CameraJitter(Axis):
    """A camera moves by ±``translation_m`` along, and turns by ±``rotation_rad`` about, each of its own axes."""

    translation_m: float = 0.1
    rotation_rad: float = 0.05
    built: ClassVar = {"translation_m": 0.0, "rotation_rad": 0.0}

    def __post_init__(self) -> None:
        check_range("translation_m", (0.0, self.translation_m), 0.0, 0.3)
        check_range("rotation_rad", (0.0, self.rotation_rad), 0.0, 0.5)

    @property
    def aside_rad(self) -> Range:
        """How far it looks past what it looked at."""
        return -self.rotation_rad, self.rotation_rad


@dataclass(frozen=True, kw_only=True)
class CameraOrbit(Axis):
    """The front camera goes around the point of the table that it looks at, and goes on looking at it.

    ``azimuth_rad`` to either side; ``elevation_rad`` upwards; ``distance`` relative to its own; ``roll_rad`` to either
    side about the optical axis.
    """

    azimuth_rad: Range
    elevation_rad: Range = (0.0, 0.0)
    distance: Range = (1.0, 1.0)
    roll_rad: Range = (0.0, 0.0)
    built: ClassVar = {"azimuth_rad": 0.0, "elevation_rad": 0.0, "distance": 1.0, "roll_rad": 0.0}

    def __post_init__(self) -> None:
        check_range("azimuth_rad", self.azimuth_rad, 0.0, 1.6)
        check_range("elevation_rad", self.elevation_rad, -0.6, 0.5)
        check_range("distance", self.distance, 0.5, 3.0)
        check_range("roll_rad", self.roll_rad, 0.0, 0.5)

    @property
    def aside_rad(self) -> Range:
        """How far it looks past what it looked at."""
        return 0.0, 0.0


@dataclass(frozen=True, kw_only=True)
class CameraViews(Axis):
    """The front camera looks from one of some places: azimuths (rad, positive to its right) around the point of the
    table that it looks at.
    """

    azimuths_rad: tuple[float, ...]
    built: ClassVar = {"azimuths_rad": 0.0}

    def __post_init__(self) -> None:
        for azimuth in self.azimuths_rad or (float("nan"),):
            check_range("azimuths_rad", (azimuth, azimuth), -1.6, 1.6)


@dataclass(frozen=True, kw_only=True)
class FieldOfView(Axis):
    """The front camera's vertical field of view times ``factor``; its intrinsics follow."""

    factor: Range
    built: ClassVar = {"factor": 1.0}

    def __post_init__(self) -> None:
        check_range("factor", self.factor, 0.5, 2.0)


@dataclass(frozen=True, kw_only=True)
class SensorNoise(Axis):
    """Colour images of all cameras are spoilt in one of some ways per episode; ``severity`` 0 (none) … 1."""

    severity: Range
    kinds: tuple[str, ...] = NOISES
    built: ClassVar = {"severity": 0.0}

    def __post_init__(self) -> None:
        check_range("severity", self.severity, 0.0, 1.0)
        check_names("noise", self.kinds, NOISES)


@dataclass(frozen=True, kw_only=True)
class DepthErrors(Axis):
    """Depth images are as a stereo or time-of-flight camera gives them; colours stay.

    ``holes`` is the share of the picture without a reading, in patches most of which stay throughout an episode.
    ``noise`` is the standard deviation in metres at 1 m, fresh at every step; it grows with the square of the distance,
    as that of a disparity does. ``step`` is how far apart two readings are at 1 m, in metres: what is measured is an
    inverse depth in whole steps (1/m), so that this grows with the square of the distance too.
    """

    holes: Range = (0.0, 0.0)
    noise: Range = (0.0, 0.0)
    step: Range = (0.0, 0.0)
    built: ClassVar = {"holes": 0.0, "noise": 0.0, "step": 0.0}

    def __post_init__(self) -> None:
        check_range("holes", self.holes, 0.0, 1.0)
        check_range("noise", self.noise, 0.0, 0.5)
        check_range("step", self.step, 0.0, 0.5)


@dataclass(frozen=True, kw_only=True)
class CalibrationError(Axis):
    """Every camera stands ``translation_m`` from where it is said to, and looks ``rotation_rad`` past where it is said
    to look, in a direction of its own that stays throughout an episode.
    """

    translation_m: Range = (0.0, 0.0)
    rotation_rad: Range = (0.0, 0.0)
    built: ClassVar = {"translation_m": 0.0, "rotation_rad": 0.0}

    def __post_init__(self) -> None:
        check_range("translation_m", self.translation_m, 0.0, 0.3)
        check_range("rotation_rad", self.rotation_rad, 0.0, 0.5)
