"""In the child of a fork, what was inherited refuses, what is made anew works, and nothing waits forever."""

import subprocess
import sys

import pytest


def run(program):
    """Its lines; a child that hangs is killed with the program, by the time limit or by its own."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# The parent computes on all of torch's threads before it forks, or has not begun to.
ASYNC = """
import sys, gymnasium, torch, envs.gym
earlier, context = sys.argv[1:]
used = []
if earlier == "single":
    used.append(gymnasium.make("vla/Reach-v0"))
elif earlier == "vector":
    used.append(gymnasium.make_vec("vla/Reach-v0", 8, image_size_px=(128, 128)))
    torch.ones(2000, 2000).exp()
for env in used:
    env.reset(seed=0)
    env.step(env.action_space.sample())
workers = gymnasium.make_vec(
    "vla/Reach-v0", 2, vectorization_mode="async", vector_kwargs={"context": context}, image_size_px=(128, 128)
)
workers.reset_async(seed=0)
seen, _ = workers.reset_wait(timeout=120)
workers.step_async(workers.action_space.sample())
workers.step_wait(timeout=120)
print([int(seen["observation.images.front"][i].std()) > 1 for i in range(2)], list(map(str, seen["task"])))
workers.close()
for env in used:
    env.step(env.action_space.sample())
    env.close()
later = gymnasium.make("vla/Reach-v0", image_size_px=(128, 128))
print(later.reset(seed=1)[0]["task"])
later.close()
"""


@pytest.mark.parametrize(
    ("earlier", "context"),
    [
        pytest.param("nothing", "fork", marks=pytest.mark.slow),
        pytest.param("single", "fork", marks=pytest.mark.slow),
        ("vector", "fork"),
        pytest.param("vector", "spawn", marks=pytest.mark.slow),
    ],
)
def test_worlds_in_processes_work_before_and_after_others_of_this_process(earlier, context):
    program = ASYNC.replace("sys.argv[1:]", repr((earlier, context)))
    drawn, instruction = run(f"if __name__ == '__main__':\n    exec({program!r})")
    assert drawn == "[True, True] ['reach the blue cube', 'reach the yellow cube']"
    assert instruction == "reach the yellow cube"


FORK = """
import multiprocessing
import numpy as np
import torch
from envs.backends.render_pool import render_pool
from envs.vector import TaskEnv

def in_child(target):
    child = multiprocessing.get_context("fork").Process(target=target)
    child.start()
    child.join(120)
    print("ended with", child.exitcode, flush=True)
    child.kill()
"""

BIG = """
tensor = torch.ones(2000, 2000)
(tensor @ tensor).exp().clone()

def compute():
    env = TaskEnv("reach", 2, engine=ENGINE, render=False, device="cpu")
    env.reset([0, 1])
    env.step(env.expert_action())
    (tensor @ tensor).exp().clone()

in_child(compute)
print(torch.get_num_threads() == threads)
"""


@pytest.mark.parametrize("engine", ["cpu", pytest.param("warp", marks=pytest.mark.slow)])
def test_torch_computes_in_a_child_though_its_threads_stayed_behind(engine):
    program = FORK + "threads = torch.get_num_threads()\n" + BIG.replace("ENGINE", repr(engine))
    assert run(program)[-2:] == ["ended with 0", "True"]


POOL = """
env = TaskEnv("reach", 1, image_size_px=(32, 32))
front = env.reset([0])["observation.images.front"]
pool, canvas = render_pool(), env.world._painter._canvas
pids = pool.pids

def misuse():
    uses = (lambda: pool.draw(canvas, np.array([0]), 1, 5.0), lambda: pool.forget(canvas), pool.close)
    for use in uses:
        try:
            use()
        except RuntimeError as error:
            print(error, flush=True)

in_child(misuse)
again = env.step(env.expert_action()).observation["observation.images.front"]
print(pool.pids == pids, env.reset([0])["observation.images.front"].equal(front))
env.close()
"""


def test_an_inherited_pool_refuses_and_the_parents_goes_on():
    *refusals, ended, same = run(FORK + POOL)
    assert len(refusals) == 3 and (ended, same) == ("ended with 0", "True True")
    for refusal in refusals:
        assert refusal.startswith("this pool of render processes was made before the process forked")


LOADER = """
import torch
from torch.utils.data import DataLoader, IterableDataset
from envs.vector import TaskEnv

class Pictures(IterableDataset):
    def __init__(self, env):
        self.env = env

    def __iter__(self):
        env = self.env or TaskEnv("reach", 2, threads=2)
        seen = env.reset([0, 1])["observation.images.front"]
        yield from seen

torch.ones(2000, 2000).exp()
env = TaskEnv("reach", 2, threads=2)
expected = env.reset([0, 1])["observation.images.front"]
load = dict(batch_size=2, num_workers=2, multiprocessing_context="fork", timeout=120)
for batch in DataLoader(Pictures(None), **load):
    print(batch.equal(expected), flush=True)
try:
    next(iter(DataLoader(Pictures(env), **load)))
except RuntimeError as error:
    print(*str(error).split())
print(env.step(env.expert_action()).observation["observation.images.front"].shape == expected.shape)
env.close()
"""


def test_loaders_workers_make_worlds_of_their_own_and_are_told_so():
    *drawn, refusal, goes_on = run(LOADER)
    assert drawn == ["True", "True"] and goes_on == "True"
    assert "this environment was made before the process forked" in refusal
    assert "AsyncVectorEnv(…, context='spawn')" in refusal
