"""A Franka Emika Panda built from primitive geoms."""

from envs.robots.arm import ArmSpec

PANDA = ArmSpec(
    name="panda",
    mjcf="panda.xml",
    joints=tuple(f"joint{i}" for i in range(1, 8)),
    fingers=("finger1", "finger2"),
    tool_site="tcp",
    cameras=("wrist",),
    home_rad=(0.0, 0.0, 0.0, -2.3, 0.0, 2.3, 0.7853982),
    opening_m=0.08,
)
