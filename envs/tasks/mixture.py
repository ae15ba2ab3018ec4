"""Mixture: several tasks in one scene, each episode one of them; for learning many at once, and for curricula.

*Randomisation*: the task is drawn, and then what it draws itself. Things of the other tasks are out of sight; tasks
share the things that they have alike. *Success*, *dense reward*, *expert*, words, stages and horizon are those of the
episode's own task.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.batch import where_worlds
from envs.constants import constant
from envs.language import Phrasings, Split
from envs.props.base import Prop, Region
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task

_TASK = "task"
"""Which task an episode is, among the drawn numbers: one of as many is 1."""


@dataclass(frozen=True, kw_only=True)
class _Member:
    """A task of a mixture, and the ``slots`` that its own things have among those of all."""

    task: Task
    slots: tuple[int, ...]

    def view(self, layout: Layout) -> Layout:
        """The mixture's layout as the task knows it."""
        slots, device = constant(self.slots, layout.position.device), layout.position.device
        own = [self.slots.index(i) if i in self.slots else 0 for i in range(len(layout.names))]
        return replace(
            layout,
            names=tuple(prop.name for prop in self.task.props),
            roles={role: constant(own, device)[slot] for role, slot in layout.roles.items()},
            **{name: getattr(layout, name)[:, slots] for name in _BY_SLOT},
        )

    def sees(self, sensed: Sensed) -> Sensed:
        """What the simulator knows of the task's own things."""
        slots = constant(self.slots, sensed.position.device)
        return replace(sensed, **{name: getattr(sensed, name)[:, slots] for name in _SENSED_BY_SLOT})


_ANYWHERE = Region(name="anywhere", cells_m=())
_BY_SLOT = ("position", "quat", "colour", "present", "opening", "scale")
_SENSED_BY_SLOT = ("position", "quat", "opening", "speed_m_s", "spin_rad_s", "opening_speed", "touched")


