"""The gymnasium face passes gymnasium's own checker and keeps its autoreset promise."""

import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from envs.gym import env_id
from envs.specs import COMMAND_KEY, STATE_KEY, TASK_KEY, image_key
from envs.tasks import TASKS
from envs.vector import TaskEnv


@pytest.mark.parametrize("name", sorted(TASKS))
def test_check_env(name):
    env = gymnasium.make(env_id(name), render_mode="rgb_array", image_size_px=(32, 32), depth=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Box observation space m.* value is.*infinity.*")
        check_env(env.unwrapped, skip_render_check=False)
    env.close()


def test_tasks_of_suites_have_ids_too():
    env = gymnasium.make(env_id("tabletop-goal/bin-red"), render=False)
    observation, _ = env.reset(seed=0)
    assert env.spec.id == "vla/tabletop-goal.bin-red-v0" and "red cube" in observation[TASK_KEY]
    assert env.observation_space.contains(observation)
    env.close()


def test_arrays_that_were_handed_out_are_the_callers_own():
    spoilt, whole = (gymnasium.make_vec("vla/Pick-v0", num_envs=2, image_size_px=(16, 16)) for _ in range(2))
    action = np.full((2, 7), 0.01, np.float32)
    for env in (spoilt, whole):
        env.reset(seed=4)
    for array in spoilt.step(action)[0].values():
        array.clear() if isinstance(array, list) else array.fill(0)
    whole.step(action)
    seen, expected = (env.step(action)[0] for env in (spoilt, whole))
    assert seen.keys() == expected.keys() and all(np.array_equal(seen[key], expected[key]) for key in seen)
    for env in (spoilt, whole):
        env.close()


def test_an_environment_without_language_has_a_space_without_it():
    vector = gymnasium.make_vec("vla/Reach-v0", num_envs=2, render=False, language=False)
    observation, _ = vector.reset(seed=0)
    assert TASK_KEY not in vector.observation_space.spaces and vector.observation_space.contains(observation)
    assert set(observation) == {STATE_KEY, COMMAND_KEY}
    vector.close()


@pytest.mark.parametrize("stream", ["learn", "evaluate"])
def test_episodes_are_those_of_the_stream_for_learners_unless_another_is_named(stream):
    settings = {} if stream == "learn" else {"stream": stream}
    single = gymnasium.make("vla/Pick-v0", image_size_px=(16, 16), **settings)
    core = TaskEnv("pick", 1, image_size_px=(16, 16), stream=stream)
    seen, expected = single.reset(seed=3)[0], core.reset([3])
    np.testing.assert_array_equal(seen[image_key("front")], expected[image_key("front")][0].numpy())
    single.close()
    core.close()


def test_vector_env_matches_the_core_and_resets_on_the_next_step():
    vector = gymnasium.make_vec("vla/Reach-v0", num_envs=2, image_size_px=(32, 32), max_episode_steps=2)
    core = TaskEnv("reach", 2, image_size_px=(32, 32), stream="learn")
    assert vector.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    observation, _ = vector.reset(seed=5)
    assert vector.observation_space.contains(observation)
    expected = core.reset([5, 6])
    np.testing.assert_array_equal(observation[image_key("front")], expected[image_key("front")].numpy())
    still = np.zeros((2, 7), np.float32)
    vector.step(still)
    _, _, terminated, truncated, _ = vector.step(still)
    assert truncated.all() and not terminated.any()
    observation, reward, terminated, truncated, _ = vector.step(still + 0.04)
    expected = core.reset([7, 8])
    assert not truncated.any() and not terminated.any() and not reward.any()
    np.testing.assert_array_equal(observation[STATE_KEY], expected[STATE_KEY].numpy())
    assert list(observation[TASK_KEY]) == expected[TASK_KEY]
    vector.close()
    core.close()


def test_single_env_equals_the_core():
    single = gymnasium.make("vla/Pick-v0", image_size_px=(32, 32))
    core = TaskEnv("pick", 1, image_size_px=(32, 32), stream="learn")
    observation, info = single.reset(seed=3)
    expected = core.reset([3])
    assert info["seed"] == 3 and observation[TASK_KEY] == expected[TASK_KEY][0]
    action = core.expert_action()
    observation, *_ = single.step(action[0].numpy())
    stepped = core.step(action).observation
    assert torch.equal(torch.from_numpy(observation[STATE_KEY]), stepped[STATE_KEY][0])
    np.testing.assert_array_equal(observation[image_key("wrist")], stepped[image_key("wrist")][0].numpy())
    with pytest.raises(ValueError, match="takes no options"):
        single.reset(options={"x": 1})
    single.close()
    core.close()


def test_rendering_without_pictures_or_before_reset_is_refused():
    with pytest.raises(ValueError, match="render=False"):
        gymnasium.make("vla/Reach-v0", render_mode="rgb_array", render=False)
    vector = gymnasium.make_vec("vla/Reach-v0", num_envs=1, render_mode="rgb_array", image_size_px=(16, 16))
    with pytest.raises(RuntimeError, match="call reset before render"):
        vector.render()
    vector.reset(seed=np.int64(3))
    assert vector.render()[0].shape == (16, 16, 3)
    vector.close()
