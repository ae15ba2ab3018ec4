"""LIBERO's protocol, point by point: what needs no simulator, and what LIBERO itself says to the last bit."""

import math
import os
import signal
import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.environments import acts_in, expand_tasks, make_env
from configs.worlds import EnvConfig
from envs.simulators import libero
from envs.simulators.crew import Crew
from envs.simulators.crew_env import CrewEnv, observation_rows
from envs.simulators.libero import LIBERO_SUITES, find_libero_task, libero_embodiment, make_libero_env
from envs.simulators.libero_assets import assemble_assets, assembled, plain_png
from envs.simulators.worker.libero_world import camera_pose, episode_seed, intrinsics, to_libero
from envs.simulators.worker.rotations import rotation_vector_without_flip

HERE = Path(__file__).parent
installed = pytest.mark.skipif(
    not os.environ.get(libero.PYTHON_VARIABLE), reason=f"{libero.PYTHON_VARIABLE} names no Python with LIBERO"
)
STOVE = "libero-goal/7"


def test_the_suites_have_the_protocol_s_tasks_and_step_caps():
    caps = {name: (suite.count, suite.max_episode_steps) for name, suite in LIBERO_SUITES.items()}
    assert caps == {
        "libero-spatial": (10, 220),
        "libero-object": (10, 280),
        "libero-goal": (10, 300),
        "libero-10": (10, 520),
        "libero-90": (90, 400),
    }
    assert expand_tasks(["libero-goal", "reach"]) == (*(f"libero-goal/{i}" for i in range(10)), "reach")
    assert find_libero_task("libero-90/89").benchmark == "libero_90"
    with pytest.raises(ValueError, match="unknown task 'libero-10/10'; expected one of libero-10/0"):
        expand_tasks(["libero-10/10"])


def test_actions_keep_their_meaning_and_the_gripper_its_sign():
    low, high = (np.array(side) for side in (libero_embodiment().action_low, libero_embodiment().action_high))
    assert to_libero(high).tolist() == [1.0] * 7 and to_libero(low).tolist() == [-1.0] * 7
    assert to_libero(np.array([0.025, 0, 0, 0, 0, -0.25, 0.5])).tolist() == [0.5, 0, 0, 0, 0, -0.5, 0.0]
    assert "0 open … 1 closed" in libero_embodiment().action[-1].unit, "LIBERO's +1 closes, and so does our 1"


def test_rotation_vectors_are_not_flipped_to_the_nearer_half():
    for angle in (0.5, math.pi - 0.01, math.pi + 0.01, 6.0):
        quaternion = np.array([math.sin(angle / 2), 0, 0, math.cos(angle / 2)])
        assert np.allclose(rotation_vector_without_flip(quaternion), [angle, 0, 0])
        assert np.allclose(rotation_vector_without_flip(-quaternion), [angle - 2 * math.pi, 0, 0])
    assert np.array_equal(rotation_vector_without_flip(np.array([0, 0, 0, 1.0])), np.zeros(3))


def test_each_episode_has_random_numbers_of_its_own_and_the_first_those_of_the_protocol():
    assert episode_seed("evaluate", 0) == 7
    drawn = [episode_seed(stream, seed) for stream in ("evaluate", "learn", "demonstrate") for seed in range(200)]
    assert len(set(drawn)) == len(drawn)


def test_a_mirrored_picture_is_calibrated_as_one():
    point = np.array([0.3, 0.1, -2.0])  # right, above, and before a MuJoCo camera at the origin
    in_camera = np.linalg.inv(camera_pose(np.zeros(3), np.eye(3))) @ [*point, 1]
    u, v, depth = intrinsics(90.0, 256) @ in_camera[:3]
    assert depth == pytest.approx(2.0)
    assert (u / depth, v / depth) == (pytest.approx(128 - 128 * 0.15), pytest.approx(128 - 128 * 0.05))


def test_what_is_not_installed_is_said_before_anything_is_started(monkeypatch, tmp_path):
    monkeypatch.setenv(libero.PYTHON_VARIABLE, str(tmp_path / "bin" / "python"))
    with pytest.raises(ModuleNotFoundError, match=r"no Python environment at .*vla suite install libero --assets"):
        make_libero_env(STOVE, 1, stream="learn")