class Mixture(Task):
    """``tasks`` in one scene. An episode's task is drawn in proportion to ``weights``, which may change meanwhile:
    a curriculum sets them, and they count from each world's next episode on.

    ``stages`` is the most that any task has; tasks with fewer have the rest behind them from the beginning.
    """

    phrasings = Phrasings(train=(), held_out=())

    def __init__(self, tasks: Sequence[Task], weights: Sequence[float] | None = None, name: str | None = None) -> None:
        if len({task.name for task in tasks}) != len(tasks) or not tasks:
            raise ValueError(f"a mixture needs different tasks, got {[task.name for task in tasks]}")
        self.name = name or "+".join(task.name for task in tasks)
        self.tasks = tuple(tasks)
        self.props, slots = _joined([task.props for task in tasks])
        self._members = [_Member(task=task, slots=of) for task, of in zip(tasks, slots, strict=True)]
        self.stages = max(task.stages for task in tasks)
        self.max_episode_steps = max(task.max_episode_steps for task in tasks)
        self.rearranges = any(task.rearranges for task in tasks)
        self._known: dict[tuple[str, torch.device], Mapping[str, Tensor]] = {}
        self.weights = tuple(weights or [1.0] * len(tasks))

    @property
    def weights(self) -> tuple[float, ...]:
        """How often each task is drawn, relative to the others."""
        return self._weights

    @weights.setter
    def weights(self, weights: Sequence[float]) -> None:
        if len(weights) != len(self.tasks) or min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(f"expected {len(self.tasks)} weights, none negative and not all 0, got {tuple(weights)}")
        self._weights = tuple(float(weight) / sum(weights) for weight in weights)

    def sample(self, random: EpisodeRandom) -> Layout:
        """Each task draws for its own episodes alone; the host asks once which those are."""
        bounds = torch.tensor(self._weights, dtype=torch.float64).cumsum(0)[:-1]
        drawn = random.uniform("mixture", 1)[:, 0].cpu().double()
        chosen = (drawn[:, None] >= bounds).sum(1)
        parts = []
        for i, member in enumerate(self._members):
            rows = (chosen == i).nonzero()[:, 0].to(random.device)
            if len(rows) or not parts:
                parts.append((rows, i, member.task.sample(random.take(rows))))
        return self._merged(random, parts)

    def begin(self, layout: Layout) -> Layout:
        memories: dict[str, Tensor] = {}
        for theirs, member in self._each(layout):
            for name, value in member.task.begin(member.view(layout)).memory.items():
                memories[name] = where_worlds(theirs, value, memories.get(name, torch.zeros_like(value)))
        return layout.remembering(**memories)

    def advance(self, sensed: Sensed, layout: Layout, running: Bool[Tensor, " n"]) -> Layout:
        memory, position = dict(layout.memory), layout.position
        for theirs, member in self._each(layout):
            after = member.task.advance(member.sees(sensed), member.view(layout), running & theirs)
            memory |= {name: where_worlds(theirs, value, memory[name]) for name, value in after.memory.items()}
            if member.task.rearranges:
                moved = position.index_copy(1, constant(member.slots, position.device), after.position)
                position = where_worlds(theirs, moved, position)
        return replace(layout, memory=memory, position=position)

    def solved(self, layout: Layout) -> Bool[Tensor, " n"]:
        return layout.memory["stage"] >= self._of_task([task.stages for task in self.tasks], layout)

    def stages_done(self, layout: Layout) -> Bool[Tensor, "n s"]:
        stage = torch.arange(self.stages, device=layout.position.device)
        missing = stage >= self._of_task([task.stages for task in self.tasks], layout)[:, None]
        return (stage < layout.memory["stage"][:, None]) | missing

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        return self._own(layout, lambda member: member.task.success(member.sees(sensed), member.view(layout)))

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        return self._own(layout, lambda member: member.task.potential(member.sees(sensed), member.view(layout)))

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        return self._own(layout, lambda member: member.task.expert(member.sees(sensed), member.view(layout)))

    def horizon_steps(self, layout: Layout) -> Int[Tensor, " n"]:
        return self._of_task([task.max_episode_steps for task in self.tasks], layout)

    def names(self, layout: Layout) -> list[str]:
        return [self.tasks[i].name for i in self._index(layout).tolist()]

    def instructions(self, layout: Layout, split: Split) -> list[str]:
        sentences = [""] * len(layout)
        index = self._index(layout)
        for i, member in enumerate(self._members):
            rows = (index == i).nonzero()[:, 0]
            theirs = member.task.instructions(member.view(layout.take(rows)), split) if len(rows) else []
            for row, sentence in zip(rows.tolist(), theirs, strict=True):
                sentences[row] = sentence
        return sentences

    def _merged(self, random: EpisodeRandom, parts: Sequence[tuple[Tensor, int, Layout]]) -> Layout:
        """One layout of all things from those of the tasks: of its rows, its task, and what it drew."""
        n, k, device = len(random), len(self.props), random.device
        layout = Layout(
            names=tuple(prop.name for prop in self.props),
            position=torch.zeros(n, k, 3, device=device),
            quat=constant([1.0, 0.0, 0.0, 0.0], device).repeat(n, k, 1),
            colour=torch.zeros(n, k, dtype=torch.long, device=device),
            present=torch.zeros(n, k, dtype=torch.bool, device=device),
            opening=torch.zeros(n, k, device=device),
            scale=torch.ones(n, k, device=device),
            phrasing=torch.zeros(n, device=device),
            roles={name: torch.zeros(n, dtype=torch.long, device=device) for name in self._shared("roles", device)},
            draws={
                name: torch.zeros(n, *like.shape[1:], dtype=like.dtype, device=device)
                for name, like in self._shared("draws", device).items()
            }
            | {_TASK: torch.zeros(n, len(self.tasks), device=device)},
        )
        for rows, i, own in parts:
            slots = constant(self._members[i].slots, device)
            for name in _BY_SLOT:
                getattr(layout, name)[rows[:, None], slots] = getattr(own, name)
            layout.phrasing[rows] = own.phrasing
            layout.draws[_TASK][rows, i] = 1.0
            for role, slot in own.roles.items():
                layout.roles[role][rows] = slots[slot]
            for name, value in own.draws.items():
                layout.draws[name][rows] = value
        return layout

    def _shared(self, kind: str, device: torch.device) -> Mapping[str, Tensor]:
        """Roles or draws of all tasks, by name; tasks that use a name must mean the same kind of thing by it."""
        if (kind, device) not in self._known:
            nobody = EpisodeRandom(torch.zeros(0, dtype=torch.long, device=device))
            found: dict[str, Tensor] = {}
            for task in self.tasks:
                for name, value in getattr(task.sample(nobody), kind).items():
                    if name in found and (found[name].shape, found[name].dtype) != (value.shape, value.dtype):
                        raise ValueError(
                            f"{task.name} draws {name!r} of another shape or type than the tasks before it"
                        )
                    found[name] = value
            self._known[kind, device] = found
        return self._known[kind, device]

    def _index(self, layout: Layout) -> Int[Tensor, " n"]:
        return layout.draws[_TASK].argmax(1)

    def _of_task(self, values: Sequence[int], layout: Layout) -> Int[Tensor, " n"]:
        """Each episode's entry of a list by task."""
        return constant(values, layout.position.device)[self._index(layout)]

    def _each(self, layout: Layout) -> Iterator[tuple[Bool[Tensor, " n"], _Member]]:
        """Which episodes are each task's."""
        for i, member in enumerate(self._members):
            yield layout.draws[_TASK][:, i] > 0, member

    def _own(self, layout: Layout, ask: Callable[[_Member], Tensor]) -> Tensor:
        """What is asked, of each episode's own task."""
        answer = None
        for theirs, member in self._each(layout):
            asked = ask(member)
            answer = asked if answer is None else where_worlds(theirs, asked, answer)
        assert answer is not None
        return answer


def _joined(scenes: Sequence[tuple[Prop, ...]]) -> tuple[tuple[Prop, ...], list[tuple[int, ...]]]:
    """The things of all scenes, those alike only once, and where each scene's are among them.

    Things are alike that have one name and differ in nothing but where they start and what colours they come in; of
    others with the same name each gets a name of its own.
    """
    joined: list[Prop] = []
    kinds: list[Prop] = []
    slots: list[tuple[int, ...]] = []
    for props in scenes:
        own = []
        for prop in props:
            kind = replace(prop, region=_ANYWHERE, palette=())
            if kind not in kinds:
                taken = sum(other.name == prop.name for other in kinds)
                joined.append(replace(prop, name=f"{prop.name}-{taken + 1}") if taken else prop)
                kinds.append(kind)
            own.append(kinds.index(kind))
        slots.append(tuple(own))
    return tuple(joined), slots
