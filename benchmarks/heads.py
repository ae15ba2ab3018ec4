"""Bridge head against a plain MLP: same backbone, data, steps and evaluation episodes, several training seeds.

    python benchmarks/heads.py [--data FOLDER] [--steps N] [--seeds 0 1 2] [--episodes 50] [--jobs 2] [--out FOLDER]

Stages, demonstrations and tasks are the quickstart's; without --data its demonstrations are recorded first. Success is
over held-out phrasings on the stream "evaluate", with the same seeds for both heads, so that the comparison is paired.

Every cell (a head and a training seed) leaves one JSON file in the folder, from which the table is printed. A stopped
run goes on where it stood: cells that are there are not measured again, and a training that was stopped is resumed.
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from report import machine, print_table, versions, write_json

from configs import run_directory
from configs.acting import Actor
from configs.commands import collect, quickstart, train
from configs.environments import EnvConfig, episode_seeds
from configs.machine import source_revision
from configs.presets import nano_bridge, nano_mlp
from policies.intervals import paired_difference, wilson

HEADS = {"bridge": nano_bridge, "mlp": nano_mlp}
QUICKSTART = quickstart.Config()
OUT = run_directory.OUTPUTS / "bench" / "heads"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One policy to train and evaluate."""

    head: str
    training_seed: int
    steps: int
    episodes: int

    @property
    def name(self) -> str:
        return f"{self.head}_seed-{self.training_seed}_{self.steps}-steps_{self.episodes}-episodes"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="demonstrations; recorded in the folder when not given")
    parser.add_argument("--demonstrations", type=int, default=QUICKSTART.demonstrations, help="to record per task")
    parser.add_argument("--steps", type=int, default=QUICKSTART.training.train.steps)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="training seeds")
    parser.add_argument("--episodes", type=int, default=50, help="per task and training seed")
    parser.add_argument("--jobs", type=int, default=2, help="cells at once; it changes the speed and no result")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the cells' files")
    parser.add_argument("--json", type=Path, help="also write the table's figures here")
    arguments = parser.parse_args(argv)
    cells = [
        Cell(head=head, training_seed=seed, steps=arguments.steps, episodes=arguments.episodes)
        for seed in arguments.seeds
        for head in HEADS
    ]
    data = arguments.data or record(arguments.out / "demonstrations", arguments.demonstrations)
    measure_missing(cells, data, arguments.out, arguments.jobs)
    results = [read_cell(cell, data, arguments.out) for cell in cells]
    rows, figures = summarise([result for result in results if result is not None])
    print_table(rows)
    print(figures["verdict"])
    if arguments.json:
        write_json(arguments.json, "heads", {**figures, "rows": rows, "steps": arguments.steps}, arguments.seeds)


def record(path: Path, demonstrations: int) -> Path:
    """The quickstart's demonstrations; those that are there are kept."""
    recording = collect.Config(
        tasks=QUICKSTART.tasks,
        num_envs=QUICKSTART.num_envs,
        noise=QUICKSTART.noise,
        arm_start_rad=QUICKSTART.arm_start_rad,
        env=QUICKSTART.env,
    )
    collect.collect_tasks(recording, path, episode_seeds(demonstrations))
    return path


def measure_missing(cells: Sequence[Cell], data: Path, out: Path, jobs: int) -> None:
    """Measure every cell that has no file yet, ``jobs`` at once."""
    missing = [cell for cell in cells if read_cell(cell, data, out) is None]
    print(f"{len(cells) - len(missing)} of {len(cells)} cells are there already, in {out}", flush=True)
    if not missing:
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(measure, cell, data, out) for cell in missing]):
            done.result()


