"""What goes wrong with OpenGL is said, costs its frame at most, and nothing hangs or stays behind."""

import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

import mujoco
import pytest
import torch

from envs.backends import render_pool as pool_module
from envs.backends.cpu import CpuWorld
from envs.backends.gl import RenderingUnavailableError
from envs.backends.render_pool import RenderPool, RenderWorkerError
from envs.specs import image_key
from envs.vector import TaskEnv
from envs.world import QUALITY, RenderConfig

WORLDS = 6
EVERY = torch.ones(WORLDS, dtype=torch.bool)


@pytest.fixture
def pool(monkeypatch):
    """A pool of this test's own."""
    pool = RenderPool()
    monkeypatch.setattr(pool_module, "_pool", pool)
    yield pool
    pids = pool.pids
    pool.close()
    assert not any(alive(pid) for pid in pids)


@pytest.fixture
def world(pool):
    """Worlds that take a while to draw, on two processes, which have drawn already."""
    env = TaskEnv("place", WORLDS, render=False)
    env.reset(list(range(WORLDS)))
    render = RenderConfig(cameras=("panda/wrist", "front"), height_px=64, width_px=64, profile=QUALITY)
    world = CpuWorld(env.world.model, WORLDS, render, threads=2, render_limit_s=3)
    world.put(torch.arange(WORLDS), env.world.qpos, env.world.command)
    world.render(EVERY)
    yield world
    world.close()
    env.close()


def alive(pid):
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)


@contextmanager
def hit_in_mid_frame(world, pid, number):
    """Send signal ``number`` to the process that draws the first share, once the first world of it is done."""
    progress = world._painter._canvas.progress
    progress[:] = 0

    def hit():
        until(lambda: progress[0])
        os.kill(pid, number)

    thread = threading.Thread(target=hit)
    thread.start()
    yield
    thread.join()


@pytest.mark.parametrize(
    "fault",
    [signal.SIGKILL, *(pytest.param(fault, marks=pytest.mark.slow) for fault in (signal.SIGSEGV, signal.SIGSTOP))],
)
def test_a_process_lost_in_mid_frame_is_replaced_and_the_frame_is_right(pool, world, fault, caplog):
    expected = {name: seen.rgb for name, seen in world.render(EVERY).items()}
    pids = pool.pids
    first = pool._idle[-1].process.pid  # it is lent first, and draws the first share
    with hit_in_mid_frame(world, first, fault), caplog.at_level(logging.WARNING):
        images = world.render(EVERY)
    for name, seen in images.items():
        assert torch.equal(seen.rgb, expected[name])
    why = "drew nothing for 3 s" if fault == signal.SIGSTOP else f"died of {fault.name}"
    assert [record.message for record in caplog.records] == [f"render process {first} {why}; another one draws again"]
    assert not alive(first)
    assert len(pool.pids) == 2 and set(pids) - {first} < set(pool.pids)


def test_a_process_lost_between_frames_is_replaced(pool, world):
    expected = world.render(EVERY)["front"].rgb
    for pid in pool.pids:
        os.kill(pid, signal.SIGKILL)
    assert torch.equal(world.render(EVERY)["front"].rgb, expected)


def test_processes_that_keep_failing_are_an_error_in_the_end(pool, monkeypatch):
    monkeypatch.setattr(pool_module, "_PROGRAM", "raise SystemExit(3)")
    env = TaskEnv("reach", 1)
    with pytest.raises(RenderWorkerError, match=r"3 render processes in a row .* the last one ended with status 3"):
        env.reset([0])
    monkeypatch.undo()
    env.reset([0])
    env.close()


def test_a_drawing_that_is_broken_off_does_not_spoil_the_next(pool, world):
    expected = world.render(EVERY)["front"].rgb
    stopped = pool.pids
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    with pytest.raises(KeyboardInterrupt):
        world.render(EVERY)
    signal.signal(signal.SIGALRM, before)
    assert not any(alive(pid) for pid in stopped)
    assert torch.equal(world.render(EVERY)["front"].rgb, expected)


def test_closing_environments_does_not_wait_for_a_process_that_hangs(pool, world):
    others = [CpuWorld(world.model, 1, RenderConfig(cameras=("front",), height_px=8, width_px=8)) for _ in range(3)]
    for other in others:
        other.render(EVERY[:1])  # now the processes know it
    for pid in pool.pids:
        os.kill(pid, signal.SIGSTOP)
    for other in others:
        other.close()
    world.close()


