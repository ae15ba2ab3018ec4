"""A robot by LeRobot's own classes, without hardware, as a plugin would be: ``python lerobot_bench.py OUT.json`` drives
it.

Runs in LeRobot's environment, where our adapter must do with numpy and Pillow.
"""

import json
import sys
from dataclasses import dataclass, field

import numpy as np
from lerobot.robots import Robot, RobotConfig

JOINTS = ("pan", "lift")


@RobotConfig.register_subclass("vla_bench")
@dataclass
class BenchConfig(RobotConfig):
    """Its fields are the ``options`` of the robot file."""

    start: float = 0.0
    most: float = 100.0
    calibrated: bool = True
    cameras: dict = field(default_factory=dict)


class Bench(Robot):
    config_class = BenchConfig
    name = "vla_bench"

    def __init__(self, config):
        super().__init__(config)
        self.config = config
        self.places = dict.fromkeys(JOINTS, config.start)
        self.sent = []
        self._connected = False

    @property
    def observation_features(self):
        return {**{f"{joint}.pos": float for joint in JOINTS}, "front": (8, 12, 3)}

    @property
    def action_features(self):
        return {f"{joint}.pos": float for joint in JOINTS}

    @property
    def is_connected(self):
        return self._connected

    @property
    def is_calibrated(self):
        return self.config.calibrated

    def connect(self, calibrate=True):
        assert not calibrate
        self._connected = True

    def calibrate(self):
        raise AssertionError("nobody asked for it")

    def configure(self):
        pass

    def get_observation(self):
        picture = np.full((8, 12, 3), (200, 100, 50), np.uint8)
        return {**{f"{joint}.pos": place for joint, place in self.places.items()}, "front": picture}

    def send_action(self, action):
        sent = {key: float(np.clip(value, -self.config.most, self.config.most)) for key, value in action.items()}
        self.places = {key.removesuffix(".pos"): value for key, value in sent.items()}
        self.sent.append(sent)
        return sent

    def disconnect(self):
        self._connected = False


def described(**options):
    """The robot as a file describes it: LeRobot's −100 … 100 are our radians."""
    dims = [
        {"name": joint, "key": f"{joint}.pos", "unit": "rad", "low": -2.0, "high": 2.0, "scale": 0.01}
        for joint in JOINTS
    ]
    return {
        "name": "bench",
        "kind": "lerobot",
        "control_rate_hz": 20,
        "lerobot": {"module": "lerobot_bench", "type": "vla_bench", "options": options},
        "state": dims,
        "action": [{**dim, "max_step": 0.1} for dim in dims],
        "cameras": [{"name": "front", "height_px": 4, "width_px": 6}],
    }


def main():
    import lerobot_bench  # the module that the adapter will find, rather than this one, __main__

    from policies.robots.driver import RobotError
    from policies.robots.lerobot import LeRobotRobot
    from policies.robots.robot_file import RobotDescription

    found = {}
    robot = LeRobotRobot(RobotDescription.from_dict(described(start=20.0, most=50.0)))
    assert isinstance(robot._robot, lerobot_bench.Bench)
    robot.connect()
    seen = robot.observe()
    found["state"] = seen["observation.state"].tolist()
    found["picture"] = [seen["observation.images.front"].shape, seen["observation.images.front"][0, 0].tolist()]
    robot.act(np.float32([0.1, 0.9]))
    robot.close()
    found["sent"] = robot._robot.sent
    found["connected"] = robot._robot.is_connected
    for name, change in {"calibrated": {"calibrated": False}, "option": {"speed": 3}}.items():
        try:
            LeRobotRobot(RobotDescription.from_dict(described(**change))).connect()
        except (RobotError, ValueError) as error:
            found[name] = str(error)
    lacking = described()
    lacking["action"] = lacking["action"][:1]
    try:
        LeRobotRobot(RobotDescription.from_dict(lacking))
    except ValueError as error:
        found["lacking"] = str(error)
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(found, file, allow_nan=False)


if __name__ == "__main__":
    main()
