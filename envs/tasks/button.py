"""Button: press the named button.

*Randomisation*: 2–3 buttons of distinct colours in a 3 × 3 grid, displaced by ±1.5 cm and turned by ±0.3 rad.
*Success*: the robot touches the named button, which is pressed by 8 of its 15 mm. *Dense reward*: nearness of the tool
to the button, and how far it is pressed.
"""

from jaxtyping import Bool, Float
from torch import Tensor

from envs.constants import constant
from envs.language import Phrasings
from envs.props.base import Region
from envs.props.button import CAP_HEIGHT_M, PRESS_RANGE_M, PushButton
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout, scatter
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.choice import chance_among, choose_named
from envs.tasks.motion import hop, move_to, nearness

GRID = Region(
    name="grid",
    cells_m=tuple((x, y) for x in (0.38, 0.49, 0.60) for y in (-0.18, 0.0, 0.18)),
    jitter_m=0.015,
    yaw_rad=0.3,
)
PRESSED_M = 0.008
_FINGERTIP_M = 0.01
"""How far the fingers reach beyond the tool's point."""


class Button(Task):
    """Press the named button with closed fingers."""

    name = "button"
    max_episode_steps = 80
    props = tuple(PushButton(name=f"button{i}", region=GRID) for i in range(3))
    chance = chance_among((2, 3))
    phrasings = Phrasings(
        train=(
            "press the {button}",
            "push the {button}",
            "push down the {button}",
            "press down on the {button}",
            "hit the {button}",
        ),
        held_out=("press the {button} down", "give the {button} a push", "please press the {button}"),
    )

    def sample(self, random: EpisodeRandom) -> Layout:
        return choose_named(random, scatter(random, self.props), [prop.name for prop in self.props], role="button")

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        pressed = layout.of(sensed.opening, "button") > PRESSED_M
        return pressed & ~layout.of(sensed.let_go, "button")

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        pressed = (layout.of(sensed.opening, "button") / PRESSED_M).clamp(0, 1)
        return 0.6 * nearness(sensed.tool_position, _cap(sensed, layout, 0.0)) + 0.4 * pressed

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        """Close the fingers up high, come down over the cap and go on to where it is pressed in."""
        goal = hop(_cap(sensed, layout, PRESS_RANGE_M), sensed)
        sideways = (goal - sensed.tool_position)[:, :2].norm(dim=-1)
        # Low and beside it, the fingers may still hold what was handled before: let go and rise first.
        closed = (sideways < 0.02) | (sensed.tool_position[:, 2] > 0.1)
        return move_to(sensed, goal, closed.float())


def _cap(sensed: Sensed, layout: Layout, pressed_m: float) -> Float[Tensor, "n 3"]:
    """Where the tool is when its fingertips touch the named button's cap, pressed in by ``pressed_m``."""
    button = layout.of(sensed.position, "button")
    return button + constant([0.0, 0.0, CAP_HEIGHT_M + _FINGERTIP_M - pressed_m], button.device)
