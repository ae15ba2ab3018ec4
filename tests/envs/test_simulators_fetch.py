"""Gymnasium-Robotics' Fetch behind the contract, its own physics, its goal in the pictures, and its demonstrators."""

import importlib.util

import numpy as np
import pytest
import torch
from test_simulators import check_drawn_where_it_is, simulated, world_in_episode
from vector_env_contract import VectorEnvContract

from configs.wording import sentences
from envs.simulators import SIMULATORS
from envs.simulators.seeing import Seeing
from envs.specs import STREAMS, image_key

pytestmark = pytest.mark.skipif(importlib.util.find_spec("gymnasium_robotics") is None, reason="needs the extra fetch")
BLIND = Seeing(render=False)


class TestFetchReach(VectorEnvContract):
    def make(self, num_envs, **settings):
        return simulated("fetch/Reach", num_envs, seeing=BLIND, **settings)

    test_no_seed_of_one_stream_gives_an_episode_of_another = None
    """The hand starts in one place: episodes differ in where the goal is, which only pictures show."""


def test_sentences_tell_tasks_apart():
    said = [set(sentences(task, [split])) for task in SIMULATORS["fetch"].task_names for split in ("train", "held_out")]
    assert all(len(each) >= 2 for each in said) and len(set.union(*said)) == sum(map(len, said))


def test_the_same_actions_do_what_they_do_in_stock_fetch():
    import gymnasium
    import gymnasium_robotics

    env = simulated("fetch/PickAndPlace", 1, seeing=BLIND, reward="dense")
    env.reset([5])
    ours = env._worlds[0]._env
    gymnasium.register_envs(gymnasium_robotics)
    stock = gymnasium.make("FetchPickAndPlaceDense-v4").unwrapped
    stock.reset(seed=0)
    stock.data.qpos[:], stock.goal = ours.data.qpos, ours.goal
    for _ in range(15):
        action = env.expert_action()
        moved = env.step(action)
        units = [*(action[0, :3].double().numpy() / 0.05), 1 - 2 * float(action[0, 3])]
        _, reward, *_ = stock.step(np.clip(units, -1, 1))
    assert np.allclose(stock.data.qpos, ours.data.qpos, atol=1e-6) and np.isclose(reward, moved.reward[0], atol=1e-5)
    env.close()


def test_a_photograph_is_where_a_carried_cube_goes_on():
    """To the last bit: while it is carried, what is said of places is a step behind the joints."""
    env, fresh = (simulated("fetch/PickAndPlace", 1, seeing=BLIND, reward="dense") for _ in range(2))
    env.reset([3])
    for _ in range(18):
        env.step(env.expert_action())
    photograph, went = env.snapshot(), []
    fresh.restore(photograph)
    for world in (env, fresh):
        moves = [world.step(world.expert_action()) for _ in range(8)]
        went.append((torch.stack([m.reward for m in moves]), moves[-1].observation["observation.state"]))
        world.close()
    assert all(torch.equal(a, b) for a, b in zip(*went, strict=True))


def test_the_goal_is_a_red_ball_where_calibration_says():
    seeing = Seeing(image_size_px=128, depth=True, segmentation=True, profile="fast")
    world = world_in_episode("fetch/Push", seeing)
    shown, data = world.observe(), world._env.data
    block = world._env.model.geom("object0").id
    check_drawn_where_it_is(shown, "front", block, data.geom("object0").xpos)
    picture = shown[image_key("front")].astype(int)
    red = (picture[..., 0] > 120) & (picture[..., 1:].max(-1) < 60)
    T_cam_world = np.linalg.inv(shown["observation.cameras.front.T_world_cam"])
    in_camera = (T_cam_world @ [*world._env.goal, 1])[:3]
    expected = (shown["observation.cameras.front.intrinsics"] @ in_camera / in_camera[2])[:2]
    rows, columns = np.nonzero(red)
    nearest_px = np.hypot(columns - expected[0], rows - expected[1])
    assert nearest_px.min() < 3, f"the goal is expected at {expected}, red is nearest {nearest_px.min():.1f} px away"
    assert shown[image_key("wrist")].std() > 10
    world.close()


@pytest.mark.parametrize(("task", "seeds"), [("Reach", 4), ("Push", 4), ("PickAndPlace", 4)])
def test_demonstrators_hold_the_goal_at_the_end(task, seeds):
    env = simulated(f"fetch/{task}", seeds, seeing=BLIND, stream="evaluate")
    env.reset(list(range(seeds)))
    for _ in range(50):
        last = env.step(env.expert_action())
    assert bool(last.success.all()) and bool(last.terminated.all()) and last.ended == list(range(seeds))
    env.close()


def test_episodes_of_all_streams_have_other_goals():
    world, goals = world_in_episode("fetch/Push", BLIND), []
    for stream in STREAMS:
        for seed in range(3):
            world.reset(stream, seed)
            goals.append((*world._env.goal, *world._site("object0")))
    assert len(set(goals)) == 9


def test_sliding_has_no_demonstrator():
    env = simulated("fetch/Slide", 1, seeing=BLIND)
    env.reset([0])
    with pytest.raises(RuntimeError, match="fetch/Slide has no demonstrator"):
        env.expert_action()
    assert env.step(torch.zeros(1, 4)).steps.tolist() == [1]
    env.close()
