"""Which wire key carries which observation, and the check that an observation keeps its promise.

On the wire, keys have slashes and one observation has no batch axis. ``openpi-client`` users send

==================================  =====================================  =========================
wire key                            our key (``envs.specs``)               value
==================================  =====================================  =========================
``prompt``                          ``task``                               text
``observation/state``               ``observation.state``                  float ``(d,)``
``observation/command``             ``observation.command``                float ``(10,)``
``observation/images/<cam>``        ``observation.images.<cam>``           uint8 RGB ``(h, w, 3)``
``observation/depth/<cam>``         ``observation.depth.<cam>``            float metres ``(h, w)``
``observation/cameras/<cam>/…``     ``observation.cameras.<cam>.…``        float ``(3, 3)``, ``(4, 4)``
``reset``                           (none)                                 bool, starts an episode
``last_action``                     (none)                                 float ``(a,)``
``underway``, ``delay_steps``       (none)                                 float ``(k, a)``, int 1 … k
==================================  =====================================  =========================

``last_action``, which may be left out, is the action that the robot carried out last, so that the server holds exactly
that if it must. A server that is not told takes it for row ``replan_interval - 1`` of its last answer. ``underway`` is
what the robot goes on doing from this observation on, ``delay_steps`` how much of it will be done when the answer comes
(:mod:`policies.serving.underway`): for servers whose hello says ``continues``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

import numpy as np

from envs.specs import (
    ACTION_KEY,
    COMMAND_DIM,
    COMMAND_KEY,
    STATE_KEY,
    TASK_KEY,
    EmbodimentSpec,
    segmentation_key,
)
from policies.data.episode import episode_fields
from policies.described import described

PROMPT = "prompt"
RESET = "reset"
LAST_ACTION = "last_action"
UNDERWAY = "underway"
DELAY_STEPS = "delay_steps"
ACTIONS = "actions"
WARNINGS = "warnings"
ANSWER = "answer"
_BESIDE_OBSERVATION = (RESET, LAST_ACTION, UNDERWAY, DELAY_STEPS)
_SHOWN_KEYS = 40
_SHOWN_WIDTH = 60


class ObservationError(ValueError):
    """An observation that the embodiment does not promise; the text says what was expected."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One entry of an observation: both its keys, and what its unbatched value must be."""

    key: str
    wire: str
    kind: Literal["image", "real", "text"]
    shape: tuple[int, ...] = ()
    required: bool = True


def observation_fields(embodiment: EmbodimentSpec) -> tuple[Field, ...]:
    """The table between our keys and the wire's; the command, depth and camera matrices may be left out.

    What a recorded episode holds (``policies.data.episode``), but for segmentations, phase and actions.
    """
    fields = [
        Field(key=TASK_KEY, wire=PROMPT, kind="text"),
        Field(key=COMMAND_KEY, wire=_wire(COMMAND_KEY), kind="real", shape=(COMMAND_DIM,), required=False),
    ]
    segmentations = {segmentation_key(name) for name in embodiment.camera_names}
    for spec in episode_fields(embodiment, geometry=True, phase=False):
        if spec.key == ACTION_KEY or spec.key in segmentations:
            continue
        kind = "image" if spec.dtype == "uint8" else "real"
        required = kind == "image" or spec.key == STATE_KEY
        fields.append(Field(key=spec.key, wire=_wire(spec.key), kind=kind, shape=spec.shape, required=required))
    return tuple(fields)


def _wire(key: str) -> str:
    """``observation.cameras.<cam>.intrinsics`` with slashes; dots in the camera's name stay."""
    group, kind, *rest = key.split(".", 2)
    if kind == "cameras":
        rest = rest[0].rsplit(".", 1)
    return "/".join((group, kind, *rest))


