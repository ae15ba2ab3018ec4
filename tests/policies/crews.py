"""What processes do together in the tests, up to the point where one of them ends."""

import importlib
import os
import signal
import sys
import time
from pathlib import Path

import torch

from policies.training.group import Group
from policies.training.processes import in_processes, started_by_torchrun

FOREVER_S = 600


def leave_pid(folder):
    """So that a test knows whom to look for."""
    (Path(folder) / f"{Group.here().rank}.pid").write_text(str(os.getpid()))


def wait_for_each_other(folder):
    """A few sums; then rank 1 never comes to the next one."""
    for _ in range(3):
        Group.here().total(torch.ones(()))
    leave_pid(folder)
    if Group.here().rank == 1:
        time.sleep(FOREVER_S)
    Group.here().total(torch.ones(()))


def fail_in_rank_1(folder):
    leave_pid(folder)
    Group.here().total(torch.ones(()))
    if Group.here().rank == 1:
        raise ValueError("this picture cannot be read")
    Group.here().total(torch.ones(()))


def die_in_rank_1(folder):
    leave_pid(folder)
    Group.here().total(torch.ones(()))
    if Group.here().rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(FOREVER_S)


def main(module, work, *args):
    """``work(*args)`` in two processes of their own, or as one of those that torchrun has started."""
    torch.set_num_threads(1)
    with started_by_torchrun("cpu"):
        in_processes(2, "cpu", getattr(importlib.import_module(module), work), *args)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests were begun by
    main(*sys.argv[1:])
