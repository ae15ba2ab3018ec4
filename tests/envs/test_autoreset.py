"""Episode after episode: gymnasium's three autoreset modes and stable-baselines3's, on both engines."""

import importlib.util

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

import envs.gym  # noqa: F401  registers the tasks
from envs.autoreset import AutoresetEnv
from envs.specs import ENVIRONMENT_STATE_KEY, STATE_KEY, TASK_KEY
from envs.vector import TaskEnv

warp = pytest.mark.skipif(importlib.util.find_spec("mujoco_warp") is None, reason="needs the extra warp")
ENGINES = ["cpu", pytest.param("warp", marks=warp)]
STILL = np.zeros((2, 7), np.float32)


def make_vec(mode, **settings):
    settings = {"render": False, "max_episode_steps": 2, **settings}
    return gymnasium.make_vec("vla/Reach-v0", num_envs=2, autoreset_mode=mode, **settings)


def first_states(seeds):
    core = TaskEnv("reach", len(seeds), render=False, stream="learn")
    observation = core.reset(seeds)
    core.close()
    return observation


@pytest.mark.parametrize("engine", ENGINES)
def test_same_step_returns_the_next_episode_and_keeps_the_last_observation(engine):
    env = make_vec(AutoresetMode.SAME_STEP, engine=engine)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    env.reset(seed=5)
    moved = env.step(STILL + 0.04)[0]
    observation, _, terminated, truncated, info = env.step(STILL)
    assert truncated.all() and not terminated.any() and info["_final_obs"].all()
    final = np.stack([world[STATE_KEY] for world in info["final_obs"]])
    assert np.abs(final - moved[STATE_KEY]).max() < 0.15 and np.abs(final - observation[STATE_KEY]).max() > 1e-3
    expected = first_states([7, 8])
    np.testing.assert_allclose(observation[STATE_KEY], expected[STATE_KEY].numpy(), atol=1e-6)
    assert list(observation[TASK_KEY]) == expected[TASK_KEY]
    assert not env.step(STILL)[3].any() and env.step(STILL)[3].all()
    env.close()


def test_disabled_waits_for_a_masked_reset():
    env = make_vec(AutoresetMode.DISABLED)
    env.reset(seed=5)
    env.step(STILL)
    ended = env.step(STILL)[0]
    observation, reward, terminated, truncated, _ = env.step(STILL + 0.04)
    np.testing.assert_array_equal(observation[STATE_KEY], ended[STATE_KEY])
    assert not reward.any() and not terminated.any() and not truncated.any()
    observation, _ = env.reset(seed=[0, 9], options={"reset_mask": np.array([False, True])})
    np.testing.assert_array_equal(observation[STATE_KEY][0], ended[STATE_KEY][0])
    np.testing.assert_array_equal(observation[STATE_KEY][1], first_states([9])[STATE_KEY][0].numpy())
    assert env.step(STILL)[3].tolist() == [False, False]
    with pytest.raises(ValueError, match="reset takes the option 'reset_mask' only, got \\['x'\\]"):
        env.reset(options={"x": 1})
    env.close()


def test_worlds_that_end_at_different_times_keep_their_own_seeds():
    env = AutoresetEnv(TaskEnv("reach", 3, render=False, privileged=True))
    observation, _ = env.reset(100)
    episodes, ends = torch.zeros(3, dtype=torch.long), set()
    for _ in range(60):
        observation, _, terminated, truncated, info = env.step(env.env.expert_action())
        ended = terminated | truncated
        episodes += ended
        ends |= {tuple(ended.tolist())} if bool(ended.any()) else set()
        for world in ended.nonzero()[:, 0].tolist():
            alone = TaskEnv("reach", 1, render=False, privileged=True)
            expected = alone.reset([100 + world + 3 * int(episodes[world])])
            assert torch.equal(observation[ENVIRONMENT_STATE_KEY][world], expected[ENVIRONMENT_STATE_KEY][0])
            assert bool(info["success"][world])
            alone.close()
    assert len(ends) > 1 and int(episodes.min()) >= 2
    env.close()


