"""A Universal Robots UR5e built from primitive geoms, with a parallel gripper of 85 mm stroke."""

from envs.control.servo import ServoConfig
from envs.robots.arm import ArmSpec

UR5E = ArmSpec(
    name="ur5e",
    mjcf="ur5e.xml",
    joints=("shoulder_pan", "shoulder_lift", "elbow", "wrist1", "wrist2", "wrist3"),
    fingers=("finger1", "finger2"),
    tool_site="tcp",
    cameras=("wrist",),
    home_rad=(-0.2635, -1.5150, 1.8473, -1.9031, -1.5708, -0.2635),
    opening_m=0.085,
    # Six joints have no spare freedom: a pull towards home could only drag the tool along.
    servo=ServoConfig(posture_gain=0.0),
)
