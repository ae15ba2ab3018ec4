"""When a button is pressed, and expert moves that press it."""

from jaxtyping import Bool, Float
from torch import Tensor

from envs.constants import constant
from envs.props.button import CAP_HEIGHT_M, PRESS_RANGE_M
from envs.scenes.layout import Layout
from envs.scenes.tabletop import Sensed
from envs.tasks.motion import hop, move_to

PRESSED_M = 0.008
RISE_M = 0.04


def pressed(sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
    """Is the thing with the role *button* pressed, and by the robot?"""
    return (layout.of(sensed.opening, "button") > PRESSED_M) & ~layout.of(sensed.let_go, "button")


def cap(sensed: Sensed, layout: Layout, pressed_m: float = 0.0) -> Float[Tensor, "n 3"]:
    """Where the tool is when its fingertips touch the named button's cap, pressed in by ``pressed_m``."""
    button = layout.of(sensed.position, "button")
    height_m = CAP_HEIGHT_M + sensed.gripper.fingertip_m - pressed_m
    return button + constant([0.0, 0.0, height_m], button.device)


def press(sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
    """Close the fingers up high, come down over the cap and go on to where it is pressed in."""
    goal = hop(cap(sensed, layout, PRESS_RANGE_M), sensed)
    sideways = (goal - sensed.tool_position)[:, :2].norm(dim=-1)
    # Low and beside it, the fingers may still hold what was handled before: let go and rise first.
    closed = (sideways < 0.02) | (sensed.tool_position[:, 2] > 0.1)
    return move_to(sensed, goal, closed.float())


def rise(sensed: Sensed) -> Float[Tensor, "n 7"]:
    """Straight up, the fingers closed."""
    goal = sensed.tool_position + constant([0.0, 0.0, RISE_M], sensed.gap.device)
    return move_to(sensed, goal, constant([1.0], sensed.gap.device).expand(len(sensed.gap)))
