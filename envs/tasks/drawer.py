"""Drawer: open or close the named drawer.

*Randomisation*: two drawers of distinct colours side by side near the far edge, each displaced by ±2 cm and turned by
±0.1 rad; drawer and action are drawn, the other drawer is open or closed by chance. *Success*: for three steps the
named drawer is at rest, 11 of 13 cm open or closed to 1 cm, and the gripper has left it. *Dense reward*: nearness of
the tool to the knob, and how far the drawer has come.
"""

from typing import ClassVar

from envs.language import Phrasings
from envs.props.base import Region
from envs.props.colours import BRIGHT
from envs.props.drawer import KNOB_RADIUS_M, TRAVEL_M, DrawerUnit, knob_position
from envs.tasks.openable import Action, Openable

FAR = Region(name="far", cells_m=((0.64, -0.13), (0.64, 0.13)), jitter_m=0.02, yaw_rad=0.1)
"""Far left and far right: an open drawer reaches back to the middle of the table."""


class Drawer(Openable):
    """Pull the named drawer out, or push it in; ``units`` of them stand there, 1 or 2."""

    name = "drawer"
    max_episode_steps = 100
    role: ClassVar = "drawer"
    open_from: ClassVar = 0.11
    closed_until: ClassVar = 0.01
    widest: ClassVar = TRAVEL_M
    stride: ClassVar = 0.05
    short: ClassVar = 0.006
    lever_m: ClassVar = 1.0
    within_m: ClassVar = 0.005
    handle_width_m: ClassVar = 2 * KNOB_RADIUS_M
    handle = staticmethod(knob_position)
    to_open: ClassVar = Phrasings(
        train=(
            "open the {drawer}",
            "pull the {drawer} open",
            "pull out the {drawer}",
            "slide the {drawer} open",
            "take the {drawer} by its knob and open it",
        ),
        held_out=("pull open the {drawer}", "slide out the {drawer}", "please open the {drawer}"),
    )
    to_close: ClassVar = Phrasings(
        train=(
            "close the {drawer}",
            "push the {drawer} shut",
            "push in the {drawer}",
            "slide the {drawer} shut",
            "shut the {drawer}",
        ),
        held_out=("push the {drawer} closed", "slide the {drawer} back in", "please close the {drawer}"),
    )

    def __init__(self, action: Action | None = None, units: int = 2) -> None:
        if units not in (1, 2):
            raise ValueError(f"there is room for 1 or 2 drawers, got {units}")
        super().__init__([DrawerUnit(name=f"drawer{i}", region=FAR, palette=BRIGHT) for i in range(units)], action)