HIDDEN = """
import ctypes

class Hidden(ctypes.CDLL):
    def __init__(self, name, *args, **kwargs):
        if any(library in str(name) for library in {libraries}):
            raise OSError(f"{{name}}: cannot open shared object file")
        super().__init__(name, *args, **kwargs)

ctypes.CDLL, ctypes.cdll = Hidden, ctypes.LibraryLoader(Hidden)
"""


def hide(monkeypatch, folder, *libraries):
    """Processes started from now on find none of the libraries."""
    (folder / "sitecustomize.py").write_text(HIDDEN.format(libraries=libraries))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *sys.path]))


def test_without_opengl_libraries_the_message_says_what_to_install(pool, monkeypatch, tmp_path):
    hide(monkeypatch, tmp_path, "EGL", "OSMesa")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    env = TaskEnv("reach", 2, image_size_px=(16, 16))
    with pytest.raises(RenderingUnavailableError, match=r"libraries for egl are missing .* apt-get install -y libegl1"):
        env.reset([0, 1])
    env.close()


@pytest.mark.parametrize("device", ["99", "first"])
def test_where_the_libraries_are_there_the_variable_is_named_and_nothing_to_install(pool, monkeypatch, capfd, device):
    monkeypatch.setenv("MUJOCO_EGL_DEVICE_ID", device)
    monkeypatch.setenv("MUJOCO_GL", "egl")
    env = TaskEnv("reach", 1, image_size_px=(16, 16))
    with pytest.raises(RenderingUnavailableError, match=rf"set here: MUJOCO_EGL_DEVICE_ID={device}\)$") as raised:
        env.reset([0])
    env.close()
    assert "apt-get" not in str(raised.value) and "osmesa" not in str(raised.value)
    pool.close()
    assert capfd.readouterr().err == ""


IMPORTERS = (
    "import envs.gym",
    pytest.param("import envs.suites", marks=pytest.mark.slow),
    "import envs.backends.render_worker",
    "import envs.world",
)
UNFIT = {"osmesa": r"asks for a library that is missing \(libOSMesa", "nonsense": "expected egl or"}


@pytest.mark.parametrize("program", IMPORTERS)
def test_mujoco_is_not_imported_where_it_cannot_obey_the_environment(monkeypatch, tmp_path, program):
    hide(monkeypatch, tmp_path, "OSMesa")
    values = ["osmesa"] if program == "import envs.gym" else UNFIT  # which takes seconds, as it imports torch first
    for value in values:
        monkeypatch.setenv("MUJOCO_GL", value)
        done = run(program)
        assert done.returncode == 1
        assert re.search(rf"RenderingUnavailableError: MUJOCO_GL={value}.*{UNFIT[value]}", done.stderr.splitlines()[-1])


