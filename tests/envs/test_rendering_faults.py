"""What goes wrong with OpenGL is said, and nothing hangs."""

import subprocess
import sys
import threading

import pytest
import torch

from envs.backends.gl import RenderingUnavailableError
from envs.specs import image_key
from envs.vector import TaskEnv


def test_without_opengl_libraries_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco.egl", None)
    monkeypatch.setitem(sys.modules, "mujoco.osmesa", None)
    before = set(threading.enumerate())
    env = TaskEnv("reach", 2, image_size_px=(16, 16))
    with pytest.raises(RenderingUnavailableError, match=r"apt-get install libegl1 .*Tried egl: .*; osmesa: "):
        env.reset([0, 1])
    assert not {thread for thread in set(threading.enumerate()) - before if thread.name.startswith("render-")}


def test_without_pictures_no_opengl_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco.egl", None)
    monkeypatch.setitem(sys.modules, "mujoco.osmesa", None)
    env = TaskEnv("reach", 2, render=False)
    env.reset([0, 1])
    env.step(env.expert_action())
    env.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_render_thread_that_dies_is_reported_and_replaced():
    env = TaskEnv("reach", 2, image_size_px=(16, 16), threads=1)
    first = env.reset([0, 1])
    (thread,) = env.world._renderers
    thread._jobs.put("not a job")  # kills the thread's loop
    thread._thread.join(timeout=10)
    dying = thread.submit(lambda renderer: None)
    with pytest.raises(RuntimeError, match="'render-0' died while it was rendering; the next call starts another one"):
        thread.finish(dying)
    again = env.reset([0, 1])
    assert torch.equal(first[image_key("front")], again[image_key("front")])
    (replaced,) = env.world._renderers
    assert replaced is not thread and replaced.alive
    env.close()


def test_a_program_that_forgets_to_close_ends_quietly():
    program = "from envs.vector import TaskEnv; env = TaskEnv('reach', 2, image_size_px=(16, 16)); env.reset([0, 1])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_a_render_job_raises_reaches_the_caller():
    env = TaskEnv("reach", 1, image_size_px=(16, 16))
    env.reset([0])
    (thread,) = env.world._renderers

    def late(renderer):
        raise TimeoutError("the driver took too long")

    with pytest.raises(TimeoutError, match="the driver took too long"):
        thread.finish(thread.submit(late))
    assert thread.alive
    env.close()
