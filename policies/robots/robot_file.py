"""A robot as a TOML file describes it: what it senses and obeys, how far it may go in a step, and how it is reached.

The file has ``name``, ``kind`` (``rosbridge`` or ``lerobot``) and ``control_rate_hz``, a table ``[[state]]`` and
``[[action]]`` for every number, ``[[cameras]]`` for every camera, and a table named after the kind. A number in the
file is ``scale · theirs + offset``; docs/robots.md has examples.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from envs.specs import CameraSpec, Dimension, EmbodimentSpec
from policies.robots.driver import Limits

DIMENSION_KEYS = {field.name for field in fields(Dimension)}
SCALING_KEYS = {"scale", "offset"}
LIMIT_KEYS = {"max_step", "follows"}
OWN_KEYS = {"rosbridge": {"topic", "type", "joint", "field"}, "lerobot": {"key"}}
"""What else an entry may say, for each kind of robot."""


@dataclass(frozen=True, kw_only=True)
class RobotDescription:
    """What a robot file says. ``entries`` are its tables ``state``, ``action`` and ``cameras`` with all that they say,
    ``settings`` the table named after the ``kind``. ``scale`` and ``offset`` ``(d,)`` of each vector turn the robot's
    own numbers into ours: scale · theirs + offset.
    """

    kind: str
    embodiment: EmbodimentSpec
    limits: Limits
    entries: Mapping[str, Sequence[Mapping[str, Any]]]
    settings: Mapping[str, Any]
    scale: Mapping[str, np.ndarray]
    offset: Mapping[str, np.ndarray]

    def to_ours(self, vector: str, theirs: Sequence[float]) -> np.ndarray:
        """A ``state`` or ``action`` ``(d,)``, float32, of the robot's own numbers."""
        return (np.asarray(theirs, np.float64) * self.scale[vector] + self.offset[vector]).astype(np.float32)

    def to_theirs(self, vector: str, ours: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`to_ours`, float64."""
        return (np.asarray(ours, np.float64) - self.offset[vector]) / self.scale[vector]

    @classmethod
    def read(cls, file: Path) -> "RobotDescription":
        """``ValueError`` says what is missing in ``file``, not known, or impossible."""
        try:
            return cls.from_dict(tomllib.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{file}: {error}") from error

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "RobotDescription":
        kind = content.get("kind")
        if kind not in OWN_KEYS:
            raise ValueError(f"kind must be one of {', '.join(OWN_KEYS)}, got {kind!r}")
        expect("the file", content, {"name", "kind", "control_rate_hz", "state", "action", kind}, {"cameras"})
        entries = {vector: content[vector] for vector in ("state", "action")}
        entries["cameras"] = content.get("cameras", [])
        own = OWN_KEYS[kind]
        state = tuple(_dimension("state", entry, own) for entry in entries["state"])
        action = tuple(_dimension("action", entry, own | LIMIT_KEYS) for entry in entries["action"])
        embodiment = EmbodimentSpec(
            name=content["name"],
            control_rate_hz=_positive("control_rate_hz", content["control_rate_hz"]),
            state=state,
            action=action,
            cameras=tuple(_camera(entry, own) for entry in entries["cameras"]),
        )
        limits = _limits(embodiment, entries["action"])
        limits.check(embodiment)
        vectors = ("state", "action")
        return cls(
            kind=kind,
            embodiment=embodiment,
            limits=limits,
            entries=entries,
            settings=content[kind],
            scale={vector: _numbers(entries[vector], "scale", 1.0) for vector in vectors},
            offset={vector: _numbers(entries[vector], "offset", 0.0) for vector in vectors},
        )


def expect(where: str, entry: Mapping[str, Any], needed: Set[str], allowed: Set[str] = frozenset()) -> None:
    """``ValueError`` names the keys that ``entry`` lacks, and those that nobody knows."""
    missing, unknown = needed - set(entry), set(entry) - needed - allowed
    if missing or unknown:
        raise ValueError(f"{where}: missing {sorted(missing)}, not expected {sorted(unknown)}")


def _dimension(vector: str, entry: Mapping[str, Any], own: set[str]) -> Dimension:
    where = f"{vector} {entry.get('name', '')!r}"
    expect(where, entry, {"name", "unit", "low", "high"}, DIMENSION_KEYS | SCALING_KEYS | own)
    about = {key: entry[key] for key in DIMENSION_KEYS & set(entry)}
    dimension = Dimension(**{**about, "low": float(entry["low"]), "high": float(entry["high"])})
    numbers = (dimension.low, dimension.high, float(entry.get("scale", 1.0)), float(entry.get("offset", 0.0)))
    if not dimension.low < dimension.high or not np.isfinite(numbers).all() or numbers[2] == 0:
        raise ValueError(f"{where}: expected finite numbers with low < high and a scale, got {dict(entry)}")
    if dimension.relative and entry.get("offset", 0.0):
        raise ValueError(f"{where}: a relative number has no offset, for 0 must mean to stay")
    return dimension


def _camera(entry: Mapping[str, Any], own: set[str]) -> CameraSpec:
    expect(f"camera {entry.get('name', '')!r}", entry, {"name", "height_px", "width_px"}, own)
    sides = entry["height_px"], entry["width_px"]
    if not all(type(side) is int and side > 0 for side in sides):
        raise ValueError(f"camera {entry['name']!r}: expected a height and width in pixels, got {sides}")
    return CameraSpec(name=entry["name"], height_px=sides[0], width_px=sides[1])


def _limits(embodiment: EmbodimentSpec, action: Sequence[Mapping[str, Any]]) -> Limits:
    """The largest steps, and what each number follows: the state of its own name unless it says another."""
    names = [dim.name for dim in embodiment.state]
    follows: list[int | None] = []
    for entry in action:
        followed = entry.get("follows", entry["name"])
        if "follows" in entry and followed not in names:
            raise ValueError(f"action {entry['name']!r} follows {followed!r}; the states are {names}")
        follows.append(names.index(followed) if followed in names else None)
    return Limits(max_step=tuple(float(entry.get("max_step", math.inf)) for entry in action), follows=tuple(follows))


def _numbers(entries: Sequence[Mapping[str, Any]], key: str, default: float) -> np.ndarray:
    return np.array([float(entry.get(key, default)) for entry in entries], np.float64)


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
    return float(value)
