"""A robot behind rosbridge, the JSON protocol over a WebSocket that ROS 1 and ROS 2 share (version 2).

``subscribe`` gets JointState, MultiArray and picture topics, ``advertise`` and ``publish`` send the commands.
Everything crosses the network as it is: rosbridge has no token, so the way to it must be trusted.
"""

import json
import logging
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect

from envs.specs import STATE_KEY, image_key
from policies.robots import ros_messages
from policies.robots.driver import RobotError
from policies.robots.robot_file import RobotDescription, expect
from policies.serving.config import quiet_logger
from vla.strict_json import strict_json

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
SETTINGS = {"url", "command_topic", "command_type"}
FURTHER_SETTINGS = {"stale_s", "connect_timeout_s", "resend_on_stop"}

Place = str | tuple[str, str]
"""A topic, or a joint of those that are published on it."""


class RosbridgeRobot:
    """What a robot file of kind ``rosbridge`` describes.

    A thread keeps the latest message of each topic. A message that is older than ``stale_s`` (0.5) by this computer's
    clock is an error, so that a robot whose driver hangs is not driven blindly. ``stop`` sends the command to stay
    ``resend_on_stop`` (3) times.
    """

    def __init__(self, description: RobotDescription) -> None:
        settings = description.settings
        expect("rosbridge", settings, SETTINGS, FURTHER_SETTINGS)
        self.embodiment = description.embodiment
        self.limits = description.limits
        self._description = description
        self._url = str(settings["url"])
        self._stale_s = float(settings.get("stale_s", 0.5))
        self._timeout_s = float(settings.get("connect_timeout_s", 5.0))
        self._resend = int(settings.get("resend_on_stop", 3))
        self._topic, self._type = str(settings["command_topic"]), str(settings["command_type"])
        self._joints = [str(entry.get("joint", entry["name"])) for entry in description.entries["action"]]
        self._relative = np.array([dim.relative for dim in self.embodiment.action])
        self._topics = _topics(description)
        self._check_command()
        self._latest: dict[Place, tuple[Mapping[str, Any], float]] = {}
        self._pictures: dict[str, tuple[float, np.ndarray]] = {}
        self._heard = threading.Condition()
        self._trouble: str | None = None
        self._socket: ClientConnection | None = None
        self._last: np.ndarray | None = None
        self._closed = False
        self._open = ExitStack()

    def connect(self) -> None:
        self._forget()
        try:
            opening = connect(
                self._url,
                max_size=MAX_MESSAGE_BYTES,
                open_timeout=self._timeout_s,
                close_timeout=1.0,
                compression=None,
                proxy=None,
                logger=quiet_logger(f"{__name__}.websockets"),
            )
            self._socket = self._open.enter_context(opening)
        except (OSError, WebSocketException, ValueError) as error:
            raise RobotError(f"cannot reach rosbridge at {self._url}: {error}") from error
        threading.Thread(target=self._listen, args=(self._socket,), name="rosbridge", daemon=True).start()
        for topic, kind in self._topics.items():
            about = {"topic": topic, "type": kind, "id": f"subscribe:{topic}"}
            self._send({"op": "subscribe", **about, "queue_length": 1, "throttle_rate": 0})
        self._send({"op": "advertise", "id": f"advertise:{self._topic}", "topic": self._topic, "type": self._type})
        self._await_first_messages()

    def observe(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        theirs = [self._number(place, entry) for place, entry in enumerate(self._description.entries["state"])]
        values[STATE_KEY] = self._description.to_ours("state", theirs)
        for camera, entry in zip(self.embodiment.cameras, self._description.entries["cameras"], strict=True):
            message, came_s = self._message(entry["topic"])
            if self._pictures.get(camera.name, (None, None))[0] != came_s:
                self._pictures[camera.name] = came_s, ros_messages.picture(message, entry["type"], camera)
            values[image_key(camera.name)] = self._pictures[camera.name][1]
        return values

    def act(self, action: np.ndarray) -> None:
        if action.shape != self._relative.shape or not np.isfinite(action).all():
            raise RobotError(f"expected a finite action of {len(self._relative)} numbers, got {action}")
        self._last = action
        theirs = self._description.to_theirs("action", action)
        step_s = 1.0 / self.embodiment.control_rate_hz
        message = ros_messages.command(self._type, self._joints, theirs.tolist(), step_s)
        self._send({"op": "publish", "topic": self._topic, "msg": message})

    def stop(self) -> None:
        still = np.where(self._relative, np.float32(0.0), np.nan if self._last is None else self._last)
        if np.isnan(still).any():
            return  # it was never told where to be
        for _ in range(self._resend):
            self.act(still.astype(np.float32))

    def close(self) -> None:
        if self._socket is None or self._closed:
            return
        self._closed = True
        try:
            self.stop()
            self._send({"op": "unadvertise", "id": f"advertise:{self._topic}", "topic": self._topic})
        except RobotError as error:
            log.warning("the robot could not be stopped: %s", error)
        self._open.close()

    def _forget(self) -> None:
        """Let go of a connection from before, of what came over it and of what was told."""
        self._open.close()
        with self._heard:
            self._latest, self._pictures, self._trouble = {}, {}, None
        self._socket, self._last, self._closed = None, None, False

    def _check_command(self) -> None:
        kind = ros_messages.plain_type(self._type)
        if kind not in ros_messages.COMMANDS:
            raise ValueError(f"command_type must be one of {', '.join(ros_messages.COMMANDS)}, got {self._type!r}")
        if kind == "geometry_msgs/Twist" and not set(self._joints) <= set(ros_messages.TWIST):
            raise ValueError(f"the joints of a Twist are {', '.join(ros_messages.TWIST)}, got {self._joints}")
        if kind == "geometry_msgs/Twist" and not self._relative.all():
            raise ValueError("a Twist holds velocities, of which 0 means to stay: mark them relative = true")

    def _await_first_messages(self) -> None:
        deadline_s = time.monotonic() + self._timeout_s
        with self._heard:
            while missing := [_called(each) for each in self._awaited if each not in self._latest]:
                left_s = deadline_s - time.monotonic()
                if self._trouble is not None or left_s <= 0:
                    trouble = f" ({self._trouble})" if self._trouble else ""
                    raise RobotError(f"nothing came on {', '.join(missing)} within {self._timeout_s:g} s{trouble}")
                self._heard.wait(left_s)

    def _number(self, place: int, entry: Mapping[str, Any]) -> float:
        message, _ = self._message(_place(entry))
        if "joint" in entry:
            return ros_messages.joint_number(message, entry["joint"], entry.get("field", "position"))
        return ros_messages.multi_array_number(message, int(entry.get("field", place)))

    @property
    def _awaited(self) -> list[Place]:
        return list(dict.fromkeys([*self._topics, *map(_place, self._description.entries["state"])]))

    def _message(self, place: Place) -> tuple[Mapping[str, Any], float]:
        """The latest message of ``place`` and when it came; :class:`RobotError` for none, or an old one."""
        if self._trouble is not None:
            raise RobotError(self._trouble)
        message, came_s = self._latest[place]
        age_s = time.monotonic() - came_s
        if age_s > self._stale_s:
            raise RobotError(f"nothing new on {_called(place)} for {age_s:.2f} s (stale_s is {self._stale_s:g})")
        return message, came_s

    def _send(self, message: Mapping[str, Any]) -> None:
        if self._socket is None:
            raise RobotError("not connected")
        try:
            self._socket.send(strict_json(message))
        except ConnectionClosed as error:
            raise RobotError(f"the connection to {self._url} ended: {error}") from error

    def _listen(self, socket: ClientConnection) -> None:
        try:
            for frame in socket:
                self._hear(frame)
            trouble = f"rosbridge at {self._url} has hung up"
        except ConnectionClosed as error:
            trouble = f"the connection to {self._url} ended: {error}"
        except RobotError as error:
            trouble = str(error)
        with self._heard:
            if socket is self._socket:  # and not one from before
                self._trouble = trouble
            self._heard.notify_all()

    def _hear(self, frame: str | bytes) -> None:
        try:
            message = json.loads(frame)
            operation = message["op"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise RobotError(f"rosbridge sent what is no message: {error}") from error
        if operation == "publish" and message.get("topic") in self._topics and isinstance(message.get("msg"), dict):
            topic, now_s = message["topic"], time.monotonic()
            with self._heard:
                self._latest[topic] = message["msg"], now_s
                for joint, part in ros_messages.by_joint(message["msg"]).items():
                    self._latest[topic, joint] = part, now_s
                self._heard.notify_all()
        elif operation == "status" and message.get("level") == "error":
            raise RobotError(f"rosbridge: {str(message.get('msg'))[:300]}")


def _place(entry: Mapping[str, Any]) -> Place:
    """Where what an entry of the description names is heard: several may publish some joints each on one topic."""
    return (entry["topic"], entry["joint"]) if "joint" in entry else entry["topic"]


def _called(place: Place) -> str:
    return place if isinstance(place, str) else f"{place[0]} of joint {place[1]!r}"


def _topics(description: RobotDescription) -> dict[str, str]:
    """Every topic to be heard, with its type; ``ValueError`` for a topic of two types, or one that nobody can read."""
    topics: dict[str, str] = {}
    for vector, entries in description.entries.items():
        if vector == "action":
            continue
        for entry in entries:
            where = f"{vector} {entry['name']!r}"
            if "topic" not in entry:
                raise ValueError(f"{where}: missing ['topic'], not expected []")
            kind = str(entry.get("type", "sensor_msgs/JointState"))
            pictures = ros_messages.plain_type(kind) in ros_messages.PICTURES
            if pictures != (vector == "cameras"):
                raise ValueError(f"{where}: a topic of type {kind!r} is none for {vector}")
            if entry.get("field", "position") not in ros_messages.JOINT_FIELDS and "joint" in entry:
                raise ValueError(f"{where}: field must be one of {', '.join(ros_messages.JOINT_FIELDS)}")
            if topics.setdefault(entry["topic"], kind) != kind:
                raise ValueError(f"{where}: {entry['topic']} is of type {topics[entry['topic']]!r} elsewhere")
    return topics
