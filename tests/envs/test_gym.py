"""The gymnasium face passes gymnasium's own checker and keeps its autoreset promise."""

import copy
import pickle
import warnings
from itertools import product

import av
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import create_shared_memory, read_from_shared_memory, write_to_shared_memory
from stable_baselines3.common.env_checker import check_env as check_env_of_stable_baselines
from stable_baselines3.common.vec_env import VecVideoRecorder

from envs.gym import SingleEnv, VectorTaskEnv, env_id
from envs.perturbations import Perturbation
from envs.perturbations.spec import Rewrite
from envs.perturbations.wording import rewrite
from envs.random import EpisodeRandom
from envs.sb3 import StableBaselinesEnv
from envs.spaces import InstructionSpace
from envs.specs import COMMAND_KEY, STATE_KEY, TASK_KEY, image_key
from envs.suites import SUITES, find_task
from envs.tasks import TASKS
from envs.vector import TaskEnv

EVERY_NAME = (*TASKS, *(name for suite in SUITES.values() for name in suite.task_names))


@pytest.mark.parametrize("name", sorted(TASKS))
def test_check_env(name):
    env = gymnasium.make(env_id(name), render_mode="rgb_array", image_size_px=(32, 32), depth=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
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


@pytest.mark.parametrize("name", EVERY_NAME)
def test_every_sentence_lies_in_the_space_and_crosses_shared_memory_whole(name):
    space, task = InstructionSpace(), find_task(name)
    layout = task.begin(task.sample(EpisodeRandom(torch.arange(50), "learn")))
    plain = [sentence for split in ("train", "held_out") for sentence in task.instructions(layout, split)]
    forms = [Rewrite(level=level) for level in range(1, 6)] + [Rewrite(level=i, words="training") for i in (1, 2)]
    draws = list(product((0.2, 0.7), (0.1, 0.3, 0.6, 0.9), (0.1, 0.5, 0.9)))
    longest = max(plain, key=len)
    sentences = {*plain, *(rewrite(longest, form, (*drawn, 0.0)) for form in forms for drawn in draws)}
    memory = create_shared_memory(space, n=2)
    seen = read_from_shared_memory(space, memory, n=2)
    for sentence in sorted(sentences, key=len, reverse=True):  # what is shorter must leave no rest of the longer one
        assert space.contains(sentence)
        write_to_shared_memory(space, 1, sentence, memory)
        assert seen.tolist() == ["", sentence]
    with pytest.raises(ValueError, match="expected a sentence of at most 400"):
        write_to_shared_memory(space, 0, "a" * 401, memory)


@pytest.mark.parametrize("shared_memory", [True, False])
def test_instructions_of_worlds_in_processes_are_those_of_their_episodes(shared_memory):
    settings = dict(render=False, split="held_out", perturbation=Perturbation(language=Rewrite(level=5)))
    single = gymnasium.make("vla/Stack-v0", max_episode_steps=1, **settings)
    workers = gymnasium.make_vec(
        "vla/Stack-v0",
        2,
        vectorization_mode="async",
        vector_kwargs={"shared_memory": shared_memory},
        max_episode_steps=1,
        **settings,
    )
    said = []
    for seed in (3, 30):
        observation, _ = workers.reset(seed=seed)
        assert workers.observation_space.contains(observation)
        said += [observation[TASK_KEY], [single.reset(seed=seed + i)[0][TASK_KEY] for i in range(2)]]
    assert list(said[0]) == said[1] != said[3] == list(said[2])
    before = workers.step(workers.action_space.sample())[0][TASK_KEY]
    after = workers.step(workers.action_space.sample())[0][TASK_KEY]  # the next episodes
    assert list(before) == said[3] and list(after) != said[3]
    workers.close()
    single.close()


MAKERS = {
    "single": lambda **settings: gymnasium.make("vla/Reach-v0", **settings),
    "vector": lambda **settings: gymnasium.make_vec("vla/Reach-v0", 1, **settings),
    "sync": lambda **settings: gymnasium.make_vec("vla/Reach-v0", 1, vectorization_mode="sync", **settings),
}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(("given", "limit"), [({}, 60), ({"max_episode_steps": 75}, 75), ({"max_episode_steps": 3}, 3)])
def test_a_number_of_steps_means_the_same_to_every_maker(maker, given, limit):
    env = MAKERS[maker](render=False, **given)
    env.reset(seed=0)
    still = np.zeros(env.action_space.shape, np.float32)
    for step in range(1, limit + 1):
        _, reward, terminated, truncated, _ = env.step(still)
        assert (bool(terminated), bool(truncated), np.any(reward)) == (False, step == limit, False)
    env.close()


@pytest.mark.parametrize("maker", MAKERS)
def test_no_limit_is_none_for_every_maker(maker):
    env = MAKERS[maker](render=False, max_episode_steps=-1)
    env.reset(seed=0)
    still = np.zeros(env.action_space.shape, np.float32)
    assert not any(bool(flag) for _ in range(70) for flag in env.step(still)[2:4])
    env.close()
    with pytest.raises(ValueError, match="0"):
        MAKERS[maker](render=False, max_episode_steps=0)


@pytest.mark.parametrize("name", EVERY_NAME)
def test_specs_name_the_tasks_own_limit(name):
    assert gymnasium.spec(env_id(name)).max_episode_steps == find_task(name).max_episode_steps


def test_success_terminates_before_the_limit_and_is_no_truncation():
    single = gymnasium.make("vla/Reach-v0", render=False)
    core = TaskEnv("reach", 1, render=False, stream="learn")
    single.reset(seed=3)
    core.reset([3])
    terminated = truncated = False
    while not terminated:
        action = core.expert_action()
        core.step(action)
        _, reward, terminated, truncated, info = single.step(action[0].numpy())
        assert terminated == info["success"] == (reward == 1)
    assert not truncated and single.get_wrapper_attr("_elapsed_steps") < 60
    single.close()
    core.close()


def test_a_single_environment_leaves_limits_to_gymnasium():
    with pytest.raises(ValueError, match="a TimeLimit adds it"):
        SingleEnv("reach", max_episode_steps=5)


@pytest.mark.parametrize("maker", MAKERS)
def test_writing_into_observations_or_frames_changes_no_frame(maker):
    env = MAKERS[maker](render_mode="rgb_array", image_size_px=(16, 16))
    assert env.metadata["render_modes"] == ["rgb_array"] and env.metadata["render_fps"] == 20
    observation, _ = env.reset(seed=0)
    for _ in range(2):
        expected = observation[image_key("front")].copy()
        observation[image_key("front")][:] = 0
        observation.pop(image_key("wrist"))
        for frame in (env.render(), env.render()):
            np.testing.assert_array_equal(frame, expected)
            np.asarray(frame if maker == "single" else frame[0])[:] = 0
        assert expected.std() > 1
        observation, *_ = env.step(env.action_space.sample())
    env.close()


def test_frames_of_an_episode_are_collected():
    for _ in range(2):  # the wrapper writes into the metadata of what it wraps
        env = gymnasium.make("vla/Reach-v0", render_mode="rgb_array_list", image_size_px=(16, 16))
        seen = [env.reset(seed=0)[0]] + [env.step(env.action_space.sample())[0] for _ in range(3)]
        frames = env.render()
        assert len(frames) == 4
        for frame, observation in zip(frames, seen, strict=True):
            np.testing.assert_array_equal(frame, observation[image_key("front")])
        env.close()


def frames_of(video):
    """How many pictures a video file holds, and their side."""
    with av.open(str(video)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert all(picture.std() > 1 for picture in pictures)
    return len(pictures), pictures[0].shape[:2]


@pytest.mark.parametrize("maker", MAKERS)
def test_videos_are_recorded(maker, tmp_path):
    env = MAKERS[maker](render_mode="rgb_array", image_size_px=(32, 32), max_episode_steps=7)
    record = gymnasium.wrappers.RecordVideo if maker == "single" else gymnasium.wrappers.vector.RecordVideo
    recorded = record(env, str(tmp_path), episode_trigger=lambda episode: True)
    recorded.reset(seed=0)
    for _ in range(7):
        recorded.step(recorded.action_space.sample())
    recorded.close()
    assert [frames_of(file) for file in tmp_path.glob("*.mp4")] == [(8, (32, 32))]


def test_videos_are_recorded_by_stable_baselines(tmp_path):
    env = StableBaselinesEnv(TaskEnv("reach", 2, image_size_px=(32, 32), stream="learn"))
    assert env.metadata["render_fps"] == 20
    recorded = VecVideoRecorder(env, str(tmp_path), lambda step: step == 0, video_length=7)
    recorded.reset()
    for _ in range(7):
        recorded.step(np.zeros((2, 7), np.float32))
    recorded.close()
    assert [frames_of(file) for file in tmp_path.glob("*.mp4")] == [(8, (64, 32))]


def test_stable_baselines_is_shown_what_was_observed_and_told_where_there_are_no_pictures():
    env = StableBaselinesEnv(TaskEnv("reach", 2, image_size_px=(16, 16), stream="learn"))
    with pytest.raises(RuntimeError, match="call reset before render"):
        env.render()
    seen = env.reset()["observation_images_front"]
    expected = seen.copy()
    seen.fill(0)
    np.testing.assert_array_equal(env.get_images(), expected)
    np.testing.assert_array_equal(env.render(), np.concatenate(expected))
    env.close()
    blind = StableBaselinesEnv(TaskEnv("reach", 2, render=False, stream="learn"))
    assert blind.render_mode is None and blind.get_images() == [None, None]
    blind.close()


def test_the_same_seed_is_the_same_first_episode_in_both():
    single = gymnasium.make("vla/Pick-v0", image_size_px=(16, 16))
    vector = gymnasium.make_vec("vla/Pick-v0", 2, image_size_px=(16, 16))
    together, _ = vector.reset(seed=7)
    for world in range(2):
        alone, info = single.reset(seed=np.int64(7 + world))
        assert info == {"seed": 7 + world}
        assert all(np.array_equal(alone[key], together[key][world]) for key in alone)
    single.close()
    vector.close()


def test_without_a_seed_episodes_go_on_and_a_seed_begins_their_order_again():
    single = gymnasium.make("vla/Reach-v0", render=False)
    vector = gymnasium.make_vec("vla/Reach-v0", 2, render=False)
    orders = [[single.reset(seed=seed)[1]["seed"] for seed in (5, None, None)] for _ in range(2)]
    assert orders[0] == orders[1] and len(set(orders[0])) == 3
    for _ in range(2):
        first, second, third = (vector.reset(seed=seed)[0] for seed in (5, None, 7))
        assert not np.array_equal(first[STATE_KEY], second[STATE_KEY]) or first[TASK_KEY] != second[TASK_KEY]
        np.testing.assert_array_equal(second[STATE_KEY], third[STATE_KEY])
    single.close()
    vector.close()


@pytest.mark.parametrize("seed", [-1, [3, -1], [1], 1.5, [1.5, 2.5], [1, None], "3", True, 2**61, [[1, 2]]])
def test_what_is_no_seed_is_refused_and_changes_nothing(seed):
    vector = gymnasium.make_vec("vla/Reach-v0", 2, render=False)
    vector.reset(seed=5)
    with pytest.raises(ValueError, match=r"expected .*seed"):
        vector.reset(seed=seed)
    went_on = vector.reset()[0][TASK_KEY]
    assert went_on == vector.reset(seed=7)[0][TASK_KEY]
    vector.close()


@pytest.mark.parametrize("options", [{"mask": 1}, {"reset_mask": None}, {"reset_mask": [0, 1]}, {"reset_mask": [True]}])
def test_options_that_a_reset_does_not_take_are_refused(options):
    vector = gymnasium.make_vec("vla/Reach-v0", 2, render=False)
    vector.reset(seed=5)
    with pytest.raises(ValueError, match=r"option 'reset_mask' only|expected a bool"):
        vector.reset(options=options)
    vector.close()


@pytest.mark.parametrize("kind", [SingleEnv, VectorTaskEnv])
def test_closing_twice_is_well_and_using_it_afterwards_is_an_error(kind):
    env = kind("reach", render_mode="rgb_array", image_size_px=(16, 16))
    env.reset(seed=0)
    env.close()
    env.close()
    for use in (env.reset, lambda: env.step(env.action_space.sample()), env.render):
        with pytest.raises(RuntimeError, match="the environment is closed; make a new one"):
            use()


@pytest.mark.parametrize("copied", [copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("kind", [SingleEnv, VectorTaskEnv])
def test_a_copy_is_refused_with_what_to_do_instead(kind, copied):
    env = kind("reach", render=False)
    env.reset(seed=0)
    with pytest.raises(TypeError, match=r"make another environment with the same settings, and give it .* snapshot"):
        copied(env)
    env.close()


def test_stable_baselines_finds_nothing_wrong():
    env = gymnasium.make("vla/Reach-v0", language=False, image_size_px=(64, 64), render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*unconventional shape|.*symmetric and normalized Box action space")
        check_env_of_stable_baselines(env)
    env.close()
