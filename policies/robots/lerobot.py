"""One of LeRobot's robots, by the interface that all of them have (0.4): ``connect``, ``get_observation``,
``send_action`` and ``disconnect``.

LeRobot must be installed beside us, which pins other versions than ours: in the environment of the robot's computer,
where this needs numpy, msgpack and websockets only.
"""

import importlib
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from envs.specs import STATE_KEY, image_key
from policies.robots.driver import RobotError
from policies.robots.robot_file import RobotDescription, expect

log = logging.getLogger(__name__)


class LeRobotRobot:
    """What a robot file of kind ``lerobot`` describes.

    ``module`` is the module that knows the ``type`` (``lerobot.robots.so_follower`` for ``so101_follower``),
    ``options`` are the fields of its config. Every state and action names its ``key`` there (``shoulder_pan.pos``),
    every camera too. A robot that is not calibrated is refused rather than calibrated: that moves by hand, with
    LeRobot's own program.

    ``act`` sends the action and heeds what was really sent after LeRobot's own limits, from which ``stop`` holds.
    """

    def __init__(self, description: RobotDescription) -> None:
        expect("lerobot", description.settings, {"module", "type"}, {"options"})
        self.embodiment = description.embodiment
        self.limits = description.limits
        self._description = description
        self._keys = {
            vector: [str(entry.get("key", entry["name"])) for entry in entries]
            for vector, entries in description.entries.items()
        }
        if any(dim.relative for dim in self.embodiment.action):
            raise ValueError("LeRobot's robots are told where to be: no action of theirs is relative")
        self._robot = _make(description.settings)
        self._check_features()
        self._last: dict[str, float] | None = None

    def connect(self) -> None:
        try:
            if self._robot.is_connected:  # as LeRobot has it; it may be lost all the same
                self._let_go()
            self._last = None
            self._robot.connect(calibrate=False)
            if not self._robot.is_calibrated:
                raise RobotError("the robot is not calibrated: run lerobot-calibrate first")
        except RobotError:
            raise
        except Exception as error:
            raise RobotError(f"cannot reach the robot: {error}") from error

    def observe(self) -> dict[str, Any]:
        try:
            seen = self._robot.get_observation()
        except Exception as error:
            raise RobotError(f"cannot read the robot: {error}") from error
        theirs = [float(seen[key]) for key in self._keys["state"]]
        values: dict[str, Any] = {STATE_KEY: self._description.to_ours("state", theirs)}
        for camera, key in zip(self.embodiment.cameras, self._keys["cameras"], strict=True):
            image, size = np.asarray(seen[key]), (camera.width_px, camera.height_px)
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise RobotError(f"camera {camera.name}: expected uint8 RGB, got {image.dtype} {image.shape}")
            if image.shape[1::-1] != size:
                image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
            values[image_key(camera.name)] = image
        return values

    def act(self, action: np.ndarray) -> np.ndarray:
        if not np.isfinite(action).all():
            raise RobotError(f"expected a finite action, got {action}")
        theirs = self._description.to_theirs("action", action).tolist()
        sent = self._send(dict(zip(self._keys["action"], theirs, strict=True)))
        return self._description.to_ours("action", [sent[key] for key in self._keys["action"]])

    def stop(self) -> None:
        if self._last is not None:
            self._send(self._last)

    def close(self) -> None:
        if not self._robot.is_connected:
            return
        try:
            self.stop()
        except RobotError as error:
            log.warning("the robot could not be stopped: %s", error)
        self._let_go()

    def _let_go(self) -> None:
        try:
            self._robot.disconnect()
        except Exception as error:
            log.warning("the robot could not be let go in good order: %s", error)

    def _send(self, theirs: Mapping[str, float]) -> dict[str, float]:
        """What LeRobot passed on of it, which has limits of its own."""
        try:
            sent = self._robot.send_action(dict(theirs))
        except Exception as error:
            raise RobotError(f"cannot command the robot: {error}") from error
        self._last = {key: float(sent[key]) for key in theirs}
        return self._last

    def _check_features(self) -> None:
        """``ValueError`` for names that the robot does not have, or an action that would leave some of it untold."""
        senses, obeys = set(self._robot.observation_features), set(self._robot.action_features)
        unknown = set(self._keys["state"] + self._keys["cameras"]) - senses
        if unknown or set(self._keys["action"]) != obeys:
            raise ValueError(
                f"the robot senses {sorted(senses)} and obeys {sorted(obeys)}; the file names {sorted(unknown)}, "
                f"which it does not sense, and the actions {self._keys['action']}"
            )


def _make(settings: Mapping[str, Any]) -> Any:
    """LeRobot's object for a type of robot and its options."""
    try:
        importlib.import_module(str(settings["module"]))
        robots, draccus = importlib.import_module("lerobot.robots"), importlib.import_module("draccus")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is not installed here: install LeRobot in the environment of the robot's computer"
        ) from error
    wanted = {"type": settings["type"], **settings.get("options", {})}
    try:
        return robots.make_robot_from_config(draccus.decode(robots.RobotConfig, wanted))
    except Exception as error:
        raise ValueError(f"LeRobot cannot make a robot of {wanted}: {error}") from error
