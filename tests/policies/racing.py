"""Two recorders in processes of their own that begin one store at the same moment."""

import multiprocessing
from pathlib import Path

import torch
from point_mass import PointMassEnv

from policies.collect import collect
from policies.data.layout import DatasetError
from policies.expert import ExpertPolicy

_CONTEXT = multiprocessing.get_context("forkserver")
_LIMIT_S = 60
EPISODES = 3
RECORDERS = 2


def race(paths: list[Path]) -> list[list[str]]:
    """What each recorder came to at each of the stores: ``recorded``, or why it was refused.

    Recorder i records the ``EPISODES`` seeds from ``i * EPISODES`` on. One that dies, or hangs, fails the caller.
    """
    start, outcomes = _CONTEXT.Barrier(RECORDERS), _CONTEXT.Queue()
    recorders = [_CONTEXT.Process(target=_record, args=(i, paths, start, outcomes)) for i in range(RECORDERS)]
    try:
        for recorder in recorders:
            recorder.start()
        found = dict(outcomes.get(timeout=_LIMIT_S) for _ in recorders)
        for recorder in recorders:
            recorder.join(_LIMIT_S)
        assert [recorder.exitcode for recorder in recorders] == [0] * RECORDERS
    finally:
        for recorder in recorders:
            recorder.kill()
    return [list(pair) for pair in zip(*(found[i] for i in range(RECORDERS)), strict=True)]


def _record(number, paths, start, outcomes):
    torch.set_num_threads(1)
    env = PointMassEnv(EPISODES)
    seeds = range(number * EPISODES, (number + 1) * EPISODES)
    found = []
    for path in paths:
        start.wait(_LIMIT_S)
        try:
            collect(env, ExpertPolicy(env), path, seeds, show_progress=False)
            found.append("recorded")
        except DatasetError as error:
            found.append(str(error))
    outcomes.put((number, found))
