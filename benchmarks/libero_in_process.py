"""LIBERO in its own Python, without a worker: what benchmarks/workers.py compares with.

Each line that comes, ``WHO STEPS HORIZON``, is answered with the seconds that so many control steps took, with both
cameras' pictures after every HORIZON of them: of ``ours``, the world that workers play, or of ``stock``, LIBERO's own
environment, which draws at every step whatever is asked.
"""

import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIDE_PX = 256


def main(package: Path, benchmark: str, index: int) -> None:
    """Make both, say so, and answer lines until there are no more."""
    steppers = {"ours": _ours(package, benchmark, index), "stock": _stock(benchmark, index)}
    print("ready", file=sys.stderr, flush=True)
    for line in sys.stdin:
        who, steps, horizon = line.split()
        step = steppers[who]
        began = time.perf_counter()
        for taken in range(1, int(steps) + 1):
            step(taken % int(horizon) == 0)
        print(time.perf_counter() - began, file=sys.stderr, flush=True)


def _ours(package: Path, benchmark: str, index: int) -> Callable[[bool], Any]:
    spec = importlib.util.spec_from_file_location(
        "vla_worker", package / "__init__.py", submodule_search_locations=[str(package)]
    )
    assert spec and spec.loader
    sys.modules["vla_worker"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make_world = importlib.import_module("vla_worker.libero_world").make_world
    world = make_world(benchmark=benchmark, index=index, image_size_px=SIDE_PX)
    world.reset("evaluate", 0)

    def step(look: bool) -> None:
        world.step(np.zeros(7))
        if look:
            world.observe()

    return step


def _stock(benchmark: str, index: int) -> Callable[[bool], Any]:
    from libero.libero import benchmark as benchmarks
    from libero.libero.envs import OffScreenRenderEnv

    suite = benchmarks.get_benchmark(benchmark)()
    file = suite.get_task_bddl_file_path(index)
    env = OffScreenRenderEnv(bddl_file_name=file, camera_heights=SIDE_PX, camera_widths=SIDE_PX, ignore_done=True)
    env.seed(7)
    env.reset()
    env.set_init_state(suite.get_task_init_states(index)[0])
    return lambda look: env.step([0.0] * 6 + [-1.0])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
