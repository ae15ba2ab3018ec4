"""Button: press the named button.

*Randomisation*: 2–3 buttons of distinct colours in a 3 × 3 grid, displaced by ±1.5 cm and turned by ±0.3 rad.
*Success*: for three steps the robot touches the named button, which is pressed by 8 of its 15 mm. *Dense reward*:
nearness of the tool to the button, and how far it is pressed.
"""

from jaxtyping import Bool, Float
from torch import Tensor

from envs.language import Phrasings
from envs.props.button import PushButton
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout, scatter
from envs.scenes.regions import BUTTONS
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.choice import chance_among, choose_named
from envs.tasks.motion import nearness
from envs.tasks.pressing import PRESSED_M, cap, press, pressed


class Button(Task):
    """Press the named button with closed fingers."""

    name = "button"
    max_episode_steps = 80
    dwell_steps = 3
    """Long enough for the expert to reach the end: who imitates one that turns back on its way stays above the cap."""
    props = tuple(PushButton(name=f"button{i}", region=BUTTONS) for i in range(3))
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
        return pressed(sensed, layout)

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        share = (layout.of(sensed.opening, "button") / PRESSED_M).clamp(0, 1)
        return 0.6 * nearness(sensed.tool_position, cap(sensed, layout)) + 0.4 * share

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        return press(sensed, layout)
