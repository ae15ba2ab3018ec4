"""Kill −9 of ``vla rl`` at random moments: what is gone on with ends, bit for bit, as what was never killed."""

import random

import pytest
from rl_killing import KilledRun, Moment, cpu_time_s
from test_robofume import SMALLEST
from untaught import save_untaught

from configs.cli import main

TASKS = ["--tasks", "reach", "button", "--rl.weigh-tasks"]
SMALL = ["--rl.num-envs", "4", "--rl.epochs", "1", "--rl.minibatches", "2", "--env.threads", "1"]
SAVED = ["--rl.save-every", "1"]
NUMBERS = ["--state.horizon", "4", "--rl.decisions", "12", "--rl.iterations", "8"]
PICTURES = ["--rl.decisions", "3", "--rl.iterations", "4", "--rl.critic.warmup", "1"]
TRIED_OUT = ["--evaluate.every", "2", "--evaluate.episodes", "1", "--evaluate.env.threads", "1"]
WITHOUT_RESETS = [
    *("--rl.num-envs", "3", "--rl.decisions", "3", "--rl.iterations", "4", "--env.threads", "1"),
    *SMALLEST,
]
ATTEMPTS_PER_KILL = 3


def result(run_dir):
    """All that a run makes but the times, by file; links by what they point at."""
    checkpoints = run_dir / "checkpoints"
    files = [run_dir / "metrics.jsonl", *(path for path in checkpoints.glob("0*/**/*") if path.is_file())]
    made = {path.relative_to(run_dir).as_posix(): path.read_bytes() for path in files}
    links = {path.name: path.readlink().as_posix() for path in checkpoints.iterdir() if path.is_symlink()}
    return {**made, **links, "": sorted(path.name for path in [*run_dir.iterdir(), *checkpoints.iterdir()])}


def check(work, whole):
    ours, theirs = result(work.run_dir), result(whole.run_dir)
    differing = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    assert not differing, f"differing: {differing}\n{work.told()}"


def kill_again_and_again(command, folder, kills):
    """Runs that end before they are killed are looked at, and another one begins."""
    whole = KilledRun(command, folder / "whole")
    life_s, rng = cpu_time_s(whole), random.Random(kills)
    work, landed = KilledRun(command, folder / "0"), 0
    for attempt in range(ATTEMPTS_PER_KILL * kills):
        if work.go_on(Moment.draw(rng, life_s, attempt)):
            landed += 1
        else:
            check(work, whole)
            work = KilledRun(command, folder / f"{attempt + 1}")
        if landed == kills:
            break
    assert landed == kills, work.told()
    assert not work.go_on(), work.told()
    check(work, whole)


@pytest.mark.slow
def test_twenty_kills_of_a_small_network(tmp_path):
    """Of two tasks that a curriculum weighs."""
    kill_again_and_again(["mlp-ppo", *TASKS, *SMALL, *SAVED, *NUMBERS], tmp_path, kills=20)


@pytest.mark.slow
def test_five_kills_of_a_tiny_vla(tmp_path):
    """Which looks at pictures, so that there are processes that draw them, and is tried out as it learns."""
    (tmp_path / "policy").mkdir()
    command = ["nano-ppo", "--policy", str(save_untaught(tmp_path / "policy")), *TASKS, *SMALL]
    command += [*SAVED, *PICTURES, *TRIED_OUT]
    kill_again_and_again(command, tmp_path, kills=5)


@pytest.mark.slow
def test_two_kills_without_resets(tmp_path):
    """Also while the classifier is fitted to the demonstrations."""
    (tmp_path / "policy").mkdir()
    data = tmp_path / "drawer"
    few = ["--episodes", "2", "--num-envs", "2", "--env.image-size-px", "32", "--env.threads", "1"]
    assert main(["collect", "open-drawer", "close-drawer", *few, "--path", str(data)]) == 0
    named = ["robofume", "--policy", str(save_untaught(tmp_path / "policy")), "--data", str(data), *WITHOUT_RESETS]
    kill_again_and_again([*named, *SAVED], tmp_path, kills=2)
