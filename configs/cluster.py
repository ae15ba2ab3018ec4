"""Independent parts of a command on the workers of a Ray cluster: one of its own, or one that is there already.

A part is handed to a worker and what it makes of it comes back; only the process that asked writes files. So a cluster
of several machines needs this package and whatever parts read (policies, experts) at the same paths on each of them.
Ray's own protocol trusts whoever reaches it: it belongs into a closed network, and a cluster of one's own listens on
the loopback alone.
"""

import importlib.util
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

Part = TypeVar("Part")
Made = TypeVar("Made")
TRIES = 4
"""How often a part is begun whose workers die, before the command gives up."""
REACHED_WITHIN_S = 5.0
AHEAD = 2
"""Parts for each worker that are handed out and not yet taken back: what is made of them lies in memory."""


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Ray (the extra ``ray``), where independent parts of a command run beside each other."""

    workers: int = 0
    """Parts at once, each with one core; 0 does without Ray."""
    address: str = ""
    """HOST:PORT of a cluster; by default one is started on this machine for as long as the command runs."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"cluster.workers must not be negative, got {self.workers}")
        if self.address and not self.workers:
            raise ValueError(f"say how many parts run at once at {self.address}: cluster.workers N (0 is without Ray)")
        host, _, port = self.address.rpartition(":")
        if self.address and not (host and port.isdecimal()):
            raise ValueError(f"cluster.address is HOST:PORT of Ray's head, such as 10.0.0.1:6379; got {self.address!r}")


PLAIN = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
"""Nobody is told of it, and workers are as important as the process that waits for them."""
ON_THIS_MACHINE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""As where Ray knows no cluster of several machines: it listens on the loopback alone, not on every address."""


class WorkersLostError(RuntimeError):
    """Every worker that a part was given to died."""


Spread = Callable[[Callable[[Part], Made], Iterable[Part]], Iterator[Made]]


@contextmanager
def spreading(config: ClusterConfig) -> "Iterator[Spread]":
    """What spreads work over the cluster: ``spread(work, parts)`` yields what ``work`` makes of each part, in order.

    A part whose worker is lost is begun anew by another one; :class:`WorkersLostError` after ``TRIES`` of them. What
    ``work`` raises is raised here. Errors are also those of :func:`check_cluster`.
    """
    if not config.workers:
        yield map
        return
    ray = _connected(config)
    try:
        yield lambda work, parts: _spread(ray, config.workers, work, parts)
    finally:
        ray.shutdown()


def check_cluster(config: ClusterConfig) -> None:
    """``ModuleNotFoundError`` says what to install, ``ConnectionError`` that nobody answers at the address: Ray itself
    waits for minutes.
    """
    if config.workers and not importlib.util.find_spec("ray"):
        raise ModuleNotFoundError("cluster.workers needs Ray: pip install 'vla-stack[ray]'")
    if config.address:
        host, _, port = config.address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), REACHED_WITHIN_S).close()
        except OSError as error:
            raise ConnectionError(f"no Ray cluster answers at {config.address}: {error}") from error


def _connected(config: ClusterConfig):  # noqa: ANN202 - a module
    check_cluster(config)
    for name, value in PLAIN.items():
        os.environ.setdefault(name, value)
    if not config.address:
        os.environ.update(ON_THIS_MACHINE)
    import ray

    if config.address:
        ray.init(address=config.address, log_to_driver=False, logging_level=logging.ERROR)
    else:
        ray.init(num_cpus=config.workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    return ray


def _spread(ray, workers: int, work: Callable[[Part], Made], parts: Iterable[Part]) -> Iterator[Made]:  # noqa: ANN001
    begin = ray.remote(num_cpus=1, max_retries=TRIES - 1)(work)
    begun = deque()
    try:
        for part in parts:
            begun.append(begin.remote(part))
            if len(begun) >= AHEAD * workers:
                yield ray.get(begun.popleft())
        while begun:
            yield ray.get(begun.popleft())
    except ray.exceptions.WorkerCrashedError as error:
        raise WorkersLostError(f"{TRIES} workers died one after the other at the same part of the work") from error
    finally:
        for each in begun:
            ray.cancel(each, force=True)
