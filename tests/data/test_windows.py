"""Windows against a sample-by-sample reference, and the order in which batches visit the frames."""

import dataclasses

import numpy as np
import pytest
import torch
from synthetic_demonstrations import make_embodiment, make_episode

from policies.data.dataset import DemonstrationDataset
from policies.data.sampling import WeightedFrames, batch_indices, task_weights
from policies.data.windows import WindowConfig, build_windows
from policies.data.writer import DemonstrationWriter
from vla.history import History
from vla.spatial.memory_bank import picture_features, sample_frames

torch.set_num_threads(1)
EMBODIMENT = make_embodiment()
LENGTHS = (3, 70, 1, 20)
EPISODES = [make_episode(index, EMBODIMENT, length, geometry=True) for index, length in enumerate(LENGTHS)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("windows") / "store"
    with DemonstrationWriter.create(path, EMBODIMENT, geometry=True) as writer:
        for episode in EPISODES:
            writer.append(episode)
    return DemonstrationDataset(path)


def reference_sample(frame, config, cameras):
    """One sample, step by step from the episodes themselves."""
    index = 0
    while frame >= len(EPISODES[index]):
        frame -= len(EPISODES[index])
        index += 1
    episode = EPISODES[index]
    past = [max(frame - age, 0) for age in config.history.ages]
    actions, valid = [], []
    for ahead in range(config.horizon):
        valid.append(frame + ahead < len(episode))
        actions.append(episode.actions[frame + ahead if valid[-1] else -1])
    return {
        "images": np.stack([[episode.images[name][t] for name in cameras] for t in past]),
        "depth": np.stack([[episode.depth[name][t] for name in cameras] for t in past]),
        "intrinsics": np.stack([[episode.cameras[name].intrinsics[t] for name in cameras] for t in past]),
        "T_world_cam": np.stack([[episode.cameras[name].T_world_cam[t] for name in cameras] for t in past]),
        "age_steps": np.array([frame - t for t in past]),
        "there": np.ones(len(past), bool),
        "state": episode.state[frame],
        "actions": np.stack(actions),
        "valid": np.array(valid),
        "instruction": episode.instruction,
    }


@pytest.mark.parametrize("cache", ["memory", "decoded", "disk"])
@pytest.mark.parametrize(
    ("cameras", "horizon", "history"),
    [((), 8, History()), (("wrist", "front"), 1, History(frames=3)), (("wrist",), 25, History(frames=2, gap=4))],
)
def test_every_window_equals_the_reference(dataset, cache, cameras, horizon, history):
    config = WindowConfig(horizon=horizon, history=history, cameras=cameras, depth=True, geometry=True, cache=cache)
    windows = config.build(dataset)
    frames = np.random.default_rng(0).permutation(len(windows))
    assert len(frames) == sum(LENGTHS)
    batch = windows.sample(frames)
    assert batch.images.dtype == torch.uint8 and batch.valid.dtype == torch.bool
    for row, frame in enumerate(frames):
        expected = reference_sample(frame, config, cameras or ("front", "wrist"))
        assert windows.instructions[batch.text[row]] == expected.pop("instruction")
        for name, value in expected.items():
            np.testing.assert_array_equal(getattr(batch, name)[row].numpy(), value, err_msg=f"{name} of frame {frame}")


def test_only_what_is_asked_for(dataset):
    batch = WindowConfig().build(dataset).sample(np.array([0]))
    assert batch.depth is None and batch.intrinsics is None and batch.T_world_cam is None


def test_auto_cache_keeps_to_the_budget(dataset):
    frames = sum(LENGTHS)
    need = frames * 2 * 12 * 12 * (3 + 4)
    assert WindowConfig(depth=True, memory_budget_bytes=need).build(dataset).in_memory
    assert not WindowConfig(depth=True, memory_budget_bytes=need - 1).build(dataset).in_memory
    assert WindowConfig(memory_budget_bytes=need - 1).build(dataset).in_memory


def test_the_stores_of_a_run_share_one_budget(dataset, caplog):
    need = WindowConfig().build(dataset).picture_bytes
    config = WindowConfig(memory_budget_bytes=2 * need)
    assert [windows.in_memory for windows in build_windows([dataset] * 3, config)] == [True, True, False]
    assert "read from disk" in caplog.text and str(dataset.path) in caplog.text
    forced = dataclasses.replace(config, cache="memory")
    assert all(windows.in_memory for windows in build_windows([dataset] * 3, forced))


def test_a_store_of_failures_alone_says_that_they_are_left_out(tmp_path):
    with DemonstrationWriter.create(tmp_path / "store", EMBODIMENT) as writer:
        writer.append(make_episode(1, EMBODIMENT))
    with pytest.raises(ValueError, match="no episodes to sample: its 1 failures are left out"):
        WindowConfig().build(DemonstrationDataset(tmp_path / "store", failures=False))
    assert len(WindowConfig().build(DemonstrationDataset(tmp_path / "store")))


def test_batches_are_samples_at_the_batch_indices(dataset):
    windows = WindowConfig().build(dataset)
    batch, again = windows.batch(3, 7, 16), windows.sample(batch_indices(3, 7, 16, len(windows)))
    for name in ("images", "state", "actions", "valid", "text"):
        torch.testing.assert_close(getattr(batch, name), getattr(again, name), rtol=0, atol=0)


@pytest.mark.parametrize(("batch_size", "num_frames"), [(8, 40), (7, 40), (64, 10), (1, 3)])
def test_batch_indices_visit_every_frame_once_per_epoch(batch_size, num_frames):
    epochs = 3
    steps = -(-epochs * num_frames // batch_size)
    order = np.concatenate([batch_indices(5, step, batch_size, num_frames) for step in range(steps)])
    passes = order[: epochs * num_frames].reshape(epochs, num_frames)
    for one in passes:
        np.testing.assert_array_equal(np.sort(one), np.arange(num_frames))
    if num_frames > 3:
        assert (passes[0] != passes[1]).any()


def test_batch_indices_depend_on_seed_and_step_alone():
    later = batch_indices(1, 9, 16, 50)
    for step in range(9):
        batch_indices(2, step, 16, 50)
    np.testing.assert_array_equal(batch_indices(1, 9, 16, 50), later)
    assert (batch_indices(2, 9, 16, 50) != later).any()
    later[:] = -1  # what a caller does to its batch must not reach the next one
    assert (batch_indices(1, 9, 16, 50) >= 0).all()


def test_refusals(dataset, tmp_path):
    with pytest.raises(KeyError, match="no camera 'top'"):
        WindowConfig(cameras=("top",)).build(dataset)
    with pytest.raises(ValueError, match="horizon must be ≥ 1"):
        WindowConfig(horizon=0).build(dataset)
    with pytest.raises(IndexError, match=f"frames must lie in 0…{sum(LENGTHS) - 1}"):
        WindowConfig().build(dataset).sample(np.array([-1]))
    with pytest.raises(ValueError, match="≥ 1"):
        batch_indices(0, 0, 0, 10)
    front, wrist = make_embodiment(depth=False).cameras
    uneven = dataclasses.replace(EMBODIMENT, cameras=(front, dataclasses.replace(wrist, width_px=10)))
    with DemonstrationWriter.create(tmp_path / "uneven", uneven) as writer:
        with pytest.raises(ValueError, match="no episodes"):
            WindowConfig().build(DemonstrationDataset(tmp_path / "uneven"))
        writer.append(make_episode(0, uneven))
    stored = DemonstrationDataset(tmp_path / "uneven")
    with pytest.raises(ValueError, match="one image size"):
        WindowConfig().build(stored)
    with pytest.raises(ValueError, match=r"'wrist' of .* has none"):
        WindowConfig(cameras=("wrist",), depth=True).build(stored)
    with pytest.raises(ValueError, match=r"is to know its cameras .* has none: record anew"):
        WindowConfig(cameras=("wrist",), geometry=True).build(stored)


def test_a_memory_bank_chooses_among_the_moments_of_the_episode(dataset):
    """Whatever the batch: for each frame alone, from the episode's own pictures."""
    history = History(frames=3, gap=2, sampling="memory_bank", memory=6)
    windows = WindowConfig(history=history, cameras=("wrist",)).build(dataset)
    frames = np.array([0, 2, 3, 40, 72, 73, 74, 93])
    batch = windows.sample(frames)
    ends = np.cumsum(LENGTHS)
    for row, frame in enumerate(frames):
        episode = int(np.searchsorted(ends, frame, side="right"))
        now = frame - (ends[episode] - LENGTHS[episode])
        moments = range(now % 2, now + 1, 2)[-6:]
        pictures = torch.from_numpy(EPISODES[episode].images["wrist"][list(moments)])
        features = picture_features(pictures[:, None])[None]
        found = sample_frames(features, torch.ones(1, len(moments), dtype=torch.bool), 3)
        chosen = [moments[time] for time in found.times[found.mask].tolist()]
        assert (now - batch.age_steps[row])[batch.there[row]].tolist() == chosen
        assert batch.there[row].tolist() == [False] * (3 - len(chosen)) + [True] * len(chosen)
        expected = torch.from_numpy(EPISODES[episode].images["wrist"][chosen])
        assert torch.equal(batch.images[row, batch.there[row]][:, 0], expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frames": 0}, "at least 1, got 0 and 1"),
        ({"frames": 3, "gap": 0}, "at least 1, got 3 and 0"),
        ({"frames": 3, "sampling": "memory_bank", "memory": 2}, "got frame_memory 2"),
        ({"frames": 3, "memory": 8}, "is of a frame_sampling memory_bank"),
        ({"sampling": "first"}, "expected one of last, memory_bank"),
    ],
)
def test_a_history_that_makes_no_sense_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        History(**fields)


def test_tasks_share_what_is_drawn_in_proportion_to_their_weights():
    task_of = np.repeat([0, 1, 2], [300, 60, 40])
    drawn = WeightedFrames(task_of, {0: 1.0, 1: 2.0, 2: 1.0})
    frames = np.concatenate([drawn.batch(4, step, 50) for step in range(40)])  # five epochs of 400
    assert np.bincount(task_of[frames]).tolist() == [500, 1000, 500]
    for task, least, most in ((0, 1, 2), (1, 16, 17), (2, 12, 13)):
        times = np.bincount(frames, minlength=400)[task_of == task]
        assert (times.min(), times.max()) == (least, most)
    early = np.bincount(task_of[drawn.batch(4, 3, 50)], minlength=3)
    assert early[1] > early[0] and early[1] > early[2]  # not one task after the other
    np.testing.assert_array_equal(
        WeightedFrames(task_of, {0: 1.0, 1: 2.0, 2: 1.0}).batch(4, 31, 50), frames[31 * 50 :][:50]
    )


def test_weights_are_of_tasks_that_there_are():
    tasks = {"pick": 0, "place": 1}
    assert task_weights(tasks, {"pick": 3}) == {0: 3.0, 1: 1.0}
    for named, says in (
        ({"push": 1.0}, r"no episodes of \['push'\]"),
        ({"pick": -1.0}, "from 0 on"),
        (dict.fromkeys(tasks, 0), "leave no"),
    ):
        with pytest.raises(ValueError, match=says):
            task_weights(tasks, named)
    assert set(WeightedFrames(np.array([0, 1, 1]), {0: 0.0, 1: 1.0}).batch(0, 0, 30)) == {1, 2}
