"""A Universal Robots UR5e built from primitive geoms, with a parallel gripper of 85 mm stroke."""

import math

from envs.control.servo import ServoConfig
from envs.robots.arm import ArmSpec
from envs.robots.grippers import STROKE_85

UR5E = ArmSpec(
    name="ur5e",
    mjcf="ur5e.xml",
    joints=("shoulder_pan", "shoulder_lift", "elbow", "wrist1", "wrist2", "wrist3"),
    home_rad=(-0.2635, -1.5150, 1.8473, -1.9031, -1.5708, -0.2635),
    gripper=STROKE_85,
    gripper_turn_rad=-math.pi / 2,
    # Six joints have no spare freedom: a pull towards home could only drag the tool along.
    servo=ServoConfig(posture_gain=0.0),
)
