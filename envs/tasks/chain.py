"""Chain: several tasks one after the other in one scene, such as "open the drawer, put the red cube in, close it".

*Randomisation*: of the chain's own things, each in its region; which of them a stage means is fixed, and where it
stands and what colour it has is drawn. *Success*: every stage has succeeded in turn (and held as long as its task
asks); a stage counts once it has, even if it is undone later. *Dense reward*: the stages behind plus the potential of
the present one, over their number.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.constants import constant
from envs.language import Phrasings, Split
from envs.props.base import Prop
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout, scatter
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.motion import pointing_down, turn_to

_TASK, _DWELL, _SLOTS = 0, 1, 2
"""Columns of a chain's table: which task, how long it has to hold, and from here on the slots of every task's roles."""
_LATER_DIGITS = 997
"""Times this, modulo 1, a draw becomes another one: each stage's words are chosen by later digits of the same draw."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A task as part of a chain: ``roles`` says which thing of the chain, by name, plays each of its roles."""

    task: Task
    roles: Mapping[str, str]


class Chain(Task):
    """The ``stages`` one after the other among ``props``.

    ``opening`` is where jointed things start (m or rad), by name, if not at 0. A chain's roles are the names of the
    things its stages mean. Its instruction joins those of the stages, each in words of its own.
    """

    def __init__(
        self, name: str, stages: Sequence[Stage], props: Sequence[Prop], opening: Mapping[str, float] | None = None
    ) -> None:
        self.name, self.props = name, tuple(props)
        self._parts, self._opening = tuple(stages), dict(opening or {})
        self.stages = len(self._parts)
        self.max_episode_steps = sum(stage.task.max_episode_steps for stage in stages)
        self.phrasings = _connectives(self.stages)
        self._things = tuple(dict.fromkeys(thing for stage in stages for thing in stage.roles.values()))
        missing = sorted({*self._things, *self._opening} - {prop.name for prop in self.props})
        if missing:
            raise ValueError(f"chain {name!r} speaks of {missing}, but there are only {[p.name for p in self.props]}")
        self._tasks = tuple(dict.fromkeys(stage.task for stage in self._parts))
        self._roles = tuple(tuple(self._first(task).roles) for task in self._tasks)
        self._table = tuple(self._row(part) for part in (*self._parts, self._parts[-1]))

    def sample(self, random: EpisodeRandom) -> Layout:
        layout = scatter(random, self.props)
        opening = constant([self._opening.get(prop.name, 0.0) for prop in self.props], random.device)
        layout = replace(layout, opening=opening.repeat(len(random), 1))
        return layout.with_roles(**{thing: thing for thing in self._things})

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        return self._present(layout, lambda task, view: task.success(sensed, view))

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        behind = layout.memory["stage"]
        progress = self._present(layout, lambda task, view: task.potential(sensed, view))
        return (behind + torch.where(behind < self.stages, progress, 0.0)) / self.stages

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        """The present stage's expert. Where it does not turn the tool, what tilt earlier stages left is taken back."""
        action = self._present(layout, lambda task, view: task.expert(sensed, view))
        upright = turn_to(sensed, pointing_down(torch.zeros_like(sensed.gap)))
        turns = (action[:, 3:6] != 0).any(-1, keepdim=True)
        return torch.cat((action[:, :3], torch.where(turns, action[:, 3:6], upright), action[:, 6:]), -1)

    def present_dwell_steps(self, layout: Layout) -> Int[Tensor, " n"]:
        return self._present_row(layout)[:, _DWELL]

    def instructions(self, layout: Layout, split: Split) -> list[str]:
        slots = {thing: layout.slot(thing) for thing in self._things}
        drawn = zip(layout.phrasing.tolist(), layout.colour.tolist(), strict=True)
        return [self._sentence(split, draw, slots, colours) for draw, colours in drawn]

    def _sentence(self, split: Split, draw: float, slots: Mapping[str, int], colours: Sequence[int]) -> str:
        connective, parts = self.phrasings.choose(split, draw), []
        for stage in self._parts:
            draw = draw * _LATER_DIGITS % 1
            named = {role: self.describe(role, slots[thing], colours) for role, thing in stage.roles.items()}
            parts.append(stage.task.phrasings.choose(split, draw).format(**named))
        return connective.format(*parts)

    def _present(self, layout: Layout, ask: Callable[[Task, Layout], Tensor]) -> Tensor:
        """What ``ask`` says of the task of each world's present stage; of the last one when all are behind.

        A task that is asked at several stages is called once, about each world's own things.
        """
        row, at, answers = self._present_row(layout), _SLOTS, []
        slots = row.unbind(1)
        for task, roles in zip(self._tasks, self._roles, strict=True):
            answers.append(ask(task, replace(layout, roles=dict(zip(roles, slots[at:], strict=False)))))
            at += len(roles)
        if len(answers) == 1:
            return answers[0]
        which = row[:, _TASK].reshape(-1, *(1,) * answers[0].dim())
        return torch.stack(answers, 1).take_along_dim(which, 1).squeeze(1)

    def _present_row(self, layout: Layout) -> Int[Tensor, "n c"]:
        """Each world's row of the table: that of its present stage, of the last one when all are behind."""
        return constant(self._table, layout.position.device)[layout.memory["stage"]]

    def _row(self, part: Stage) -> tuple[int, ...]:
        """Slots of the roles of all tasks: those of the part's own task as it says, of others any that fit."""
        names = [prop.name for prop in self.props]
        things = (
            (part if task is part.task else self._first(task)).roles[role]
            for task, roles in zip(self._tasks, self._roles, strict=True)
            for role in roles
        )
        return (self._tasks.index(part.task), part.task.dwell_steps, *(names.index(thing) for thing in things))

    def _first(self, task: Task) -> Stage:
        """The first stage at which a task is asked."""
        return next(part for part in self._parts if part.task is task)


def _connectives(count: int) -> Phrasings:
    """Sentences with a place ``{0}``, ``{1}``, … for each of ``count`` instructions."""
    parts = [f"{{{i}}}" for i in range(count)]
    if count == 1:
        return Phrasings(train=tuple(parts), held_out=tuple(parts))
    return Phrasings(
        train=(
            ", then ".join(parts),
            " and then ".join(parts),
            "first " + ", then ".join(parts),
            ", after that ".join(parts),
            ", ".join(parts[:-1]) + " and finally " + parts[-1],
        ),
        held_out=(
            ", and next ".join(parts),
            "begin like this: " + "; then ".join(parts),
            "; when that is done, ".join(parts),
        ),
    )
