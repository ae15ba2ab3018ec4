"""What a network learns at once: its losses and how much each counts."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the losses in their sum; one of weight 0 is not computed.

    ``action`` is the head's loss on the chunk, ``waypoint`` the backbone's on the tool's position at the next
    keyframe, which only networks with ``waypoint_dims`` have.
    """

    action: float = 1.0
    waypoint: float = 1.0

    def __post_init__(self) -> None:
        if not (self.action >= 0 and self.waypoint >= 0 and 0 < self.action + self.waypoint < math.inf):
            raise ValueError(
                "loss weights must be 0 or more and one of them above 0, "
                f"got action {self.action} and waypoint {self.waypoint}"
            )
