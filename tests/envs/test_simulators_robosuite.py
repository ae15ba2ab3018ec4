"""robosuite behind the contract: the real simulator, so that all of it is slow."""

import importlib.util

import numpy as np
import pytest
import torch
from test_simulators import check_drawn_where_it_is, simulated, world_in_episode
from vector_env_contract import VectorEnvContract

from envs.simulators import SIMULATORS
from envs.simulators.seeing import Seeing
from envs.specs import EXPERT, SNAPSHOTS, STATE_KEY, depth_key, image_key

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("robosuite") is None, reason="needs the extra robosuite"),
]


class TestLift(VectorEnvContract):
    def make(self, num_envs, **settings):
        return simulated("robosuite/Lift", num_envs, **settings)


def test_cameras_see_the_cube_where_geometry_says():
    seeing = Seeing(image_size_px=128, depth=True, segmentation=True, profile="fast")
    world = world_in_episode("robosuite/Lift", seeing)
    shown, env = world.observe(), world._env
    for camera in ("agentview", "wrist"):
        cube = env.sim.model.geom_name2id("cube_g0_vis")
        check_drawn_where_it_is(shown, camera, cube, env.sim.data.body_xpos[env.cube_body_id])
    stock = world_in_episode("robosuite/Lift", Seeing(image_size_px=128, depth=True))
    theirs = stock.observe()
    assert np.array_equal(theirs[STATE_KEY], shown[STATE_KEY])
    assert not np.array_equal(theirs[image_key("agentview")], shown[image_key("agentview")])
    assert np.abs(theirs[depth_key("agentview")] - shown[depth_key("agentview")]).mean() < 0.05
    world.close()
    stock.close()


def test_pictures_are_those_that_robosuite_draws_itself():
    import robosuite

    world = world_in_episode("robosuite/Lift", Seeing(image_size_px=64))
    ours = world.observe()[image_key("agentview")].astype(int)
    env = robosuite.make("Lift", robots="Panda", renderer="mujoco", camera_heights=64, camera_widths=64)
    env.reset_from_xml_string(world._env.sim.model.get_xml())
    env.sim.set_state_from_flattened(world._env.sim.get_state().flatten())
    env.sim.forward()
    theirs = env.sim.render(64, 64, camera_name="agentview")[::-1].astype(int)
    assert np.abs(ours - theirs).mean() < 3
    world.close()
    env.close()


def test_the_same_actions_do_what_they_do_in_stock_robosuite():
    """Without observables, and looked at after every step, an episode runs as it does in robosuite's own hands."""
    import robosuite

    from envs.simulators.base import episode_generator

    env = simulated("robosuite/Stack", 1, seeing=Seeing(render=False), reward="dense")
    env.reset([5])
    stock = robosuite.make(
        "Stack", robots="Panda", has_offscreen_renderer=False, use_camera_obs=False, renderer="mujoco",
        reward_shaping=True,
    )  # fmt: skip
    stock.rng.bit_generator.state = episode_generator("demonstrate", 5, "robosuite").bit_generator.state
    stock.reset()
    for _ in range(15):
        action = env.expert_action()
        moved = env.step(action)
        units = action[0].double().numpy() / [*[0.05] * 3, *[0.5] * 3, 0.5] - [*[0] * 6, 1]
        _, reward, *_ = stock.step(units.clip(-1, 1))
        assert float(moved.reward[0]) == pytest.approx(reward, abs=1e-6)
    assert np.array_equal(stock.sim.data.qpos, env._worlds[0]._env.sim.data.qpos)
    env.close()


@pytest.mark.parametrize("task", SIMULATORS["robosuite"].task_names)
def test_every_task_shows_moves_and_is_put_back(task):
    env = simulated(task, 1, seeing=Seeing(image_size_px=16, profile="fast"), reward="dense")
    shown = env.reset([2])
    low, high = (torch.tensor(side)[None] for side in (env.embodiment.action_low, env.embodiment.action_high))
    state_low, state_high = (torch.tensor([getattr(d, s) for d in env.embodiment.state]) for s in ("low", "high"))
    draws = torch.Generator().manual_seed(0)
    actions = [low + (high - low) * torch.rand(low.shape, generator=draws) for _ in range(6)]
    for action in actions[:3]:
        shown = env.step(action).observation
    assert bool(((shown[STATE_KEY] >= state_low) & (shown[STATE_KEY] <= state_high)).all())
    assert all(shown[image_key(name)].float().std() > 5 for name in env.embodiment.camera_names)
    if SNAPSHOTS in env.capabilities:
        photograph = env.snapshot()
        ends = []
        for _ in range(2):
            env.restore(photograph)
            moves = [env.step(action) for action in actions[3:]]
            ends.append((moves[-1].observation[STATE_KEY], torch.stack([move.reward for move in moves])))
        assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
    env.close()


@pytest.mark.parametrize("task", [task.name for task in SIMULATORS["robosuite"].tasks if task.expert])
def test_experts_succeed(task):
    env = simulated(task, 2, seeing=Seeing(render=False))
    assert EXPERT in env.capabilities
    env.reset([2000, 2001])
    last = env.step(env.expert_action())
    while not bool((last.terminated | last.truncated).all()):
        last = env.step(env.expert_action())
    assert bool(last.success.any())
    env.close()
