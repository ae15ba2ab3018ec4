"""Keyframes and labels of successful episodes, and what is learned from them."""

import numpy as np
import pytest
import torch
from demonstrations import record
from point_mass import PointMassEnv
from tiny_rewards import point_mass_base

from envs.specs import Dimension, EmbodimentSpec
from policies.data.dataset import DemonstrationDataset
from rl.rewards.config import HeadConfig, LabelConfig
from rl.rewards.failures import record_kinds
from rl.rewards.features import FrozenFeatures
from rl.rewards.lab import score
from rl.rewards.measures import spearman
from rl.rewards.process import ProcessReward, keyframes, process_labels, tool_speed, train_process


def robot():
    tool = tuple(Dimension(name=f"tool_{axis}", unit="m", low=-1.0, high=1.0) for axis in "xyz")
    grip = Dimension(name="gripper", unit="1", low=0.0, high=1.0, frame="gripper")
    move = tuple(Dimension(name=f"d{axis}", unit="1", low=-1.0, high=1.0, relative=True) for axis in "xyz")
    return EmbodimentSpec(name="arm", control_rate_hz=10, state=(*tool, grip), action=(*move, grip), cameras=())


def episode():
    """Twenty frames to the thing with a pause at frame 10, closing at 20, and twenty more to the end."""
    speed = np.full(41, 0.02)
    speed[9:12], speed[18:22] = (0.004, 0.0, 0.004), 0.01
    state = np.zeros((41, 4))
    state[:, 0] = np.append(0.0, np.cumsum(speed[:-1]))
    actions = np.zeros((41, 4))
    actions[20:, 3] = 1.0
    return state, actions


def test_keyframes_are_where_the_gripper_changes_and_where_the_tool_stands_still():
    state, actions = episode()
    np.testing.assert_allclose(tool_speed(state, robot())[8:12], [0.02, 0.004, 0.0, 0.004], atol=1e-12)
    found = keyframes(state, actions, robot(), LabelConfig())
    assert found.tolist() == [10, 20, 40]
    assert keyframes(state, actions, robot(), LabelConfig(slow=0.0, apart=12)).tolist() == [20, 40]
    with pytest.raises(ValueError, match="does not sense where its tool is"):
        tool_speed(state, EmbodimentSpec(name="blind", control_rate_hz=1, state=(), action=(), cameras=()))


def test_progress_grows_evenly_between_keyframes_and_frames_lead_to_them():
    labels = process_labels(np.array([10, 20, 40]), 41, leading=5)
    assert labels.progress[[0, 5, 10, 15, 20, 30, 40]].tolist() == pytest.approx(
        [0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1]
    )
    assert (np.diff(labels.progress) > 0).all()
    assert labels.leading.nonzero()[0].tolist() == [*range(6, 11), *range(16, 21), *range(36, 41)]


def test_what_was_learned_from_demonstrations_grows_along_fresh_successes(tmp_path):
    dataset = DemonstrationDataset(record(tmp_path / "data", seeds=range(30), num_envs=15))
    features = FrozenFeatures(point_mass_base(tmp_path / "base"))
    saved = train_process(dataset, features, LabelConfig(every=1, swapped=0.0), HeadConfig(steps=200, batch_size=128))
    fresh = [t for t in record_kinds(PointMassEnv(12, stream="evaluate"), range(12), 1) if t.kind == "expert"]
    scores, _ = score(ProcessReward(features, saved.head), fresh)
    assert all(bool(((each >= 0) & (each <= 1)).all()) for each in scores)
    orders = [spearman(each.tolist(), trace.steps.tolist()) for each, trace in zip(scores, fresh, strict=True)]
    assert np.mean(orders) > 0.7
    assert saved.about["episodes"] == len(dataset) and saved.about["dataset"] == dataset.fingerprint
    leading, _ = score(ProcessReward(features, saved.head, "leading"), fresh)
    assert not torch.allclose(leading[0], scores[0])


def test_a_store_without_successes_is_refused(tmp_path):
    dataset = DemonstrationDataset(record(tmp_path / "data", seeds=range(2), num_envs=2), keep=lambda record: False)
    with pytest.raises(ValueError, match="no successful episodes"):
        train_process(dataset, FrozenFeatures(point_mass_base(tmp_path / "base")), LabelConfig(), HeadConfig())
