"""Press-times: press the named button as often as told, and then leave it.

*Randomisation*: 2–3 buttons of distinct colours as in button; the number, 1–4, is drawn. *Memory*: how often the named
button has been pressed, and whether it still is; whether another one was. A press counts when the robot has pushed the
button in by 8 of its 15 mm, and the next one once it has come back to 3 mm. *Success*: the count is as told, no other
button was pressed, and for half a second the named one has been left alone; one press too many cannot be made good.
*Dense reward*: nearness of the tool to the button, and the share of the presses, the present one included.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.constants import constant
from envs.language import Phrasings
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout, scatter
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.button import Button
from envs.tasks.choice import chance_among, choose_named
from envs.tasks.motion import nearness
from envs.tasks.pressing import PRESSED_M, cap, press, pressed, rise

RELEASED_M = 0.003
TIMES = ("once", "twice", "three times", "four times")


def _times(times: str) -> Phrasings:
    return Phrasings(
        train=(
            f"press the {{button}} {times}",
            f"push the {{button}} {times}",
            f"push down the {{button}} {times}",
            f"press down on the {{button}} {times}",
            f"hit the {{button}} {times}",
        ),
        held_out=(
            f"press the {{button}} down {times}",
            f"push {times} on the {{button}}",
            f"please press the {{button}} {times}",
        ),
    )


_PHRASINGS = tuple(_times(times) for times in TIMES)


class PressTimes(Task):
    """Press the named button once, twice, three or four times."""

    name = "press-times"
    max_episode_steps = 160
    dwell_steps = 10
    props = Button.props
    chance = chance_among((2, 3), receivers=len(TIMES))
    phrasings = Phrasings(
        train=tuple(sentence for each in _PHRASINGS for sentence in each.train),
        held_out=tuple(sentence for each in _PHRASINGS for sentence in each.held_out),
    )

    def sample(self, random: EpisodeRandom) -> Layout:
        layout = choose_named(random, scatter(random, self.props), [prop.name for prop in self.props], role="button")
        return layout.with_draws(count=1 + random.integers("count", 1, len(TIMES))[:, 0])

    def begin(self, layout: Layout) -> Layout:
        layout = super().begin(layout)
        none, no = layout.memory["stage"], torch.zeros_like(layout.memory["stage"], dtype=torch.bool)
        return layout.remembering(presses=none, down=no, spoilt=no)

    def advance(self, sensed: Sensed, layout: Layout, running: Bool[Tensor, " n"]) -> Layout:
        """Count the presses, then go on as other tasks do."""
        memory, opening = layout.memory, layout.of(sensed.opening, "button")
        fresh = running & ~memory["down"] & pressed(sensed, layout)
        down = fresh | (memory["down"] & ~(running & (opening < RELEASED_M)))
        named = constant(range(len(self.props)), opening.device) == layout.roles["button"][:, None]
        others = ((sensed.opening[:, : len(self.props)] > PRESSED_M) & ~named).any(-1)
        counted = layout.remembering(
            presses=memory["presses"] + fresh, down=down, spoilt=memory["spoilt"] | (running & others)
        )
        return super().advance(sensed, counted, running)

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        memory = layout.memory
        return (memory["presses"] == layout.draws["count"]) & ~memory["down"] & ~memory["spoilt"]

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        memory, count = layout.memory, layout.draws["count"]
        share = (layout.of(sensed.opening, "button") - RELEASED_M) / (PRESSED_M - RELEASED_M)
        done = memory["presses"] + share.clamp(0, 1) * ~memory["down"]
        return 0.3 * nearness(sensed.tool_position, cap(sensed, layout)) + 0.7 * torch.minimum(done, count) / count

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        """Press; rise until the button has come back; press again."""
        memory = layout.memory
        away = memory["down"] | (memory["presses"] >= layout.draws["count"])
        return torch.where(away[:, None], rise(sensed), press(sensed, layout))

    def wordings(self, layout: Layout) -> list[Phrasings]:
        return [_PHRASINGS[count - 1] for count in layout.draws["count"].tolist()]