def test_the_privileged_state_tells_where_the_named_thing_is():
    env = TaskEnv("place", 4, render=False, privileged=True)
    seen = env.reset([1, 2, 3, 4])[ENVIRONMENT_STATE_KEY]
    assert seen.shape == (4, env.privileged_dim)
    assert torch.equal(seen[:, :3], env.layout.of(env.sense().position, "block"))
    one_thing = 3 + 6 + 2  # position, two axes, opening and whether it is held
    assert torch.equal(seen[:, one_thing : one_thing + 3], env.layout.of(env.layout.position, "bin"))
    env.close()


class TestStableBaselines:
    """The adapter of ``envs.sb3``; needs the extra sb3."""

    @pytest.fixture
    def env(self):
        pytest.importorskip("stable_baselines3")
        from envs.sb3 import StableBaselinesEnv

        core = TaskEnv("reach", 2, render=False, privileged=True, stream="learn", reward="dense", max_episode_steps=3)
        env = StableBaselinesEnv(core, seed=5)
        yield env
        env.close()

    def test_episodes_end_with_their_last_observation(self, env):
        first = env.reset()
        expected = first_states([5, 6])
        np.testing.assert_array_equal(first["observation_state"], expected[STATE_KEY].numpy())
        for _ in range(2):
            _, _, done, _ = env.step(np.full((2, 7), 0.5))
            assert not done.any()
        observation, reward, done, infos = env.step(np.zeros((2, 7)))
        assert done.all() and reward.dtype == np.float32
        for world, info in enumerate(infos):
            assert info["TimeLimit.truncated"] and not info["is_success"]
            assert (
                np.abs(info["terminal_observation"]["observation_state"] - first["observation_state"][world]).max() > 0
            )
        np.testing.assert_array_equal(observation["observation_state"], first_states([7, 8])[STATE_KEY].numpy())

    def test_actions_are_scaled_from_the_unit_box(self, env):
        env.reset()
        before = env.get_attr("device")
        assert before == [torch.device("cpu")] * 2
        env.step_async(np.array([[1, -1, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, -1]], np.float32))
        expected = torch.tensor([[0.04, -0.04, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0]])
        assert torch.allclose(env._actions, expected, atol=1e-6)

    def test_a_learner_is_not_given_the_episodes_that_it_is_judged_by(self, env):
        core = TaskEnv("reach", 1, render=False, stream="evaluate")
        with pytest.raises(ValueError, match="of the stream 'learn', got one of 'evaluate'"):
            type(env)(core)
        judged = type(env)(core, stream="evaluate")
        assert judged.reset()["observation_state"].shape == (1, core.embodiment.state_dim)
        judged.close()

    def test_what_cannot_be_done_per_world_is_refused(self, env):
        with pytest.raises(NotImplementedError, match="share one environment"):
            env.set_attr("x", 1)

    @pytest.mark.slow
    def test_its_ppo_learns_to_reach(self):
        pytest.importorskip("stable_baselines3")
        from stable_baselines3 import PPO

        from envs.sb3 import StableBaselinesEnv

        core = TaskEnv("reach", 32, render=False, privileged=True, stream="learn", reward="dense", discount=1.0)
        env = StableBaselinesEnv(core)
        settings = {"n_steps": 64, "batch_size": 256, "n_epochs": 8, "learning_rate": 1e-3, "gamma": 0.97}
        network = {"net_arch": [64, 64], "log_std_init": -1.0}
        learner = PPO("MultiInputPolicy", env, seed=0, device="cpu", policy_kwargs=network, **settings)
        learner.learn(150_000)
        recent = learner.ep_success_buffer
        assert sum(recent) / len(recent) > 0.5
        env.close()
