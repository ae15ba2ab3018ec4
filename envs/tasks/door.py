"""Door: open or close the door of a cabinet.

*Randomisation*: a cabinet with a coloured door near the far edge, in one of three places, displaced by ±2 cm and turned
by ±0.15 rad; the action is drawn. *Success*: for three steps the door is at rest, open by 45° or closed to 3°, and
the gripper has left it. *Dense reward*: nearness of the tool to the handle, and how far the door has come.
"""

from math import radians
from typing import ClassVar

from envs.language import Phrasings
from envs.props.base import Region
from envs.props.door import HANDLE_AT_M, HANDLE_RADIUS_M, SWING_RAD, HingedDoor, handle_position
from envs.tasks.motion import GRASP_WITHIN_M
from envs.tasks.openable import Action, Openable

PLACES = Region(name="places", cells_m=tuple((0.62, y) for y in (-0.14, 0.0, 0.14)), jitter_m=0.02, yaw_rad=0.15)


class Door(Openable):
    """Pull the door open by its handle, or push it shut."""

    name = "door"
    max_episode_steps = 100
    role: ClassVar = "door"
    open_from: ClassVar = radians(45)
    closed_until: ClassVar = radians(3)
    widest: ClassVar = 0.8 * SWING_RAD
    stride: ClassVar = 0.25
    short: ClassVar = radians(2)
    lever_m: ClassVar = HANDLE_AT_M
    within_m: ClassVar = GRASP_WITHIN_M
    handle_width_m: ClassVar = 2 * HANDLE_RADIUS_M
    handle = staticmethod(handle_position)
    to_open: ClassVar = Phrasings(
        train=(
            "open the {door}",
            "pull the {door} open",
            "swing the {door} open",
            "take the {door} by its handle and open it",
            "open up the {door}",
        ),
        held_out=("pull open the {door}", "swing open the {door}", "please open the {door}"),
    )
    to_close: ClassVar = Phrasings(
        train=(
            "close the {door}",
            "push the {door} shut",
            "swing the {door} shut",
            "shut the {door}",
            "take the {door} by its handle and close it",
        ),
        held_out=("push the {door} closed", "swing the {door} closed", "please close the {door}"),
    )

    def __init__(self, action: Action | None = None) -> None:
        super().__init__([HingedDoor(name="door", region=PLACES)], action)
