"""Recording: what is stored is what was seen and meant, in the seeds' order, whatever kills it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from killing import kill_until_done, record_some
from point_mass import PointMassEnv
from racing import EPISODES, race

from envs.specs import EXPERT, STATE_KEY, image_key
from policies.collect import ExecutionNoise, collect
from policies.data.dataset import DemonstrationDataset
from policies.data.layout import DatasetError
from policies.data.left_out import LEFT_OUT_FILE
from policies.data.writer import DemonstrationWriter
from policies.expert import ExpertPolicy


def record(path, seeds, num_envs=4, env=None, **options):
    env = env or PointMassEnv(num_envs)
    return collect(env, ExpertPolicy(env), path, seeds, show_progress=False, **options)


def content(path):
    dataset = DemonstrationDataset(path)
    episodes = [dataset.episode(index) for index in range(len(dataset))]
    return [(e.seed, e.instruction, e.success, *(a.tobytes() for a in e.fields().values())) for e in episodes]


def test_an_episode_holds_what_single_stepping_shows(tmp_path):
    assert record(tmp_path / "store", [5, 3, 8]).recorded == 3
    episode = DemonstrationDataset(tmp_path / "store").episode(1)
    env = PointMassEnv(1)
    observation = env.reset([3])
    for frame in range(len(episode)):
        action = env.expert_action()
        assert np.array_equal(episode.images["front"][frame], observation[image_key("front")][0])
        assert np.array_equal(episode.actions[frame], action[0])
        transition = env.step(action)
        observation = transition.observation
    assert bool(transition.terminated) and episode.success and episode.instruction == observation["task"][0]


@pytest.mark.parametrize("noise", [ExecutionNoise(), ExecutionNoise(std=0.5)])
def test_the_store_does_not_depend_on_the_number_of_worlds(tmp_path, noise):
    seeds = [9, 2, 7, 4, 1]
    for worlds in (1, 3, 8):
        record(tmp_path / str(worlds), seeds, worlds, noise=noise)
    assert content(tmp_path / "1") == content(tmp_path / "3") == content(tmp_path / "8")
    assert [row[0] for row in content(tmp_path / "1")] == seeds


def test_noise_disturbs_the_execution_and_not_the_record(tmp_path):
    noise = ExecutionNoise(std=0.8, probability=1.0)
    record(tmp_path / "clean", [1, 2])
    record(tmp_path / "noisy", [1, 2], noise=noise)
    clean, noisy = (DemonstrationDataset(tmp_path / name).episode(0) for name in ("clean", "noisy"))
    assert np.array_equal(clean.actions[0], noisy.actions[0])
    assert not np.array_equal(clean.state[1], noisy.state[1])
    env = PointMassEnv(1)
    env.reset([1])
    for frame in range(len(noisy)):
        assert np.array_equal(noisy.actions[frame], env.expert_action()[0])
        executed = env.expert_action().numpy() + noise.at(env.embodiment, 1, frame)
        env.step(env.position.new_tensor(executed))


def test_noise_is_held_exempts_and_has_the_asked_size():
    spec = PointMassEnv(1).embodiment
    spec = replace(spec, action=(replace(spec.action[0], low=-4.0, high=4.0), replace(spec.action[1], name="gripper")))
    noise = ExecutionNoise(std=0.25, hold_steps=3, probability=1.0)
    draws = np.stack([noise.at(spec, seed, step) for seed in range(300) for step in (0, 1, 2, 3)])
    assert np.array_equal(draws[0::4], draws[2::4]) and not np.array_equal(draws[0::4], draws[3::4])
    assert np.all(draws[:, 1] == 0) and draws[:, 0].std() == pytest.approx(1.0, rel=0.1)
    half = ExecutionNoise(std=1.0, probability=0.5)
    assert np.mean([half.at(spec, seed, 0)[0] != 0 for seed in range(400)]) == pytest.approx(0.5, abs=0.08)
    with pytest.raises(ValueError, match="hold_steps"):
        ExecutionNoise(hold_steps=0)


def test_some_episodes_begin_with_a_detour_in_one_direction():
    spec = PointMassEnv(1).embodiment
    first, second = spec.action
    spec = replace(spec, action=(replace(first, name="dx", low=-4.0, high=4.0), replace(second, name="gripper")))
    noise = ExecutionNoise(detours=0.5, detour_steps=12)
    draws = np.array([[noise.at(spec, seed, step) for step in range(14)] for seed in range(300)])
    way = draws[..., 0]
    assert not draws[..., 1].any() and set(np.unique(way)) == {-4.0, 0.0, 4.0}
    gone = way[:, 0] != 0
    assert gone.mean() == pytest.approx(0.5, abs=0.08) and not way[~gone].any()
    lengths = (way[gone] != 0).sum(axis=1)
    assert lengths.min() == 7 and lengths.max() == 12, "more than half, up to all of the steps"
    assert all((row[:length] == row[0]).all() for row, length in zip(way[gone], lengths, strict=True))
    with pytest.raises(ValueError, match=r"detour_steps ≥ 1, got 0\.5 and 0"):
        ExecutionNoise(detours=0.5, detour_steps=0)


def test_failures_are_counted_left_out_and_not_tried_again(tmp_path):
    path = tmp_path / "store"
    short = PointMassEnv(2, max_episode_steps=4)
    first = record(path, range(12), env=short)
    assert first.failed > 0 and first.recorded > 0 and first.failed + first.recorded == 12
    assert all(row[2] for row in content(path))
    again = record(path, range(14), env=short)
    assert again.skipped == 12 and again.recorded + again.failed == 2
    kept = record(tmp_path / "all", range(12), keep_failures=True, env=short)
    assert kept.recorded == 12 and sum(not row[2] for row in content(tmp_path / "all")) == first.failed


def test_a_store_of_other_settings_is_refused(tmp_path):
    record(tmp_path / "store", [1], settings={"profile": "fast"})
    with pytest.raises(DatasetError, match=r'recorded otherwise; .*:\n  settings\.profile: "fast" there, "full" now$'):
        record(tmp_path / "store", [2], settings={"profile": "full"})
    size = r"embodiment\.cameras\.front\.{}_px: 16 there, 32 now"
    with pytest.raises(DatasetError, match=f":\n  {size.format('height')}\n  {size.format('width')}$"):
        record(tmp_path / "store", [2], env=PointMassEnv(2, size_px=32), settings={"profile": "fast"})
    with pytest.raises(ValueError, match="at least one seed"):
        record(tmp_path / "other", [])
    assert not (tmp_path / "other").exists()


def test_a_store_holds_episodes_of_one_stream(tmp_path):
    record(tmp_path / "store", [1])
    assert DemonstrationDataset(tmp_path / "store").info()["settings"]["stream"] == "demonstrate"
    with pytest.raises(DatasetError, match=r':\n  settings\.stream: "demonstrate" there, "learn" now$'):
        record(tmp_path / "store", [2], env=PointMassEnv(2, stream="learn"))


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"noise": ExecutionNoise(std=0.5)}, "settings.noise.std: 0.0 there, 0.5 now"),
        ({"keep_failures": True}, "settings.keep_failures: false there, true now"),
    ],
)
def test_noise_and_kept_failures_are_the_stores_own(tmp_path, options, difference):
    record(tmp_path / "store", [1])
    with pytest.raises(DatasetError) as refused:
        record(tmp_path / "store", [2], **options)
    assert str(refused.value).splitlines()[1:] == [f"  {difference}"]
    record(tmp_path / "store", [2])


def test_removed_episodes_are_not_recorded_again(tmp_path):
    record(tmp_path / "store", [1, 2, 3])
    with DemonstrationWriter.open(tmp_path / "store") as writer:
        writer.remove([0, 2])
    again = record(tmp_path / "store", [1, 2, 3, 4])
    assert (again.recorded, again.skipped) == (1, 3)
    assert [row[0] for row in content(tmp_path / "store")] == [2, 4]


def test_a_broken_list_of_failed_seeds_is_named(tmp_path):
    record(tmp_path / "store", [1])
    for broken in ("{", "[]", '{"failed": [3]}', '{"failures": {}}', '{"failed": {"point": ["x"]}}'):
        (tmp_path / "store" / LEFT_OUT_FILE).write_text(broken)
        with pytest.raises(
            DatasetError, match=r"left_out\.json .*; delete it to have the seeds that failed tried again"
        ):
            record(tmp_path / "store", [2])
        (tmp_path / "store" / LEFT_OUT_FILE).unlink()
    assert record(tmp_path / "store", [2]).recorded == 1


@pytest.mark.parametrize(
    "noise",
    [ExecutionNoise(std=0.8, probability=1.0), ExecutionNoise(detours=1.0, astray=("dx", "dy"))],
    ids=["noise", "a detour alone"],
)
def test_played_back_with_its_noise_a_demonstration_repeats_itself(tmp_path, noise):
    """As recorded, the actions of a noisy demonstration lead elsewhere; with ``ExecutionNoise.at``, there exactly."""
    record(tmp_path / "store", [1], noise=noise)
    episode = DemonstrationDataset(tmp_path / "store").episode(0)
    states = {}
    for name in ("as recorded", "with noise"):
        env = PointMassEnv(1)
        seen = [env.reset([1])[STATE_KEY]]
        for step, action in enumerate(episode.actions[:-1]):
            executed = action + noise.at(env.embodiment, 1, step) if name == "with noise" else action
            bounds = env.embodiment.action_low, env.embodiment.action_high
            seen.append(
                env.step(torch.from_numpy(np.clip(executed, *bounds, dtype=np.float32))[None]).observation[STATE_KEY]
            )
        states[name] = torch.cat(seen).numpy()
    np.testing.assert_array_equal(states["with noise"], episode.state)
    assert np.abs(states["as recorded"] - episode.state).max() > 0.01


def test_an_environment_without_an_expert_is_refused():
    env = PointMassEnv(1)
    env.capabilities = env.capabilities - {EXPERT}
    left = r"\['calibrated', 'deterministic', 'snapshots'\]"
    with pytest.raises(ValueError, match=f"point has no scripted expert; all it declares is {left}"):
        ExpertPolicy(env)


def kill_recordings(tmp_path, kills, seed):
    record_some(tmp_path / "whole")
    path = tmp_path / "killed"
    path.mkdir()

    def check():
        assert content(path / "store") == content(tmp_path / "whole")
        DemonstrationDataset(path / "store").verify()

    kill_until_done(record_into, path, kills=kills, seed=seed, check=check)


def record_into(path):
    """Record, after a look at whether all that a killed recorder had stored is whole."""
    if (path / "store").exists():
        DemonstrationDataset(path / "store").verify()
    record_some(path / "store")


@pytest.mark.slow
def test_a_recording_killed_at_random_moments_ends_as_one_never_killed(tmp_path):
    kill_recordings(tmp_path, kills=4, seed=0)


@pytest.mark.slow
def test_a_recording_killed_20_times_ends_as_one_never_killed(tmp_path):
    kill_recordings(tmp_path, kills=20, seed=1)


def test_of_two_processes_that_begin_one_store_at_once_nothing_is_lost(tmp_path):
    paths = [tmp_path / f"store-{number}" for number in range(8)]
    for path, outcomes in zip(paths, race(paths), strict=True):
        assert "recorded" in outcomes
        assert all(said == "recorded" or "being written by process" in said for said in outcomes)
        dataset = DemonstrationDataset(path)
        dataset.verify()
        came = [number for number, said in enumerate(outcomes) if said == "recorded"]
        expected = [seed for number in came for seed in range(number * EPISODES, (number + 1) * EPISODES)]
        assert sorted(record.seed for record in dataset.records) == expected
    assert sorted(tmp_path.iterdir()) == paths
