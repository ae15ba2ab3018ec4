"""Both ways: a task and the one that undoes it, on one table that nobody clears up in between.

*Randomisation*: which of the two is asked for first is drawn, and then what that task draws itself. What is asked
turns round when the learner says so (:meth:`BothWays.turned`), never by itself: the worlds are not reset, and success,
which the simulator knows, ends nothing. *Success*, *dense reward*, *expert* and words are those of the way that is
asked for now.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.batch import where_worlds
from envs.choices import chosen
from envs.language import Phrasings, Split
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.door import Door
from envs.tasks.drawer import Drawer

PUT_BACK_STEPS = 1000
"""After so many control steps the things are put back, whatever became of them (RoboFuME, in simulation)."""
REACH_M = ((0.15, 0.85), (-0.55, 0.55))
"""What of the table (x, y) things may not leave: beyond, no arm brings them back."""
ONE_WAY: dict[str, Callable[[], Task]] = {
    "open-drawer": lambda: Drawer("open"),
    "close-drawer": lambda: Drawer("close"),
    "open-door": lambda: Door("open"),
    "close-door": lambda: Door("close"),
}
"""Tasks of one direction, by name."""
BACKWARD = {"open-drawer": "close-drawer", "open-door": "close-door"}
"""What undoes a task."""
_PHRASE_STEP = (5**0.5 - 1) / 2
"""By how much the draw that chooses the words moves on with each turn: what is drawn so comes round to all of them."""


class BothWays(Task):
    """``forward`` and ``backward``, of the same things, a stage each. ``memory["backward"]`` says which is asked for.

    ``memory["stage"]`` is 1 once what is asked for has been so, since it was asked for. A world whose things have left
    ``REACH_M`` is ``lost``: its episode is cut short, and so it is put back.
    """

    phrasings = Phrasings(train=(), held_out=())

    def __init__(self, forward: Task, backward: Task) -> None:
        if forward.props != backward.props or forward.stages != 1 or backward.stages != 1:
            raise ValueError(f"{forward.name} and {backward.name} are not about the same things, in a stage each")
        self.forward, self.backward = forward, backward
        self.name = f"{forward.name}-and-back"
        self.props, self.chance = forward.props, forward.chance
        self.max_episode_steps = PUT_BACK_STEPS

    @property
    def attempt_steps(self) -> int:
        """How long either task gives an episode at most."""
        return max(self.forward.max_episode_steps, self.backward.max_episode_steps)

    def sample(self, random: EpisodeRandom) -> Layout:
        backward = random.integers("way", 1, 2)[:, 0].bool()
        drawn = self.backward.sample(random).where(backward, self.forward.sample(random))
        return drawn.with_draws(backward=backward)

    def begin(self, layout: Layout) -> Layout:
        backward = layout.draws["backward"]
        return super().begin(layout).remembering(backward=backward, lost=torch.zeros_like(backward))

    def advance(self, sensed: Sensed, layout: Layout, running: Bool[Tensor, " n"]) -> Layout:
        after = super().advance(sensed, layout, running)
        middle = sensed.position[..., :2]
        (near, far), (right, left) = REACH_M
        outside = (middle[..., 0] < near) | (middle[..., 0] > far) | (middle[..., 1] < right) | (middle[..., 1] > left)
        lost = after.memory["lost"] | (running & (outside & after.present).any(1))
        return after.remembering(stage=after.memory["stage"].clamp(max=1), lost=lost)

    def turned(self, layout: Layout, worlds: Bool[Tensor, " n"]) -> Layout:
        """``layout`` with the opposite asked for in ``worlds``, in other words; things stay where they are."""
        phrasing = (layout.phrasing + _PHRASE_STEP) % 1
        after = layout.remembering(
            backward=layout.memory["backward"] ^ worlds,
            stage=layout.memory["stage"].masked_fill(worlds, 0),
            dwell=layout.memory["dwell"].masked_fill(worlds, 0),
        )
        return after.with_phrasing(torch.where(worlds, phrasing, layout.phrasing))

    def solved(self, layout: Layout) -> Bool[Tensor, " n"]:
        """None: an episode goes on until the world is put back."""
        return torch.zeros_like(layout.memory["backward"])

    def horizon_steps(self, layout: Layout) -> Int[Tensor, " n"]:
        full = torch.full_like(layout.memory["stage"], self.max_episode_steps)
        return full.masked_fill(layout.memory["lost"], 0)

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        return self._own(layout, lambda task: task.success(sensed, layout))

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        return self._own(layout, lambda task: task.potential(sensed, layout))

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        return self._own(layout, lambda task: task.expert(sensed, layout))

    def present_dwell_steps(self, layout: Layout) -> Int[Tensor, " n"]:
        steps = torch.full_like(layout.memory["stage"], self.forward.dwell_steps)
        return torch.where(layout.memory["backward"], self.backward.dwell_steps, steps)

    def names(self, layout: Layout) -> list[str]:
        return [self.backward.name if back else self.forward.name for back in layout.memory["backward"].tolist()]

    def instructions(self, layout: Layout, split: Split) -> list[str]:
        ways = zip(self.forward.instructions(layout, split), self.backward.instructions(layout, split), strict=True)
        return [back if turned else out for (out, back), turned in zip(ways, _backward(layout).tolist(), strict=True)]

    def _own(self, layout: Layout, ask: Callable[[Task], Tensor]) -> Tensor:
        """What is asked, of the way that each world is at."""
        return where_worlds(layout.memory["backward"], ask(self.backward), ask(self.forward))


def _backward(layout: Layout) -> Bool[Tensor, " n"]:
    """Which worlds are on their way back; at the start, before anything is remembered, those that were drawn so."""
    return layout.memory.get("backward", layout.draws["backward"])


def both_ways(name: str) -> BothWays:
    """The task called ``name`` and what undoes it; ``ValueError`` lists the tasks that can be undone."""
    backward = chosen("task that another one undoes", name, BACKWARD)
    return BothWays(ONE_WAY[name](), ONE_WAY[backward]())
