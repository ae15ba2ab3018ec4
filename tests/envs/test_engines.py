"""MuJoCo Warp against C MuJoCo: the same episodes, physics and pictures of every task."""

import re

import pytest
import torch
from vector_env_contract import SEEDS, VectorEnvContract

from envs.backends.capacity import Capacity
from envs.specs import STATE_KEY, TASK_KEY, depth_key, extrinsics_key, image_key, segmentation_key
from envs.tasks import TASKS
from envs.vector import TaskEnv
from envs.world import CapacityError

pytest.importorskip("mujoco_warp", reason="needs the extra warp")

ENGINES = ("cpu", "warp")


def both(task, num_envs, **settings):
    return [TaskEnv(task, num_envs, engine=engine, **{"render": False, **settings}) for engine in ENGINES]


def hovering_actions(steps, worlds):
    """Up, then anywhere in the air, the gripper opening and closing."""
    generator = torch.Generator().manual_seed(0)
    actions = torch.cat(
        (
            0.02 * torch.randn(steps, worlds, 3, generator=generator),
            0.05 * torch.randn(steps, worlds, 3, generator=generator),
            (torch.rand(steps, worlds, 1, generator=generator) > 0.5).float(),
        ),
        -1,
    )
    actions[:3, :, 2] = 0.04
    return actions


SHOWN = ("place", "drawer")
"""Things that lie free and something jointed: enough for every run; the others are slow tests."""


# The engine generates code for each combination of shapes that may touch, which takes most of the time.
each_task = pytest.mark.parametrize(
    "task", [name if name in SHOWN else pytest.param(name, marks=pytest.mark.slow) for name in sorted(TASKS)]
)


@each_task
def test_equal_starts_and_actions_stay_within_1e_5_over_200_steps(task):
    cpu, warp = both(task, 2, max_episode_steps=10**6)
    first = [env.reset([3, 4]) for env in (cpu, warp)]
    assert first[0][TASK_KEY] == first[1][TASK_KEY] and torch.equal(cpu.world.qpos, warp.world.qpos.cpu())
    for action in hovering_actions(200, 2):
        moved = [env.step(action) for env in (cpu, warp)]
        assert torch.allclose(cpu.world.qpos, warp.world.qpos.cpu(), atol=1e-5)
        assert torch.equal(moved[0].success, moved[1].success.cpu())
    cpu.close()
    warp.close()


@each_task
def test_both_engines_see_the_same(task):
    cpu, warp = both(task, 2, render=True, image_size_px=(64, 64), depth=True, segmentation=True)
    seen = [env.reset([3, 4]) for env in (cpu, warp)]
    for camera in cpu.embodiment.camera_names:
        depth, segmentation, rgb, pose = (
            [observation[key(camera)].cpu() for observation in seen]
            for key in (depth_key, segmentation_key, image_key, extrinsics_key)
        )
        assert (depth[0] - depth[1]).abs().median() < 1e-3
        assert (segmentation[0] == segmentation[1]).float().mean() > 0.985
        assert (rgb[0].float() - rgb[1].float()).abs().mean() < 12
        assert torch.allclose(pose[0], pose[1], atol=1e-5)
    cpu.close()
    warp.close()


@each_task
def test_experts_succeed_on_warp(task):
    env = TaskEnv(task, 20, engine="warp", render=False)
    env.reset(list(range(2000, 2020)))
    for _ in range(env.max_episode_steps):
        last = env.step(env.expert_action())
        if bool((last.terminated | last.truncated).all()):
            break
    assert int(last.success.sum()) >= 18
    env.close()


