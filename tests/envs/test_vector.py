"""The vector environment: what ``envs.specs.VectorEnv`` promises, on the real simulator."""

import pytest
import torch

from envs.scenes.tabletop import CUBE_COLOURS, CUBE_HALF_M
from envs.specs import STATE_KEY, TASK_KEY, depth_key, extrinsics_key, image_key, intrinsics_key
from envs.tasks import TASKS
from envs.tasks.base import pick
from envs.vector import TaskEnv

SEEDS = [11, 12, 13]


@pytest.fixture(params=sorted(TASKS))
def env(request):
    env = TaskEnv(request.param, 3, image_size_px=(32, 32), depth=True)
    yield env
    env.close()


def _equal(a, b):
    return all(a[key] == b[key] if key == TASK_KEY else torch.equal(a[key], b[key]) for key in a)


def _expert_chunk(env, horizon):
    """Expert actions of the next steps, found by playing them on a twin."""
    twin = TaskEnv(env.task_name, env.num_envs, render=False)
    twin.reset(SEEDS)
    actions = []
    for _ in range(horizon):
        actions.append(twin.expert_action())
        twin.step(actions[-1])
    twin.close()
    return torch.stack(actions, 1)


def test_observations_have_the_promised_shapes(env):
    observation = env.reset(SEEDS)
    assert observation[STATE_KEY].shape == (3, env.embodiment.state_dim)
    assert len(observation[TASK_KEY]) == 3 and all(observation[TASK_KEY])
    for camera in env.embodiment.cameras:
        assert observation[image_key(camera.name)].shape == (3, 32, 32, 3)
        assert observation[image_key(camera.name)].dtype == torch.uint8
        assert observation[depth_key(camera.name)].shape == (3, 32, 32)
        assert observation[intrinsics_key(camera.name)].shape == (3, 3, 3)
        assert observation[extrinsics_key(camera.name)].shape == (3, 4, 4)
    low, high = (torch.tensor([getattr(d, side) for d in env.embodiment.state]) for side in ("low", "high"))
    assert bool(((observation[STATE_KEY] >= low) & (observation[STATE_KEY] <= high)).all())


def test_a_chunk_equals_its_single_steps(env):
    chunk = _expert_chunk(env, 6)
    env.reset(SEEDS)
    whole = env.step_chunk(chunk)
    env.reset(SEEDS)
    reward = torch.zeros(3)
    for action in chunk.unbind(1):
        last = env.step(action)
        reward += last.reward
    assert _equal(whole.observation, last.observation)
    assert torch.equal(whole.reward, reward)
    assert torch.equal(whole.steps, torch.full((3,), 6))


def test_an_episode_does_not_depend_on_its_neighbours(env):
    chunk = _expert_chunk(env, 8)
    env.reset(SEEDS)
    together = env.step_chunk(chunk).observation
    alone_env = TaskEnv(env.task_name, 1, image_size_px=(32, 32), depth=True)
    first = alone_env.reset(SEEDS[1:2])
    alone = alone_env.step_chunk(chunk[1:2]).observation
    alone_env.close()
    for key, value in alone.items():
        assert value == [together[key][1]] if key == TASK_KEY else torch.equal(value[0], together[key][1])
    assert _equal({k: v[1:2] for k, v in env.reset(SEEDS).items()}, first)


def test_the_same_seed_gives_the_same_episode_twice(env):
    chunk = _expert_chunk(env, 5)
    runs = []
    for _ in range(2):
        env.reset(SEEDS)
        runs.append(env.step_chunk(chunk).observation)
    assert _equal(*runs)


def test_reset_by_mask_touches_no_other_world(env):
    env.reset(SEEDS)
    before = env.step_chunk(_expert_chunk(env, 4)).observation
    mask = torch.tensor([False, True, False])
    after = env.reset([0, 99, 0], mask)
    for key in before:
        for world in (0, 2):
            same = before[key][world] == after[key][world]
            assert same if key == TASK_KEY else bool(same.all())
    assert not torch.equal(before[STATE_KEY][1], after[STATE_KEY][1])
    fresh = TaskEnv(env.task_name, 3, image_size_px=(32, 32), depth=True)
    assert torch.equal(fresh.reset([99, 99, 99])[image_key("front")][1], after[image_key("front")][1])
    fresh.close()


def test_finished_worlds_stand_still():
    env = TaskEnv("reach", 2, image_size_px=(32, 32), max_episode_steps=3)
    env.reset([1, 2])
    still = torch.zeros(2, 7)
    for _ in range(3):
        last = env.step(still)
    assert bool(last.truncated.all()) and not bool(last.terminated.any())
    moved = env.step(torch.full((2, 7), 0.04))
    assert torch.equal(moved.steps, torch.zeros(2, dtype=torch.long))
    assert torch.equal(moved.reward, torch.zeros(2)) and _equal(moved.observation, last.observation)
    env.close()


