"""Measuring one cell of a claim: demonstrations once, a training that can be continued, an evaluation per condition."""

import time
from dataclasses import replace
from pathlib import Path

from claim_rows import SHUFFLED, USUAL, Recording, Row
from ledger import Cell, Key, Outcomes

from configs.acting import Actor
from configs.commands import collect, train
from configs.commands import eval as evaluation
from configs.environments import EnvConfig, episode_seeds
from configs.run_directory import CONFIG_FILE, save_config

WORLDS = 25


class Work:
    """The folder of demonstrations and of trainings under way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def demonstrations(self, recording: Recording, count: int) -> Path:
        """Demonstrations of so many seeds per task, recorded as far as they are not there yet."""
        path = self.folder / "demonstrations" / f"{recording.name}-{count}"
        settings = collect.Config(
            tasks=recording.tasks,
            num_envs=WORLDS,
            arm_start_rad=recording.arm_start_rad,
            env=EnvConfig(perturbation=recording.perturbation),
        )
        collect.collect_tasks(settings, path, episode_seeds(count))
        return path


def measure(row: Row, key: Key, work: Path) -> Cell:
    """Train, evaluate, and write the cell into the ledger."""
    began = time.perf_counter()
    run_dir = work / "runs" / key.path.removesuffix(".json")
    trained_s = _train(row, key, Work(work).demonstrations(row.recording, key.demonstrations), run_dir)
    actor = Actor(run_dir, EnvConfig(threads=1), threads=1)
    outcomes = [each for condition in row.conditions for each in _evaluate(row, condition, actor)]
    figures = {"train_s": round(trained_s, 1), "wall_s": round(time.perf_counter() - began, 1)}
    cell = Cell(key=key, outcomes=tuple(outcomes), figures=figures)
    cell.write()
    return cell


def _train(row: Row, key: Key, data: Path, run_dir: Path) -> float:
    """Seconds spent in this process; goes on with what an earlier one left."""
    preset = row.methods[key.method]()
    config = replace(preset, data=(data,), train=replace(preset.train, steps=key.steps, seed=key.seed))
    resume = (run_dir / CONFIG_FILE).is_file()
    save_config(config, run_dir / CONFIG_FILE)
    return train.train_in(config, train.network_config(config), run_dir, resume=resume).wall_s


def _evaluate(row: Row, condition: str, actor: Actor) -> list[Outcomes]:
    seeds = episode_seeds(row.episodes)
    settings = evaluation.Config(
        policy="cell",
        tasks=row.recording.tasks,
        num_envs=WORLDS,
        videos=0,
        instructions="shuffled" if condition == SHUFFLED else "given",
    )
    axis = None if condition in (USUAL, SHUFFLED) else condition
    results = evaluation.evaluate_tasks(actor, settings, seeds, axis)
    return [
        Outcomes.of(
            condition,
            result.task,
            seeds,
            result.outcomes,
            result.same_goal_share if condition == SHUFFLED else None,
        )
        for result in results
    ]
