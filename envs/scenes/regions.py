"""Parts of the table that several tasks use; a region of one task alone stands in that task's file."""

from envs.props.base import Region

TABLE = Region(
    name="table",
    cells_m=tuple((x, y) for x in (0.36, 0.48, 0.60) for y in (-0.21, -0.07, 0.07, 0.21)),
    jitter_m=0.025,
    yaw_rad=0.3,
)
"""The whole of the table in front of the robot."""
MIDDLE = Region(
    name="middle",
    cells_m=tuple((x, y) for x in (0.36, 0.48, 0.60) for y in (-0.06, 0.06)),
    jitter_m=0.02,
    yaw_rad=0.3,
)
"""Between the two places of :data:`SIDES`."""
SIDES = Region(name="sides", cells_m=((0.48, 0.25), (0.48, -0.25)), jitter_m=0.02)
"""Left and right, for bins."""
LEFT = Region(name="left", cells_m=((0.64, 0.16),), jitter_m=0.02, yaw_rad=0.1)
"""Far left, for furniture; what it opens reaches back to the middle of the table."""
BESIDE = Region(
    name="beside",
    cells_m=tuple((x, y) for x in (0.34, 0.42, 0.50) for y in (-0.02, -0.135)),
    jitter_m=0.012,
    yaw_rad=0.3,
)
"""To the right of it and before the cabinet, for cubes: the hand reaches them without touching it."""
BEYOND = Region(name="beyond", cells_m=((0.59, 0.11), (0.59, -0.11)), jitter_m=0.02)
"""Left and right in the back, for mats to push things onto."""
BUTTONS = Region(
    name="grid",
    cells_m=tuple((x, y) for x in (0.38, 0.49, 0.60) for y in (-0.18, 0.0, 0.18)),
    jitter_m=0.015,
    yaw_rad=0.3,
)
"""The whole of the table, for buttons: the hand presses one without touching another."""
