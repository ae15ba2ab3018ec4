"""A low-cost arm of five hinges in the manner of the SO-100.

The joints (pan, lift, elbow, wrist flex, wrist roll), their order and about their ranges are the real arm's. Three
things depart from it: the two long links are 2.6 times as long (0.116 and 0.135 m become 0.302 and 0.351 m) and the
base stands 12 cm nearer, because the real arm cannot reach over the table; a parallel gripper of two slides stands for
the jaw that turns on a hinge; and the servos are ideal, without the real ones' play. Their torques are scaled to the
longer links: the real servos give about three times what the outstretched arm's weight needs (some 3 N m), and so do
the 25 N m of the first three here, whose outstretched arm needs 8 N m; the wrist's two give 8 N m.

Five joints cannot tilt the tool sideways, out of the arm's plane: such a command is obeyed as far as the tool's
position allows.
"""

from envs.control.servo import ServoConfig
from envs.robots.arm import ArmSpec
from envs.robots.grippers import SMALL

SO100 = ArmSpec(
    name="so100",
    mjcf="so100.xml",
    joints=("shoulder_pan", "shoulder_lift", "elbow", "wrist_flex", "wrist_roll"),
    home_rad=(0.0, 0.1775, 1.6603, 1.3038, 0.0),
    gripper=SMALL,
    base_m=(0.12, 0.0, 0.0),
    servo=ServoConfig(damping=0.003, posture_gain=0.0, leash_turn_rad=0.3, rotation_weight=0.02),
)
