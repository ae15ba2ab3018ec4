"""Independent work in processes beside each other, as far as there are cores for them."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from configs.machine import usable_cores


def side_by_side(work: Sequence[Callable[[bool], Any]]) -> list[Any]:
    """What each of ``work`` returns, told whether it is alone on the screen, so that it may show its progress.

    Work and results must be picklable where there are cores for several at once. The first failure is raised when all
    that had begun have ended.
    """
    at_once = min(len(work), usable_cores())
    if at_once < 2:
        return [each(True) for each in work]
    with ProcessPoolExecutor(at_once, mp_context=multiprocessing.get_context("spawn")) as pool:
        begun = [pool.submit(each, False) for each in work]
        return [each.result() for each in begun]
