"""ManiSkill through workers: what needs no simulator, and what its own code says where it is installed."""

import math
import os
import signal
from contextlib import closing

import mujoco
import numpy as np
import pytest
import torch

from configs.commands.suite import Config
from configs.environments import expand_tasks, make_env
from configs.wording import sentences
from configs.worlds import EnvConfig
from envs.simulators import maniskill
from envs.simulators.maniskill import TASKS, make_maniskill_env, maniskill_embodiment, robots
from envs.simulators.worker.maniskill_expert import Plan, Progress, advance
from envs.simulators.worker.maniskill_world import episode_seed
from envs.simulators.worker.rotations import (
    euler_xyz_of,
    matrix_of_quaternion,
    rotation_matrix_of,
    rotation_vector_of,
)
from envs.specs import STREAMS, depth_key, extrinsics_key, image_key, intrinsics_key, segmentation_key

installed = pytest.mark.skipif(
    not os.environ.get(maniskill.PYTHON_VARIABLE), reason=f"{maniskill.PYTHON_VARIABLE} names no Python with ManiSkill"
)
PUSH, PICK, STACK = "maniskill/PushCube", "maniskill/PickCube", "maniskill/StackCube"


def test_the_suite_has_the_44_tasks_that_need_no_download_each_with_a_robot_that_is_known():
    assert len(expand_tasks(["maniskill"])) == len(TASKS) == 44
    assert {task.robot for task in TASKS} == set(robots())
    with pytest.raises(ValueError, match="unknown task 'maniskill/PickCub'; expected one of maniskill/PickCube"):
        expand_tasks(["maniskill/PickCub"])
    said = [set(sentences(task.name, [split])) for task in TASKS for split in ("train", "held_out")]
    assert all(len(each) >= 2 for each in said) and len(set.union(*said)) == sum(map(len, said))


def test_actions_have_units_and_the_gripper_its_sign():
    panda = maniskill_embodiment("panda", depth=True)
    assert panda.action_high == (0.1,) * 6 + (1.0,) and panda.action[-1].unit == "0 open … 1 closed"
    assert [dimension.frame for dimension in panda.action[:6]] == ["base"] * 6
    assert maniskill_embodiment("cart_pole").action[0].unit == "m"


def test_episodes_of_two_streams_never_meet_and_those_evaluated_have_maniskill_s_own_seeds():
    assert [episode_seed("evaluate", seed) for seed in (0, 7)] == [0, 7]
    seeds = {episode_seed(stream, seed) for stream in STREAMS for seed in (0, 1, 2**30 - 1)}
    assert len(seeds) == 9 and max(seeds) < 2**32


def test_rotations_are_mujoco_s():
    generator = np.random.default_rng(0)
    for _ in range(20):
        quaternion, matrix, back = generator.normal(size=4), np.zeros(9), np.zeros(4)
        mujoco.mju_quat2Mat(matrix, quaternion / np.linalg.norm(quaternion))
        ours = matrix_of_quaternion(quaternion)
        assert np.allclose(ours.flatten(), matrix)
        vector = rotation_vector_of(ours)
        assert np.allclose(rotation_matrix_of(vector), ours) and np.linalg.norm(vector) <= math.pi
        a, b, c = euler_xyz_of(ours)
        mujoco.mju_euler2Quat(back, np.array([a, b, c]), "xyz")
        assert np.allclose(matrix_of_quaternion(back), ours)
    assert np.allclose(rotation_vector_of(np.diag([1.0, -1.0, -1.0])), [math.pi, 0, 0])


def test_a_plan_is_followed_ahead_of_the_tool_and_waits_for_it_before_the_gripper_moves():
    line = np.stack([np.zeros(9), np.zeros(9), np.linspace(0.16, 0, 9)], 1)
    plan = Plan(np.concatenate([line, line[-1:]]), np.stack([np.eye(3)] * 10), np.array([0.0] * 9 + [1.0]))
    progress = Progress()
    advance(plan, progress, line[0], np.eye(3))
    assert progress.at == 1, "the next waypoint is 2 cm ahead, the one after it 4 cm"
    for tool in (*line[1:], line[8]):
        advance(plan, progress, tool + np.array([0, 0, 0.012]), np.eye(3))
    assert progress.at == 8 and progress.waited > 0, "1.2 cm above where the gripper is to close"
    advance(plan, progress, line[8] + np.array([0, 0, 0.004]), np.eye(3))
    assert progress.at == 9 and plan.gripper[progress.at] == 1.0


def test_what_is_not_installed_is_said_before_anything_is_started(monkeypatch, tmp_path):
    monkeypatch.setenv(maniskill.PYTHON_VARIABLE, str(tmp_path / "bin" / "python"))
    with pytest.raises(ModuleNotFoundError, match=r"no Python environment at .*; vla suite install maniskill"):
        make_maniskill_env(PUSH, 1, stream="learn")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    wheel = tmp_path / "lib" / "python3.11" / "site-packages" / "mani_skill-3.0.1.dist-info"
    wheel.mkdir(parents=True)
    (wheel / "METADATA").write_text("Metadata-Version: 2.1\nName: mani_skill\nVersion: 3.0.1\n")
    with pytest.raises(ModuleNotFoundError, match="no Vulkan driver that ManiSkill's renderer can use"):
        make_maniskill_env(PUSH, 1, stream="learn")