@pytest.mark.parametrize(
    ("settings", "odd"),
    [
        ({"robot": "ur5e"}, "env.robot ur5e"),
        ({"segmentation": True}, "env.segmentation True"),
        ({"perturbation": "colosseum-14:light"}, "env.perturbation"),
    ],
)
def test_settings_that_libero_has_not_are_refused(settings, odd):
    with pytest.raises(ValueError, match=f"leave out {odd}"):
        make_env(STOVE, 1, stream="learn", config=EnvConfig(**settings))
    with pytest.raises(ValueError, match="workers is for suites that workers play, and reach is of none"):
        make_env("reach", 1, stream="learn", config=EnvConfig(workers=2))
    with pytest.raises(ValueError, match="another project's"):
        acts_in("colosseum-14:light", STOVE)


def test_assets_are_put_together_and_what_is_missing_is_named(tmp_path):
    source, textures = tmp_path / "source", tmp_path / "robosuite"
    for folder in ("scenes", "textures", "articulated_objects", "turbosquid_objects/mug"):
        (source / folder).mkdir(parents=True)
    textures.mkdir()
    (textures / "light-gray-plaster.png").write_bytes(plain_png(1))
    (source / "scenes" / "table.xml").write_text(
        '<a file="../textures/wood.png"/><!-- file="old.png" --><b file="m.stl"/>'
    )
    (source / "turbosquid_objects/mug/mug.xml").write_text('<a file="visual/mug.png"/>')
    (source / "turbosquid_objects/mug/left_over.xml").write_text('<a file="nowhere.png"/>')
    found = assemble_assets(source, textures, tmp_path / "target", stand_ins=False)
    assert {"textures/wood.png", "scenes/m.stl", "turbosquid_objects/mug/visual/mug.png"} <= set(found.missing)
    assert "textures/light-gray-plaster.png" not in found.missing and not found.stand_ins
    assert not any("old" in name or "nowhere" in name for name in found.missing)
    assemble_assets(source, textures, tmp_path / "target", stand_ins=True)
    again = assembled(tmp_path / "target")
    assert again.missing == ("scenes/m.stl",) and "turbosquid_objects/mug/visual/mug.png" in again.stand_ins
    with pytest.raises(ValueError, match=r"expected a folder of LIBERO's assets.*has no scenes"):
        assemble_assets(tmp_path, textures, tmp_path / "other", stand_ins=False)


def by_libero(tmp_path, task, state, steps):
    """What LIBERO's own environment shows at the end of some random actions, and these actions in our units."""
    folder, found, out = libero.check_libero(), find_libero_task(task), tmp_path / "libero.npz"
    simulator = libero.libero_simulator(folder, 60.0)
    command = [found.benchmark, str(found.index), str(state), "7", str(steps), str(out)]
    subprocess.run(
        [str(simulator.python), "-I", str(HERE / "libero_protocol.py"), *command],
        env={**os.environ, **simulator.variables},
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    theirs = dict(np.load(out))
    actions = theirs["actions"]
    ours = np.concatenate([actions[:, :3] * 0.05, actions[:, 3:6] * 0.5, (actions[:, 6:] + 1) / 2], 1)
    return theirs, ours


@pytest.mark.slow
@installed
def test_an_episode_is_libero_s_own_to_the_last_bit(tmp_path):
    theirs, actions = by_libero(tmp_path, STOVE, state=0, steps=6)
    with closing(make_libero_env(STOVE, 1, stream="evaluate", depth=True)) as env:
        first = env.reset([0])
        env.reset([3])  # the scene has been played in: nothing of that may be left
        env.crew.step({0: np.full((2, 7), 0.02)})
        again = env.reset([50])  # seed modulo 50 initial states, with other fixtures
        assert env.crew.about[0]["init_states"] == 50
        assert torch.equal(again["observation.state"], first["observation.state"])
        env.reset([0])
        env.crew.step({0: actions})
        seen = {name: value[0].copy() for name, value in env.crew.observation.items()}
    assert str(theirs["language"]) == again["task"][0] == "turn on the stove"
    expected = [theirs["robot0_eef_pos"], rotation_vector_without_flip(theirs["robot0_eef_quat"])]
    expected = np.concatenate([*expected, theirs["robot0_gripper_qpos"]]).astype(np.float32)
    assert np.array_equal(seen["observation.state"], expected)
    for name, called in (("agentview", "agentview"), ("wrist", "robot0_eye_in_hand")):
        half_a_turn = np.rot90(theirs[f"{called}_image"], 2)
        assert half_a_turn.shape == (256, 256, 3)
        assert np.array_equal(seen[f"observation.images.{name}"], half_a_turn)
    near_m, far_m = theirs["near_far_m"]
    buffer = np.rot90(theirs["agentview_depth"][..., 0], 2).astype(np.float64)
    metres = far_m * near_m / (far_m - buffer * (far_m - near_m))
    assert np.allclose(seen["observation.depth.agentview"][buffer < 1], metres[buffer < 1], rtol=1e-5)


@pytest.mark.slow
@installed
def test_both_cameras_see_one_and_the_same_scene_where_calibration_says():
    with closing(make_libero_env(STOVE, 1, stream="evaluate", depth=True)) as env:
        seen = {name: value[0] for name, value in env.reset([0]).items()}
    points = in_world(seen, "wrist")
    K, T_world_cam = (seen[f"observation.cameras.agentview.{name}"].double().numpy() for name in FRAMES)
    in_camera = (points - T_world_cam[:3, 3]) @ T_world_cam[:3, :3]
    pixel = np.floor((in_camera @ K.T)[:, :2] / in_camera[:, 2:]).astype(int)
    inside = ((pixel >= 0) & (pixel < 256)).all(1)
    depth = seen["observation.depth.agentview"].numpy()[tuple(pixel[inside].T[::-1])]
    agree = np.abs(depth - in_camera[inside, 2]) < 0.01
    assert inside.mean() > 0.5 and agree.mean() > 0.8, (inside.mean(), agree.mean())


FRAMES = ("intrinsics", "T_world_cam")


def in_world(seen, camera):
    """The points that a camera sees, ``(p, 3)``, in the world."""
    depth = seen[f"observation.depth.{camera}"].double().numpy()
    K, T_world_cam = (seen[f"observation.cameras.{camera}.{name}"].double().numpy() for name in FRAMES)
    v, u = np.mgrid[0:256, 0:256] + 0.5
    rays = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3) @ np.linalg.inv(K).T
    near = (depth > 0.02) & (depth < 1.5)
    points = (rays * depth.reshape(-1, 1))[near.reshape(-1)]
    return points @ T_world_cam[:3, :3].T + T_world_cam[:3, 3]


