"""What a step costs a device: how many operations, and how often the host waits for it."""

import collections

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from envs.autoreset import AutoresetEnv
from envs.vector import TaskEnv

pytest.importorskip("mujoco_warp", reason="needs the extra warp")

VIEWS = {
    "_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach", "diagonal", "expand", "permute", "select",
    "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unsqueeze", "view",
}  # fmt: skip
READS = {"_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "unique", "_linalg_check_errors"}
"""Operations after which the host needs something from the device."""
BRINGS = {"lift_fresh"}
"""Operations that make a tensor of the host's numbers. The state of the cpu engine lies there, and begins so."""
ENGINES = ("cpu", "warp")


class Operations(TorchDispatchMode):
    """Counts what is dispatched, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: collections.Counter[str] = collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))

    @property
    def launches(self) -> int:
        """Operations that compute something."""
        return sum(count for name, count in self.counts.items() if name not in VIEWS | BRINGS)

    def stalls(self, engine: str) -> set[str]:
        """What makes the host wait for the device, or the device for the host."""
        return set(self.counts) & (READS if engine == "cpu" else READS | BRINGS)


def started(task: str, engine: str, **settings) -> TaskEnv:
    env = TaskEnv(task, 3, engine=engine, render=False, **settings)
    env.reset([0, 1, 2])
    for _ in range(3):
        env.step(torch.zeros(3, 7))
    return env


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("task", ["reach", "place", "stack", "tabletop-long/store"])
def test_nothing_within_a_chunk_waits_for_the_device(task, engine):
    env, actions = started(task, engine, reward="dense"), torch.zeros(3, 4, 7)
    with Operations() as seen:
        env.step_chunk(actions)
    assert not seen.stalls(engine)
    env.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_host_reads_once_per_step_even_where_episodes_start_anew(engine, monkeypatch):
    reads = []
    real = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: reads.append(tensor.shape) or real(tensor))
    env = TaskEnv("reach", 3, engine=engine, render=False, max_episode_steps=2, language=False)
    learner = AutoresetEnv(env)
    learner.reset(0)
    for _ in range(4):
        reads.clear()
        with Operations() as seen:
            _, _, _, truncated, _ = learner.step(torch.zeros(3, 7))
        assert reads == [(5, 3)] + [(3,)] * bool(truncated.any())
        if truncated.any():  # an index of worlds, from a mask that is on the host, goes to the device
            assert seen.stalls(engine) <= {"nonzero"} | BRINGS
        else:
            assert not seen.stalls(engine)
    env.close()


LIMITS = {"reach": 160, "pick": 165, "place": 185, "stow": 200, "pushT": 195, "recall": 200, "tabletop-long/tidy": 275}


@pytest.mark.parametrize(("task", "limit"), LIMITS.items())
def test_a_step_takes_few_operations(task, limit):
    env = started(task, "cpu")
    with Operations() as seen:
        env.step(torch.zeros(3, 7))
    assert seen.launches <= limit
    env.close()


def test_starting_one_world_takes_few_operations():
    env = started("place", "cpu")
    with Operations() as seen:
        env.reset([0, 1, 2], torch.tensor([False, True, False]))
    assert seen.launches <= 120
    env.close()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_never_waited_for_but_once():
    env = TaskEnv("place", 64, engine="warp", device="cuda", render=False, language=False)
    learner = AutoresetEnv(env)
    learner.reset(0)
    actions = torch.zeros(64, 4, 7, device="cuda")
    learner.step_chunk(actions)
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError, match="synchronizing"):  # the report at the end of the chunk
            env.step_chunk(actions)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    env.close()
