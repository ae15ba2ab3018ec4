"""Independent work in processes beside each other, as far as there are cores for them."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from configs.machine import usable_cores


def side_by_side(work: Sequence[Callable[[bool], Any]]) -> list[Any]:
    """What each of ``work`` returns, told whether it is alone on the screen, so that it may show its progress.

    Work and results must be picklable where there are cores for several at once. The first failure is raised when all
    that had begun have ended. However this process ends, the others end with it.
    """
    at_once = min(len(work), usable_cores())
    if at_once < 2:
        return [each(True) for each in work]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(at_once, mp_context=spawn, initializer=end_with_the_parent) as pool:
        begun = [pool.submit(each, False) for each in work]
        return [each.result() for each in begun]


def end_with_the_parent() -> None:
    """Have this process end as soon as the one that started it has ended: killed, it can tell nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