def test_what_needs_no_mujoco_does_not_mind_the_variable(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    assert run("import envs.specs, policies.serving.client, policies.data.dataset").returncode == 0


def test_a_variable_set_after_mujoco_was_imported_is_named_before_a_process_fails(pool, monkeypatch):
    env = TaskEnv("reach", 1, image_size_px=(16, 16))
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    with pytest.raises(RenderingUnavailableError, match=r"^MUJOCO_GL=nonsense: expected egl or osmesa"):
        env.reset([0])
    monkeypatch.undo()
    env.close()


def test_without_pictures_no_process_is_started(pool):
    env = TaskEnv("reach", 2, render=False)
    env.reset([0, 1])
    env.step(env.expert_action())
    env.close()
    assert pool.pids == []


def test_processes_that_draw_do_without_torch():
    program = "import sys, envs.backends.render_worker; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def run(program, **options):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, **options)


def test_a_program_that_forgets_to_close_ends_quietly():
    program = "from envs.vector import TaskEnv; env = TaskEnv('reach', 2, image_size_px=(16, 16)); env.reset([0, 1])"
    done = run(program)
    assert (done.returncode, done.stderr) == (0, "")


FORKS = """
import multiprocessing
import torch
from envs.vector import TaskEnv
env = TaskEnv("stack", 4, threads=2)
expected = env.reset([0, 1, 2, 3])["observation.images.front"]
action, mask = env.expert_action(), torch.ones(4, dtype=torch.bool)

def inherited():
    uses = (lambda: env.reset([0] * 4), lambda: env.step(action), env.expert_action, lambda: env.world.render(mask))
    for use in uses:
        try:
            use()
        except RuntimeError as error:
            print(error, flush=True)

def new():
    again = TaskEnv("stack", 4, threads=2).reset([0, 1, 2, 3])["observation.images.front"]
    print((again == expected).all().item(), flush=True)

for target in (inherited, new):
    child = multiprocessing.get_context("fork").Process(target=target)
    child.start()
    child.join()
    print(child.exitcode, flush=True)
env.step(env.expert_action())
env.close()
"""


def test_after_a_fork_an_inherited_environment_says_so_and_a_new_one_draws():
    done = run(FORKS)
    *refusals, ended, same, ended_too = done.stdout.splitlines()
    assert len(refusals) == 4
    for refusal in refusals:
        assert re.match(r"this environment was made before the process forked.*'spawn' or 'forkserver'", refusal)
    assert (ended, same, ended_too) == ("0", "True", "0")
    assert (done.returncode, done.stderr) == (0, "")


DRAWS_FOREVER = """
import sys
from envs.backends.render_pool import render_pool
from envs.vector import TaskEnv
from envs.world import QUALITY
env = TaskEnv("stack", 64, threads=2, profile=QUALITY, image_size_px=(128, 128))
env.reset(list(range(64)))
print(*render_pool().pids, flush=True)
while True:
    env.step(env.expert_action())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_program_that_is_killed_leaves_no_process_behind(number):
    with subprocess.Popen([sys.executable, "-c", DRAWS_FOREVER], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        pids = [int(pid) for pid in program.stdout.readline().split()]
        assert len(pids) == 2 and all(alive(pid) for pid in pids)
        time.sleep(0.3)
        program.send_signal(number)
    until(lambda: not any(alive(pid) for pid in pids))


MANY = """
import json, os, sys
from configs.worlds import find_perturbation
from envs.backends.render_pool import render_pool
from envs.vector import TaskEnv

def memory(pid):
    with open(f"/proc/{pid}/maps") as maps:
        return sum("memfd:canvas" in line for line in maps)

def state():
    pids = render_pool().pids
    children = open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split()
    return {
        "children": len(children),
        "workers": len(pids),
        "descriptors": [len(os.listdir(f"/proc/{pid}/fd")) for pid in (os.getpid(), *pids)],
        "blocks": [memory(pid) for pid in (os.getpid(), *pids)],
    }

def open_one(i):
    names = ("reach", "pick", "place", "stack", "drawer")
    axis = find_perturbation("colosseum-14:all")
    return TaskEnv(names[i % 5], 2, threads=2, depth=True, segmentation=True, perturbation=axis)

first = open_one(0)
first.reset([0, 1])
states = [state()]
pids = render_pool().pids
envs = [open_one(i) for i in range(200)]
for round in range(5):
    for i, env in enumerate(envs):
        if round == 0:
            env.reset([i, i + 1])
        else:
            env.step(env.expert_action())
for env in envs:
    env.close()
first.step(first.expert_action())
states.append(state())
print(json.dumps({"states": states, "same": render_pool().pids == pids}))
"""


@pytest.mark.slow
def test_two_hundred_environments_under_load_cost_no_process_and_leak_nothing():
    load = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        done = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, timeout=1200)
    finally:
        load.kill()
        load.wait()
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    before, after = found["states"]
    assert found["same"] and before == after
    assert (after["children"], after["workers"], after["blocks"]) == (2, 2, [1, 1, 1])


@pytest.mark.slow
def test_drawing_survives_processes_killed_again_and_again(pool, world):
    expected = world.render(EVERY)["front"].rgb
    delays = random.Random(0)

    def kill(pid):
        with suppress(ProcessLookupError):  # killed between two frames, and replaced before this one
            os.kill(pid, signal.SIGKILL)

    for i in range(25):
        hunter = threading.Timer(delays.uniform(0, 1), kill, (pool.pids[i % 2],))
        hunter.start()
        assert torch.equal(world.render(EVERY)["front"].rgb, expected)
        hunter.join()
    assert len(pool.pids) == 2


def test_what_a_driver_raises_reaches_the_caller_and_the_process_lives(pool):
    scene = "<mujoco><worldbody><camera name='front'/><geom size='1'/></worldbody></mujoco>"
    model = mujoco.MjModel.from_xml_string(scene)
    too_large = CpuWorld(model, 1, RenderConfig(cameras=("front",), height_px=8, width_px=100_000))
    with pytest.raises(mujoco.FatalError):
        too_large.render(torch.ones(1, dtype=torch.bool))
    pids = pool.pids
    env = TaskEnv("reach", 1, image_size_px=(16, 16))
    assert env.reset([0])[image_key("front")].float().std() > 1
    assert pool.pids == pids
    env.close()
