"""What other formats do not say of a robot (bounds, units, signs, frames), in a small TOML file: one for all of them.

It names the features that are state, action, pictures and perhaps the time (a vector may be several, one after the
other), the size that pictures are brought to, the instruction where the data have none, and of every dimension what
:class:`envs.specs.Dimension` says, and how it is made of the stored number: ``scale · stored + offset``.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from envs.specs import CameraSpec, Dimension, EmbodimentSpec
from vla.strict_json import strict_json

DIMENSION_KEYS = {field.name for field in fields(Dimension)}
CAMERA_KEYS = {"name", "key", "height_px", "width_px"}
VECTORS = ("state", "action")


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How a dimension is made of the stored number, in another unit or with another sign: scale · stored + offset."""

    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RobotFile:
    """A robot, and how its data are found in a dataset: ``keys`` of state and action, ``image_keys`` by camera,
    ``scaling`` of the dimensions of both; ``time`` is the feature that says when a frame was taken, in seconds.
    ``instruction`` is that of all episodes, for data that tell none.
    """

    embodiment: EmbodimentSpec
    keys: Mapping[str, tuple[str, ...]]
    image_keys: Mapping[str, str]
    scaling: Mapping[str, Sequence[Scaling]]
    time: str | None = None
    instruction: str | None = None

    def scaled(self, vector: str, stored: Shaped[np.ndarray, "t d"]) -> Float[np.ndarray, "t d"]:
        """A ``state`` or ``action`` in the robot's units, float32; computed in float64 where anything is to be done."""
        if all(scaling == Scaling() for scaling in self.scaling[vector]):
            return stored.astype(np.float32)
        scale, offset = np.array([(scaling.scale, scaling.offset) for scaling in self.scaling[vector]]).T
        return (stored * scale + offset).astype(np.float32)

    @classmethod
    def read(cls, file: Path) -> "RobotFile":
        """The inverse of :meth:`to_toml`; ``ValueError`` says what is missing, or not known."""
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
            return cls.from_dict(content)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{file}: {error}") from error

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "RobotFile":
        needed = {"name", "control_rate_hz", "keys", *VECTORS}
        _expect("the file", content, needed, needed | {"cameras", "instruction"})
        _expect("keys", content["keys"], set(VECTORS), {*VECTORS, "time"})
        cameras = content.get("cameras", [])
        for camera in cameras:
            _expect("a camera", camera, CAMERA_KEYS)
        dimensions = {vector: [_dimension(vector, entry) for entry in content[vector]] for vector in VECTORS}
        return cls(
            embodiment=EmbodimentSpec(
                name=content["name"],
                control_rate_hz=float(content["control_rate_hz"]),
                state=tuple(dimension for dimension, _ in dimensions["state"]),
                action=tuple(dimension for dimension, _ in dimensions["action"]),
                cameras=tuple(
                    CameraSpec(name=camera["name"], height_px=camera["height_px"], width_px=camera["width_px"])
                    for camera in cameras
                ),
            ),
            keys={vector: _several(content["keys"][vector]) for vector in VECTORS},
            image_keys={camera["name"]: camera["key"] for camera in cameras},
            scaling={vector: tuple(scaling for _, scaling in pairs) for vector, pairs in dimensions.items()},
            time=content["keys"].get("time"),
            instruction=content.get("instruction"),
        )

    def to_toml(self, remarks: Mapping[str, str] | None = None, head: str = "") -> str:
        """The file, with a remark behind each place (``name``, ``action.0.low``, …) that ``remarks`` has one for."""
        robot, remarks = self.embodiment, remarks or {}

        def line(place: str, value: Any) -> str:
            remark = f"  # {remarks[place]}" if place in remarks else ""
            return f"{place.rpartition('.')[2]} = {strict_json(value, ensure_ascii=False)}{remark}"

        lines = [f"# {text}" for text in head.splitlines()]
        lines += [line("name", robot.name), line("control_rate_hz", robot.control_rate_hz)]
        lines += [] if self.instruction is None else [line("instruction", self.instruction)]
        one_or_more = {vector: keys[0] if len(keys) == 1 else list(keys) for vector, keys in self.keys.items()}
        lines += ["", "[keys]", *(line(f"keys.{vector}", one_or_more[vector]) for vector in VECTORS)]
        lines += [] if self.time is None else [line("keys.time", self.time)]
        for number, camera in enumerate(robot.cameras):
            entry = {"name": camera.name, "key": self.image_keys[camera.name]}
            entry |= {"height_px": camera.height_px, "width_px": camera.width_px}
            lines += ["", "[[cameras]]", *(line(f"cameras.{number}.{key}", value) for key, value in entry.items())]
        for vector, dimensions in zip(VECTORS, (robot.state, robot.action), strict=True):
            for number, (dimension, scaling) in enumerate(zip(dimensions, self.scaling[vector], strict=True)):
                entry = asdict(dimension) | asdict(scaling)
                lines += ["", f"[[{vector}]]"]
                lines += [line(f"{vector}.{number}.{key}", value) for key, value in entry.items()]
        return "\n".join(lines) + "\n"


def _dimension(vector: str, entry: Mapping[str, Any]) -> tuple[Dimension, Scaling]:
    where = f"{vector} {entry.get('name', '')!r}"
    _expect(where, entry, {"name", "unit", "low", "high"}, DIMENSION_KEYS | {"scale", "offset"})
    about: dict[str, Any] = {key: entry[key] for key in DIMENSION_KEYS & set(entry)}
    about |= {"low": float(entry["low"]), "high": float(entry["high"])}
    dimension = Dimension(**about)
    scaling = Scaling(scale=float(entry.get("scale", 1.0)), offset=float(entry.get("offset", 0.0)))
    numbers = (dimension.low, dimension.high, scaling.scale, scaling.offset)
    if not dimension.low < dimension.high or not np.isfinite(numbers).all():
        raise ValueError(f"{where}: expected finite numbers with low < high, got {dict(entry)}")
    return dimension, scaling


def _several(keys: str | Sequence[str]) -> tuple[str, ...]:
    """One key, or some; ``ValueError`` for none."""
    found = (keys,) if isinstance(keys, str) else tuple(keys)
    if not found or not all(isinstance(key, str) for key in found):
        raise ValueError(f"keys: expected the name of a feature, or a list of names, got {keys!r}")
    return found


def _expect(where: str, entry: Mapping[str, Any], needed: set[str], allowed: set[str] | None = None) -> None:
    missing, unknown = needed - set(entry), set(entry) - (allowed or needed)
    if missing or unknown:
        raise ValueError(f"{where}: missing {sorted(missing)}, not expected {sorted(unknown)}")
