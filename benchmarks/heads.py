"""Bridge head against a plain MLP: same backbone, data, steps and evaluation episodes, several training seeds.

    vla bench heads [--data FOLDER] [--steps 2000] [--seeds 0 1 2] [--episodes 50] [--jobs 2] [--json PATH]

Without --data, demonstrations are recorded first as the quickstart records them. Success is over held-out phrasings on
the stream "evaluate"; the same seeds for both heads, so that the comparison is paired.
"""

import argparse
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from report import home_path, print_table, write_json

from configs.commands import collect, quickstart, train
from configs.environments import EnvConfig, episode_seeds, make_env
from configs.presets import nano_bridge, nano_mlp
from policies.intervals import paired_difference, wilson

HEADS = {"bridge": nano_bridge, "mlp": nano_mlp}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=home_path, help="demonstrations; recorded when not given")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--episodes", type=int, default=50, help="per task and training seed")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once; it changes the speed and no result")
    parser.add_argument("--json", type=home_path, help="also write the figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data = arguments.data or record(Path(scratch) / "data")
        runs = [(head, seed) for seed in arguments.seeds for head in HEADS]
        with ProcessPoolExecutor(arguments.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            jobs = {
                run: pool.submit(train_and_evaluate, *run, data, arguments.steps, arguments.episodes, Path(scratch))
                for run in runs
            }
            results = {run: job.result() for run, job in jobs.items()}
    rows, figures = summarise(results, arguments.seeds)
    print_table(rows)
    print(figures["verdict"])
    if arguments.json:
        write_json(arguments.json, "heads", {**figures, "rows": rows, "steps": arguments.steps}, arguments.seeds)


def record(path: Path) -> Path:
    """The quickstart's demonstrations."""
    settings = quickstart.Config()
    recording = collect.Config(
        tasks=settings.tasks,
        num_envs=settings.num_envs,
        noise=settings.noise,
        arm_start_rad=settings.arm_start_rad,
    )
    collect.collect_tasks(recording, path, episode_seeds(settings.demonstrations))
    return path


def train_and_evaluate(
    head: str, seed: int, data: Path, steps: int, episodes: int, scratch: Path
) -> dict[str, list[bool]]:
    """Success of every evaluation episode, in seed order, by task."""
    from policies.evaluation import evaluate
    from policies.imitation.trainer import train as imitate
    from policies.vla_policy import VLAPolicy

    preset = HEADS[head]()
    config = replace(preset, data=(data,), train=replace(preset.train, steps=steps, seed=seed))
    run_dir = scratch / f"{head}-{seed}"
    imitate(run_dir, config.train, train.network_config(config), config.data, show_progress=False)
    policy = VLAPolicy.load(run_dir)
    seeds = episode_seeds(episodes)
    outcomes = {}
    for task in quickstart.Config().tasks:
        worlds, config = min(25, episodes), EnvConfig(threads=1)
        env = make_env(task, worlds, stream="evaluate", split="held_out", config=config)
        outcomes[task] = [bool(won) for won in evaluate(env, policy, seeds, show_progress=False).outcomes]
        env.close()
    print(
        f"{head} seed {seed}: " + ", ".join(f"{task} {sum(won)}/{len(won)}" for task, won in outcomes.items()),
        flush=True,
    )
    return outcomes


def summarise(
    results: dict[tuple[str, int], dict[str, list[bool]]], seeds: list[int]
) -> tuple[list[dict], dict[str, object]]:
    """A row per head and task over all training seeds, and the paired difference over everything."""
    rows = []
    pooled: dict[str, list[bool]] = {}
    for head in HEADS:
        pooled[head] = []
        for task in results[head, seeds[0]]:
            won = [outcome for seed in seeds for outcome in results[head, seed][task]]
            rate = wilson(sum(won), len(won))
            rows.append(
                {"head": head, "task": task, "success": rate.value, "lo": rate.lo, "hi": rate.hi, "episodes": len(won)}
            )
            pooled[head] += won
        rate = wilson(sum(pooled[head]), len(pooled[head]))
        rows.append(
            {
                "head": head,
                "task": "all",
                "success": rate.value,
                "lo": rate.lo,
                "hi": rate.hi,
                "episodes": len(pooled[head]),
            }
        )
    gap = paired_difference(pooled["bridge"], pooled["mlp"])
    inside = "inside the noise" if gap.lo <= 0 <= gap.hi else "outside the noise"
    verdict = (
        f"bridge − mlp: {gap.value:+.1%} (95 % interval {gap.lo:+.1%} … {gap.hi:+.1%}, p = {gap.p_value:.3g}): "
        f"{inside} of evaluation episodes; training seeds vary besides"
    )
    return rows, {"difference": {"value": gap.value, "lo": gap.lo, "hi": gap.hi, "p": gap.p_value}, "verdict": verdict}


if __name__ == "__main__":
    main()