class ObservationAdapter:
    """Converts unbatched observations of one embodiment between our keys and the wire's, checking both ways."""

    def __init__(self, embodiment: EmbodimentSpec) -> None:
        self.embodiment = embodiment
        self.fields = observation_fields(embodiment)
        self._by_wire = {field.wire: field for field in self.fields}
        self._by_key = {field.key: field for field in self.fields}
        shape = (embodiment.action_dim,)
        self._last_action = Field(key=LAST_ACTION, wire=LAST_ACTION, kind="real", shape=shape, required=False)

    def to_wire(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """Rename our keys (wire keys pass) and check every value; ``ObservationError`` if it does not fit."""
        renamed = {self._by_key[key].wire if key in self._by_key else key: v for key, v in observation.items()}
        self._check(renamed)
        return renamed

    def from_wire(self, message: Any) -> dict[str, Any]:
        """Our keys with arrays as uint8 or float32, from a decoded message, without what it says beside
        the observation; ``reset`` and ``last_action`` are checked."""
        if not isinstance(message, dict):
            raise ObservationError(f"expected an observation map, got {type(message).__name__}")
        checked = self._check(message)
        return {self._by_wire[wire].key: value for wire, value in checked.items()}

    def describe(self) -> dict[str, Any]:
        """Every wire key with kind, shape and whether it is required, for the server's hello."""
        return {f.wire: {"kind": f.kind, "shape": list(f.shape), "required": f.required} for f in self.fields}

    def example(self) -> dict[str, Any]:
        """A valid observation in our keys: black images, centred state, nothing in sight."""
        middle = np.array([np.clip(0.0, dim.low, dim.high) for dim in self.embodiment.state], np.float32)
        values: dict[str, Any] = {}
        for field in self.fields:
            if field.kind == "text":
                values[field.key] = ""
            elif field.key == STATE_KEY:
                values[field.key] = middle
            elif "cameras" in field.wire:
                values[field.key] = np.eye(field.shape[0], dtype=np.float32)
            else:
                values[field.key] = np.zeros(field.shape, np.uint8 if field.kind == "image" else np.float32)
        return values

    def _check(self, message: Mapping[str, Any]) -> dict[str, Any]:
        given = [key for key in message if key not in _BESIDE_OBSERVATION]
        unknown = [key for key in given if key not in self._by_wire]
        missing = [field.wire for field in self.fields if field.required and field.wire not in message]
        if unknown or missing:
            expected = [field.wire for field in self.fields if field.required or field.wire in message]
            raise ObservationError(
                f"observation keys differ from those of embodiment {self.embodiment.name!r}\n"
                + key_diff(expected, given)
            )
        if not isinstance(message.get(RESET, False), bool | np.bool_):
            raise ObservationError(f"reset must be a bool, got {described(message[RESET])}")
        if LAST_ACTION in message:
            _checked_value(self._last_action, message[LAST_ACTION])
        return {key: _checked_value(self._by_wire[key], message[key]) for key in given}


def key_diff(expected: Iterable[str], given: Iterable[str]) -> str:
    """Two columns, expected and given: common keys side by side first, then what has no partner."""
    want, have = list(expected), list(given)
    common = [key for key in want if key in have]
    rows = [(key, key, "") for key in common]
    lone_want = [key for key in want if key not in have]
    lone_have = [key for key in have if key not in want]
    rows += [(w, h, "  <- differs") for w, h in zip_longest(lone_want, lone_have, fillvalue="-")]
    rows = [("expected", "given", ""), *rows]
    cut = [(w[:_SHOWN_WIDTH], str(h)[:_SHOWN_WIDTH], note) for w, h, note in rows[:_SHOWN_KEYS]]
    width = max(len(w) for w, _, _ in cut)
    other = max(len(h) for _, h, _ in cut)
    lines = [f"  {w:<{width}}  {h:<{other}}{note}".rstrip() for w, h, note in cut]
    if len(rows) > _SHOWN_KEYS:
        lines.append(f"  … and {len(rows) - _SHOWN_KEYS} more")
    return "\n".join(lines)


def _checked_value(field: Field, value: Any) -> Any:
    """``value`` if it is what ``field`` promises, floats as float32; ``ObservationError`` if not."""
    if field.kind == "text":
        if not isinstance(value, str):
            raise ObservationError(f"{field.wire} must be text, got {described(value)}")
        return value
    kind = "u" if field.kind == "image" else "f"
    wanted = "uint8 RGB, height x width x 3" if field.kind == "image" else "float"
    if not isinstance(value, np.ndarray) or value.shape != field.shape or value.dtype.kind != kind:
        raise ObservationError(f"{field.wire} must be {wanted} of shape {field.shape}, got {described(value)}")
    if field.kind == "image":
        if value.dtype.itemsize != 1:
            raise ObservationError(f"{field.wire} must be {wanted}, got {described(value)}")
        return value
    with np.errstate(over="ignore"):
        reals = value.astype(np.float32, copy=False)
    bad = np.argwhere(~np.isfinite(reals))
    if len(bad):
        where = tuple(int(i) for i in bad[0])
        raise ObservationError(
            f"{field.wire} must be finite, got {value[where]} at index {where} ({len(bad)} such values)"
        )
    return reals
