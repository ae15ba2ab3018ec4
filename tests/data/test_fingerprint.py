"""The fingerprint says what a learner gets from a store: equal for equal episodes, another for any that differ."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from synthetic_demonstrations import assert_same_episode, make_embodiment, make_episode

from envs.specs import ACTION_KEY
from policies.data.dataset import DemonstrationDataset
from policies.data.layout import chunk_files, record_path
from policies.data.writer import DemonstrationWriter

EMBODIMENT = make_embodiment()
EPISODES = [make_episode(index, EMBODIMENT, length) for index, length in enumerate((70, 3, 20))]


def fingerprint(path, episodes, embodiment=EMBODIMENT, **settings):
    with DemonstrationWriter.create(path, embodiment, settings=settings) as writer:
        for episode in episodes:
            writer.append(episode)
    return DemonstrationDataset(path).fingerprint


def changed(name):
    """The second episode with one number of one field another."""
    episode = make_episode(1, EMBODIMENT, 3)
    array = episode.fields()[name]
    array[2].reshape(-1)[-1] += array.dtype.type(1)
    return [EPISODES[0], episode, EPISODES[2]]


def test_equal_episodes_anywhere_and_however_recorded(tmp_path):
    first = fingerprint(tmp_path / "first", EPISODES, noise=1)
    assert first == fingerprint(tmp_path / "second" / "deeper", EPISODES, noise=2)
    shutil.move(tmp_path / "first", tmp_path / "moved")
    assert DemonstrationDataset(tmp_path / "moved").fingerprint == first
    with DemonstrationWriter.create(tmp_path / "stopped", EMBODIMENT) as writer:
        writer.append(EPISODES[0])
    with DemonstrationWriter.open(tmp_path / "stopped") as writer:
        for episode in EPISODES[1:]:
            writer.append(episode)
    assert DemonstrationDataset(tmp_path / "stopped").fingerprint == first


@pytest.mark.parametrize("key", sorted(EPISODES[0].fields()))
def test_any_number_counts(tmp_path, key):
    assert fingerprint(tmp_path / "one", EPISODES) != fingerprint(tmp_path / "other", changed(key))


@pytest.mark.parametrize("change", [{"instruction": "push it"}, {"task": "push"}, {"seed": 7}, {"success": True}])
def test_whatever_is_said_of_an_episode_counts(tmp_path, change):
    assert getattr(EPISODES[1], next(iter(change))) != next(iter(change.values()))
    other = [EPISODES[0], dataclasses.replace(EPISODES[1], **change), EPISODES[2]]
    assert fingerprint(tmp_path / "one", EPISODES) != fingerprint(tmp_path / "other", other)


def test_order_number_and_robot_count(tmp_path):
    robot = dataclasses.replace(EMBODIMENT, control_rate_hz=20.0)
    given = [
        fingerprint(tmp_path / "all", EPISODES),
        fingerprint(tmp_path / "turned", EPISODES[::-1]),
        fingerprint(tmp_path / "fewer", EPISODES[:2]),
        fingerprint(tmp_path / "robot", EPISODES, robot),
        DemonstrationDataset(tmp_path / "all", failures=False).fingerprint,
    ]
    assert len(set(given)) == len(given)


def test_what_is_changed_in_place_counts(tmp_path):
    path = tmp_path / "store"
    before = fingerprint(path, EPISODES)
    file = record_path(path, 1)
    text = file.read_text()
    file.write_text(json.dumps(json.loads(text) | {"instruction": "touch the red ball"}))
    assert DemonstrationDataset(path).fingerprint != before
    file.write_text(text)
    dataset = DemonstrationDataset(path)
    assert dataset.fingerprint == before
    (chunk,) = chunk_files(path, dataset.field(ACTION_KEY), dataset.records[1].first_row, 3)
    fingerprint(tmp_path / "other", changed(ACTION_KEY))
    (other,) = chunk_files(tmp_path / "other", dataset.field(ACTION_KEY), dataset.records[1].first_row, 3)
    shutil.copy(other, chunk)
    assert chunk.stat().st_size == dataset.records[1].stored_bytes[ACTION_KEY]  # so nothing else would notice
    assert DemonstrationDataset(path).fingerprint != before


def test_an_append_that_failed_leaves_no_trace(tmp_path, monkeypatch):
    wanted = fingerprint(tmp_path / "whole", EPISODES)
    with DemonstrationWriter.create(tmp_path / "mended", EMBODIMENT) as writer:
        writer.append(EPISODES[0])
        with monkeypatch.context() as patch, pytest.raises(OSError, match="full"):

            def no_space(*_):
                raise OSError("the disk is full")

            patch.setattr("policies.data.writer.write_text_atomically", no_space)
            writer.append(make_episode(9, EMBODIMENT, 60))
        for episode in EPISODES[1:]:
            writer.append(episode)
    assert DemonstrationDataset(tmp_path / "mended").fingerprint == wanted


def test_without_failures_the_rest_is_as_if_recorded_alone(tmp_path):
    episodes = [make_episode(index, EMBODIMENT) for index in range(7)]
    alone = fingerprint(tmp_path / "alone", [episode for episode in episodes if episode.success])
    fingerprint(tmp_path / "all", episodes)
    dataset = DemonstrationDataset(tmp_path / "all", failures=False)
    assert dataset.fingerprint == alone
    assert [record.index for record in dataset.records] == [0, 2, 3, 4, 6] and len(dataset) == 5
    dataset.verify()
    expected = np.concatenate([episodes[record.index].actions for record in dataset.records])
    np.testing.assert_array_equal(dataset.load(ACTION_KEY), expected)
    frames = np.random.default_rng(0).permutation(dataset.num_frames)
    np.testing.assert_array_equal(dataset.read(ACTION_KEY, frames), expected[frames])
    for index, record in enumerate(dataset.records):
        assert_same_episode(dataset.episode(index), episodes[record.index])