def measure(cell: Cell, data: Path, out: Path) -> None:
    """Train and evaluate one cell and write its file; a training that was stopped goes on."""
    from policies.imitation.trainer import train as imitate

    began = time.perf_counter()
    preset = HEADS[cell.head]()
    config = replace(preset, data=(data,), train=replace(preset.train, steps=cell.steps, seed=cell.training_seed))
    run_dir = out / "runs" / cell.name
    network = train.network_config(config)
    summary = imitate(run_dir, config.train, network, config.data, resume=True, show_progress=False)
    outcomes = evaluate_tasks(run_dir, cell.episodes)
    content = {
        **asdict(cell),
        "outcomes": outcomes,
        "loss": summary.loss,
        "wall_s": round(time.perf_counter() - began, 1),
        "resumed_from_step": summary.resumed_from,
        "demonstrations": fingerprint(data),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": source_revision(),
        "machine": machine(),
        "versions": versions(),
    }
    run_directory.write_json(content, cell_path(cell, out))
    won = ", ".join(f"{task} {sum(found.values())}/{len(found)}" for task, found in outcomes.items())
    print(f"{cell.head}, training seed {cell.training_seed}: {won} ({content['wall_s']} s)", flush=True)


def evaluate_tasks(run_dir: Path, episodes: int) -> dict[str, dict[int, bool]]:
    """Success by task and evaluation seed."""
    from policies.evaluation import evaluate

    actor, seeds = Actor(run_dir, EnvConfig(threads=1)), episode_seeds(episodes)
    outcomes = {}
    for task in QUICKSTART.tasks:
        env, policy = actor.enter(task, min(QUICKSTART.num_envs, episodes), "held_out")
        try:
            result = evaluate(env, policy, seeds, show_progress=False)
        finally:
            env.close()
        outcomes[task] = {episode.seed: bool(episode.success) for episode in result.episodes}
    return outcomes


def read_cell(cell: Cell, data: Path, out: Path) -> dict[str, Any] | None:
    """What was measured, if it was; ``ValueError`` where it was on other demonstrations."""
    path = cell_path(cell, out)
    if not path.is_file():
        return None
    content = json.loads(path.read_text())
    if content["demonstrations"] != fingerprint(data):
        raise ValueError(f"{path} was measured on other demonstrations than {data}; choose another --out")
    return content


def cell_path(cell: Cell, out: Path) -> Path:
    return out / f"{cell.name}.json"


def fingerprint(data: Path) -> str:
    from policies.data.dataset import DemonstrationDataset

    return DemonstrationDataset(data).fingerprint


def summarise(results: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row per head and task over all training seeds, and the paired difference over everything."""
    rows, pooled = [], {}
    for head in HEADS:
        own = sorted((result for result in results if result["head"] == head), key=lambda r: r["training_seed"])
        by_task = {task: [list(r["outcomes"][task].values()) for r in own] for task in own[0]["outcomes"]}
        by_task["all"] = [[won for task in r["outcomes"].values() for won in task.values()] for r in own]
        rows += [_row(head, task, runs) for task, runs in by_task.items()]
        pooled[head] = [won for run in by_task["all"] for won in run]
    gap = paired_difference(pooled["bridge"], pooled["mlp"])
    inside = "inside the noise" if gap.lo <= 0 <= gap.hi else "outside the noise"
    verdict = (
        f"bridge − mlp: {gap.value:+.1%} (95 % interval {gap.lo:+.1%} … {gap.hi:+.1%}, p = {gap.p_value:.3g}): "
        f"{inside} of evaluation episodes; training seeds vary besides"
    )
    figures = {
        "difference": {"value": gap.value, "lo": gap.lo, "hi": gap.hi, "p": gap.p_value},
        "verdict": verdict,
        "commits": sorted({str(result["commit"]) for result in results}),
    }
    return rows, figures


def _row(head: str, task: str, runs: Sequence[Sequence[bool]]) -> dict[str, Any]:
    """``runs`` has the outcomes of one training seed each."""
    won, trials = sum(map(sum, runs)), sum(map(len, runs))
    rate = wilson(won, trials)
    by_seed = " ".join(str(sum(run)) for run in runs)
    return {
        "head": head,
        "task": task,
        "success": rate.value,
        "lo": rate.lo,
        "hi": rate.hi,
        "episodes": trials,
        "won by training seed": by_seed,
    }


if __name__ == "__main__":
    main()