class TestWarp(VectorEnvContract):
    """The contract of vector environments on the other engine, with pictures."""

    neighbours_atol = 1e-5

    def make(self, num_envs, **settings):
        return TaskEnv("place", num_envs, engine="warp", image_size_px=(32, 32), depth=True, **settings)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_world_that_blows_up_ends_in_its_last_sound_state_and_no_other_is_touched(engine, caplog):
    broken, whole = (TaskEnv("tabletop-long/two-bins", 3, engine=engine, render=False) for _ in range(2))
    for env in (broken, whole):
        env.reset(SEEDS)
        while not bool(env.stages_done[1, 0]):
            before = env.step(env.expert_action())
    fling(broken, 1)
    sound = broken.world.qpos[1]
    action = whole.expert_action()
    after, expected = broken.step(action), whole.step(action)
    assert after.truncated.tolist() == [False, True, False] and not after.terminated.any() and after.ended == [1]
    (noted,) = broken.incidents
    steps = int(before.steps[1] + broken.snapshot().tensors["episodes.elapsed"][1]) - 1
    assert (noted.kind, noted.task, noted.seed, noted.step) == ("diverged", "tabletop-long/two-bins", SEEDS[1], steps)
    assert "diverged" in caplog.text and f"seed={SEEDS[1]}" in caplog.text
    others = [0, 2]
    assert torch.equal(broken.world.qpos[1], sound) and bool(after.observation[STATE_KEY].isfinite().all())
    assert torch.equal(broken.world.qpos[others], whole.world.qpos[others])
    assert torch.equal(after.reward[others], expected.reward[others])
    mask = torch.tensor([False, True, False])
    first = broken.reset([0, 77, 0], mask)
    assert not bool(broken.stages_done[1].any())
    fresh = TaskEnv("tabletop-long/two-bins", 1, engine=engine, render=False)
    assert torch.allclose(first[STATE_KEY][1], fresh.reset([77])[STATE_KEY][0], atol=1e-6)
    for env in (broken, whole, fresh):
        env.close()


def fling(env, world):
    """Send a thing of one world off at a speed that no solver survives."""
    worlds = torch.tensor([world], device=env.device)
    qvel = env.world.qvel[worlds]
    qvel[:, -6:] = 1e9
    env.world.put(worlds, env.world.qpos[worlds], env.world.command[worlds], qvel)


def test_a_crowded_world_is_cut_short_and_counted():
    """Too little room for what one of many worlds needs: its episode ends, the others go on."""
    roomy, tight = (TaskEnv("sort", 3, engine="warp", render=False, capacity=size) for size in (None, ROWS_FOR_FEW))
    for env in (roomy, tight):
        env.reset(SEEDS)
        pile_up(env, 1)
        moved = env.step(env.expert_action())
        assert moved.truncated.tolist() == [False, env is tight, False]
    (noted,) = tight.incidents
    assert (noted.kind, noted.seed) == ("crowded", SEEDS[1]) and not roomy.incidents
    for env in (roomy, tight):
        env.close()


ROWS_FOR_FEW = Capacity(contacts_per_world=200, rows_per_world=130)


def pile_up(env, world):
    """All cubes of one world in the same place."""
    worlds = torch.tensor([world], device=env.device)
    qpos = env.world.qpos[worlds]
    starts = [env.world.joint_address(f"block{i}") for i in range(4)]
    for i, start in enumerate(starts):
        qpos[:, start : start + 3] = torch.tensor([0.45, 0.0, 0.019 + 0.001 * i], device=env.device)
    env.world.put(worlds, qpos, env.world.command[worlds])


def test_a_capacity_that_is_too_small_for_all_is_refused_with_the_one_that_is_needed():
    tight = TaskEnv("sort", 2, engine="warp", render=False, capacity=Capacity(contacts_per_world=64, rows_per_world=8))
    tight.reset(SEEDS[:2])
    with pytest.raises(CapacityError, match="raise these with capacity=Capacity") as refused:
        tight.step(tight.expert_action())
    tight.close()
    contacts, rows = (int(number) for number in re.findall(r"per_world=(\d+)", str(refused.value))[:2])
    assert rows > 8
    enough = Capacity(contacts_per_world=contacts, rows_per_world=rows)
    env = TaskEnv("sort", 2, engine="warp", render=False, capacity=enough)
    env.reset(SEEDS[:2])
    env.step(env.expert_action())
    assert not env.incidents
    env.close()


def test_an_unknown_engine_is_refused():
    with pytest.raises(ValueError, match="unknown engine 'physx'; expected one of cpu, warp"):
        TaskEnv("pick", 1, engine="physx")
