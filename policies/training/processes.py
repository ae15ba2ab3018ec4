"""Starts processes that learn together, on this machine or by torchrun, and ends them together."""

import logging
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from policies.training.group import Group, PeerLostError

T = TypeVar("T")

ANSWER_WITHIN = timedelta(minutes=30)
"""How long a process waits for another one that lives, such as for the leading one while that writes a checkpoint."""
_CAUSE_S = 3.0
"""How long to wait for the process that knows why, when one says that another is lost."""
_END_S = 5.0
_PRELOADED = ["policies.training.run", "torch._dynamo"]


class ProcessError(RuntimeError):
    """One of the processes has failed, and all have ended; says which one and why."""


def in_processes(processes: int, device: str, work: Callable[..., T], *args: Any) -> T:
    """What ``work(*args)`` returns in the first of so many new processes of this machine, which form a group.

    They are started where ``processes`` is above 1 and this process is in no group; otherwise ``work`` is called here.
    ``work``, ``args`` and result must be picklable. When one process fails or is killed, all are ended, and
    :class:`ProcessError` says which one was the first and why; whatever ends this process ends them too. ``ValueError``
    where there are fewer GPUs than processes.
    """
    if processes == 1 or Group.here().size > 1:
        return work(*args)
    for rank in range(processes):
        Group(rank=rank, size=processes, local_rank=rank, local_size=processes).device(device)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    store, port = _serve_store()
    members: list[_Member] = []
    try:
        for rank in range(processes):
            ours, theirs = context.Pipe()
            place = _Place(rank, processes, port, device)
            process = context.Process(target=_take_part, args=(theirs, place, work, args), name=f"rank {rank}")
            process.start()
            theirs.close()
            members.append(_Member(rank, process, ours))
        return _outcome(members)
    finally:
        _end(members)
        del store


@contextmanager
def started_by_torchrun(device: str) -> Iterator[None]:
    """Inside, this process is in the group of all that torchrun, or alike, has started; nothing where it has not."""
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", 1)) == 1 or dist.is_initialized():
        yield
        return
    _join(device)
    yield
    _leave()


@dataclass(frozen=True)
class _Place:
    rank: int
    size: int
    port: int
    device: str


@dataclass(frozen=True)
class _Success:
    value: Any


@dataclass(frozen=True)
class _Failure:
    """``why`` completes “rank 1 of 2 …”; ``follows`` says that another process failed before."""

    why: str
    trace: str = ""
    follows: bool = False


@dataclass(frozen=True)
class _Member:
    rank: int
    process: Any
    pipe: Connection

    def outcome(self) -> _Success | _Failure | None:
        """None while it works."""
        if not self.pipe.poll():
            return None
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join(_END_S)
            return _Failure(_ending(self.process.exitcode))


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"ended with exit code {exit_code}"


def _outcome(members: Sequence[_Member]) -> Any:
    """The first member's result, when all have succeeded; ``ProcessError`` about the one that failed first."""
    found: dict[int, _Success | _Failure] = {}
    give_up_s: float | None = None
    while len(found) < len(members) and (give_up_s is None or time.monotonic() < give_up_s):
        working = [member for member in members if member.rank not in found]
        wait([member.pipe for member in working], give_up_s and max(0.0, give_up_s - time.monotonic()))
        found |= {member.rank: outcome for member in working if (outcome := member.outcome()) is not None}
        follows = [outcome.follows for outcome in found.values() if isinstance(outcome, _Failure)]
        if not all(follows):
            break
        if follows and give_up_s is None:
            give_up_s = time.monotonic() + _CAUSE_S
    failed = {rank: outcome for rank, outcome in found.items() if isinstance(outcome, _Failure)}
    if not failed:
        first = found[0]
        assert isinstance(first, _Success)
        return first.value
    rank, failure = min(failed.items(), key=lambda item: item[1].follows)
    error = ProcessError(f"rank {rank} of {len(members)} processes {failure.why}; all have been ended")
    if failure.trace:
        error.add_note(failure.trace)
    raise error


def _end(members: Sequence[_Member]) -> None:
    for member in members:
        member.pipe.close()  # whoever still works ends with it
    for end in (None, "terminate", "kill"):
        for member in members:
            if end and member.process.is_alive():
                getattr(member.process, end)()
        for member in members:
            member.process.join(_END_S)


def _serve_store() -> tuple[dist.TCPStore, int]:
    """Where the processes find each other, on a free port that this machine alone can reach."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        descriptor = listening.detach()
    store = dist.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False, master_listen_fd=descriptor)
    return store, port


def _take_part(pipe: Connection, place: _Place, work: Callable[..., Any], args: Sequence[Any]) -> None:
    """Work as one of the processes; ends at once when the one that has started them is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who has started them says when it is over
    threading.Thread(target=_end_with_the_other_side, args=(pipe,), daemon=True).start()
    local = {"RANK": place.rank, "WORLD_SIZE": place.size, "LOCAL_RANK": place.rank, "LOCAL_WORLD_SIZE": place.size}
    os.environ |= {name: str(value) for name, value in local.items()}
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    try:
        store = dist.TCPStore("127.0.0.1", place.port, is_master=False)
        _join(place.device, store=store, rank=place.rank, world_size=place.size)
        value = work(*args)
        _leave()
        status, outcome = 0, pickle.dumps(_Success(value if place.rank == 0 else None))
    except BaseException as error:
        why = f"failed: {type(error).__name__}: {error}"
        status = 1
        outcome = pickle.dumps(_Failure(why, traceback.format_exc(), follows=isinstance(error, PeerLostError)))
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    with suppress(OSError):
        pipe.send_bytes(outcome)
    os._exit(status)  # what is left of a broken group cannot be closed in good order


def _end_with_the_other_side(pipe: Connection) -> None:
    with suppress(OSError):
        pipe.poll(None)  # nothing is ever sent this way
    os._exit(1)


def _join(device: str, **how: Any) -> None:
    """Become one of a group; those that do not lead are silent but for errors."""
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if device == "cuda":
        torch.cuda.set_device(local_rank)
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=ANSWER_WITHIN, **how)
    if dist.get_rank():
        logging.disable(logging.WARNING)


def _leave() -> None:
    dist.barrier()
    dist.destroy_process_group()
