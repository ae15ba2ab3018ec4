"""Endless tables with all that our tasks put there, looked at once, and sentences about what is on them."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, chain
from random import Random
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from envs.batch import where_worlds
from envs.grounding.facts import FactFinder, Facts
from envs.grounding.nesting import nested
from envs.grounding.questioning import Questioner
from envs.grounding.speaking import Speaker
from envs.grounding.table import Table, tables_of
from envs.grounding.telling import Teller
from envs.grounding.things import pieces
from envs.language import SPLITS, Split
from envs.perturbations import axes
from envs.perturbations.spec import Perturbation, RobotStart
from envs.props.colours import COLOUR_NAMES
from envs.random import MOST_SEEDS, EpisodeRandom
from envs.robots.arm import ArmSpec
from envs.robots.panda import PANDA
from envs.scenes.layout import Layout
from envs.specs import STATE_KEY, Asked, Grounding, Receivers, Told, image_key, segmentation_key
from envs.suites import SUITES, find_task, task_names
from envs.tasks import TASKS
from envs.tasks.mixture import Mixture
from envs.workplace import Workplace
from envs.world import FAST

EVERY_TABLE = (*TASKS, *SUITES)
"""The tables of all tasks and suites."""
WORLDS = 32
"""How many tables are drawn at a time."""
ARM_RAD = 0.5
REPAINTED = 0.5
"""In what share of the tables things come in any colours, some alike, instead of those of their tasks."""
SUITE_WEIGHT = 3.0
_OFTEN = {"slide": 2.5, "push": 2.5, "door": 2.0, "peg": 3.0, "tabletop-object": 2.0}
"""How much more often than others the tables come that alone have sliders, mats, doors, pegs and balls."""
_UNSEEN = ("friction", "mass", "gains", "latency", "action_noise", "pushes", "language")
"""Axes of ``randomised`` that no single look shows."""


def perturbation() -> Perturbation:
    """What of ``randomised`` can be seen, each in half of the tables, and the arm always up to 0.5 rad from home."""
    full = axes("randomised")["all"]
    probability = {axis: share for axis, share in full.probability.items() if axis not in _UNSEEN}
    return replace(
        full,
        **dict.fromkeys(_UNSEEN),
        robot_start=RobotStart(distance_rad=(0.0, ARM_RAD)),
        probability=probability | {"robot_start": 1.0},
    )  # pyright: ignore[reportArgumentType]


class SceneSource:
    """Fulfils ``envs.specs.GroundingSource``: tables of ``tasks``, by their names, under heavy randomisation; a suite
    comes as often as three tasks, some tables more often.

    Seeds are those of the stream "learn". ``split`` "train" says nothing that is held out (see
    ``envs.grounding.vocabulary``), "held_out" something in every sentence and question. Every sentence fits one thing
    and no other that is on its table, and that thing is seen in some view; a table about which nothing can be said has
    none.
    """

    def __init__(
        self,
        *,
        tasks: Sequence[str] = EVERY_TABLE,
        arm: ArmSpec = PANDA,
        image_size_px: tuple[int, int] = (64, 64),
        split: Split = "train",
        worlds: int = WORLDS,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        if worlds < 1 or min(image_size_px) < 1:
            raise ValueError(f"expected at least one world and one pixel, got {worlds} and {image_size_px}")
        self._task = _mixed(tasks)
        self._workplace = Workplace(
            arm,
            self._task.props,
            perturbation(),
            worlds,
            engine="cpu",
            render=True,
            image_size_px=image_size_px,
            depth=False,
            segmentation=True,
            profile=FAST,
            velocities=False,
            privileged=False,
        )
        self.embodiment = self._workplace.embodiment
        scene = self._workplace.scene
        self.pieces = pieces(scene.model, scene.props)
        self._finder = FactFinder(scene, self.pieces, self._workplace.device)
        self._speaker, self._teller, self._questioner = Speaker(split), Teller(split), Questioner(split)
        self._worlds = worlds
        self._random = EpisodeRandom(torch.arange(worlds), "learn")
        self._layout = self._drawn(self._random)
        self._workplace.start(torch.arange(worlds), self._layout, self._random)

    def batch(
        self,
        first_seed: int,
        tables: int,
        sentences_per_table: int,
        questions_per_table: int = 0,
        captions: bool = False,
    ) -> Grounding:
        """Tables ``first_seed`` … ``first_seed + tables − 1`` with up to so many sentences and questions each, all
        different.

        ``ValueError`` unless there is a table and a sentence, and every seed is one of a stream.
        """
        counts_fit = min(tables, sentences_per_table) >= 1 and questions_per_table >= 0
        if not counts_fit or not 0 <= first_seed <= MOST_SEEDS - tables:
            raise ValueError(
                f"expected one table and one sentence at least and seeds in 0 … 2⁶¹ − 1, got {tables} tables from "
                f"{first_seed} on with {sentences_per_table} sentences and {questions_per_table} questions"
            )
        parts = []
        for begin in range(0, tables, self._worlds):
            count = min(self._worlds, tables - begin)
            wanted = (sentences_per_table, questions_per_table, captions)
            parts.append(self._look(first_seed + begin, count, *wanted, begin))
        return _joined(parts)

    def facts(self, first_seed: int, tables: int) -> Facts:
        """What the simulator knows of these tables, at most as many as there are worlds."""
        return self._seen(first_seed, tables)[0]

    def close(self) -> None:
        """Free threads and GL contexts; safe to call twice."""
        self._workplace.world.close()

    def _look(
        self, first_seed: int, count: int, sentences: int, questions: int, captions: bool, before: int
    ) -> Grounding:
        facts, observation = self._seen(first_seed, count)
        names = self.embodiment.camera_names
        images = torch.stack([observation[image_key(name)][:count] for name in names], 1)
        segmentation = torch.stack([observation[segmentation_key(name)][:count] for name in names], 1)
        tables = tables_of(facts, self.pieces)
        said = [
            (table, each)
            for table, known in enumerate(tables)
            for each in self._speaker.say(known, sentences, Random(f"grounding {first_seed + table}"))
        ]

        def places(pieces: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
            table, piece = torch.tensor(pieces, dtype=torch.long).reshape(-1, 2).T
            cover = self._finder.cover(segmentation, table, piece)
            of_each = {name: getattr(facts, name)[table, piece] for name in ("point_m", "pixel", "seen")}
            return {**of_each, "cover": cover}

        brought = [(i, table, each.receiver) for i, (table, each) in enumerate(said) if each.receiver is not None]
        return Grounding(
            images=images.clone(),
            state=observation[STATE_KEY][:count].clone(),
            table=torch.tensor([table for table, _ in said], dtype=torch.long) + before,
            sentences=tuple(each.sentence for _, each in said),
            **places([(table, each.piece) for table, each in said]),
            receivers=Receivers(
                sentence=torch.tensor([i for i, _, _ in brought], dtype=torch.long),
                **places([(table, receiver) for _, table, receiver in brought]),
            ),
            told=self._told(tables if captions else [], first_seed, before),
            asked=self._asked(tables if questions else [], first_seed, questions, before),
        )

    def _told(self, tables: Sequence[Table], first_seed: int, before: int) -> Told:
        told = [self._teller.tell(table, Random(f"told {first_seed + i}")) for i, table in enumerate(tables)]
        rows = [(before + i, *pair) for i, pair in enumerate(told) if pair is not None]
        table, sentences, false = zip(*rows, strict=True) if rows else ((), (), ())
        return Told(table=torch.tensor(table, dtype=torch.long), sentences=sentences, false=false)

    def _asked(self, tables: Sequence[Table], first_seed: int, each: int, before: int) -> Asked:
        rows = [
            (before + i, *pair)
            for i, table in enumerate(tables)
            for pair in self._questioner.ask(table, each, Random(f"asked {first_seed + i}"))
        ]
        table, questions, answers = zip(*rows, strict=True) if rows else ((), (), ())
        return Asked(table=torch.tensor(table, dtype=torch.long), questions=questions, answers=answers)

    def _seen(self, first_seed: int, count: int) -> tuple[Facts, dict[str, Tensor]]:
        """The first ``count`` worlds started with these seeds and looked at; the others are as they were."""
        worlds = torch.arange(count)
        random = EpisodeRandom(first_seed + worlds, "learn")
        layout = self._drawn(random)
        self._layout, self._random = self._layout.replaced(worlds, layout), self._random.replaced(worlds, random)
        sensed = self._workplace.start(worlds, layout, random)
        fresh: Bool[Tensor, " n"] = torch.arange(self._worlds) < count
        elapsed: Int[Tensor, " n"] = torch.zeros(self._worlds, dtype=torch.long)
        observation = self._workplace.observe(self._layout, self._random, elapsed, fresh)
        here = {name: each[:count] for name, each in observation.items() if isinstance(each, Tensor)}
        return self._finder.find(sensed, layout, here, self.embodiment.camera_names), here

    def _drawn(self, random: EpisodeRandom) -> Layout:
        """Tables as the tasks have them, some repainted, perturbed, and some with one thing in or on another."""
        layout = self._repainted(self._task.sample(random), random.fork("grounding"))
        layout = self._workplace.perturber.arrange(layout, random)
        return nested(layout, self._workplace.scene.props, random.fork("grounding"))

    def _repainted(self, layout: Layout, random: EpisodeRandom) -> Layout:
        k = len(layout.names)
        here = random.uniform("repainted", 1)[:, 0] < REPAINTED
        return replace(layout, colour=where_worlds(here, random.integers("paint", k, len(COLOUR_NAMES)), layout.colour))


def _mixed(names: Sequence[str]) -> Mixture:
    """The tasks of all names in one scene; ``ValueError`` for an unknown one."""
    weights: dict[str, float] = {}
    for name in names:
        each = task_names([name])
        share = (SUITE_WEIGHT / len(each) if name in SUITES else 1.0) * _OFTEN.get(name, 1.0)
        weights |= {task: weights.get(task, 0.0) + share for task in each}
    return Mixture([find_task(name) for name in weights], list(weights.values()))


def _joined(parts: list[Grounding]) -> Grounding:
    def cat(of: Sequence[Any], *names: str) -> dict[str, Any]:
        """Tensors and tuples of strings, end to end."""
        columns = {name: [getattr(each, name) for each in of] for name in names}
        return {
            name: torch.cat(column) if isinstance(column[0], Tensor) else tuple(chain.from_iterable(column))
            for name, column in columns.items()
        }

    before = list(accumulate((len(part.sentences) for part in parts), initial=0))
    brought = [
        replace(part.receivers, sentence=part.receivers.sentence + first)
        for part, first in zip(parts, before, strict=False)
    ]
    return Grounding(
        **cat(parts, "images", "state", "table", "sentences", "point_m", "pixel", "cover", "seen"),
        receivers=Receivers(**cat(brought, "sentence", "point_m", "pixel", "cover", "seen")),
        told=Told(**cat([part.told for part in parts], "table", "sentences", "false")),
        asked=Asked(**cat([part.asked for part in parts], "table", "questions", "answers")),
    )