@pytest.mark.slow
@installed
def test_success_is_libero_s_own_and_ends_the_episode_and_other_streams_are_other_episodes():
    found, embodiment = find_libero_task(STOVE), libero_embodiment(64)
    simulator = libero.libero_simulator(libero.check_libero(), 120.0)
    settings = {"benchmark": found.benchmark, "index": found.index, "image_size_px": 64}
    crew = Crew(
        STOVE,
        replace(simulator, file=HERE / "libero_that_solves.py"),
        [settings] * 2,
        observation_rows(embodiment, calibrated=True),
    )
    env = CrewEnv(crew, embodiment, max_episode_steps=5, stream="learn", capabilities=frozenset())
    with closing(env):
        first = env.reset([1, 2])
        pictures = first["observation.images.agentview"]
        assert not torch.equal(pictures[0], pictures[1]) and torch.equal(
            env.reset([1, 1])["observation.state"][0], first["observation.state"][0]
        )
        crew.reset("evaluate", {0: 1, 1: 2})
        assert not np.array_equal(crew.observation["observation.images.agentview"][0], pictures[0].numpy())
        env.reset([1, 2])
        actions = torch.zeros(2, 4, 7)
        actions[1, 2:, 6] = 1.0
        moved = env.step_chunk(actions)
        assert moved.success.tolist() == [False, True] and moved.reward.tolist() == [0.0, 1.0]
        assert moved.ended == [1] and moved.terminated.tolist() == [False, True] and moved.steps.tolist() == [4, 3]
        last = env.step_chunk(actions[:, :2])
        assert last.truncated.tolist() == [True, False] and last.ended == [0] and last.steps.tolist() == [1, 0]


@pytest.mark.slow
@installed
def test_a_worker_that_is_killed_in_mid_episode_changes_nothing():
    actions = torch.rand(2, 8, 7, generator=torch.Generator().manual_seed(0)) * 0.05
    seen = []
    for killed in (False, True):
        with closing(make_libero_env(STOVE, 2, stream="evaluate", image_size_px=64, workers=2)) as env:
            env.reset([4, 5])
            env.step_chunk(actions[:, :4])
            if killed:
                os.kill(env.crew.pids[1], signal.SIGKILL)
            seen.append(env.step_chunk(actions[:, 4:]).observation)
    assert all(torch.equal(seen[0][name], seen[1][name]) for name in seen[0] if name != "task")