def test_success_terminates_and_pays_once(env):
    env.reset(SEEDS)
    total = torch.zeros(3)
    for _ in range(env.max_episode_steps):
        last = env.step(env.expert_action())
        total += last.reward
    assert bool(last.success.all()) and bool(last.terminated.all()) and not bool(last.truncated.any())
    assert torch.equal(total, torch.ones(3))


def test_dense_reward_sums_to_the_gain_in_potential(env):
    dense = TaskEnv(env.task_name, 3, render=False, reward="dense")
    dense.reset(SEEDS)
    start = dense.task.potential(dense.sense(), dense.layout)
    total = torch.zeros(3)
    for _ in range(8):
        total += dense.step(dense.expert_action()).reward
    gain = dense.task.potential(dense.sense(), dense.layout) - start
    assert torch.allclose(total, gain, atol=1e-5) and bool((gain > 0).all())
    dense.close()


def test_cameras_see_the_named_cube_where_geometry_says(env):
    """Projecting the cube's centre into the image hits a pixel of its colour, at its depth."""
    observation = env.reset(SEEDS)
    K, T_world_cam = (observation[key("front")] for key in (intrinsics_key, extrinsics_key))
    cube = pick(env.sense().cube_position, env.layout.cube)
    top = torch.cat((cube[:, :2], cube[:, 2:] + CUBE_HALF_M, torch.ones(3, 1)), -1)
    in_camera = torch.linalg.solve(T_world_cam, top[..., None])[:, :3]
    pixel = (K @ in_camera).squeeze(-1)
    column, row = (pixel[:, :2] / pixel[:, 2:]).long().unbind(-1)
    palette = torch.tensor(list(CUBE_COLOURS.values()))
    for world in range(3):
        seen = observation[image_key("front")][world, row[world], column[world]].float() / 255
        brightest = palette / palette.amax(-1, keepdim=True)
        nearest = (brightest - seen / seen.amax()).abs().sum(-1).argmin()
        assert nearest == env.layout.cube_colour[world, env.layout.cube[world]]
        depth_m = observation[depth_key("front")][world, row[world], column[world]]
        assert abs(depth_m - in_camera[world, 2, 0]) < 0.02


def test_scenes_hold_two_to_four_cubes_and_the_instruction_names_one_of_them(env):
    many = TaskEnv(env.task_name, 200, render=False)
    observation = many.reset(list(range(200)))
    present = many.layout.cube_present.sum(1)
    assert set(present.tolist()) == {2, 3, 4}
    assert bool(pick(many.layout.cube_present, many.layout.cube).all())
    names = list(CUBE_COLOURS)
    for sentence, colour in zip(observation[TASK_KEY], pick(many.layout.cube_colour, many.layout.cube), strict=True):
        assert f"{names[colour]} cube" in sentence
    many.close()


def test_held_out_phrasings_never_occur_in_training(env):
    assert not set(env.task.phrasings.train) & set(env.task.phrasings.held_out)
    held_out = TaskEnv(env.task_name, 64, render=False, split="held_out")
    train = TaskEnv(env.task_name, 64, render=False)
    seeds = list(range(64))
    assert not set(held_out.reset(seeds)[TASK_KEY]) & set(train.reset(seeds)[TASK_KEY])
    held_out.close()
    train.close()


def test_bad_input_is_refused_with_what_was_expected():
    with pytest.raises(ValueError, match="unknown task 'fold'; expected one of reach, pick, place"):
        TaskEnv("fold", 1)
    with pytest.raises(ValueError, match="split must be 'train' or 'held_out', got 'test'"):
        TaskEnv("reach", 1, split="test")
    env = TaskEnv("reach", 2, render=False)
    with pytest.raises(RuntimeError, match="call reset before stepping"):
        env.step(torch.zeros(2, 7))
    with pytest.raises(ValueError, match="expected 2 seeds"):
        env.reset([1])
    env.reset([1, 2])
    with pytest.raises(ValueError, match=r"expected actions of shape \(n=2, h, a=7\), got \(2, 1, 6\)"):
        env.step(torch.zeros(2, 6))
    with pytest.raises(ValueError, match=r"worlds \[1\] are not finite"):
        env.step(torch.tensor([[0.0] * 7, [float("nan")] + [0.0] * 6]))
    with pytest.raises(KeyError, match="no camera 'side'"):
        env.embodiment.camera("side")
    env.close()
    env.close()


@pytest.mark.parametrize("task", sorted(TASKS))
def test_experts_succeed(task):
    env = TaskEnv(task, 60, render=False)
    env.reset(list(range(2000, 2060)))
    for _ in range(env.max_episode_steps):
        last = env.step(env.expert_action())
    assert int(last.success.sum()) >= 59
    env.close()


def test_experts_recover_from_being_pushed_off_their_path():
    env = TaskEnv("place", 40, render=False)
    env.reset(list(range(40)))
    generator = torch.Generator().manual_seed(0)
    for step in range(env.max_episode_steps):
        action = env.expert_action()
        if step % 8 == 0:
            action[:, :3] += 0.015 * torch.randn(40, 3, generator=generator)
        last = env.step(action)
    assert int(last.success.sum()) >= 36
    env.close()
