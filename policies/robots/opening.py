"""The robot that a file describes."""

from pathlib import Path

from policies.robots.driver import Robot
from policies.robots.robot_file import RobotDescription


def read_robot(file: Path) -> Robot:
    """The robot that ``file`` describes, not connected yet; ``ValueError`` says what is wrong with the file."""
    description = RobotDescription.read(file)
    if description.kind == "rosbridge":
        from policies.robots.rosbridge import RosbridgeRobot

        return RosbridgeRobot(description)
    from policies.robots.lerobot import LeRobotRobot

    return LeRobotRobot(description)
