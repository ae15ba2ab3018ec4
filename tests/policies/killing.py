"""Kill −9 work at random moments until it is done; every kill really lands on a running process."""

import multiprocessing
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from demonstrations import record, tiny_network, tiny_training

from policies.imitation.trainer import train

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["killing", "torch.utils.tensorboard", "torch._dynamo"])

RECORDED_SEEDS = range(16)


def record_some(path):
    record(path, RECORDED_SEEDS, num_envs=2)


def train_some(path):
    train(path / "run", tiny_training(save_every=2), tiny_network(), [path / "store"], resume=True, show_progress=False)


def kill_until_done(work: Callable, path: Path, *, kills: int, seed: int, check: Callable[[], None]) -> None:
    """Start ``work(path)`` over and over, killing ``kills`` of them at random moments of their running.

    Where it ends undisturbed in between, ``check`` is called and all starts anew from what ``path`` held at first.
    ``check`` is called after the last kill as well, when the work has been let to end.
    """
    rng = random.Random(seed)
    initial = path.with_name(path.name + "-initial")
    shutil.copytree(path, initial, symlinks=True)
    whole_s = _run(work, path, kill_after_s=None)[1]
    check()
    _restore(initial, path)
    landed = 0
    while landed < kills:
        if _run(work, path, kill_after_s=rng.uniform(0, 0.6 * whole_s))[0]:
            landed += 1
        else:
            check()
            _restore(initial, path)
    assert not _run(work, path, kill_after_s=None)[0]
    check()


def _run(work: Callable, path: Path, kill_after_s: float | None) -> tuple[bool, float]:
    """Run ``work`` in its own process; whether it was killed, and how many seconds it ran."""
    begun = _CONTEXT.Event()
    process = _CONTEXT.Process(target=_announce_and_work, args=(begun, work, path))
    process.start()
    assert begun.wait(60)
    began = time.perf_counter()
    process.join(kill_after_s)
    process.kill()
    process.join()
    assert process.exitcode in (0, -9)
    return process.exitcode == -9, time.perf_counter() - began


def _announce_and_work(begun, work, path):
    torch.set_num_threads(1)
    begun.set()
    work(path)


def _restore(initial: Path, path: Path) -> None:
    shutil.rmtree(path)
    shutil.copytree(initial, path, symlinks=True)
