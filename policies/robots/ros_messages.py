"""ROS messages as rosbridge has them in JSON, to numbers and pictures and back.

Arrays of bytes are base64 text. Types are named as in ROS 1 (``sensor_msgs/JointState``) or ROS 2
(``sensor_msgs/msg/JointState``); the fields that are used here are the same in both.
"""

import base64
import binascii
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from envs.specs import CameraSpec
from policies.robots.driver import RobotError

CHANNELS = {"rgb8": (3, (0, 1, 2)), "bgr8": (3, (2, 1, 0)), "rgba8": (4, (0, 1, 2)), "bgra8": (4, (2, 1, 0))}
CHANNELS |= {"mono8": (1, (0, 0, 0))}
"""Encodings of raw pictures: bytes per pixel, and where red, green and blue are."""
MOST_PIXELS = 4096 * 4096
JOINT_FIELDS = ("position", "velocity", "effort")
COMMANDS = (
    "std_msgs/Float64MultiArray",
    "sensor_msgs/JointState",
    "trajectory_msgs/JointTrajectory",
    "geometry_msgs/Twist",
)
PICTURES = ("sensor_msgs/Image", "sensor_msgs/CompressedImage")
TWIST = ("linear.x", "linear.y", "linear.z", "angular.x", "angular.y", "angular.z")


def plain_type(name: str) -> str:
    """``pkg/Type`` for ``pkg/msg/Type`` too."""
    return name.replace("/msg/", "/")


def joint_number(message: Mapping[str, Any], joint: str, field: str) -> float:
    """One joint's number in a JointState; :class:`RobotError` where it is not in there, or not finite."""
    names, values = message.get("name"), message.get(field)
    if not isinstance(names, list) or not isinstance(values, list) or joint not in names:
        raise RobotError(f"no {field} of joint {joint!r} in {str(names)[:120]}")
    place = names.index(joint)
    value = values[place] if place < len(values) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RobotError(f"the {field} of joint {joint!r} is {value!r}")
    return float(value)


def by_joint(message: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A JointState as one for each joint; none for a message of another type."""
    names = message.get("name")
    if not isinstance(names, list):
        return {}
    fields = {field: values for field in JOINT_FIELDS if isinstance(values := message.get(field), list)}
    parts = {field: [values[i : i + 1] for i in range(len(names))] for field, values in fields.items()}
    return {
        name: {"name": [name], **{field: values[i] for field, values in parts.items()}}
        for i, name in enumerate(names)
        if isinstance(name, str)
    }


def multi_array_number(message: Mapping[str, Any], place: int) -> float:
    """One number of a Float64MultiArray or Float32MultiArray."""
    data = message.get("data")
    value = data[place] if isinstance(data, list) and place < len(data) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RobotError(f"number {place} of an array of {len(data) if isinstance(data, list) else 0} is {value!r}")
    return float(value)


def picture(message: Mapping[str, Any], kind: str, camera: CameraSpec) -> np.ndarray:
    """An Image or CompressedImage as uint8 RGB ``(height_px, width_px, 3)`` of ``camera``, brought to its size.

    :class:`RobotError` for a picture that cannot be read, or is not of colours that are known.
    """
    try:
        data = base64.b64decode(message["data"], validate=True)
        image = _compressed(data) if plain_type(kind) == "sensor_msgs/CompressedImage" else _raw(message, data)
    except (KeyError, TypeError, ValueError, OSError, binascii.Error, Image.DecompressionBombError) as error:
        raise RobotError(f"camera {camera.name}: a picture that cannot be read: {error}") from error
    size = camera.width_px, camera.height_px
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8)


def _compressed(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width} × {image.height} pixels are too many")
        return image.convert("RGB")


def _raw(message: Mapping[str, Any], data: bytes) -> Image.Image:
    height, width, step = (int(message[key]) for key in ("height", "width", "step"))
    if message["encoding"] not in CHANNELS:
        raise ValueError(f"encoding {message['encoding']!r}; those that can be read are {', '.join(CHANNELS)}")
    channels, order = CHANNELS[message["encoding"]]
    if not 0 < height * width <= MOST_PIXELS or step < width * channels or len(data) != height * step:
        raise ValueError(f"{height} rows of {step} bytes for {width} pixels are not {len(data)} bytes")
    rows = np.frombuffer(data, np.uint8).reshape(height, step)[:, : width * channels]
    return Image.fromarray(np.ascontiguousarray(rows.reshape(height, width, channels)[..., list(order)]))


def command(kind: str, joints: Sequence[str], values: Sequence[float], step_s: float) -> dict[str, Any]:
    """The message of type ``kind`` that commands ``joints`` to ``values``, to be reached in ``step_s``."""
    numbers = [float(value) for value in values]
    match plain_type(kind):
        case "std_msgs/Float64MultiArray":
            return {"layout": {"dim": [], "data_offset": 0}, "data": numbers}
        case "sensor_msgs/JointState":
            return {"name": list(joints), "position": numbers, "velocity": [], "effort": []}
        case "trajectory_msgs/JointTrajectory":
            whole = int(step_s)
            rest_ns = round(1e9 * (step_s - whole))
            reached = {"sec": whole, "nanosec": rest_ns, "secs": whole, "nsecs": rest_ns}  # for ROS 2, and for ROS 1
            return {"joint_names": list(joints), "points": [{"positions": numbers, "time_from_start": reached}]}
        case "geometry_msgs/Twist":
            told = dict(zip(joints, numbers, strict=True))
            return {part: {axis: told.get(f"{part}.{axis}", 0.0) for axis in "xyz"} for part in ("linear", "angular")}
    raise ValueError(f"commands are of type {', '.join(COMMANDS)}, got {kind!r}")
