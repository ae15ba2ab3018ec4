"""What forking a process leaves of a simulation in its child.

Threads do not survive a fork, and torch does not notice: in a child, its first operation on a large tensor waits
forever for the threads that it had in the parent. So a forked child computes on one thread, which is also what several
of them want that share a machine. What else has threads or processes of its own refuses to be used there.
"""

import os

import torch


def check_not_inherited(what: str, owner_pid: int) -> None:
    """``RuntimeError``, with what to do instead, if ``what`` was made in another process than this one."""
    if os.getpid() != owner_pid:
        raise RuntimeError(
            f"{what} was made before the process forked, and what it runs on is not here; make environments in the "
            "process that uses them, started with 'spawn' or 'forkserver' (multiprocessing.get_context; in gymnasium "
            "AsyncVectorEnv(…, context='spawn'), for make_vec in vector_kwargs)"
        )


def _compute_alone() -> None:
    torch.set_num_threads(1)


os.register_at_fork(after_in_child=_compute_alone)