def test_settings_that_maniskill_has_not_are_refused():
    with pytest.raises(ValueError, match=r"leave out env\.robot ur5e.*it heeds env\.image_size_px.*env\.segmentation"):
        make_env(PUSH, 1, stream="learn", config=EnvConfig(robot="ur5e", segmentation=True))
    with pytest.raises(ValueError, match="suite install maniskill has no stand_ins; it has folder, python"):
        Config(action="install", suite="maniskill", stand_ins=True)


@pytest.mark.slow
@installed
def test_an_episode_is_its_seed_s_own_whatever_was_played_before_and_can_be_photographed():
    actions = torch.rand(2, 12, 7, generator=torch.Generator().manual_seed(1)) * 0.1 - torch.tensor([0.05] * 6 + [0.0])
    with closing(make_maniskill_env(PICK, 2, stream="learn", image_size_px=32, workers=1)) as env:
        env.reset([5, 6])
        whole = env.step_chunk(actions).observation
        env.reset([6, 5])
        first = env.step_chunk(actions[:, :7].flip(0))
        photograph = env.snapshot().take([1, 0])
        assert first.steps.tolist() == [7, 7]
        env.restore(photograph)
        again = env.step_chunk(actions[:, 7:]).observation
    assert all(torch.equal(whole[name], again[name]) for name in whole if name != "task")
    assert whole["task"] == again["task"]


@pytest.mark.slow
@installed
def test_motion_planning_solves_what_it_demonstrates():
    with closing(make_maniskill_env(PUSH, 2, stream="demonstrate", render=False)) as env:
        env.reset([0, 1])
        for _ in range(env.max_episode_steps):
            last = env.step(env.expert_action())
            if bool((last.terminated | last.truncated).all()):
                break
        assert bool(last.success.all()) and bool(last.terminated.all())


@pytest.mark.slow
@installed
@pytest.mark.parametrize(("task", "cameras"), [(PICK, ["base"]), (STACK, ["base", "wrist"])])
def test_pictures_are_upright_and_calibrated(task, cameras):
    """Where the tool is, is seen in depth by the camera at the table, and moves as the picture does."""
    settings = {"depth": True, "segmentation": True, "image_size_px": 128}
    with closing(make_maniskill_env(task, 1, stream="evaluate", **settings)) as env:
        shown = env.reset([0])
        down = torch.zeros(1, 6, 7)
        down[..., 2] = -0.02
        moved = env.step_chunk(down).observation
        assert moved["observation.state"][0, 2] < shown["observation.state"][0, 2] - 0.04
        assert [camera.name for camera in env.embodiment.cameras] == cameras
        for observation in (shown, moved):
            fingers = fingertips(observation)
            T_world_cam = observation[extrinsics_key("base")][0].double().numpy()
            for fingertip in fingers:
                in_camera = np.linalg.inv(T_world_cam) @ [*fingertip, 1]
                column, row, _ = (observation[intrinsics_key("base")][0].numpy() @ in_camera[:3] / in_camera[2]).astype(
                    int
                )
                depth = observation[depth_key("base")][0, row - 2 : row + 3, column - 2 : column + 3]
                assert float((depth - in_camera[2]).abs().min()) < 0.02
        for camera in cameras:
            assert shown[image_key(camera)].float().std() > 10
            assert len(shown[segmentation_key(camera)].unique()) > 2


def fingertips(observation):
    """Where both fingertips are (m, world): the fingers open along the tool's y axis."""
    state = observation["observation.state"][0].double().numpy()
    opening = 0.04 * (1 - state[9])
    return [state[:3] + side * opening * state[6:9] for side in (-1, 1)]


@pytest.mark.slow
@installed
def test_an_action_turns_the_tool_as_it_says():
    """In the sense that it says; ManiSkill adds it to where the tool is, so that a part of it is done in a step."""
    with closing(make_maniskill_env(PICK, 1, stream="evaluate", render=False)) as env:
        before = env.reset([0])["observation.state"][0].double().numpy()
        turns = torch.zeros(1, 8, 7)
        turns[..., 5] = 0.05
        after = env.step_chunk(turns).observation["observation.state"][0].double().numpy()
    angle = np.arctan2(np.cross(before[3:5], after[3:5]), before[3:5] @ after[3:5])
    assert 0.1 < angle < 0.4, f"eight steps of 0.05 rad about the upright axis turned it by {angle:.2f} rad"


@pytest.mark.slow
@installed
def test_a_worker_that_is_killed_in_mid_episode_changes_nothing():
    seen = []
    for killed in (False, True):
        with closing(make_maniskill_env(PICK, 2, stream="evaluate", image_size_px=32, workers=2)) as env:
            env.reset([4, 5])
            for step in range(6):
                action = env.expert_action()
                if killed and step == 3:
                    os.kill(env.crew.pids[1], signal.SIGKILL)
                moved = env.step(action)
            seen.append((moved.observation, env.expert_action()))
    assert torch.equal(seen[0][1], seen[1][1])
    assert all(torch.equal(seen[0][0][name], seen[1][0][name]) for name in seen[0][0] if name != "task")
